"""Run one suite of Great Expectations over one table, batch by batch."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from llara_core.progress import Progress
from steps.expectation_facts import judging
from steps.expectation_merge import PLACES, ROWS_SHOWN, merged, raised
from steps.expectation_suites import Suite
from steps.frames import BATCH_BYTES, BATCH_ROWS, Judged

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult

_HELD = 16 << 20  # bytes of judged frames that may wait for Python to free them
_FIRST_HEAD = 1000  # rows of a batch that are searched for broken ones first
_ORDER = "place"  # in an expectation's meta: Great Expectations sorts them its own way
_PLACE = ("line", "_id", "query_id", "corpus_id")


def run_suite(
    judged: Judged,
    suite: Suite,
    parameters: Mapping[str, Any] | None = None,
    *,
    rows: int = BATCH_ROWS,
    size: int = BATCH_BYTES,
) -> ExpectationSuiteValidationResult:
    """Judge every row of a table.

    Why batches: Great Expectations wants a whole table as one pandas frame (705 MB for 1M short rows with 7
    expectations, measured) or a database (three times slower, and no custom expectations on rows), and 5M
    rows shall fit into 1.5 GB. The results of batches are put together exactly (``expectation_merge``).

    Args:
        judged: the table.
        suite: read by ``read_suite``, all its parameters given.
        parameters: values of the suite's ``{"$PARAMETER": …}``.
        rows: the most rows in one batch.
        size: the most bytes of text in one batch.

    Raises:
        RuntimeError: an expectation could not be judged at all, e.g. for a column that is not there.
    """
    with judging(judged.facts):
        result = merged(_results(judged, suite, dict(parameters or {}), rows, size))
    for one in result.results:
        if caught := raised(one):
            raise RuntimeError(
                f"expectation {one.expectation_config.type} of suite {suite.name!r} could not be judged on "
                f"{judged.file}: {caught.get('exception_message')}"
            )
    return result


def _results(
    judged: Judged, suite: Suite, parameters: dict[str, Any], rows: int, size: int
) -> Iterator[ExpectationSuiteValidationResult]:
    shown = [name for name in _PLACE if name in judged.table.column_names]
    missing = [ROWS_SHOWN] * len(suite.expectations)  # places of broken rows still wanted, by expectation
    held = 0
    with Progress(f"validate {suite.name}", judged.table.num_rows, "rows") as bar:
        for frame in judged.batches(rows, size):
            result = _validated(frame, suite, parameters, "BASIC", shown)
            _add_places(result, frame, suite, parameters, shown, missing)
            yield result
            bar.update(len(frame))
            held += int(frame.memory_usage(deep=True).sum())
            del frame, result
            if held > _HELD:
                # Contexts refer to themselves and to their frames, so nothing else frees them soon enough.
                gc.collect()
                pa.default_memory_pool().release_unused()
                held = 0


def _add_places(
    result: ExpectationSuiteValidationResult,
    frame: pd.DataFrame,
    suite: Suite,
    parameters: dict[str, Any],
    shown: list[str],
    missing: list[int],
) -> None:
    """Add the places of the first broken rows to a batch's result, as many as are still ``missing``.

    Great Expectations finds places by listing every broken row, 50 µs each, so it is asked only about as
    much of the batch as has enough of them: a rule that all rows break costs no more than others.
    """
    wanted = {}
    for number, one in enumerate(result.results):
        count = min(missing[number], one.result.get("unexpected_count") or 0)
        if count:
            wanted[number] = count
    length = _FIRST_HEAD
    while wanted:
        asked = Suite(suite.name, suite.version, tuple(suite.expectations[number] for number in wanted))
        head = _validated(frame.iloc[:length], asked, parameters, "SUMMARY", shown)
        for number, one in zip(list(wanted), head.results, strict=True):
            listed = one.result.get(PLACES, [])[: wanted[number]]
            if len(listed) == wanted[number] or length >= len(frame):
                result.results[number].result[PLACES] = listed
                missing[number] -= wanted.pop(number)
        length *= 10


def _validated(
    frame: pd.DataFrame, suite: Suite, parameters: dict[str, Any], detail: str, shown: list[str]
) -> ExpectationSuiteValidationResult:
    import great_expectations as gx
    from great_expectations.core.expectation_suite import ExpectationSuite

    import steps.expectation_types  # noqa: F401 - registers our own

    # A context keeps what it has judged, so every batch gets one of its own (30 ms).
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("collection").add_dataframe_asset(suite.name)
    expectations = ExpectationSuite(
        name=suite.name,
        expectations=[
            {**one, "meta": {**one["meta"], _ORDER: number}} for number, one in enumerate(suite.expectations)
        ],
        meta={"version": suite.version},
    )
    definition = gx.ValidationDefinition(
        name=suite.name,
        data=asset.add_batch_definition_whole_dataframe("rows"),
        suite=context.suites.add(expectations),
    )
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": frame},
        expectation_parameters=parameters,
        result_format={
            "result_format": detail,
            "unexpected_index_column_names": shown,
            "partial_unexpected_count": ROWS_SHOWN,
            "return_unexpected_index_query": False,  # it would name every broken row
        },
    )
    result.results.sort(key=lambda one: one.expectation_config.meta.pop(_ORDER))
    return result
