"""utils.datasets.sentence_pairs: lines stay together with their translations, splits share no sentence, damage is told."""

import gzip

import pytest

from utils.datasets import korean_english, multi30k

SPLITS = {"train": 5, "val": 3, "test_2016_flickr": 2}


@pytest.fixture
def files(without_data):
    folder = without_data / "multi30k"
    folder.mkdir()
    for split, count in SPLITS.items():
        for language in ("en", "de", "fr"):
            lines = "".join(f"{split} {i} {language} é \n" for i in range(count))
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(lines.encode()))
    return folder


class TestMulti30k:
    @pytest.mark.parametrize(("of", "into"), [("en", "de"), ("fr", "en")])
    def test_pairs(self, files, of, into):
        data = multi30k(of, into, source="real")
        for split, pairs in zip(SPLITS, (data.train, data.validation, data.test), strict=True):
            assert pairs == [(f"{split} {i} {of} é", f"{split} {i} {into} é") for i in range(SPLITS[split])]
        assert f"{of} to {into}, own copy (not the official checksum) (5 + 3 + 2)" in data.source

    def test_without_files(self, without_data):
        assert multi30k(source="auto") is None is multi30k(source="sample")

    def test_different_lengths(self, files, fails):
        (files / "val.de.gz").write_bytes(gzip.compress(b"one\n"))
        fails(lambda source: multi30k(source=source), "val has 3 sentences in en and 1 in de")

    @pytest.mark.parametrize("damage", ["empty", "web page", "cut off", "no text"])
    def test_damaged_file(self, files, fails, damage):
        content = {"empty": b"", "web page": b"<html>", "cut off": gzip.compress(b"one\n" * 500)[:-9]}
        content = content.get(damage, gzip.compress(b"\xff\xff"))
        (files / "train.de.gz").write_bytes(content)
        fails(lambda source: multi30k(source=source), "train.de.gz" if content else "0 in de", "is damaged")

    def test_missing_file(self, files, fails):
        (files / "test_2016_flickr.de.gz").unlink()
        fails(lambda source: multi30k(source=source), "test_2016_flickr.de.gz is missing")

    @pytest.mark.real_data("multi30k")
    def test_real(self):
        data = multi30k(source="real")
        assert [len(split) for split in (data.train, data.validation, data.test)] == [29_000, 1_014, 1_000]


class TestKoreanEnglish:
    @pytest.fixture
    def file(self, without_data):
        lines = [f"Sentence {i % 40}.\t문장 {i}.\tCC-BY" for i in range(50)]
        (without_data / "kor.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return without_data / "kor.txt"

    def test_translations_of_a_sentence_stay_together(self, file):
        data, again = korean_english("real"), korean_english("real")
        splits = data.train, data.validation, data.test
        sentences = [{english for english, _ in split} for split in splits]
        assert [len(found) for found in sentences] == [32, 4, 4] and len(set.union(*sentences)) == 40
        assert sum(map(len, splits)) == 50
        for english, korean in data.train:
            assert int(korean[3:-1]) % 40 == int(english[9:-1])
        assert data == again and data.test != korean_english("real", seed=1).test

    def test_broken_line(self, file, fails):
        file.write_text("Go.\t가.\nno tab\n", encoding="utf-8")
        fails(korean_english, "kor.txt is damaged: line 2 ")

    def test_without_the_file(self, without_data):
        assert korean_english("auto") is None

    @pytest.mark.real_data("korean_english")
    def test_real(self):
        assert len(korean_english("real").train) > 2000
