"""utils.datasets.speech: FSDD's layout is read, what is wrong with it is one sentence, and computed voices stand in for it."""

import tarfile

import conftest
import pytest
import torch

from utils.datasets import speech
from utils.datasets.speech import fsdd, read_fsdd, spoken_digits
from utils.lesson import LessonError
from utils.sound import wav_bytes

RATE = 8000


@pytest.fixture
def folder(tmp_path):
    """A set in FSDD's layout: two digits, two speakers, twelve takes; the frequency tells which."""
    place = tmp_path / "data" / "free-spoken-digit-dataset" / "recordings"
    place.mkdir(parents=True)
    for digit in (3, 7):
        for speaker in ("ann", "bob"):
            for take in range(12):
                wave = torch.sin(torch.arange(800 + take) * (digit + take / 100) / 10) / 2
                (place / f"{digit}_{speaker}_{take}.wav").write_bytes(wav_bytes(wave, RATE))
    (place / "notes.txt").write_text("no recording", encoding="utf-8")
    (place / "README.wav").write_bytes(b"none either")
    return place


class TestReading:
    def test_digits_speakers_and_takes(self, folder):
        before = conftest.everything_in(folder)
        clips = read_fsdd(folder)
        assert len(clips) == 48 and clips.rate == RATE
        assert clips.labels.bincount(minlength=10).tolist() == [0, 0, 0, 24, 0, 0, 0, 24, 0, 0]
        assert clips.speakers[:12] == ["ann"] * 12 and clips.takes[:13].tolist() == [
            *range(12),
            0,
        ]  # 10 comes after 9, not after 1
        assert [len(wave) for wave in clips.waves[:12]] == [800 + take for take in range(12)]
        wanted = torch.sin(torch.arange(805) * (7 + 5 / 100) / 10) / 2
        assert (clips.waves[24 + 5] - wanted).abs().max() < 1e-3
        assert conftest.everything_in(folder) == before

    def test_usual_test_is_takes_0_to_4(self, without_data, folder, monkeypatch):
        monkeypatch.setenv("STUDY_DATA_DIR", str(folder.parent.parent))
        data = fsdd("auto")
        assert data.is_real and data.words[7] == "seven"
        assert data.test.takes.unique().tolist() == [0, 1, 2, 3, 4] and len(data.test) == 20
        assert data.validation.takes.unique().tolist() == [5, 6, 7, 8, 9] and data.train.takes.unique().tolist() == [10, 11]
        assert data.source.startswith("a part of the Free Spoken Digit Dataset (28 + 20 recordings by 2 people)")

    @pytest.mark.parametrize("name", ["recordings.tar", "recordings.tar.gz"])
    def test_an_archive_is_read_as_it_is(self, without_data, folder, name, monkeypatch):
        place = folder.parent.parent / "fsdd"
        place.mkdir()
        with tarfile.open(place / name, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(folder, arcname="recordings")
        (folder.rename(folder.with_name("elsewhere")))
        monkeypatch.setenv("STUDY_DATA_DIR", str(place.parent))
        one, again = fsdd("real"), fsdd("real")  # the second one from the cache
        assert len(one.test) == 20 and [path.name for path in place.iterdir()] == [name]
        assert all((a - b).abs().max() < 1e-4 for a, b in zip(one.train.waves, again.train.waves, strict=True))
        assert again.train.speakers == one.train.speakers and torch.equal(again.train.labels, one.train.labels)

    def test_some_of_the_clips(self, folder):
        clips = read_fsdd(folder)
        anns = clips.at(clips.by("ann"))
        assert len(anns) == 24 and set(anns.speakers) == {"ann"}
        assert torch.equal(clips.at(torch.tensor([30, 2])).waves[0], clips.waves[30])


class TestWhatIsWrong:
    def test_is_not_there(self, without_data):
        with pytest.raises(LessonError, match="is not there: unpack it .*free-spoken-digit-dataset"):
            fsdd("real")
        with pytest.raises(LessonError, match="real recordings are in English"):
            fsdd("real", "ko")
        with pytest.raises(LessonError, match="speak en and ko, not 'fr'"):
            fsdd("sample", "fr")

    def test_one_sentence_with_the_name_of_the_file(self, folder):
        whole = (folder / "3_ann_0.wav").read_bytes()
        (folder / "3_ann_0.wav").write_bytes(whole[:1000])
        with pytest.raises(LessonError, match="3_ann_0.wav is cut off: .*; the file was left as it is"):
            read_fsdd(folder)
        (folder / "3_ann_0.wav").write_bytes(wav_bytes(torch.rand(100), 16_000))
        with pytest.raises(LessonError, match="several rates: .8000, 16000."):
            read_fsdd(folder)

    def test_no_recordings_and_no_tests(self, without_data, folder, tmp_path, monkeypatch):
        (tmp_path / "empty").mkdir()
        with pytest.raises(LessonError, match="no recordings with names such as 7_jackson_32.wav"):
            read_fsdd(tmp_path / "empty")
        monkeypatch.setenv("STUDY_DATA_DIR", str(folder.parent.parent))
        for path in folder.glob("*_1?.wav"):
            path.unlink()
        with pytest.raises(LessonError, match="no take after the 9th"):
            fsdd("auto")
        for path in folder.glob("*_[0-4].wav"):
            path.unlink()
        with pytest.raises(LessonError, match="none of the takes 0 to 4"):
            fsdd("auto")

    def test_a_damaged_archive(self, tmp_path):
        for content in (b"no archive", b""):
            (tmp_path / "recordings.tar").write_bytes(content)
            with pytest.raises(LessonError, match="recordings.tar is damaged"):
                read_fsdd(tmp_path / "recordings.tar")


class TestComputedVoices:
    def test_every_voice_says_every_digit(self):
        clips = spoken_digits(voices=[4, 9], takes=2, language="ko", seed=1)
        assert len(clips) == 40 and clips.labels.bincount().tolist() == [4] * 10
        assert set(clips.speakers) == {"voice 4", "voice 9"} and clips.rate == RATE
        assert all(wave.abs().max() <= 1 and wave.dtype == torch.float32 for wave in clips.waves)
        again = spoken_digits(voices=[4, 9], takes=2, language="ko", seed=1)
        assert all(map(torch.equal, clips.waves, again.waves))

    def test_noise_is_as_loud_as_it_should_be(self):
        quiet = spoken_digits(voices=[4], takes=1, decibels=(60.0, 60.0)).waves[0]
        loud = spoken_digits(voices=[4], takes=1, decibels=(0.0, 0.0)).waves[0]
        assert quiet[:100].square().mean() < 1e-4 * quiet.square().mean()  # before the word begins
        assert loud[:100].square().mean() > 0.1 * loud.square().mean()

    def test_the_sample_tests_with_other_voices(self, without_data, monkeypatch):
        for name, voices in {"TRAIN_VOICES": range(2), "VALIDATION_VOICES": range(5, 6), "TEST_VOICES": range(8, 9)}.items():
            monkeypatch.setattr(speech, name, voices)
        data = fsdd("auto")
        assert not data.is_real and data.source.startswith("computed voices, en (40 + 50 clips by 2 and 1 voices)")
        assert not set(data.train.speakers) & set(data.test.speakers)
        assert fsdd("sample", "ko").words[7] == "칠"


@pytest.mark.skipif(speech.find_fsdd() is None, reason="needs real data: fsdd (see STUDY_DATA_DIR)")
def test_the_real_recordings():
    clips = read_fsdd(speech.find_fsdd())
    assert len(clips) == 3000 and clips.rate == RATE
    assert clips.labels.bincount().tolist() == [300] * 10
    assert {name: clips.speakers.count(name) for name in set(clips.speakers)} == dict.fromkeys(
        ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"), 500
    )
    assert max(len(wave) for wave in clips.waves) < 2.5 * RATE and all(wave.abs().max() <= 1 for wave in clips.waves)
