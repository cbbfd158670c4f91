"""What the tests of project 8 share: a small world of two tastes, and a recommender whose answers are known beforehand."""

import torch

from project8_recommender.factors import StarFactors
from project8_recommender.recommend import Recommender
from utils.datasets.ratings import Films, People, RatingData, Ratings, random_folds

PEOPLE, FILMS, SEEN = 60, 48, 14
MARKUP = "<img src=x onerror=\"document.title='x'\">"


def world() -> RatingData:
    """People of even number like films of even number and watch those; the next one is mostly four numbers further on.

    One film in six is of the other kind.
    """
    generator = torch.Generator().manual_seed(0)
    rows = []
    for person in range(PEOPLE):
        film, kind, seen = int(torch.randint(FILMS, (), generator=generator)), person % 2, set()
        for step in range(SEEN):
            other = step % 6 == 5
            if torch.rand((), generator=generator) < 0.4:
                film = int(torch.randint(FILMS, (), generator=generator))
            film += 4 + (film + kind + other) % 2  # its number is even or odd like the person's
            while film % FILMS in seen:
                film += 2
            film %= FILMS
            seen.add(film)
            likes = film % 2 == kind
            stars = (4 if likes else 2) + int(torch.randint(2, (), generator=generator))
            rows.append((person, film, stars, 1000 * person + step))
    people, films, stars, times = torch.tensor(rows).T
    ratings = Ratings(people, films, stars.float(), times)
    kinds = torch.stack([torch.arange(FILMS) % 2 == 0, torch.arange(FILMS) % 2 == 1], dim=1).float()
    titles, titles_ko = [f"Film {n}" for n in range(FILMS)], [f"영화 {n}" for n in range(FILMS)]
    made = Films(titles, titles_ko, [1980 + n for n in range(FILMS)], kinds, ("even", "odd"), ("짝수", "홀수"))
    asked = torch.stack([torch.arange(PEOPLE) % 2, 1 - torch.arange(PEOPLE) % 2], dim=1).float()
    return RatingData(ratings, made, People(asked, ("odd", "even")), random_folds(ratings), "sample: a toy world", is_real=False)


def plain_recommender() -> Recommender:
    """One factor: films 0 to 5 have +1, 6 to 11 have -1, 12 is rare and would be the best. Without ratings all have 3 stars."""
    film = torch.tensor([[1.0]] * 6 + [[-1.0]] * 6 + [[3.0]])
    factors = StarFactors(3.0, torch.zeros(2, 2), torch.zeros(13), film, penalty=1.0, bias_penalty=4.0)
    titles = ["Alpha", "Beta", "Gamma", "Delta", MARKUP, "Zeta", "Eta", "Theta", "Iota", "Kappa", "Lambda", "Beta", "Rare"]
    titles_ko = ["가", "나", "다", "라", MARKUP, "바", "사", "아", "자", "차", "카", "타", "드묾"]
    genres = [("plus", "더하기")] * 6 + [("minus", "빼기")] * 7
    return Recommender(factors, titles, titles_ko, [1990 + n for n in range(13)], genres, [*range(50, 38, -1), 3])
