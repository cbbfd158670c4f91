"""utils.datasets.written_reviews: labels follow from negation and contrast, and what is held out is never shown in training."""

import re
from collections import Counter

import pytest

from utils.datasets import written_reviews
from utils.datasets.opinions import word_lists
from utils.datasets.written_reviews import write_explained, write_reviews, written_splits

ADJECTIVES = {name: row for name, row in word_lists().items() if name.endswith(("good", "bad")) and " mood " not in name}
FORMS = {
    (name[:2], form): (i, name.endswith("good")) for name, row in ADJECTIVES.items() for i, entry in enumerate(row)
    for form in entry.split(" ")
}  # fmt: skip


@pytest.fixture(scope="module")
def shown():
    return write_explained(3000, seed=0)


@pytest.fixture(scope="module")
def held_out():
    return write_explained(2000, seed=1, held_out=True)


def clauses(explained) -> list[tuple[str, int, bool, str]]:
    """Read a review by its words alone: of each clause its role, the place of its adjective, the verdict, and its words."""
    language, found, clause = explained.review.language, [], []
    endings = re.compile("(지만|는데도|고|다|긴)$")
    for word, role in zip(explained.words, explained.roles, strict=True):
        if role in ("counts", "conceded"):
            if clause and clause[-1][1] != role:
                found.append(clause)
                clause = []
            clause.append((word, role))
            begins_next = language == "en" and (language, word) in FORMS
        else:
            begins_next = word in (".", ",", "and") or (language == "ko" and re.search("[은는]$", word) and clause)
        if begins_next and clause:
            found.append(clause)
            clause = []
    read = []
    for pairs in [*found, clause] if clause else found:
        said, role = [word for word, _ in pairs], pairs[0][1]
        if language == "en":
            (adjective,) = (word for word in said if ("en", word) in FORMS)
            negative = {"not", "wasn't", "weren't", "far", "hardly", "anything", "nobody"}
            turned = bool(negative & set(said)) and "deny" not in said
            i, good = FORMS["en", adjective]
        else:
            stems = [form for word in said for _, form in FORMS if form[0] >= "가" and word.startswith(form)]
            i, good = FORMS["ko", max(stems, key=len)]
            text = " ".join(endings.sub("", word) for word in said)
            turned = (len(re.findall(r"\b안 |지 않|\b없", text)) % 2) == 1
        read.append((role, i, good != turned, " ".join(said)))
    return read


def test_same_seed_writes_the_same(shown):
    assert write_reviews(50, seed=0) == [explained.review for explained in shown[:50]]
    assert write_reviews(50, seed=1) != write_reviews(50, seed=0)


def test_splits_have_no_text_in_common():
    train, known, unseen = written_splits(0, train=400, test=200)
    texts = [set(some.texts) for some in (train, known, unseen)]
    assert not texts[0] & texts[1] and not (texts[0] | texts[1]) & texts[2]
    assert all(len(some) == len(some.labels) and len(some) > 150 for some in (train, known, unseen))


def test_labels_and_languages_are_equally_frequent(shown, held_out):
    for some in (shown, held_out):
        counts = Counter((explained.review.label, explained.review.language) for explained in some)
        assert len(counts) == 4 and min(counts.values()) > 0.22 * len(some)


def test_words_are_those_of_the_text(shown):
    for explained in shown[:300]:
        assert explained.words == re.findall(r"[\w']+|[^\w\s]", explained.review.text)
        assert len(explained.words) == len(explained.roles) and not re.search(r"[*~^{}]|  ", explained.review.text)


@pytest.mark.parametrize("kind", ["shown", "held_out"])
def test_label_follows_from_the_words_that_count(kind, request):
    for explained in request.getfixturevalue(kind):
        read = clauses(explained)
        assert {verdict for role, _, verdict, _ in read if role == "counts"} == {bool(explained.review.label)}, explained
        assert {verdict for role, _, verdict, _ in read if role == "conceded"} <= {not explained.review.label}, explained


def test_combinations_are_held_out():
    """Of an adjective's place, its template and, where it does not count, the contrast."""
    for template in range(7):
        for contrast in (None, *range(7)):
            shown, held = (written_reviews._allowed(template, contrast, held_out) for held_out in (False, True))
            assert sorted(shown + held) == [0, 1, 2, 3] and 1 <= len(held) <= 2


def test_no_adjective_is_new_and_no_combination_is_old(shown, held_out):
    def combinations(some):
        return {(said, explained.review.language) for explained in some for role, _, _, said in clauses(explained)
                if role == "counts" and " " in said}  # fmt: skip

    def stems(some):
        return {i for explained in some for _, i, _, _ in clauses(explained)}

    assert stems(shown) == stems(held_out) == {0, 1, 2, 3}
    common = {said for said, language in combinations(shown) & combinations(held_out) if language == "en"}
    assert not {
        said
        for said in common
        if said.startswith(("not", "far", "hardly", "anything", "nobody", "nothing")) and "not" not in said.split()[:1]
    }  # fmt: skip  ("not" begins two templates)


@pytest.mark.parametrize("kind", ["shown", "held_out"])
def test_contrast_decides_by_its_word(kind, request):
    for explained in request.getfixturevalue(kind):
        text, order = explained.review.text, [role for role in explained.roles if role in ("counts", "conceded")]
        if "conceded" in order:
            first = re.search(r", (although|even though) |다만 |물론 ", text)
            assert order[0] == ("counts" if first else "conceded"), text
        else:
            assert not re.search(r"although|though|however|yet|, but|지만|는데도|그래도|다만|물론", text), text


def test_korean_is_spelt_as_it_should_be(shown):
    texts = " ".join(explained.review.text for explained in shown if explained.review.language == "ko")
    assert re.search(r"지 않긴 했|할 수 없긴 했", texts) and "할 만하긴 했" in texts and re.search(r"[가-힣]긴 했지만", texts)
    assert not re.search(r"[았었했]긴|  |않다고 할", texts)
    for word, particle in re.findall(r"([가-힣]+)(은|는) ", texts):
        if any(word in row for name, row in word_lists().items() if re.fullmatch(r"ko \w+", name)):
            assert (particle == "은") == bool((ord(word[-1]) - ord("가")) % 28), word


@pytest.mark.parametrize("language", ["en", "ko"])
def test_counting_words_fails_on_what_is_held_out(shown, held_out, language):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, test = ([e.review for e in some if e.review.language == language] for some in (shown, held_out))
    for grams in ({"ngram_range": (1, 2), "token_pattern": r"[\w']+"}, {"analyzer": "char", "ngram_range": (1, 4)}):
        words = TfidfVectorizer(**grams).fit([review.text for review in train])
        model = LogisticRegression(max_iter=300)
        model.fit(words.transform([review.text for review in train]), [review.label for review in train])
        assert model.score(words.transform([review.text for review in test]), [review.label for review in test]) < 0.58
