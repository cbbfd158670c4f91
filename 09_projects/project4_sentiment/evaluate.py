"""How well does it judge what it has never read, and does it know how sure it may be? · 처음 보는 리뷰를 얼마나 잘 판정하는가

Accuracy on each set of test reviews against counting words (TF-IDF and logistic regression), calibration before and after the
temperature, what it keeps silent about, and reviews that were written by hand.
테스트 리뷰에서 정확도를 단어 세기(TF-IDF와 로지스틱 회귀)와 비교한다. 온도 보정 전후의 보정 오차와 판단을 보류한
비율을 재고, 손으로 쓴 리뷰도 판정한다.

Run        python -m study run sentiment/evaluate        (after python -m study run sentiment)
"""

from pathlib import Path

import torch
from torch import Tensor

from project4_sentiment.data import KOREAN, ReviewSet, all_of, load, told_source, written_by_hand
from project4_sentiment.predict import UNSURE, Judge, in_words, is_enough, load_judge, strongest
from project4_sentiment.words import words_of
from utils.datasets import Source, Texts
from utils.device import pick_device
from utils.evaluation import draw_losses, draw_reliability, expected_calibration_error, fit_temperature
from utils.lesson import check, run
from utils.plotting import label, save_figure
from utils.training import History

SHOWN = {
    "The soup was not salty.": "국은 짜지 않았다.",
    "The waiter was kind, but the room was dirty.": "종업원은 친절했지만 방은 더러웠다.",
    "Although the room was dirty, the waiter was kind.": "방은 더러웠지만 종업원은 친절했다.",
}


# %% Measuring
def judged(judge: Judge, reviews: Texts) -> Tensor:
    """Calibrated log-odds of praise for reviews: (N,) on the CPU; NaN where too few words are known."""
    read = [words_of(text) for text in reviews.texts]
    known = [is_enough(sum(judge.lexicon.spell(word) != [] for word in words), len(words)) for words in read]
    return judge.log_odds(read).masked_fill(~torch.tensor(known), torch.nan)


def two_logits(log_odds: Tensor) -> Tensor:
    """Log-odds (N,) as logits of complaint and praise (N, 2), for `utils.evaluation`; unknown texts as undecided."""
    return torch.stack([torch.zeros_like(log_odds), log_odds.nan_to_num(0.0)], dim=1)


def find_temperature(judge: Judge, validation: Texts) -> float:
    """What to divide the log-odds by, so that they are as sure as they may be; from reviews that were not trained on.

    One mistake is added that was not made, with the median certainty (compare Laplace's rule of succession): who was right a
    thousand times in a row may be wrong the next time. Without it, a network that makes no mistake could not be too sure.
    """
    log_odds = judged(judge, validation).nan_to_num(0.0)
    log_odds = torch.cat([log_odds, log_odds.abs().median().view(1)])
    return judge.temperature * fit_temperature(two_logits(log_odds), torch.cat([validation.labels, torch.tensor([0])]))


def numbers_for(log_odds: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """Accuracy and calibration of answers to reviews.

    Args:
        log_odds: (N,), calibrated by `temperature`; of a text that is unknown NaN, which is a wrong answer here.
        labels: (N,)
        temperature: To see what was before it.

    Returns:
        "accuracy" of all; "silent", the share without a verdict, and "accuracy_of_verdicts" of the others; "calibration_error",
        and "calibration_error_before" the temperature.
    """
    right = (log_odds > 0) == labels.bool()
    right &= ~log_odds.isnan()
    certain = log_odds.nan_to_num(0.0).abs().sigmoid() >= UNSURE
    return {
        "accuracy": right.float().mean().item(),
        "silent": 1 - certain.float().mean().item(),
        "accuracy_of_verdicts": right[certain].float().mean().item() if certain.any() else 0.0,
        "calibration_error": expected_calibration_error(two_logits(log_odds).softmax(dim=1), labels),
        "calibration_error_before": expected_calibration_error(two_logits(log_odds * temperature).softmax(dim=1), labels),
    }


def counting_accuracy(train: Texts, test: Texts, is_korean: bool) -> float:
    """What is right without any order of words: TF-IDF and logistic regression, learned from the same reviews.

    Counts are of words and of pairs of them in English, and in Korean of runs of one to four letters.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    counted = {"analyzer": "char", "ngram_range": (1, 4)} if is_korean else {"ngram_range": (1, 2)}
    counter = TfidfVectorizer(**counted, min_df=2, sublinear_tf=True)
    classifier = LogisticRegression(C=4.0, max_iter=500).fit(counter.fit_transform(train.texts), train.labels.numpy())
    return float(classifier.score(counter.transform(test.texts), test.labels.numpy()))


def measure(judge: Judge, data: dict[str, ReviewSet], baseline: bool = True) -> dict[str, float]:
    """Measure on the test reviews of each set, and on all of them.

    Args:
        judge: The trained network.
        data: What it learned from, and is measured on.
        baseline: Count words as well: a second for the sample, a minute or two for the real sets.

    Returns:
        Flat numbers, those of one set with its name behind them; "accuracy" and "baseline_accuracy" are means over the sets.
    """
    results, found = {}, {name: judged(judge, one.test) for name, one in data.items()}
    for name, one in data.items():
        numbers = numbers_for(found[name], one.test.labels, judge.temperature)
        if baseline:
            numbers["baseline_accuracy"] = counting_accuracy(one.train, one.test, name in KOREAN)
        results |= {f"{key}_{name}": value for key, value in numbers.items()}
    for key in ("accuracy", "baseline_accuracy") if baseline else ("accuracy",):
        results[key] = sum(results[f"{key}_{name}"] for name in data) / len(data)
    labels = all_of([one.test for one in data.values()]).labels
    together = numbers_for(torch.cat(list(found.values())), labels, judge.temperature)
    return results | {key: together[key] for key in together if key != "accuracy"} | {"test_reviews": len(labels)}


def measure_by_hand(judge: Judge) -> dict[str, float]:
    """Accuracy on the reviews written by hand, in each language, and the share on which it says nothing."""
    results = {}
    for language, reviews in written_by_hand().items():
        numbers = numbers_for(judged(judge, reviews), reviews.labels, judge.temperature)
        results |= {f"{key}_by_hand_{language}": numbers[key] for key in ("accuracy", "silent", "accuracy_of_verdicts")}
    return results


def show_answers(judge: Judge) -> None:
    """Print a few verdicts, each with the words that did most."""
    print()
    for text in (text for pair in SHOWN.items() for text in pair):
        verdict = judge.judge(text)
        why = ", ".join(f"{piece.text} {piece.strength:+.1f}" for piece in strongest(verdict, 3))
        print(f"  {text}\n    {in_words(verdict)}: {why}")


# %% Figures
def draw_learning_curves(history: History):
    """Loss of every step with its running mean, and accuracy on held-out reviews after every epoch; returns the figure."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    draw_losses(left, history.losses)
    epochs = range(1, len(history.epochs) + 1)
    for key in (key for key in history.epochs[0] if key.startswith("accuracy_")):
        values = [100 * epoch[key] for epoch in history.epochs]
        right.plot(epochs, values, "o-", markersize=4, label=key.removeprefix("accuracy_"))
    right.axvline(history.best_epoch + 1, color="gray", linestyle=":", label=label("kept", "저장한 에포크"))
    right.set(title=label("Accuracy on held-out reviews (%)", "검증 정확도 (%)"), xlabel=label("epoch", "에포크"))
    right.grid(alpha=0.3)
    right.legend()
    return figure


def draw_accuracy(results: dict[str, float], names: list[str]):
    """Accuracy on each set beside that of counting words; returns the figure."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(2.4 + 1.7 * len(names), 4), layout="constrained")
    kinds = {"baseline_accuracy": (label("TF-IDF", "TF-IDF"), "silver"), "accuracy": (label("network", "신경망"), "tab:blue")}
    for shift, (key, (name, colour)) in zip((-0.2, 0.2), kinds.items(), strict=True):
        values = [100 * results[f"{key}_{one}"] for one in names]
        bars = axis.bar([place + shift for place in range(len(names))], values, 0.38, color=colour, label=name)
        axis.bar_label(bars, [f"{value:.1f}" for value in values])
    axis.axhline(50, color="gray", linestyle=":", label=label("chance", "무작위"))
    axis.set(ylim=(0, 108), xticks=range(len(names)), xticklabels=names)
    axis.set_title(label("Accuracy on the test reviews (%)", "테스트 정확도 (%)"))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_calibration(judge: Judge, data: dict[str, ReviewSet]):
    """How sure it is against how often it is right, before and after the temperature; returns the figure."""
    tests = [one.test for one in data.values()]
    labels, log_odds = all_of(tests).labels, torch.cat([judged(judge, one) for one in tests])
    panels = {
        label("as trained", "학습한 그대로"): log_odds * judge.temperature,
        label(f"divided by a temperature of {judge.temperature:.2f}", f"온도 {judge.temperature:.2f}로 나눈 뒤"): log_odds,
    }
    return draw_reliability({title: two_logits(one).softmax(dim=1) for title, one in panels.items()}, labels)


def draw_results(judge: Judge, data: dict[str, ReviewSet], results: dict[str, float]) -> None:
    """Write the figures to outputs/project4_sentiment/."""
    if "baseline_accuracy" in results:
        save_figure(draw_accuracy(results, list(data)), __file__, "accuracy")
    save_figure(draw_calibration(judge, data), __file__, "calibration")


def main(
    model: Path | None = None, source: Source = "auto", device: str = "auto", baseline: bool = True, figures: bool = True
) -> dict[str, float]:
    """Load a trained network, and measure it on test reviews and on those written by hand.

    Args:
        model: The file; without it, the one that `python -m study run sentiment` wrote.
        source: "auto", "real" or "sample": the test reviews.
        device: "auto", "cpu", "cuda" or "mps".
        baseline: Count words as well, to compare.
        figures: Draw as well.
    """
    judge, about = load_judge(model, pick_device(device))
    data = load(source)
    tested = told_source(data)
    print(f"trained on: {about['source']}\ntested on:  {tested}")
    # Another set's test reviews may be this one's training reviews: what is measured then is memory.
    check(tested == about["source"], "these are other reviews than it was trained on: choose them with --source sample or real")
    results = measure(judge, data, baseline) | measure_by_hand(judge)
    show_answers(judge)
    if figures:
        draw_results(judge, data, results)
    return results


if __name__ == "__main__":
    run(main)
