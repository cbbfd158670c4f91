"""utils.datasets.news: articles stay with their summaries, copies stay in one split, damage is told."""

import io
import tarfile
import zipfile

import pytest

from utils.datasets import bbc_news
from utils.datasets.news import to_summarize

TOP = "BBC News Summary"


def contents(articles: int = 30) -> dict[str, bytes]:
    """A small set: every third article is a copy of the one before, one is not UTF-8."""
    files = {}
    for i in range(articles):
        text = f"Headline {i}\n\nParagraph {i - (i % 3 == 2)}.\n\nMore \u00a3{i - (i % 3 == 2)}m.\n"
        name = f"{('sport', 'tech')[i % 2]}/{i:03}.txt"
        files[f"{TOP}/News Articles/{name}"] = text.encode("latin-1" if i == 4 else "utf-8")
        files[f"{TOP}/Summaries/{name}"] = f"Summary {i}.".encode()
    return dict(sorted(files.items()))


def packed(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


@pytest.fixture
def archive(without_data):
    (without_data / "bbc_news_summary.tar").write_bytes(packed(contents()))
    return without_data / "bbc_news_summary.tar"


def all_of(data):
    return data.train + data.validation + data.test


class TestBbcNews:
    def test_articles_and_summaries(self, archive):
        data = bbc_news("real")
        assert len(all_of(data)) == 30 and len({article.title for article in all_of(data)}) == 30
        for article in all_of(data):
            i = int(article.title.split()[1])
            first = i - (i % 3 == 2)
            assert article.text == f"Paragraph {first}.\nMore \u00a3{first}m." and article.summary == f"Summary {i}."
            assert article.topic == ("sport", "tech")[i % 2]
        assert "a part of BBC News Summary" in data.source and "our split with seed 0" in data.source

    def test_copies_stay_together(self, archive):
        data = bbc_news("real")
        splits = [{article.text for article in split} for split in (data.train, data.validation, data.test)]
        assert [len(split) for split in splits] == [16, 2, 2]
        assert len(set.union(*splits)) == 20
        assert data == bbc_news("real") and data.test != bbc_news("real", seed=1).test

    @pytest.mark.parametrize("layout", ["folder", "zip"])
    def test_other_layouts(self, archive, without_data, layout):
        expected = all_of(bbc_news("real"))
        archive.unlink()
        if layout == "zip":  # holds everything twice, like the one that people have
            with zipfile.ZipFile(without_data / "bbc-news-summary.zip", "w") as target:
                for name, content in contents().items():
                    target.writestr(name, content)
                    target.writestr(f"bbc news summary/{name}", content)
        for name, content in contents().items() if layout == "folder" else ():
            (without_data / name).parent.mkdir(parents=True, exist_ok=True)
            (without_data / name).write_bytes(content)
        assert all_of(bbc_news("real")) == expected

    def test_without_the_set(self, without_data, fails):
        assert bbc_news("auto") is None is bbc_news("sample")
        with pytest.raises(Exception, match="kaggle"):
            bbc_news("real")

    @pytest.mark.parametrize(
        ("cut", "said"), [(700, "cannot be read"), (20_480, "without its twin"), (0, "is damaged"), (512, "is damaged")]
    )
    def test_cut_off(self, archive, fails, cut, said):
        archive.write_bytes(archive.read_bytes()[:cut])
        fails(bbc_news, "bbc_news_summary.tar is damaged", said)

    def test_no_summary(self, archive, fails):
        files = contents()
        files.pop(f"{TOP}/Summaries/tech/003.txt")
        archive.write_bytes(packed(files))
        fails(bbc_news, "tech/003.txt is there without its twin")

    def test_something_else(self, archive, fails):
        archive.write_bytes(packed({"notes/a/b.txt": b"hello"}))
        fails(bbc_news, "no articles in it")
        archive.write_bytes(b"<html>")
        fails(bbc_news, "bbc_news_summary.tar is damaged: it cannot be read")

    @pytest.mark.real_data("bbc_news")
    def test_real(self):
        data = bbc_news("real")
        assert len(all_of(data)) == 2225 and data.source.startswith("BBC News Summary")
        assert any("a \u00a315.8m signing" in article.text for article in all_of(data))  # the file that is not UTF-8
        assert not {article.text for article in data.train} & {article.text for article in data.test + data.validation}


class TestToSummarize:
    def test_reports(self):
        train, test = to_summarize(20, 2)
        assert (len(train), len(test)) == (20, 5)
        assert {one.language for one in train} == {"en", "ko"} and {one.count for one in train} == {2}
        assert all(len(one.sentences) > 6 and one.summary for one in train)

    def test_articles(self, archive):
        train, test = to_summarize(10, 2, "real")
        assert (len(train), len(test)) == (10, 2)
        i = int(train[0].sentences[0].split()[1][:-1])
        assert train[0].sentences == [f"Paragraph {i}.", f"More \u00a3{i}m."] and train[0].count == 1
