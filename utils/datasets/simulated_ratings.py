"""People who do not exist, and the stars they give to films that do not exist: a world in which the right answer is known.

    world = simulate()                    # 600 people, 300 films with titles in English and Korean
    world.data.ratings.stars              # what a recommender may see
    world.truth.preference                # (people, films) what each of them thinks of every film: what it tries to find

As in real life, what is missing is not missing at random: people watch what is popular and what they expect to like. Nobody's
list is a fair sample of what there is. And what they watch next depends on the mood they are in.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.datasets.ratings import Films, People, RatingData, Ratings, random_folds
from utils.lesson import check, mention

# For each genre its name, and words of which titles are made, in English and Korean: "The Patient Orchard", 참을성 있는 과수원.
GENRES = {
    ("drama", "드라마"): (
        "Patient 참을성 있는 / Inherited 물려받은 / Unsent 부치지 못한 / Winter 겨울의 / Quiet 조용한 / Faded 빛바랜",
        "Orchard 과수원 / Letter 편지 / Ferryman 뱃사공 / Kitchen 부엌 / Piano 피아노 / Harvest 추수",
    ),
    ("comedy", "코미디"): (
        "Runaway 달아난 / Sleepy 졸린 / Clumsy 서투른 / Upside-Down 거꾸로 된 / Ticklish 간지럼 타는 / Late 지각한",
        "Pancake 팬케이크 / Dentist 치과 의사 / Choir 합창단 / Umbrella 우산 / Landlord 집주인 / Parade 행진",
    ),
    ("romance", "로맨스"): (
        "Borrowed 빌려 온 / Second 두 번째 / Salted 소금 뿌린 / Sunday 일요일의 / Blushing 얼굴 붉힌 / Distant 먼",
        "Balcony 발코니 / Waltz 왈츠 / Raincoat 비옷 / Bakery 빵집 / Platform 승강장 / Lantern 등불",
    ),
    ("thriller", "스릴러"): (
        "Ninth 아홉 번째 / Locked 잠긴 / Hollow 속이 빈 / Sleepless 잠 못 드는 / Counted 세어 본 / Narrow 좁은",
        "Elevator 승강기 / Witness 목격자 / Corridor 복도 / Signal 신호 / Bridge 다리 / Passenger 승객",
    ),
    ("crime", "범죄"): (
        "Forged 위조된 / Copper 구리 / Honest 정직한 / Midnight 자정의 / Left-Handed 왼손잡이 / Unmarked 표시 없는",
        "Ledger 장부 / Locksmith 열쇠공 / Alibi 알리바이 / Safe 금고 / Pawnshop 전당포 / Inspector 수사관",
    ),
    ("horror", "공포"): (
        "Whispering 속삭이는 / Drowned 물에 잠긴 / Crooked 비뚤어진 / Ashen 잿빛 / Buried 파묻힌 / Breathing 숨 쉬는",
        "Cellar 지하실 / Puppet 인형 / Chapel 예배당 / Mirror 거울 / Marsh 늪 / Nursery 아기방",
    ),
    ("science fiction", "SF"): (
        "Orbital 궤도의 / Copied 복제된 / Frozen 얼어붙은 / Last 마지막 / Magnetic 자석의 / Unmapped 지도에 없는",
        "Gardener 정원사 / Colony 식민지 / Engine 엔진 / Comet 혜성 / Archive 기록 보관소 / Android 안드로이드",
    ),
    ("adventure", "모험"): (
        "Golden 황금 / Wandering 떠도는 / Seventh 일곱 번째 / Windward 바람을 거스르는 / Forgotten 잊힌 / Bold 대담한",
        "Caravan 대상 / Compass 나침반 / Island 섬 / Glacier 빙하 / Captain 선장 / Canyon 협곡",
    ),
    ("animation", "애니메이션"): (
        "Tiny 조그만 / Paper 종이 / Striped 줄무늬 / Singing 노래하는 / Brave 용감한 / Curious 호기심 많은",
        "Hedgehog 고슴도치 / Kite 연 / Teapot 찻주전자 / Snail 달팽이 / Cloud 구름 / Tractor 트랙터",
    ),
    ("documentary", "다큐멘터리"): (
        "Invisible 보이지 않는 / Vanishing 사라지는 / Common 흔한 / Deep 깊은 / Slow 느린 / Electric 전기의",
        "River 강 / Beekeeper 양봉가 / Factory 공장 / Desert 사막 / Forest 숲 / Harbor 항구",
    ),
}
MIDDLE, NOISE = 3.4, 0.7  # of the stars: what a film gets on average, and how far the same person is off on another day
TASTE, QUALITY, GENEROSITY = 0.65, 0.3, 0.35  # standard deviations, in stars
SELECTION, MOOD, MOOD_STAYS = 1.1, 3.0, 0.85  # how strongly taste and mood decide what is watched; how often the mood stays
FIRST_DAY = 1_577_836_800  # 1 January 2020, as the number of seconds since 1970


@dataclass(frozen=True)
class Truth:
    """What nobody knows of real people.

    Attributes:
        preference: (people, films), the stars that each film deserves of each person, before noise and rounding.
        next_film: (people, films), how likely each film was to be the person's last one, given the person's taste, and the mood
            and the films before it; 0 for films seen before. Nobody can predict it better than this.
    """

    preference: Tensor
    next_film: Tensor

    def expected_stars(self) -> Tensor:
        """The mean of what a person would write down: (people, films). No predictor has a smaller squared error."""
        steps = torch.arange(1.5, 5.0)  # above 1.5 somebody writes 2 instead of 1, ...
        above = (self.preference.unsqueeze(2) - steps) / NOISE
        return 1 + torch.special.ndtr(above).sum(dim=2)


@dataclass(frozen=True)
class World:
    """What can be seen, and what is true."""

    data: RatingData
    truth: Truth


def simulate(people: int = 600, films: int = 300, seed: int = 0) -> World:
    """Let people watch films and rate them.

    Args:
        people: How many of them; each rates 20 films or more.
        films: At most 360, for so many titles there are.
        seed: Of everything.

    Raises:
        LessonError: There are too few films, or more than titles.
    """
    titles = 36 * len(GENRES)
    check(people >= 10 and 100 <= films <= titles, f"a simulated world has 10 people or more, and 100 to {titles} films")
    generator = torch.Generator().manual_seed(seed)
    made = _make_films(films, generator)
    # Of each genre, and of new films against old ones. Who likes one kind likes others too: three numbers say most of it.
    kinds = torch.randn(3, len(GENRES) + 1, generator=generator) / 3**0.5
    tastes = torch.randn(people, 3, generator=generator) @ kinds + 0.3 * torch.randn(people, kinds.shape[1], generator=generator)
    preference = _preferences(made, tastes, generator)
    watched, stars, next_film = _watch(made, tastes, preference, generator)
    ratings = _in_time(watched, stars, generator)
    source = f"sample: {len(ratings.stars):,} ratings of {films} invented films by {people} simulated people (seed {seed})"
    mention("data", source)
    names = tuple(f"likes {english}" for english, _ in GENRES)
    asked = (tastes[:, : len(GENRES)] + torch.randn(people, len(GENRES), generator=generator) > 0.7).float()  # a vague answer
    data = RatingData(ratings, made, People(asked, names), random_folds(ratings, seed=seed), source, is_real=False)
    return World(data, Truth(preference, next_film))


def _make_films(count: int, generator: torch.Generator) -> Films:
    """Titles, years, and one genre or two for each."""
    names, first = [], []  # of all films there could be: (English, Korean) titles and the genre in which they are at home
    for number, (adjectives, nouns) in enumerate(GENRES.values()):
        for english, korean in in_both(adjectives):
            for thing, korean_thing in in_both(nouns):
                names.append((f"The {english} {thing}", f"{korean} {korean_thing}"))
                first.append(number)
    chosen = torch.randperm(len(names), generator=generator)[:count]
    genres = torch.zeros(count, len(GENRES))
    genres[torch.arange(count), torch.tensor(first)[chosen]] = 1
    second = torch.randint(len(GENRES), (count,), generator=generator)
    has_second = torch.rand(count, generator=generator) < 0.4
    genres[torch.arange(count)[has_second], second[has_second]] = 1
    years = (2020 - 60 * torch.rand(count, generator=generator) ** 2).long()  # most films are not old
    english, korean = zip(*(names[number] for number in chosen.tolist()), strict=True)
    genre_names, genre_names_ko = zip(*GENRES, strict=True)
    return Films(list(english), list(korean), years.tolist(), genres, genre_names, genre_names_ko)


def in_both(words: str) -> list[list[str]]:
    """A line of GENRES as pairs: a word in English, and what it is in Korean."""
    return [pair.split(" ", maxsplit=1) for pair in words.split(" / ")]


def _preferences(films: Films, tastes: Tensor, generator: torch.Generator) -> Tensor:
    """What everybody thinks of every film: (people, films). Genres and years tell a part of it; no label tells the rest."""
    count, people = len(films), len(tastes)
    age = (2000 - torch.tensor(films.years)).unsqueeze(1) / 20
    told = torch.cat([films.genres / films.genres.sum(dim=1, keepdim=True).sqrt(), 0.4 * age], dim=1)
    untold = torch.randn(count, 2, generator=generator)  # wit and pace, say: on no label
    match = tastes @ told.T + 0.6 * torch.randn(people, 2, generator=generator) @ untold.T
    quality = QUALITY * torch.randn(count, generator=generator)
    generosity = GENEROSITY * torch.randn(people, 1, generator=generator)
    return MIDDLE + generosity + quality + TASTE * match / match.std()


def _watch(
    films: Films, tastes: Tensor, preference: Tensor, generator: torch.Generator
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Let everybody choose film after film, and rate it.

    Returns:
        For each person the films in their order and the stars, and `Truth.next_film`.
    """
    people, count = preference.shape
    likes = preference - preference.mean(dim=1, keepdim=True)  # in comparison with other films: generous people watch no more
    popularity = 0.9 * torch.randn(count, generator=generator) + likes.mean(dim=0)
    plain = popularity + SELECTION * likes / likes.std()  # (people, films), log of the odds without any mood
    lengths = (20 + torch.randn(people, generator=generator).mul(0.7).exp() * 20).long().clamp(max=count // 2)
    usual = tastes[:, : len(GENRES)].softmax(dim=1)  # (people, moods): a mood is a genre
    mood = torch.multinomial(usual, 1, generator=generator).squeeze(1)
    seen = torch.zeros(people, count, dtype=torch.bool)
    order = torch.zeros(people, int(lengths.max()), dtype=torch.long)
    next_film = torch.zeros(people, count)
    for step in range(order.shape[1]):
        last = lengths == step + 1
        if last.any():  # every mood that may come, times what would be chosen in it
            moods = (1 - MOOD_STAYS) * usual[last]
            moods[torch.arange(len(moods)), mood[last]] += MOOD_STAYS
            odds = plain[last].masked_fill(seen[last], -math.inf).unsqueeze(1) + MOOD * films.genres.T  # (people, moods, films)
            next_film[last] = torch.einsum("pm,pmf->pf", moods, odds.softmax(dim=2))
        changes = torch.rand(people, generator=generator) > MOOD_STAYS
        mood = torch.where(changes, torch.multinomial(usual, 1, generator=generator).squeeze(1), mood)
        odds = (plain + MOOD * films.genres[:, mood].T).masked_fill(seen, -math.inf)
        order[:, step] = torch.multinomial(odds.softmax(dim=1), 1, generator=generator).squeeze(1)
        seen[torch.arange(people), order[:, step]] = True
    found = preference.gather(1, order)
    stars = (found + NOISE * torch.randn(found.shape, generator=generator)).round().clamp(1, 5)
    watched = [row[:length] for row, length in zip(order, lengths.tolist(), strict=True)]
    return watched, [row[:length] for row, length in zip(stars, lengths.tolist(), strict=True)], next_film


def _in_time(watched: list[Tensor], stars: list[Tensor], generator: torch.Generator) -> Ratings:
    """Everybody's films in one list; a person watches one every few days, beginning within two years of FIRST_DAY."""
    day, times = 86_400, []
    for row in watched:
        begin = FIRST_DAY + int(730 * day * torch.rand((), generator=generator))
        times.append(begin + (day * (0.2 + 6 * torch.rand(len(row), generator=generator))).long().cumsum(0))
    people = torch.repeat_interleave(torch.arange(len(watched)), torch.tensor([len(row) for row in watched]))
    return Ratings(people, torch.cat(watched), torch.cat(stars), torch.cat(times))
