"""utils.datasets.reports: texts are whole, splits share no names and numbers, lead is not always right."""

import re
from collections import Counter

import pytest

from utils.datasets.reports import write_reports

SPLITS = ("training", "validation", "test")


@pytest.fixture(scope="module")
def reports():
    return {split: write_reports(400, seed=0, split=split) for split in SPLITS}


def test_same_seed_same_reports(reports):
    assert write_reports(400, seed=0) == reports["training"] != write_reports(400, seed=1)


def test_no_gaps_are_left(reports):
    for report in reports["training"] + write_reports(200, 0, short=True):
        for sentence in (*report.sentences, report.summary):
            assert not re.search(r"[{}|/\t]", sentence) and sentence.strip() == sentence != ""
            assert sentence.endswith((".", '."', '"')) and sentence[0] == sentence[0].upper()


def test_facts_are_where_they_are_said_to_be(reports):
    for report in reports["training"]:
        person, number = report.facts
        assert person in report.sentences[report.main] and number in report.sentences[report.key]
        assert person in report.summary and number in report.summary
        assert report.summary not in report.sentences


def test_splits_share_no_names_and_numbers(reports):
    names = {split: {report.facts[0].split()[-1] for report in some} for split, some in reports.items()}
    numbers = {split: {report.facts[1] for report in some} for split, some in reports.items()}
    for one, other in (("training", "test"), ("training", "validation"), ("validation", "test")):
        assert not names[one] & names[other] and not numbers[one] & numbers[other]
    texts = [" ".join(report.sentences) for report in reports["test"]]
    assert not any(number in re.findall(r"\d+", text) for number in numbers["training"] for text in texts)


def test_shapes(reports):
    reports = write_reports(2000, seed=2)
    firsts = Counter(report.main for report in reports)
    assert set(firsts) == {0, 1, 2} and all(550 < count < 800 for count in firsts.values())
    assert {len(report.sentences) for report in reports} == set(range(7, 14))
    assert {len(report.sentences) for report in write_reports(300, 0, short=True)} == {3, 4}
    languages = Counter(report.language for report in reports)
    assert abs(languages["en"] - languages["ko"]) < 200


def test_korean_particles(reports):
    texts = " ".join(" ".join(report.sentences) for report in reports["training"] if report.language == "ko")
    assert re.search("빵집이 불|빵집이 \\S+ 불", texts) and not re.search("빵집가|창고이|배터리은|동전는|그림를", texts)
