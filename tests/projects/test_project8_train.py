"""Project 8 learns from ratings, goes on where it was interrupted, and measures what it says."""

import functools

import matplotlib.pyplot as plt
import pytest
import torch
from projects.recommender_world import FILMS, PEOPLE, world

from project8_recommender import evaluate, train
from project8_recommender.data import CHOICE, TEST, histories
from project8_recommender.evaluate import RATINGS_GIVEN
from project8_recommender.recommend import load_recommender
from utils import checkpoint, paths
from utils.lesson import LessonError

CPU = torch.device("cpu")
RECIPES = {
    "factors_sgd": {"factors": 3, "epochs": 30, "batch_size": 16, "lr": 1.6, "penalty": 0.1},
    "neural_stars": {"factors": 4, "epochs": 10, "batch_size": 16, "lr": 1e-2, "penalty": 0.01},
    "bpr": {"factors": 4, "epochs": 12, "batch_size": 32, "lr": 3e-2, "penalty": 0.005},
    "neural_next": {"factors": 4, "epochs": 8, "batch_size": 32, "lr": 1e-2, "penalty": 0.003},
    "two_tower": {"factors": 8, "epochs": 8, "batch_size": 32, "lr": 1e-2, "penalty": 0.0},
    "transformer": {"factors": 16, "epochs": 25, "batch_size": 8, "lr": 1e-2, "penalty": 0.0},
}
CLASSIC = {
    "bias_pull": (3.0, 3.0),
    "neighbours": {"most": 10, "shrink": 5.0},
    "people_neighbours": {"most": 10, "shrink": 5.0},
    "stars": {"factors": 2, "penalty": 0.5, "bias_penalty": 3.0, "rounds": 10},
    "watched": {"factors": 4, "weight": 5.0, "penalty": 2.0, "rounds": 10},
    "film_neighbours": 1.0,
}
# Everything that matters is said here: a reader who edits the defaults keeps a green suite.
main = functools.partial(
    train.main, source="sample", size="100k", people=None, seed=0, device="cpu", cold_start=True, resume=False, figures=False
)


@pytest.fixture(autouse=True)
def _small(request, monkeypatch):
    """The sample is the toy world."""
    if not request.node.get_closest_marker("slow"):
        small(monkeypatch)


def small(patch):
    patch.setattr(train, "SAMPLE_RECIPES", RECIPES)
    patch.setattr(evaluate, "SAMPLE_CLASSIC", CLASSIC)
    for module in (train, evaluate):
        patch.setattr(module, "load", lambda source, size, people: (world(), None))
    patch.setattr(evaluate, "RATINGS_GIVEN", (0, 1, 2, 5))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One training run for all tests that only look: its results, and the folder that it wrote to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_WORK_DIR", str(tmp_path_factory.mktemp("work")))
        small(patch)
        return main(), paths.models("project8_recommender")


class TestLearning:
    def test_stars_of_people_with_tastes(self, trained):
        results, _ = trained
        assert results["rmse_means"] > 0.9  # odd and even films are as good on average: means know nothing
        for name in ("people_neighbours", "film_neighbours"):
            assert results[f"rmse_{name}"] < results["rmse_means"] - 0.03, name
        for name in ("factors_als", "factors_sgd", "neural_stars"):  # untrained networks say the same of all
            assert results[f"rmse_{name}"] < min(results["rmse_means"], results["rmse_constant"]) - 0.03, name

    def test_next_film(self, trained):
        results, _ = trained
        for name in ("factors_als", "bpr", "neural_next", "two_tower", "transformer"):
            assert results[f"hit_{name}"] > results["hit_popularity"] + 0.1, name
        assert results["gain_transformer"] > results["gain_film_neighbours"] + 0.15  # only it knows the order
        assert results["gain_transformer"] > results["gain_factors_als"] + 0.15

    def test_new_films_are_told_apart_by_their_features(self, trained):
        assert trained[0]["auc_two_tower"] > 0.7

    def test_new_people_are_known_better_with_every_rating(self, trained):
        results, _ = trained
        assert results["hit_factors_5"] > results["hit_factors_0"] + 0.1
        assert results["hit_film_neighbours_5"] > results["hit_popularity_5"]

    def test_check_notices_networks_that_learned_nothing(self):
        with pytest.raises(LessonError, match=r"has an error of|it should be above"):
            main(epochs=1, lr=1e-9, cold_start=False)

    def test_check_reads_all_numbers(self):
        good = {
            "rmse_means": 0.9,
            "rmse_constant": 1.1,
            "rmse_factors_als": 0.8,
            "rmse_factors_sgd": 0.85,
            "rmse_neural_stars": 0.85,
        }
        good |= {f"{key}_{name}": 0.1 for key in ("hit", "gain") for name in (*evaluate.NEXT_BASELINES, "chance")}
        good |= {"gain_film_neighbours": 0.11, "hit_bpr": 0.2, "gain_bpr": 0.2, "gain_two_tower": 0.11}
        train.check_learned(good, "bpr")
        wrong = {"rmse_factors_als": 0.895, "rmse_factors_sgd": 0.91, "rmse_neural_stars": 0.9, "hit_bpr": 0.1, "gain_bpr": 0.105}
        wrong |= {"gain_two_tower": 0.1, "rmse_constant": 0.8}
        for name, value in wrong.items():
            with pytest.raises(LessonError):
                train.check_learned(good | {name: value}, "bpr")

    def test_interrupted_and_resumed_it_is_the_same(self, monkeypatch, press_ctrl_c):
        short = functools.partial(main, epochs=2, cold_start=False)
        monkeypatch.setattr(train, "check_learned", lambda *_: None)  # weights are compared, whatever they are good for
        saved = paths.models("project8_recommender") / "model.pt"
        short()
        first = checkpoint.load(saved)["networks"]
        saved.unlink()
        third_network = 30  # a step of BPR, the first one with this loss, in the second epoch
        with press_ctrl_c(train, "candidate_loss", third_network), pytest.raises(KeyboardInterrupt, match="--resume"):
            short()
        assert not saved.exists()
        short(resume=True)
        again = checkpoint.load(saved)["networks"]
        assert set(again) == set(first) == set(RECIPES)
        for name, (weights, _) in first.items():
            assert all(torch.equal(again[name][0][key], weights[key]) for key in weights), name

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"lr": 0.0}, "--lr must be above 0"),
            ({"epochs": 0}, "--epochs must be above 0"),
            ({"batch_size": -1}, "--batch-size must be above 0"),
        ],
    )
    def test_wrong_flags_are_one_sentence(self, wrong, told):
        with pytest.raises(LessonError, match=told):
            main(**wrong)


class TestRecipe:
    def test_one_other_film_is_bpr(self):
        torch.manual_seed(0)
        model = train.make_network("bpr", torch.zeros(PEOPLE, 1), torch.zeros(FILMS, 1), 4)
        batch = torch.tensor([[0, 3, 5], [7, 1, 2]])
        people, watched, other = batch.T
        expected = -(model(people, watched) - model(people, other)).sigmoid().log().mean()
        torch.testing.assert_close(train.candidate_loss(model, (batch,), penalty=0.0), expected)
        assert train.candidate_loss(model, (batch,), penalty=1.0) > expected

    def test_drawn_films_were_not_watched(self):
        known = histories(world().ratings, PEOPLE, FILMS).without_last(CHOICE)
        pairs = known.pairs()
        drawn = train.Draw(known.seen(), 6)(pairs, torch.Generator().manual_seed(0))
        assert torch.equal(drawn[:, :2], pairs) and drawn.shape == (len(pairs), 8)
        assert known.seen()[pairs[:, :1], drawn[:, 2:]].mean() < 0.02
        assert drawn[:, 2:].unique().numel() == FILMS

    def test_sequence_loss_is_cross_entropy_of_each_next_film(self):
        torch.manual_seed(0)
        model = train.make_network("transformer", torch.zeros(1, 1), world().films.features(), 8).eval()
        piece = torch.tensor([[3, 5, 7, 0, 0]])
        each = [-model(piece[:, : end + 1]).log_softmax(dim=1)[0, piece[0, end + 1] - 1] for end in range(2)]
        torch.testing.assert_close(train.sequence_loss(model, (piece,)), torch.stack(each).mean())

    def test_every_weight_learns(self):
        data = world()
        watched = histories(data.ratings, PEOPLE, FILMS)
        for name, recipe in RECIPES.items():
            torch.manual_seed(0)
            if name in evaluate.STAR_NAMES:
                task = train.star_task(name, data, recipe, 0, CPU)
            else:
                task = train.next_task(name, data, watched, recipe, 0, CPU)
            before = {key: value.clone() for key, value in task.model.named_parameters()}
            for batch in task.batches:
                task.optimizer.zero_grad()
                task.loss(task.model, batch).backward()
                task.optimizer.step()
            still = [key for key, value in task.model.named_parameters() if torch.equal(value, before[key])]
            # The same number added to the scores of all films changes nothing: no gradient goes there.
            assert set(still) <= {"network.5.bias"}, (name, still)

    def test_held_out_ratings_and_films_are_not_learned_from(self):
        data = world()
        watched = histories(data.ratings, PEOPLE, FILMS)
        task = train.star_task("factors_sgd", data, RECIPES["factors_sgd"], 0, CPU)
        learn, test = data.folds[0]
        pairs = set(zip(*(column.tolist() for column in task.batches.tensors[:2]), strict=True))
        assert not pairs & set(zip(test.people.tolist(), test.films.tolist(), strict=True))
        assert len(pairs) == len(learn.stars) - len(learn.stars) // 10
        last = {(person, film) for back in (TEST, CHOICE) for person, film in enumerate(watched.from_end(back).tolist())}
        (drawn,) = train.next_task("bpr", data, watched, RECIPES["bpr"], 0, CPU).batches.tensors
        assert not last & {tuple(pair) for pair in drawn.tolist()}
        (pieces,) = train.next_task("transformer", data, watched, RECIPES["transformer"], 0, CPU).batches.tensors
        assert (pieces[:, 1:] > 0).sum() == PEOPLE * (watched.lengths[0] - CHOICE - 1)

    def test_recipes_have_all_settings(self):
        for recipes in (train.RECIPES, train.SAMPLE_RECIPES):
            assert set(recipes) == set(RECIPES)
            assert all(set(recipe) == {"factors", "epochs", "batch_size", "lr", "penalty"} for recipe in recipes.values())


class TestMeasuring:
    def test_measures_what_was_saved(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        results = evaluate.main(source="sample", device="cpu", figures=False)
        for name, value in results.items():
            assert value == pytest.approx(trained[0][name], rel=1e-4), name
        assert "hit_transformer" in results and "rmse_neural_stars" in results

    def test_other_ratings_are_refused(self, trained, monkeypatch):
        monkeypatch.setenv("STUDY_WORK_DIR", str(trained[1].parents[1]))
        other = world()
        object.__setattr__(other, "source", "sample: others")
        monkeypatch.setattr(evaluate, "load", lambda source, size, people: (other, None))
        with pytest.raises(LessonError, match="other ratings than it was trained on"):
            evaluate.main(source="sample", device="cpu")

    def test_page_recommends_from_all_ratings(self, trained):
        recommender, about = load_recommender(trained[1] / "model.pt")
        assert about["rmse"] == trained[0]["rmse_factors_als"] and sum(recommender.counts) == len(world().ratings.stars)
        found = recommender.recommend([(0, 5), (1, 1), (2, 5)], count=4)
        assert all(one.film % 2 == 0 for one in found)

    def test_figures_are_drawn(self, trained):
        results = trained[0] | {"hit_possible": 0.9, "rmse_possible": 0.5}
        results |= {f"{key}_{count}": 0.5 for count in RATINGS_GIVEN for key in ("rmse_means", "rmse_factors", "hit_factors")}
        evaluate.draw_results(results)
        for name in ("comparison", "cold_start"):
            assert plt.imread(paths.outputs("project8_recommender") / f"{name}.png").std() > 0.01
        assert plt.get_fignums() == []


@pytest.mark.slow  # the default run: most of a minute
def test_sample_is_learned():
    results = train.main(source="sample", seed=0, device="cpu", figures=False)
    assert results["rmse_factors_als"] < results["rmse_means"] - 0.02
    assert results["gain_transformer"] > results["gain_film_neighbours"] + 0.03
    assert results["rmse_possible"] < results["rmse_factors_als"] and results["hit_possible"] > results["hit_transformer"]
    assert results["auc_two_tower"] > 0.65
