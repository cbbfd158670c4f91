"""utils.datasets.reviews: every layout gives the same reviews, a damaged file gives one sentence, a sample is called one."""

import io
import tarfile

import pytest
import torch

from utils.datasets import Texts, imdb, nsmc, rt_polarity

FILES = {
    "aclImdb/README": "about",
    "aclImdb/train/pos/0_9.txt": "Great.<br /><br />See it!",
    "aclImdb/train/neg/0_2.txt": "Dull.",
    "aclImdb/train/unsup/0_0.txt": "Nobody said.",
    "aclImdb/train/labeledBow.feat": "1:2",
    "aclImdb/test/pos/0_8.txt": "Nice.",
    "aclImdb/test/neg/0_1.txt": "Bad.",
}
NSMC = "id\tdocument\tlabel\n1\t재미있다\t1\n2\t\t0\n3\t지루하다 ㅠㅠ\t0\n"


def put(folder, files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def packed(files, mode) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


class TestTexts:
    def test_part_by_slice_and_by_positions(self):
        texts = Texts(["a", "b", "c"], torch.tensor([0, 1, 0]))
        assert texts[1:].texts == ["b", "c"] and texts[1:].labels.tolist() == [1, 0]
        chosen = texts[torch.tensor([2, 0])]
        assert chosen.texts == ["c", "a"] and chosen.labels.tolist() == [0, 0] and len(chosen) == 2


class TestImdb:
    @pytest.mark.parametrize("layout", ["aclImdb", "imdb/aclImdb", "imdb/aclImdb_v1.tar.gz", "aclImdb_10k.tar"])
    def test_layouts(self, without_data, layout):
        if layout.endswith("aclImdb"):
            put((without_data / layout).parent, FILES)
        else:
            put(without_data, {layout: packed(FILES, "w:gz" if layout.endswith("gz") else "w")})
        data = imdb("real")
        assert sorted(zip(data.train.texts, data.train.labels.tolist(), strict=True)) == [("Dull.", 0), ("Great.  See it!", 1)]
        assert sorted(data.test.texts) == ["Bad.", "Nice."] and data.classes == ("negative", "positive")
        assert data.is_real and "a part of IMDb reviews (2 + 2)" in data.source

    @pytest.mark.parametrize("kept", [0, 100, -30])
    def test_damaged_archive(self, without_data, fails, kept):
        put(without_data, {"aclImdb_v1.tar.gz": packed(FILES, "w:gz")[:kept]})
        fails(imdb, "aclImdb_v1.tar.gz is damaged", "left as it is")

    def test_archive_of_something_else(self, without_data, fails):
        put(without_data, {"aclImdb_v1.tar.gz": packed({"letter.txt": "hello"}, "w:gz")})
        fails(imdb, "does not hold both positive and negative reviews")

    def test_review_that_is_no_text(self, without_data, fails):
        put(without_data, {**FILES, "aclImdb/test/pos/1_8.txt": b"\xff\xfe\xff"})
        fails(imdb, "is damaged", "cannot be read")


class TestNsmc:
    def test_reviews(self, without_data):
        put(without_data / "nsmc", {"ratings_train.txt": NSMC, "ratings_test.txt": NSMC.replace("\n", "\r\n")})
        data = nsmc("real")
        for part in (data.train, data.test):
            assert part.texts == ["재미있다", "지루하다 ㅠㅠ"] and part.labels.tolist() == [1, 0]
        assert data.is_real and "own copy of NSMC" in data.source

    @pytest.mark.parametrize("line", ["4\t두 칸뿐", "4\t좋다\t2", "4\ta\tb\t1"])
    def test_broken_line(self, without_data, fails, line):
        put(without_data / "nsmc", {"ratings_train.txt": NSMC + line, "ratings_test.txt": NSMC})
        fails(nsmc, "ratings_train.txt is damaged: line 5 ")

    def test_other_encoding(self, without_data, fails):
        put(without_data / "nsmc", {"ratings_train.txt": NSMC.encode("cp949"), "ratings_test.txt": NSMC})
        fails(nsmc, "ratings_train.txt is damaged", "cannot be read")

    def test_companion_is_missing(self, without_data, fails):
        put(without_data / "nsmc", {"ratings_train.txt": NSMC})
        fails(nsmc, "ratings_test.txt is missing")

    def test_empty(self, without_data, fails):
        put(without_data / "nsmc", {"ratings_train.txt": "", "ratings_test.txt": NSMC})
        fails(nsmc, "ratings_train.txt is damaged: it does not hold both")

    @pytest.mark.real_data("nsmc")
    def test_real(self):
        data = nsmc("real")
        assert len(data.train) > len(data.test) >= 9000
        assert 0.45 < data.train.labels.float().mean() < 0.55


class TestMr:
    @pytest.fixture
    def files(self, without_data):
        positive, negative = (f"{kind} caf\u00e9 number {{}} . \n" for kind in ("good", "bad"))
        for name, line in (("pos", positive), ("neg", negative)):
            content = "".join(line.format(i) for i in range(50)).encode("latin-1")
            put(without_data, {f"rt-polarity/rt-polarity.{name}": content})
        return without_data / "rt-polarity"

    def test_last_tenth_after_a_shuffle_is_the_test(self, files):
        data, again, other = rt_polarity("real"), rt_polarity("real"), rt_polarity("real", seed=1)
        assert (len(data.train), len(data.test)) == (90, 10)
        assert not set(data.train.texts) & set(data.test.texts)
        for part in (data.train, data.test):
            assert [text.startswith("good café number") for text in part.texts] == part.labels.bool().tolist()
        assert data.test.texts == again.test.texts != other.test.texts
        assert 0 < data.test.labels.sum() < 10

    def test_companion_is_missing(self, files, fails):
        (files / "rt-polarity.neg").unlink()
        fails(rt_polarity, "rt-polarity.neg is missing")

    @pytest.mark.real_data("rt_polarity")
    def test_real(self):
        data = rt_polarity("real")
        assert len(data.train) + len(data.test) == 10_662


@pytest.mark.parametrize("load", [imdb, nsmc, rt_polarity])
def test_sample_is_no_real_set(load):
    data = load("sample")
    assert (len(data.train), len(data.test)) == (4000, 1000) and not data.is_real
    assert data.source.startswith("sample: 4,000 + 1,000 made-up opinions; not ")
    assert 0.4 < data.test.labels.float().mean() < 0.6
