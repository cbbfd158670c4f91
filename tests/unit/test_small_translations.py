"""utils.datasets.small_translations: grammatical in three languages, with combinations that only the test has."""

import re

import pytest

from utils.datasets.small_translations import THINGS, translations, word_by_word, write_translations
from utils.lesson import LessonError

SENTENCES = [  # one of each kind, translated by hand
    ("Mina finds a small cat.", "미나는 작은 고양이를 찾는다.", "Mina findet eine kleine Katze."),
    ("Every week Joon sells a strange flower.", "매주 준은 이상한 꽃을 판다.", "Jede Woche verkauft Joon eine seltsame Blume."),
    ("Sora found six books.", "소라는 책 여섯 권을 찾았다.", "Sora hat sechs Bücher gefunden."),
    ("The teacher will choose the coat.", "선생님은 그 외투를 고를 것이다.", "Der Lehrer wird den Mantel wählen."),
    ("Did the doctor see the bicycle in the garden?", "의사는 정원에서 그 자전거를 보았니?",
     "Hat die Ärztin im Garten das Fahrrad gesehen?"),
    ("The doctor does not see the letter every week.", "의사는 매주 그 편지를 보지 않는다.",
     "Die Ärztin sieht jede Woche den Brief nicht."),
    ("This morning Mina did not buy a bicycle.", "오늘 아침에 미나는 자전거를 사지 않았다.",
     "Heute Morgen hat Mina kein Fahrrad gekauft."),
    ("The baker who counted the bicycle sang.", "그 자전거를 센 제빵사는 노래했다.",
     "Der Bäcker, der das Fahrrad gezählt hat, hat gesungen."),
    ("Emil says that Tom will lose a strange hat tomorrow.", "에밀은 톰이 내일 이상한 모자를 잃어버릴 것이라고 말한다.",
     "Emil sagt, dass Tom morgen einen seltsamen Hut verlieren wird."),
    ("The baker slept because Emil saw an old hat last week.", "에밀이 지난주에 낡은 모자를 보았기 때문에 제빵사는 잤다.",
     "Der Bäcker hat geschlafen, weil Emil letzte Woche einen alten Hut gesehen hat."),
    ("When Tom painted the small car in the garden last week, the teacher slept.",
     "톰이 지난주에 정원에서 그 작은 자동차를 그렸을 때 선생님은 잤다.",
     "Als Tom letzte Woche im Garten das kleine Auto gemalt hat, hat der Lehrer geschlafen."),
]  # fmt: skip


def test_sentences():
    korean, german = (dict(write_translations(45, "training", into, seed=0)) for into in ("ko", "de"))
    for english, *others in SENTENCES:
        assert [korean[english], german[english]] == others


@pytest.fixture(scope="module")
def korean():
    return write_translations(2000, "training", "ko", seed=0)


def test_particles_follow_the_final_consonant(korean):
    vowels = "미나 소라 안나 의사 농부 아이 제빵사 어머니 사과 고양이 자전거 셔츠 의자 모자 외투 편지 표".split()
    consonants = "준 에밀 톰 형 선생님 학생 책 연필 그림 꽃 칼 권 통 장".split()
    seen = set()
    for _, sentence in korean:
        for word in sentence.rstrip(".?").split():
            if word[:-1] in vowels + consonants and word[-1] in "은는이가을를":
                assert (word[-1] in "은이을") == (word[:-1] in consonants), sentence
                seen.add(word[-1])
    assert seen == set("은는이가을를")


def test_splits_share_no_verb_with_object():
    seen = {}
    nouns = [noun for line in THINGS.strip().splitlines() for noun in line.split("|")[0].split()]
    verbs = "buy sell see find lose paint bring hide wash choose steal count".split()
    forms = "bought sold saw found lost painted brought hid washed chose stole counted".split()
    for split in ("training", "validation", "test"):
        pairs = set()
        for english, _ in write_translations(1500, split, "ko", seed=1):
            words = re.findall("[a-z]+", english.lower())
            verb = next(
                i % 12 for i, form in enumerate(verbs + forms) if form in words or f"{form}s" in words or f"{form}es" in words
            )
            pairs.add((verb, next(i // 2 for i, noun in enumerate(nouns) if noun in words)))
        seen[split] = pairs
    assert len(seen["test"]) == len(seen["validation"]) == 24 and len(seen["training"]) == 144
    assert (
        not seen["training"] & seen["test"]
        and not seen["training"] & seen["validation"]
        and not seen["test"] & seen["validation"]
    )


def test_same_seed_same_sentences_in_both_languages():
    one, other = (write_translations(300, "test", into, seed=3) for into in ("ko", "de"))
    assert [english for english, _ in one] == [english for english, _ in other]
    assert one == write_translations(300, "test", "ko", seed=3) != write_translations(300, "test", "ko", seed=4)
    assert len({english for english, _ in one}) == 300


def test_reason_comes_first_in_korean_wherever_it_stands_in_english():
    orders = set()
    for english, other in write_translations(3000, "training", "ko", seed=0):
        if "ecause" in english:
            orders.add(english.startswith("Because"))
            assert re.search(r"기 때문에 \S+( \S+)? \S+다\.$", other)
    assert orders == {True, False}


def test_word_by_word():
    assert word_by_word("Sora found six books.") == "소라 찾는다 여섯 책."
    assert word_by_word("Does my mother buy an old coat at the market every day?") == "우리 어머니 산다 낡은 외투 시장에서 매일?"
    assert word_by_word("Sora found six books.", "de") == "Sora finden sechs Buch."
    assert all(word_by_word(english, into) for into in ("ko", "de") for english, _ in write_translations(300, "test", into, 0))


def test_translations_of_a_sample():
    data = translations("sample", "de", pairs=50, seed=2)
    assert "own grammar" in data.source and [len(data.train), len(data.validation), len(data.test)] == [50, 300, 300]
    with pytest.raises(LessonError, match="not 'fr'"):
        translations("sample", "fr", pairs=50, seed=0)
