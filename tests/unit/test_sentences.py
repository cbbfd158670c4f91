"""utils.sentences: full stops that end nothing, quotations, both languages."""

import pytest

from utils.datasets.reports import write_reports
from utils.sentences import split_sentences, split_words


@pytest.mark.parametrize(
    "sentences",
    [
        ["Mr. Kim ran 3.14 km.", "Dr. Park did not."],
        ['"It was hot. I walked," said Ms. Lee.', "Nobody asked why!"],
        ['She said: "We wait. Nothing else."', "They went."],
        ["The U.S. won.", "J. R. R. Tolkien wrote it.", "Really?!", "Yes..."],
        ['기자는 "문제없다. 곧 고친다."라고 적었다.', "값은 3.5% 올랐다.", "그런가?", "그렇다."],
        ["비가 왔다.", "1.5배였다."],
    ],
)
def test_cuts(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


def test_lines_and_nothing():
    assert split_sentences("A title\n\nOne. Two\n") == ["A title", "One.", "Two"]
    assert split_sentences("") == split_sentences(" \n ") == []
    assert split_sentences("마침표가 없는 글이다 그래도 하나다") == ["마침표가 없는 글이다 그래도 하나다"]


def test_unpaired_quotation_mark_does_not_swallow_the_rest():
    assert split_sentences('He said: "Wait. They did. Then they left.') == ['He said: "Wait.', "They did.", "Then they left."]


def test_finds_the_sentences_of_reports():
    for report in write_reports(100, seed=3):
        assert split_sentences(" ".join(report.sentences)) == [*report.sentences]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mr. Kim's 3.5 km!", ["Mr", ".", "Kim", "'", "s", "3.5", "km", "!"]),
        ("한지우는 새솔시에서 417명을 3.5% 더", ["한지우", "는", "새솔시", "에서", "417", "명을", "3.5", "%", "더"]),
        ("이 사람이 그", ["이", "사람", "이", "그"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert split_words(text) == words
