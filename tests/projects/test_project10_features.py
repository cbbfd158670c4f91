"""Project 10's features are those of torch and torchaudio, and the variations do what they say."""

import math

import pytest
import torch
import torchaudio
from torchaudio import transforms

from project10_speech import features
from project10_speech.features import LogMel, add_noise, change_speed, fourier_by_hand, mel_filters, mfcc, spec_augment, stft
from utils.lesson import LessonError
from utils.sound import write_wav

RATE = 8000


@pytest.fixture
def waves():
    """Two waves of noise and a tone."""
    generator = torch.Generator().manual_seed(0)
    return torch.sin(torch.arange(4000) * 0.3) / 2 + 0.1 * torch.randn(2, 4000, generator=generator)


class TestByHand:
    def test_fourier_transform_from_its_definition(self, waves):
        piece = waves[0, :200].double()
        assert (fourier_by_hand(piece) - torch.fft.rfft(piece)).abs().max() < 1e-10

    @pytest.mark.parametrize(("size", "length", "hop"), [(256, 200, 80), (256, 256, 100), (128, 101, 50)])
    def test_stft_is_torchs(self, waves, size, length, hop):
        window = torch.hann_window(length)
        wanted = torch.stft(waves, size, hop, length, window, return_complex=True)
        found = stft(waves, size, hop, window)
        assert found.shape == wanted.shape and (found - wanted).abs().max() < 1e-5

    @pytest.mark.parametrize(("rate", "bands", "size"), [(8000, 40, 256), (16_000, 80, 512)])
    def test_mel_filters_are_torchaudios(self, rate, bands, size):
        wanted = torchaudio.functional.melscale_fbanks(size // 2 + 1, 0.0, rate / 2, bands, rate).T
        assert (mel_filters(rate, bands, size) - wanted).abs().max() < 1e-4  # torchaudio computes in float32

    def test_log_mel_is_torchaudios(self, waves):
        log_mel = LogMel(RATE, bands=40, window=0.025, hop=0.010)
        wanted = transforms.MelSpectrogram(RATE, n_fft=256, win_length=200, hop_length=80, n_mels=40)(waves)
        found = log_mel(waves)
        assert found.shape == (2, 40, 51) and log_mel.frames(4000) == 51
        assert (found - wanted.clamp_min(features.SMALLEST).log()).abs().max() < 1e-4

    def test_mfcc_are_torchaudios(self, waves):
        settings = {"n_fft": 256, "win_length": 200, "hop_length": 80, "n_mels": 40}
        wanted = transforms.MFCC(RATE, n_mfcc=13, log_mels=True, melkwargs=settings)(waves)
        energies = transforms.MelSpectrogram(RATE, **settings)(waves)
        assert (mfcc((energies + 1e-6).log(), 13) - wanted).abs().max() < 1e-4

    def test_too_many_bands_for_the_window(self):
        with pytest.raises(LessonError, match="100 bands are too many"):
            LogMel(RATE, bands=100)


class TestVariations:
    @pytest.mark.parametrize("decibels", [-5.0, 0.0, 20.0])
    def test_noise_at_so_many_decibels_is_torchaudios(self, waves, decibels):
        noise = torch.randn(2, 4000, generator=torch.Generator().manual_seed(1))
        snr = torch.full((2,), decibels)
        assert (add_noise(waves, noise, snr) - torchaudio.functional.add_noise(waves, noise, snr)).abs().max() < 1e-4

    def test_faster_is_shorter_and_higher(self):
        tone = torch.sin(2 * math.pi * 500 * torch.arange(RATE) / RATE)
        faster = change_speed(tone, RATE, 1.25)
        assert len(faster) == pytest.approx(RATE / 1.25, abs=2)
        hz = torch.fft.rfft(faster, n=RATE).abs().argmax().item()
        assert hz == pytest.approx(625, abs=2)
        assert torch.equal(change_speed(tone, RATE, 1.0), tone)

    def test_spec_augment_hides_stretches_of_bands_and_frames(self):
        ones = torch.ones(200, 40, 100)
        found = spec_augment(ones, torch.Generator().manual_seed(0), bands=8, frames=12, masks=1)
        assert found.unique().tolist() == [0, 1] and ones.min() == 1
        hidden_bands = (found == 0).all(dim=2).sum(dim=1)
        hidden_frames = (found == 0).all(dim=1).sum(dim=1)
        assert hidden_bands.max() == 8 and hidden_frames.max() == 12 and hidden_bands.min() == hidden_frames.min() == 0
        rows = (found == 0).all(dim=2)[hidden_bands == 8][0].nonzero()[:, 0]
        assert rows.tolist() == list(range(rows[0], rows[0] + 8))  # side by side
        assert torch.equal(found, spec_augment(ones, torch.Generator().manual_seed(0), bands=8, frames=12, masks=1))
        assert spec_augment(torch.ones(3, 40, 5), torch.Generator().manual_seed(0)).shape == (3, 40, 5)  # fewer than a mask


class TestMain:
    def test_equal_to_torchaudio_and_drawn(self, tmp_path, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        results = features.main(wav=None, seed=0, figures=True)
        for name in ("fourier", "stft", "mel", "mfcc"):
            assert results[f"{name}_difference"] < 1e-5
        assert results["dropped_tone_db"] > -1 and results["resampled_tone_db"] < -35
        assert results["bands"] == 40
        assert {path.name for path in tmp_path.rglob("*.png")} == {"features.png", "variations.png"}

    def test_a_file_of_ones_own(self, tmp_path):
        write_wav(tmp_path / "tone.wav", torch.sin(torch.arange(16_000) * 0.2), 16_000)
        assert features.main(wav=tmp_path / "tone.wav", figures=False)["frames"] == 101
        write_wav(tmp_path / "click.wav", torch.tensor([0.0, 0.5, 0.0]), RATE)
        with pytest.raises(LessonError, match="shorter than a single piece"):
            features.main(wav=tmp_path / "click.wav", figures=False)
