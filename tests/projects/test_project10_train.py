"""Project 10 learns to hear digits, goes on where it was interrupted, and measures itself honestly."""

import functools

import pytest
import torch

from project10_speech import data, evaluate, predict, speakers, train
from project10_speech.data import TrainingBatches, fitted, moved, nearest_mean, plain_batches, stacked
from project10_speech.model import DigitNet
from utils import checkpoint, paths
from utils.datasets import speech
from utils.datasets.speech import Clips, SpeechData, spoken_digits
from utils.lesson import LessonError
from utils.sound import write_wav

CPU = torch.device("cpu")
RATE = 8000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FEW = {2, 6, 9}  # digits of the small world: two, six, nine


@functools.cache
def small_world() -> SpeechData:
    """Three of the digits by a few computed voices, in little noise."""

    def some(voices: range, takes: int) -> Clips:
        clips = spoken_digits(voices, takes, seed=voices[0], decibels=(20.0, 30.0))
        return clips.at(torch.tensor([label in FEW for label in clips.labels.tolist()]))

    train_clips, validation, test = some(range(20), 2), some(range(50, 53), 1), some(range(80, 90), 2)
    return SpeechData(train_clips, validation, test, WORDS, "three words by a few voices", is_real=False)


# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main,
    source="sample",
    language="en",
    epochs=4,
    batch_size=20,
    lr=0.1,
    seed=0,
    device="cpu",
    resume=False,
    figures=False,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """The sample is the small world, in clips of half a second."""
    for module in (train, evaluate):
        monkeypatch.setattr(module, "fsdd", lambda source, language: small_world())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        patch.setattr(train, "fsdd", lambda source, language: small_world())
        patch.setattr(evaluate, "nearest_mean", lambda known, test: torch.full_like(test.labels, 2))
        return main(), paths.models("project10_speech")


class TestLearning:
    def test_hears_digits_of_voices_it_never_heard(self, trained):
        results, _ = trained
        assert results["accuracy"] > 0.9 and results["worst_speaker_accuracy"] > 0.6
        assert results["baseline_accuracy"] == pytest.approx(1 / 3) and results["test_clips"] == 60
        assert results["mistakes"] == round((1 - results["accuracy"]) * 60)

    def test_check_notices_a_network_that_learned_nothing(self):
        with pytest.raises(LessonError, match="is not clearly better than the nearest mean"):
            main(epochs=1, lr=1e-9)

    def test_interrupted_and_resumed_it_is_the_same_network(self, trained, monkeypatch, tmp_path, press_ctrl_c):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        monkeypatch.setattr(evaluate, "nearest_mean", lambda known, test: torch.full_like(test.labels, 2))
        second_epoch = 8  # a step of it
        with press_ctrl_c(train, "classification_loss", second_epoch), pytest.raises(KeyboardInterrupt, match="--resume"):
            main()
        main(resume=True)
        one, other = (checkpoint.load(folder / "digits.pt")["model"] for folder in (trained[1], paths.models("project10_speech")))
        assert all(torch.equal(one[name], other[name]) for name in one)

    @pytest.mark.parametrize("flags", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"batch_size": 1}])
    def test_wrong_flags_are_one_sentence(self, flags):
        with pytest.raises(LessonError, match="must be above 0|needs at least two clips"):
            main(**flags)


class TestData:
    def test_clips_become_equally_long(self):
        short, long = torch.ones(10), torch.cat([torch.zeros(50), torch.ones(20), torch.zeros(30)])
        assert fitted(short, 14).tolist() == [0, 0, *[1] * 10, 0, 0]
        assert fitted(long, 20).tolist() == [1] * 20  # the loudest stretch
        assert stacked(small_world().test).shape == (60, RATE)

    def test_no_computed_voice_is_in_two_parts(self):
        voices = [*speech.TRAIN_VOICES, *speech.VALIDATION_VOICES, *speech.TEST_VOICES]
        assert len(set(voices)) == len(voices)

    def test_moved_in_a_circle(self):
        waves = torch.arange(10.0).repeat(50, 1)
        found = moved(waves, 2, torch.Generator().manual_seed(0))
        assert {int(row.argmin()) for row in found} == {8, 9, 0, 1, 2}
        assert all(torch.equal(row.roll(-int(row.argmin())), waves[0]) for row in found)

    def test_varied_anew_but_the_same_for_the_same_seed(self):
        def first(seed: int, vary: bool = True) -> torch.Tensor:
            return next(iter(TrainingBatches(small_world().train, 8, CPU, seed, vary=vary)))[0]

        assert first(0).shape == (8, RATE) and torch.equal(first(0), first(0)) and not torch.equal(first(0), first(1))
        plain = first(0, vary=False)
        known = stacked(small_world().train)
        assert all((known == wave).all(dim=1).any() for wave in plain)
        assert not any((known == wave).all(dim=1).any() for wave in first(0))

    def test_every_speed_keeps_the_length(self, monkeypatch):
        for speed in data.SPEEDS:
            monkeypatch.setattr(data, "SPEEDS", (speed,))
            assert next(iter(TrainingBatches(small_world().train, 4, CPU, 0)))[0].shape == (4, RATE)

    def test_nearest_mean_shape(self):
        found = nearest_mean(small_world().train, small_world().test)
        # A digit that nobody said has no mean, and is never the answer.
        assert set(found.tolist()) <= FEW and (found == small_world().test.labels).float().mean() > 0.8
        louder = Clips([5 * wave for wave in small_world().test.waves], *list(vars(small_world().test).values())[1:])
        assert (nearest_mean(small_world().train, louder) == found).float().mean() > 0.95


class TestNetwork:
    def test_shapes_and_size(self):
        network = DigitNet(RATE)
        assert sum(parameter.numel() for parameter in network.parameters()) == 176_050
        assert network(torch.randn(3, RATE)).shape == (3, 10) and network(torch.randn(2, RATE // 5)).shape == (2, 10)

    def test_loudness_and_a_steady_microphone_do_not_matter(self):
        network = DigitNet(RATE).eval()
        waves = torch.randn(2, RATE)
        assert (network.features(waves) - network.features(3 * waves)).abs().max() < 1e-3
        assert network.features(waves).mean(dim=2).abs().max() < 1e-4

    def test_a_faint_room_is_as_good_as_silence(self):
        network, wave = DigitNet(RATE).eval(), torch.zeros(1, RATE)
        wave[:, 3000:5000] = torch.randn(1, 2000)
        assert (network.features(wave) - network.features(wave + 1e-4 * torch.randn(1, RATE))).abs().max() < 0.01

    def test_spec_augment_only_while_training(self):
        network = DigitNet(RATE)
        waves = torch.randn(2, RATE)
        assert (network(waves) == network.head.bias).all()  # the head begins with zeros: nothing is certain yet
        torch.nn.init.normal_(network.head.weight)
        network.dropout.p = 0.0
        network.layers.eval()
        assert not torch.equal(network(waves), network(waves))
        network.eval()
        assert torch.equal(network(waves), network(waves))


class TestLooking:
    def test_the_saved_network_again(self, trained, monkeypatch, tmp_path):
        results, folder = trained
        monkeypatch.setattr(evaluate, "nearest_mean", lambda known, test: torch.full_like(test.labels, 2))
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        again = evaluate.main(model=folder / "digits.pt", source="sample", device="cpu", figures=True)
        assert {name: results[name] for name in again} == again
        names = {path.name for path in tmp_path.rglob("*.png")}
        assert names == {"confusion_matrix.png", "speakers.png", "noise.png", "mistakes.png"}

    def test_noise_makes_it_worse(self, trained):
        network, _ = evaluate.load_network(trained[1] / "digits.pt", CPU)
        found = evaluate.accuracy_in_noise(network, small_world().test, CPU, decibels=(40, -20), seed=0)
        assert found[40] > 0.85 and found[-20] < 0.7

    def test_half_of_the_clips_has_every_digit(self):
        """Computed voices count from zero to nine again and again: every other clip would leave out five of the ten."""
        takes = torch.zeros(200, dtype=torch.long)
        clips = Clips([torch.zeros(1)] * 200, torch.arange(200) % 10, ["a"] * 200, takes, RATE)
        chosen = evaluate.half_of(clips)
        assert len(chosen) == 100 and set(chosen.labels.tolist()) == set(range(10))

    def test_accuracy_of_each_speaker(self):
        clips = small_world().test
        found = evaluate.accuracy_of_each(clips.by("voice 80") | clips.by("voice 81"), clips)
        assert len(found) == 10 and [name for name, value in found.items() if value == 1] == ["voice 80", "voice 81"]

    def test_no_network_and_another_ones(self, tmp_path, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        with pytest.raises(LessonError, match="no trained network yet: run `python -m study run speech`"):
            evaluate.load_network(None, CPU)
        checkpoint.save_model(tmp_path / "other.pt", torch.nn.Linear(2, 2), words=["a"])
        with pytest.raises(LessonError, match="does not say its rate, source, accuracy"):
            evaluate.load_network(tmp_path / "other.pt", CPU)


class TestPredict:
    def test_recordings_of_ones_own(self, trained, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        test = small_world().test
        files = []
        for number in range(3):
            files.append(tmp_path / f"{number}.wav")
            write_wav(files[-1], test.waves[number], RATE)
        (tmp_path / "none.wav").write_bytes(b"hello")
        results = predict.main((*files, tmp_path / "none.wav"), model=trained[1] / "digits.pt", device="cpu")
        right = sum(results[f"{number + 1}_digit"] == test.labels[number] for number in range(3))
        assert right >= 2 and "none.wav: left out: " in capsys.readouterr().out
        assert len(list(tmp_path.rglob("heard_*.png"))) == 3

    def test_longer_than_a_second_and_silent(self, trained, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
        wave = torch.cat([torch.zeros(2 * RATE), small_world().test.waves[0]])
        write_wav(tmp_path / "late.wav", wave, RATE)
        results = predict.main((tmp_path / "late.wav",), model=trained[1] / "digits.pt", device="cpu")
        assert results["1_digit"] == small_world().test.labels[0] and "its loudest second was heard" in capsys.readouterr().out
        write_wav(tmp_path / "silent.wav", torch.zeros(RATE), RATE)
        for files, words in (((tmp_path / "silent.wav",), "silent"), ((), "name at least one"), ((tmp_path,) * 2, "none of the")):
            with pytest.raises(LessonError, match=words):
                predict.main(files, model=trained[1] / "digits.pt", device="cpu")


class TestHeldOutSpeakers:
    def test_nobody_is_in_both_parts(self):
        clips = speakers.all_clips(small_world().train, small_world().test)
        training, test = speakers.without(clips, "voice 3")
        assert len(training) + len(test) == len(clips) and set(test.speakers) == {"voice 3"}
        assert "voice 3" not in training.speakers

    def test_each_in_turn(self, monkeypatch):
        few = torch.tensor([name in ("voice 1", "voice 2", "voice 3") for name in small_world().train.speakers])
        part = small_world().train.at(few)
        world = SpeechData(part, part.at(torch.zeros(len(part), dtype=torch.bool)), part, WORDS, "three voices", is_real=True)
        monkeypatch.setattr(speakers, "fsdd", lambda source: world)
        monkeypatch.setattr(speakers, "nearest_mean", lambda known, test: test.labels)
        monkeypatch.setattr(speakers, "RECIPE", {**speakers.RECIPE, "batch_size": 12})
        results = speakers.main(speakers=("voice 1", "voice 3"), epochs=1, seed=0, device="cpu", figures=False)
        assert set(results) == {
            *(f"voice {number}_{name}" for number in (1, 3) for name in ("accuracy", "baseline_accuracy")),
            "mean_accuracy",
            "mean_baseline_accuracy",
        }
        assert results["mean_baseline_accuracy"] == 1
        with pytest.raises(LessonError, match="nobody is called eve; there are voice 1, voice 2"):
            speakers.main(speakers=("eve",), epochs=1, device="cpu", figures=False)


@pytest.mark.slow  # a minute of training, the whole sample
def test_the_sample_beats_its_baseline(tmp_path, monkeypatch):
    from utils.datasets.speech import fsdd

    monkeypatch.setenv("STUDY_WORK_DIR", str(tmp_path))
    monkeypatch.setattr(train, "fsdd", fsdd)
    results = train.main(source="sample", language="en", seed=0, device="cpu", figures=False)
    assert results["accuracy"] > 0.94 and results["baseline_accuracy"] < 0.93


def test_plain_batches_change_nothing():
    waves, labels = next(iter(plain_batches(small_world().test, CPU)))
    assert torch.equal(waves, stacked(small_world().test)) and torch.equal(labels, small_world().test.labels)
