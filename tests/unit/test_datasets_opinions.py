"""utils.datasets.opinions: texts whose words agree with what they say, in tokens that are all known."""

import re
from collections import Counter

import pytest

from utils.datasets.opinions import TOPICS, vocabulary, write_opinions
from utils.wordpiece import SPECIAL, WordPiece


@pytest.fixture(scope="module")
def opinions():
    return write_opinions(3000, seed=0)


def test_same_seed_writes_the_same(opinions):
    assert write_opinions(50, seed=0) == opinions[:50]
    assert write_opinions(50, seed=1) != opinions[:50]


def test_topics_languages_and_moods_are_about_equally_frequent(opinions):
    counts = Counter((opinion.topic, opinion.content, opinion.language) for opinion in opinions)
    assert len(counts) == 4 * len(TOPICS)
    assert min(counts.values()) > 80 and max(counts.values()) < 180


def test_all_tokens_are_known_and_all_are_used(opinions):
    tokenizer = WordPiece(vocabulary(), uncased=False)
    used = Counter(token for opinion in opinions for token in tokenizer.tokens(opinion.text))
    assert set(used) == set(tokenizer.vocabulary) - set(SPECIAL)
    assert len(set(tokenizer.vocabulary)) == len(tokenizer.vocabulary)
    assert max(len(tokenizer.encode(opinion.text)) for opinion in opinions) <= 40


def test_moods_agree(opinions):
    happy = [opinion for opinion in opinions if re.search("we left (happy|glad)|우리는 (행복|기뻤)", opinion.text)]
    angry = [opinion for opinion in opinions if re.search("we left (angry|sad)|우리는 (화났|슬펐)", opinion.text)]
    assert len(happy) > 300 and all(opinion.content for opinion in happy)
    assert len(angry) > 300 and not any(opinion.content for opinion in angry)
    assert not any("we left" in opinion.text or "우리는" in opinion.text for opinion in write_opinions(200, seed=0, moods=0.0))


def test_what_counts_comes_after_but(opinions):
    good, bad = "wonderful|excellent|perfect|superb", "terrible|awful|dreadful|horrible"
    for opinion in opinions:
        if found := re.search(rf", but the \w+ (?:was|were) (not )?({good}|{bad})\b", opinion.text):
            praised = (found[2] in good.split("|")) != bool(found[1])
            assert praised == bool(opinion.content), opinion.text
        if found := re.search(r"(\w)(은|는) ", opinion.text):
            assert (found[2] == "은") == bool((ord(found[1]) - ord("가")) % 28), opinion.text
