"""utils.datasets.formant_voices: computed voices say what they should, each in its own way."""

import numpy as np
import pytest
import torch

from utils.datasets.formant_voices import DIGITS, SOUNDS, WORDS, Voice, _filtered, make_voice, say
from utils.lesson import LessonError

RATE = 8000


def peaks(wave: torch.Tensor, rate: int = RATE) -> torch.Tensor:
    """The spectrum of a wave, smoothed over 100 Hz: (Hz,) up to half the rate."""
    spectrum = torch.fft.rfft(wave, n=rate).abs()
    return torch.nn.functional.avg_pool1d(spectrum[None, None], 101, stride=1, padding=50)[0, 0]


class TestVoices:
    def test_every_word_in_both_languages(self):
        assert len(DIGITS["en"]) == len(DIGITS["ko"]) == 10
        for word in WORDS:
            wave = say([word], Voice("somebody"), RATE)
            assert wave.dtype == torch.float32 and 0.1 * RATE < len(wave) < 1.2 * RATE
            assert wave.isfinite().all() and wave.abs().max() == pytest.approx(0.5)

    def test_the_same_take_is_the_same_and_another_is_another(self):
        one, again, other = (say(["seven"], make_voice(3), RATE, seed) for seed in (1, 1, 2))
        assert torch.equal(one, again) and (len(one) != len(other) or not torch.equal(one, other))
        assert make_voice(3) == make_voice(3) != make_voice(4)

    @pytest.mark.parametrize("rate", [8000, 16_000])
    def test_the_pitch_is_the_voices(self, rate):
        for pitch in (100.0, 220.0):
            wave = say(["이"], Voice("somebody", pitch=pitch, melody=0.0, breath=0.0), rate, seed=0)
            middle = wave[len(wave) // 4 : 3 * len(wave) // 4]
            repeats = torch.stack([(middle[:-lag] * middle[lag:]).mean() for lag in range(rate // 400, rate // 60)])
            assert rate / (repeats.argmax().item() + rate // 400) == pytest.approx(pitch, rel=0.05)

    def test_a_shorter_tract_has_higher_formants(self):
        def centre(tract_cm: float) -> float:
            spectrum = peaks(say(["사"], Voice("somebody", tract_cm=tract_cm, breath=0.0), RATE, seed=0)[1200:])[300:2500]
            return (spectrum * torch.arange(300, 2500)).sum().item() / spectrum.sum().item()

        assert centre(13.0) > 1.1 * centre(17.5)

    def test_words_one_after_the_other_with_pauses_or_without(self):
        apart = say(["one", "two"], Voice("somebody"), RATE, pause=(0.3, 0.3))
        together = say(["one", "two"], Voice("somebody"), RATE, pause=(0.0, 0.0))
        assert len(apart) - len(together) > 0.15 * RATE
        energy = apart.unfold(0, 400, 400).square().mean(dim=1)
        assert energy[len(energy) // 4 : 3 * len(energy) // 4].min() < 1e-6  # 50 ms of silence between them

    def test_hissing_sounds_are_high_and_noisy_sounds_have_no_pitch(self):
        six = say(["six"], Voice("somebody"), RATE, seed=0)
        beginning = peaks(six[300:1100])
        assert beginning[3000:4000].mean() > 3 * beginning[200:1000].mean()
        assert SOUNDS["s"].voice == 0 and SOUNDS["z"].voice > 0

    def test_what_they_cannot_say(self):
        with pytest.raises(LessonError, match="can only say digits, not 'hello'"):
            say(["one", "hello"], Voice("somebody"))
        with pytest.raises(LessonError, match="no words"):
            say([], Voice("somebody"))


class TestFilter:
    def test_equals_the_recursion_it_stands_for(self):
        from scipy.signal import lfilter

        source = np.random.default_rng(0).standard_normal(40 * 80)
        hz, width, steps = 700.0, 120.0, 80
        c = -np.exp(-2 * np.pi * width / RATE)
        b = 2 * np.exp(-np.pi * width / RATE) * np.cos(2 * np.pi * hz / RATE)
        wanted = lfilter([1 - b - c], [1, -b, -c], source)
        found = _filtered(source, np.full((steps, 1), hz), np.full((steps, 1), width), hop=40, rate=RATE)
        assert np.abs(found - wanted)[:-40].max() < 1e-6 * np.abs(wanted).max()  # the last step fades out

    def test_a_resonance_above_half_of_the_rate_is_left_out(self):
        source = np.random.default_rng(0).standard_normal(40 * 20)
        found = _filtered(source, np.full((20, 1), 4100.0), np.full((20, 1), 100.0), hop=40, rate=RATE)
        assert np.abs(found - source)[:-40].max() < 1e-9
