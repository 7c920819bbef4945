from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llara_core.errors import ConfigError
from steps.expectation_suites import SUITES, read_suite

GOOD: dict[str, Any] = {
    "name": "corpus",
    "meta": {"version": 4},
    "expectations": [
        {
            "type": "expect_column_values_to_match_regex",
            "kwargs": {"column": "_id", "regex": "\\S"},
            "severity": "critical",
            "meta": {"rule": "non_empty_ids"},
        }
    ],
}


def written(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    suite = json.loads(json.dumps(GOOD))
    change(suite)
    (folder / "corpus.json").write_text(json.dumps(suite))
    return folder


def first(suite: dict[str, Any]) -> dict[str, Any]:
    return suite["expectations"][0]


@pytest.mark.parametrize("file", sorted(SUITES.glob("*.json")), ids=lambda file: file.stem)
def test_every_suite_of_the_project_is_read(file: Path) -> None:
    suite = read_suite(file.stem)
    assert suite.version >= 1 and suite.expectations


def test_the_suites_are_those_of_the_issue() -> None:
    names = {file.stem for file in SUITES.glob("*.json")}
    assert names == {"corpus", "queries", "qrels", "splits", "training_pairs", "mined_negatives", "drift"}


def test_a_good_suite_is_read_with_its_version(tmp_path: Path) -> None:
    suite = read_suite("corpus", written(tmp_path, lambda one: None))
    assert (suite.name, suite.version, len(suite.expectations)) == ("corpus", 4, 1)


BAD = {
    "type": (
        lambda s: first(s).update(type="expect_column_values_to_match_regexp"),
        r"expectations\[0\].type: unknown expectation .*did you mean 'expect_column_values_to_match_regex'",
    ),
    "rule": (
        lambda s: first(s)["meta"].update(rule="non_empty_id"),
        r"expectations\[0\].meta.rule: unknown rule 'non_empty_id'; did you mean 'non_empty_ids'",
    ),
    "no rule": (lambda s: first(s).pop("meta"), r"expectations\[0\].meta.rule: unknown rule None"),
    "severity": (
        lambda s: first(s).update(severity="fatal"),
        r"severity: expected critical, warning, got 'fatal'",
    ),
    "key": (lambda s: first(s).update(kwarg={}), r"unknown key 'kwarg'; did you mean 'kwargs'"),
    "top key": (
        lambda s: s.update(expectation=[]),
        r"unknown key 'expectation'; did you mean 'expectations'",
    ),
    "argument": (
        lambda s: first(s)["kwargs"].update(colum="_id"),
        r"kwargs.colum: extra fields not permitted",
    ),
    "no argument": (lambda s: first(s)["kwargs"].pop("column"), r"kwargs.column: field required"),
    "version": (
        lambda s: s["meta"].update(version="1"),
        r"meta.version: expected a whole number from 1, got '1'",
    ),
    "name": (lambda s: s.update(name="korpus"), r"name: expected 'corpus'"),
    "empty": (lambda s: s.update(expectations=[]), r"expectations: expected a list with at least one"),
    "all rows": (
        lambda s: first(s).update(type="expect_column_values_to_be_unique", kwargs={"column": "_id"}),
        r"needs all rows at once.*use expect_column_values_to_stand_once",
    ),
    "aggregate": (
        lambda s: first(s).update(type="expect_column_mean_to_be_between", kwargs={"column": "line"}),
        r"needs all rows at once",
    ),
    "not an object": (lambda s: s.update(expectations=["x"]), r"expectations\[0\]: expected an object"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=list(BAD))
def test_a_mistake_is_named_with_file_and_place(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as stopped:
        read_suite("corpus", written(tmp_path, change))
    assert str(tmp_path / "corpus.json") in str(stopped.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"name": "corpus",\n "meta": }', r"corpus.json:2: not valid JSON"),
        (b'{"name": "corpus", "name": "corpus"}', r"key 'name' stands twice"),
        (b'{"name": "\xff"}', "not UTF-8"),
        (b"[]", "expected an object with expectations, meta, name, got list"),
    ],
)
def test_malformed_json_is_named_with_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "corpus.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_suite("corpus", tmp_path)


def test_a_missing_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.json: no such suite"):
        read_suite("corpus", tmp_path)


def test_expectations_with_parameters_that_nobody_gives_are_left_out() -> None:
    suite = read_suite("corpus")
    given, without = suite.given(["passage_length"]), suite.given([])
    assert len(given.expectations) == len(suite.expectations) == len(without.expectations) + 1
    assert not any("token" in one["type"] for one in without.expectations)
