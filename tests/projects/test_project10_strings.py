"""Project 10's listener: strings are made as they should be, padding changes nothing, and it learns what nobody has aligned."""

import functools
import math

import pytest
import torch
from projects import speech_world
from projects.speech_world import MANNERS, clips, spoken, trained_listener, world

from project10_speech import digit_strings, strings, word_errors
from project10_speech.baseline import CutAndClassify
from project10_speech.ctc import ctc_loss
from project10_speech.digit_strings import LEARNED, Manner, StringBatches, make_strings
from project10_speech.listener import RATE, DigitListener, load_network, normalised, save_network
from utils import checkpoint, paths
from utils.lesson import LessonError

# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    strings.main,
    source="sample",
    preset="default",
    channels=48,
    blocks=3,
    epochs=3,
    batch_size=12,
    lr=1e-2,
    dropout=0.0,
    strings=12,
    seed=0,
    device="cpu",
    baseline=True,
    resume=False,
    figures=False,
)


@pytest.fixture
def _tones(monkeypatch, tmp_path):
    monkeypatch.setattr(strings, "load", world)
    monkeypatch.setattr(strings, "STEPS", 30)
    monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))


class TestWordErrors:
    @pytest.mark.parametrize(
        ("heard", "said", "errors"),
        [
            ("", "", (0, 0, 0)),
            ("7 3", "7 3", (0, 0, 0)),
            ("", "7 3", (0, 2, 0)),
            ("7 3", "", (0, 0, 2)),
            ("7 4", "7 3", (1, 0, 0)),
            ("7 3 3", "7 3", (0, 0, 1)),
            ("3 7", "7 3", (2, 0, 0)),  # two errors in either way; the one with more replaced
            ("1 2 4 5 6", "1 3 4 5", (1, 0, 1)),
        ],
    )
    def test_by_hand(self, heard, said, errors):
        assert word_errors.count_errors(heard.split(), said.split()) == errors

    def test_equal_to_torchaudio(self):
        functional = pytest.importorskip("torchaudio.functional")
        generator = torch.Generator().manual_seed(0)
        for _ in range(200):
            pair = [
                torch.randint(4, (int(torch.randint(9, (), generator=generator)),), generator=generator).tolist() for _ in "ab"
            ]
            assert word_errors.count_errors(*pair).total == functional.edit_distance(*pair)

    def test_rate_is_of_all_words_together_and_can_be_above_one(self):
        assert word_errors.word_error_rate([[1], [2, 2, 2]], [[1, 1, 1], [2]]) == 1.0
        assert word_errors.word_error_rate([[1, 2, 3]], [[4]]) == 3.0
        assert word_errors.told([[1, 2]], [[1, 3]]) == "50.0% of 2 words wrong (1 replaced, 0 missed, 0 added)"
        with pytest.raises(LessonError, match="at least one word"):
            word_errors.word_error_rate([[1]], [[]])


class TestStrings:
    def test_same_seed_same_strings(self):
        one, other, third = (make_strings(clips(0), 5, LEARNED, seed) for seed in (1, 1, 2))
        assert one.digits == other.digits != third.digits
        assert all(torch.equal(*pair) for pair in zip(one.waves, other.waves, strict=True))

    def test_pauses_are_heard_and_overlaps_are_not(self):
        """Without background, the share of silence tells how strings are said."""
        shares = {}
        for name, pause in (("apart", (0.2, 0.2)), ("together", (-0.05, -0.05))):
            made = make_strings(clips(0), 8, Manner(4, 4, pause, around=(0.0, 0.0), decibels=(90.0, 90.0)), seed=0)
            assert all(len(digits) == 4 for digits in made.digits)
            shares[name] = sum((wave.abs() < 0.003).float().mean().item() for wave in made.waves) / 8
            seconds = sum(map(len, made.waves)) / 8 / RATE
            assert seconds == pytest.approx(4 * 0.21 + 3 * pause[0], abs=0.06)
        assert shares["apart"] > 0.4 and shares["together"] < 0.2

    def test_one_person_says_all_of_it(self):
        """The digits of a string come from one speaker: with speakers who know one digit each, a string has one digit only."""
        only = clips(0)
        names = [str(label) for label in only.labels.tolist()]
        made = make_strings(
            type(only)(only.waves, only.labels, names, only.takes, only.rate), 20, Manner(3, 5, (0.1, 0.2)), seed=0
        )
        assert all(len(set(digits)) == 1 for digits in made.digits) and len({digits[0] for digits in made.digits}) > 4

    def test_nobody_speaks_in_silent_strings(self):
        made = make_strings(clips(0), 10, LEARNED._replace(silent=1.0), seed=0)
        assert made.digits == [[]] * 10 and all(0 < wave.abs().max() <= 1 for wave in made.waves)

    def test_each_part_is_made_of_its_own_recordings(self, monkeypatch):
        """Strings to choose by and to test on hold nothing that was learned from: in this world each part has its own people."""
        monkeypatch.setattr(digit_strings, "fsdd", spoken)
        asked, make = [], digit_strings.make_strings

        def note(clips, *rest, **named):
            asked.append(set(clips.speakers))
            return make(clips, *rest, **named)

        monkeypatch.setattr(digit_strings, "make_strings", note)
        data = digit_strings.load("sample", strings=4)
        held_out = set(spoken().validation.speakers), set(spoken().test.speakers)
        assert asked == [held_out[0]] * 2 + [held_out[1]] * 2 and data.clips.train is spoken().train
        assert not held_out[0] & held_out[1] and not set(spoken().train.speakers) & (held_out[0] | held_out[1])

    def test_batches_go_on_where_they_were(self):
        whole = StringBatches(clips(0), steps=4, batch_size=2, manner=LEARNED, seed=5)
        expected = list(whole)
        first, second = (StringBatches(clips(0), steps=4, batch_size=2, manner=LEARNED, seed=5) for _ in range(2))
        begun = iter(first)
        next(begun), next(begun)
        second.load_state_dict(first.state_dict())
        rest = list(second)
        assert len(rest) == 2
        for batch, other in zip(expected[2:], rest, strict=True):
            assert all(torch.equal(*pair) for pair in zip(batch, other, strict=True))
        assert len(list(second)) == 4  # and the next epoch is whole


class TestListener:
    def test_padding_changes_nothing(self):
        torch.manual_seed(0)
        model = DigitListener(channels=16, blocks=2).eval()
        waves = [torch.randn(count) for count in (4000, 9000, 7037)]
        samples = torch.tensor([len(wave) for wave in waves])
        together, frames = model(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), samples)
        for number, wave in enumerate(waves):
            alone, (count,) = model(wave[None], torch.tensor([len(wave)]))
            assert count == frames[number] == len(alone)
            # The last piece of the Fourier transform sees the mirrored end of the wave, or the zeros behind it.
            torch.testing.assert_close(together[: count - 10, number], alone[: count - 10, 0], atol=0.1, rtol=0)

    def test_nothing_behind_the_end_is_seen(self, monkeypatch):
        torch.manual_seed(0)
        model = DigitListener(channels=16, blocks=2).eval()
        picture, frames = torch.randn(2, 40, 80), torch.tensor([80, 43])
        picture[1, :, 43:] = 9.0
        monkeypatch.setattr(model, "picture", lambda waves, samples: (picture[: len(waves)], frames[: len(waves)]))
        together, counts = model(torch.zeros(2, 1), frames)
        picture, frames = picture[1:, :, :43], frames[1:]
        alone, _ = model(torch.zeros(1, 1), frames)
        torch.testing.assert_close(together[: counts[1], 1], alone[:, 0], atol=1e-5, rtol=1e-5)

    def test_loudness_does_not_matter(self):
        wave, digits = world().apart.waves[0], world().apart.digits[0]
        listener = trained_listener()
        for factor in (0.1, 1.0, 3.0):
            assert [each.digit for each in listener.hear(factor * wave, RATE)] == digits
        loud = torch.randn(RATE, generator=torch.Generator().manual_seed(0))  # nothing in it is as faint as the logarithm's floor
        torch.testing.assert_close(listener.log_probs([0.2 * loud])[0], listener.log_probs([loud])[0], atol=1e-3, rtol=1e-3)

    def test_normalised_pictures(self):
        features = torch.randn(2, 5, 30) * 3 + torch.arange(5.0)[:, None]
        found = normalised(features, torch.tensor([30, 20]))
        assert found[1, :, 20:].abs().max() == 0
        assert found[1, :, :20].mean(dim=1).abs().max() < 1e-5 and found[0].std() == pytest.approx(1, abs=0.1)

    def test_saved_and_loaded(self, tmp_path):
        listener = trained_listener()
        save_network(tmp_path / "m.pt", listener.model, source="tones", word_error_rate=0.1)
        model, about = load_network(tmp_path / "m.pt")
        assert about["source"] == "tones" and not model.training
        wave = world().apart.waves[1]
        assert torch.equal(listener.log_probs([wave])[0], type(listener)(model, "").log_probs([wave])[0])

    def test_what_cannot_be_loaded_is_told(self, tmp_path, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        with pytest.raises(LessonError, match="no trained network yet: run `python -m study run speech/strings`"):
            load_network(None)
        torch.save({"model": {}, "shape": [4, 1, 40]}, tmp_path / "other.pt")
        with pytest.raises(LessonError, match="does not say its source, word_error_rate"):
            load_network(tmp_path / "other.pt")
        (tmp_path / "cut.pt").write_bytes(b"PK")
        with pytest.raises(LessonError, match="damaged"):
            load_network(tmp_path / "cut.pt")


class TestLoss:
    def test_a_silence_weighs_as_much_as_a_digit_and_not_as_all_its_frames(self):
        """Who knows nothing loses log(11) in every frame: a silence counts one frame of that, a digit the whole of its string."""

        class KnowsNothing:
            def __call__(self, waves, samples):
                return torch.full((50, len(waves), 11), 1 / 11).log(), torch.tensor([50, 40])

        batch = torch.zeros(2, 1), torch.ones(2), torch.tensor([[4, 9], [0, 0]]), torch.tensor([2, 0])
        of_a_digit = (
            ctc_loss(torch.full((50, 1, 11), 1 / 11).log(), batch[2][:1], torch.tensor([50]), torch.tensor([2])).item() / 2
        )
        expected = (of_a_digit + math.log(11)) / 2
        assert strings.string_loss(KnowsNothing(), batch).item() == pytest.approx(expected, rel=1e-4)


class TestLearning:
    def test_hears_strings_that_nobody_has_aligned(self):
        listener, data = trained_listener(), world()
        for part, most in ((data.apart, 0.1), (data.together, 0.35)):  # who hears nothing has 1.0
            heard = strings.heard_by(listener, part)
            assert word_errors.word_error_rate(heard, part.digits) < most

    def test_says_when(self):
        """Of two digits the second one is heard after the first, where it is."""
        generator = torch.Generator().manual_seed(0)
        wave = torch.cat([torch.zeros(4000), speech_world.tone(3, generator), torch.zeros(8000), speech_world.tone(8, generator)])
        found = trained_listener().hear(torch.cat([wave, torch.zeros(4000)]) + 1e-3 * torch.randn(len(wave) + 4000), RATE)
        assert [each.digit for each in found] == [3, 8]
        assert 0.4 < found[0].start < found[0].end < 0.9 and 1.6 < found[1].start < 2.1
        assert all(0 < each.probability <= 1 for each in found)

    def test_hears_nothing_where_nobody_speaks(self):
        for seed in range(4):
            noise = 0.1 * torch.randn(2 * RATE, generator=torch.Generator().manual_seed(seed))
            assert trained_listener().hear(noise, RATE) == []
        assert trained_listener().hear(torch.zeros(3 * RATE), RATE) == []
        assert trained_listener().hear(torch.zeros(10), RATE) == []

    def test_other_rates(self):
        from utils.sound import resampled

        wave, digits = world().apart.waves[2], world().apart.digits[2]
        for rate in (16_000, 44_100, 48_000):
            assert [each.digit for each in trained_listener().hear(resampled(wave, RATE, rate), rate)] == digits

    def test_cutting_at_silences_needs_silences(self):
        data = world()
        cutter = CutAndClassify.learn(data.clips.train, make_strings(data.clips.validation, 10, MANNERS["apart"], seed=1))
        apart, together = (word_errors.word_error_rate(cutter.hear(part), part.digits) for part in (data.apart, data.together))
        assert apart < 0.2 and together > apart + 0.1

    @pytest.mark.usefixtures("_tones")
    def test_run_saves_what_it_says(self, capsys):
        results = main()
        assert results["word_error_rate"] < 0.75 * min(1, results["baseline_word_error_rate"])
        assert results["greedy_word_error_rate"] < 0.5 and results["best_epoch"] >= 1
        model, about = load_network(None)
        assert about["word_error_rate"] == results["word_error_rate"] and model.shape == (48, 3, 40)
        assert (paths.models("project10_speech") / "strings" / "last.pt").exists()
        assert "words wrong" in capsys.readouterr().out

    @pytest.mark.usefixtures("_tones")
    def test_interrupted_and_resumed_it_is_the_same_network(self, monkeypatch, tmp_path, press_ctrl_c):
        monkeypatch.setattr(strings, "STEPS", 4)
        monkeypatch.setattr(strings, "measure", lambda *_: {"word_error_rate": 0.0})  # so little training is not judged
        short = functools.partial(main, channels=8, blocks=1, epochs=3, batch_size=4, dropout=0.1, baseline=False)
        networks, second_epoch = [], 6  # a step of it
        for name in ("whole", "interrupted"):
            monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path / name))
            if name == "interrupted":
                with press_ctrl_c(strings, "string_loss", second_epoch), pytest.raises(KeyboardInterrupt, match="--resume"):
                    short()
            short(resume=name == "interrupted")
            networks.append(checkpoint.load(strings.model_file())["model"])
        assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])

    @pytest.mark.usefixtures("_tones")
    def test_who_learns_nothing_is_told(self, monkeypatch):
        monkeypatch.setattr(strings, "STEPS", 2)
        with pytest.raises(LessonError, match="a word error rate of .* is not enough"):
            main(lr=1e-9, epochs=1, baseline=False)

    @pytest.mark.usefixtures("_tones")
    @pytest.mark.parametrize(
        ("flags", "told"),
        [
            ({"epochs": 0}, "--epochs must be above 0"),
            ({"batch_size": 0}, "--batch-size must be above 0"),
            ({"lr": 0.0}, "--lr must be above 0"),
            ({"dropout": 1.0}, "--dropout is a share"),
            ({"blocks": -1}, "--blocks must be above 0"),
        ],
    )
    def test_wrong_flags(self, flags, told):
        with pytest.raises(LessonError, match=told):
            main(**flags)

    def test_too_few_strings(self):
        with pytest.raises(LessonError, match="--strings must be at least 2"):
            digit_strings.load("sample", strings=1)
