from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llara_core.data.formats import read_beir
from llara_core.data.profile import profile
from llara_core.errors import DataError
from steps.expectation_drift import COLUMNS, drifted
from steps.expectations import FIRST_VERSION, SUITES, judge

STEADY = dict.fromkeys(COLUMNS)


def rules(numbers: dict[str, float | None], folder: Path, suites: Path = SUITES) -> set[tuple[str, bool]]:
    """What the drift suite says of these numbers, as (rule, critical)."""
    from steps.expectation_failures import failures_of
    from steps.expectation_run import run_suite
    from steps.expectation_suites import read_suite

    judged = drifted({"numbers": {**STEADY, **numbers}}, "corpus.jsonl")
    result = run_suite(judged, read_suite("drift", suites))
    return {(one.rule, one.critical) for one in failures_of(result, "corpus.jsonl", 1, 0.0)}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({}, set()),  # nothing to compare: every expectation holds
        ({"size_ratio": 1.0, "new_share": 0.0, "vocabulary_divergence": 0.0, "language_shift": 0.0}, set()),
        ({"size_ratio": 0.6}, {("drift_size", False)}),
        ({"size_ratio": 1.6}, {("drift_size", False)}),
        ({"size_ratio": 0.05}, {("drift_size", True)}),
        ({"queries_ratio": 0.5}, {("drift_size", False)}),
        ({"length_shift": 0.3}, {("drift_length", False)}),
        ({"query_length_shift": 0.3}, {("drift_length", False)}),
        ({"new_share": 0.6}, {("drift_new_documents", False)}),
        ({"gone_share": 0.4}, {("drift_gone_documents", False)}),
        ({"language_shift": 0.2}, {("drift_languages", False)}),
        ({"language_shift": 0.8}, {("drift_languages", True)}),
        # What chance alone does to small samples is no drift.
        ({"vocabulary_divergence": 0.3, "vocabulary_noise": 0.29}, set()),
        ({"vocabulary_divergence": 0.3, "vocabulary_noise": 0.1}, {("drift_vocabulary", False)}),
        ({"vocabulary_divergence": 0.9, "vocabulary_noise": 0.1}, {("drift_vocabulary", True)}),
    ],
)
def test_bounds_warn_and_stop(
    numbers: dict[str, float | None], expected: set[tuple[str, bool]], tmp_path: Path
) -> None:
    assert rules(numbers, tmp_path) == expected


def test_an_edited_bound_counts(tmp_path: Path) -> None:
    suite = json.loads((SUITES / "drift.json").read_text())
    for one in suite["expectations"]:
        if one["kwargs"]["column"] == "new_share":
            one["kwargs"]["max_value"], one["severity"] = 0.9, "critical"
    (tmp_path / "drift.json").write_text(json.dumps(suite))
    assert rules({"new_share": 0.6}, tmp_path, tmp_path) == set()
    assert rules({"new_share": 0.95}, tmp_path, tmp_path) == {("drift_new_documents", True)}


def test_the_first_version_says_that_there_is_nothing_to_compare(beir_folder: Path) -> None:
    judgement = judge(read_beir(beir_folder))
    assert FIRST_VERSION in judgement.page
    assert judgement.drift is None and "drift" not in judgement.versions


def test_the_same_content_has_not_drifted(beir_folder: Path) -> None:
    collection = read_beir(beir_folder)
    judgement = judge(collection, previous=json.loads(json.dumps(profile(collection))))
    assert judgement.failures == []
    assert judgement.drift is not None and judgement.drift["identical"]
    assert FIRST_VERSION not in judgement.page and judgement.versions["drift"] >= 1


def test_a_corpus_cut_to_a_few_rows_is_stopped(beir_folder: Path) -> None:
    collection = read_beir(beir_folder)
    previous = profile(collection)
    few = replace(collection, corpus=collection.corpus.slice(0, 2), queries=collection.queries, qrels={})
    judgement = judge(few, previous=previous, profile=profile(few))
    with pytest.raises(DataError, match=r"about as large as the version before: got size_ratio 0.08333"):
        judgement.raise_critical()
    assert "drift_gone_documents" in {one.rule for one in judgement.failures}
