"""The report's words and charts say no more than the numbers do."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from llara_core.evaluation import report_charts, report_text
from tests.oracles.report_record import make_record, versus


def plain(sentence: str) -> str:
    """With ordinary spaces and hyphens, as a reader sees it."""
    return sentence.replace(report_text.NO_BREAK, " ").replace("\N{NON-BREAKING HYPHEN}", "-")


@pytest.mark.parametrize(
    ("difference", "p", "title", "words"),
    [
        (0.03, 0.001, "The fine-tuned retriever beats BM25 on pycode", "0.030 (5.0%) above BM25 (p = 0.001)"),
        (
            0.03,
            0.2,
            "The fine-tuned retriever and BM25 are level on pycode",
            "0.030 (5.0%) above BM25, within chance",
        ),
        (-0.06, 0.0, "BM25 beats the fine-tuned retriever on pycode", "0.060 (10.0%) below BM25 (p < 0.001)"),
        (0.0, 1.0, "The fine-tuned retriever and BM25 are level on pycode", ", the same as BM25."),
    ],
)
def test_verdict_says_no_more_than_the_test_does(difference: float, p: float, title: str, words: str) -> None:
    record = make_record()
    cell = record["subsets"][0]["systems"]["finetuned"]["ndcg_at_10"]
    cell |= {"mean": 0.6 + difference, "versus_bm25": versus(difference, p)}
    headline = report_text.headline(record)
    assert plain(headline["title"]) == title
    assert words in plain(headline["sentences"][0])


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [
        (0.06, 0.002, "Adaptation is worth +0.060 over the same fine-tuning without it (p = 0.002)"),
        (0.01, 0.4, "+0.010 is within chance (p = 0.400)"),
        (-0.02, 0.01, "Adaptation cost \N{MINUS SIGN}0.020"),
    ],
)
def test_verdict_on_adaptation(difference: float, p: float, words: str) -> None:
    record = make_record()
    cell = record["subsets"][0]["systems"]["finetuned"]["ndcg_at_10"]
    cell["versus_without_adaptation"] = versus(difference, p)
    assert words in plain(report_text.headline(record)["sentences"][0])


def test_leak_free_subsets_stand_in_the_verdict() -> None:
    sentences = report_text.headline(make_record())["sentences"]
    assert plain(sentences[1]) == (
        "No near-duplicate in training (150 queries): 0.610, 0.010 (1.7%) above BM25, within chance"
        " (p = 0.300)."
    )
    assert len(sentences) == 2, "an empty subset is not told"


def test_loss_is_drawn_with_its_parts_and_nothing_else() -> None:
    rows = [{"step": 1, "loss": 3.0, "ebae": 4.0, "grad_norm": 9.0}, {"step": 2, "loss": 2.0, "ebae": None}]
    traces = report_charts.loss_curves({"adapt": rows}, {"adapt": "adapted"})["data"]
    assert [(trace["name"], trace["x"], trace["y"]) for trace in traces] == [
        ("adapted", [1, 2], [3.0, 2.0]),
        ("EBAE", [1], [4.0]),
    ]


def test_hero_is_finetuned_or_else_the_best_trained_system() -> None:
    record = make_record()
    assert report_text.hero(record) == "finetuned"
    partial = copy.deepcopy(record)
    for name in ("finetuned", "finetuned_without_adaptation"):
        del partial["subsets"][0]["systems"][name]
    assert report_text.hero(partial) == "adapted"
    assert report_text.references(partial) == ["bm25"]


def test_differences_fall_into_their_bins_and_ties_are_left_out() -> None:
    figure = report_charts.difference_histogram([-1.0, 1.0, 0.05, 0.0, -0.05], "ndcg_at_10", "bm25")
    counts = figure["data"][0]["y"]
    assert (counts[0], counts[9], counts[10], counts[19], sum(counts)) == (1, 1, 1, 1, 4)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.25, "4.2 s"), (45, "45 s"), (185.4, "3 min 05 s"), ("n/a", "n/a"), (True, "True")],
)
def test_durations_read_as_people_say_them(seconds: Any, shown: str) -> None:
    assert report_text.duration(seconds) == shown


def test_numbers_that_are_missing_are_dashes() -> None:
    assert report_text.number(float("nan")) == report_text.signed(None) == "\N{EN DASH}"


def test_a_difference_that_rounds_to_nothing_has_no_minus() -> None:
    assert report_text.signed(-0.0004) == report_text.signed(0.0) == "+0.000"
    assert report_text.signed(-0.0006) == "\N{MINUS SIGN}0.001"
