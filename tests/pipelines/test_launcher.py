from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from rich.console import Console

from llara_core.errors import DataError, TrainingError
from llara_core.evaluation.comparison import compare
from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.results import SystemResult
from pipelines import outcome
from pipelines.__main__ import _judge
from pipelines.options import UnusableInputError, readable_errors
from pipelines.quiet import _Filter
from tests.oracles.tiny_collection import collection


class RunStoppedException(Exception):
    """As ZenML raises it when a signal stops a step."""


def wrapped(inner: BaseException) -> RuntimeError:
    outer = RuntimeError("Step failed.")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("bad row"), 2, "bad row"),
        (wrapped(DataError("bad row")), 2, "bad row"),
        (TrainingError("loss is not finite"), 1, "loss is not finite"),
        (KeyboardInterrupt(), 1, "interrupted"),
        (wrapped(RunStoppedException()), 1, "interrupted"),
        (ValueError("odd"), 1, "ValueError: odd"),
    ],
)
def test_errors_become_exit_codes(error: BaseException, code: int, words: str) -> None:
    found, message = _judge(error)
    assert found == code
    assert words in message


def test_pipeline_functions_raise_what_click_can_print() -> None:
    @readable_errors
    def pipeline() -> None:
        raise DataError("bad row")

    with pytest.raises(UnusableInputError) as raised:
        pipeline()
    assert raised.value.exit_code == 2
    assert raised.value.format_message() == "bad row"


def record(name: str, level: int, message: str, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error is not None else None
    return logging.LogRecord(name, level, "", 0, message, (), info)


@pytest.mark.parametrize(
    ("one", "kept"),
    [
        (record("llara_core.training", logging.INFO, "adapt: 3 steps"), True),
        (record("zenml.x", logging.INFO, "Step `adapt` has started."), True),
        (record("zenml.x", logging.INFO, "Using user: `default`"), False),
        (record("zenml.x", logging.ERROR, "Step adapt failed.", DataError("bad")), False),
        (record("zenml.x", logging.WARNING, "The disk is full."), True),
        (record("some.library", logging.INFO, "chatter"), False),
        (record("some.library", logging.WARNING, "matters"), True),
        (record("py.warnings", logging.WARNING, "deprecated"), False),
    ],
)
def test_the_log_holds_what_people_want_to_read(one: logging.LogRecord, kept: bool) -> None:
    assert _Filter().filter(one) is kept


def test_a_traceback_is_left_out() -> None:
    one = record("zenml.x", logging.ERROR, "Something broke.", ValueError("odd"))
    assert _Filter().filter(one)
    assert one.exc_info is None


def test_the_table_shows_changes_against_both_baselines() -> None:
    data = collection(
        {"d1": "one", "d2": "two"},
        {"q1": "one", "q2": "two"},
        {"test": {"q1": {"d1": 1}, "q2": {"d2": 1}}},
    )

    def result(name: str, values: list[float]) -> SystemResult:
        per_query = {metric: np.array(values) for metric in METRICS}
        return SystemResult(
            name, "tiny", "test", 2, ["q1", "q2"], per_query, [["d1"], ["d2"]], [[1.0], [1.0]]
        )

    comparison = compare(
        data,
        [
            result("bm25", [0.5, 0.5]),
            result("finetuned", [1.0, 0.8]),
            result("finetuned_without_adaptation", [0.7, 0.7]),
        ],
    )
    stream = io.StringIO()
    Console(file=stream, width=140).print(outcome.table(comparison))
    line = next(line for line in stream.getvalue().splitlines() if " finetuned " in line)
    assert "0.9000" in line
    assert "+0.4000" in line
    assert "+0.2000" in line
