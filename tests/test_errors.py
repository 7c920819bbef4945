"""The tree of exceptions: places in messages, and the exit code of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from llara_core import errors
from llara_core.errors import DataError, LlaraError

EXIT_CODES = {
    "LlaraError": 1,
    "InputError": 2,
    "ConfigError": 2,
    "DataError": 2,
    "ModelError": 2,
    "TrainingError": 1,
    "MissingDependencyError": 1,
}


def test_exit_codes_of_the_whole_tree():
    found = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, LlaraError)
    }
    assert found == EXIT_CODES


def test_the_drawing_names_every_exception():
    for name in EXIT_CODES:
        assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "odd"),
        ({"file": Path("a/b.jsonl")}, "a/b.jsonl: odd"),
        ({"file": Path("a/b.jsonl"), "row": 7}, "a/b.jsonl:7: odd"),
        ({"file": Path("a/b.jsonl"), "row": 7, "rule": "unique_ids"}, "a/b.jsonl:7: odd [unique_ids]"),
        ({"rule": "unique_ids"}, "odd [unique_ids]"),
    ],
)
def test_data_error_points_at_its_place(place, text):
    error = DataError("odd", **place)
    assert str(error) == text
    assert (error.file, error.row, error.rule) == tuple(place.get(key) for key in ("file", "row", "rule"))
