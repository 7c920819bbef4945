"""Judge a collection by Great Expectations suites, and show the judgement as one page.

``great_expectations`` is imported inside the functions: it takes seconds that a cached step saves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llara_core.data.collection import Collection
from llara_core.data.quality import RULES, is_critical
from llara_core.errors import DataError
from steps.data_docs import Failure, render
from steps.frames import Judged, frames

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

SUITES = Path(__file__).resolve().parents[1] / "configs" / "expectations"
ROWS_SHOWN = 20  # broken rows kept per expectation
_IDS = ("_id", "query_id", "corpus_id")


@dataclass(frozen=True)
class Judgement:
    """What the suites say about a collection: failures, counts, and the Data Docs page."""

    failures: Sequence[Failure]
    expectations: int
    page: str

    @property
    def summary(self) -> dict[str, int]:
        """Numbers for metadata and MLflow."""
        critical = sum(one.critical for one in self.failures)
        return {
            "expectations": self.expectations,
            "failed_critical": critical,
            "failed_warning": len(self.failures) - critical,
        }

    def raise_critical(self) -> None:
        """Stop on the first failed critical expectation.

        Raises:
            DataError: names file, row and rule, and counts the other failures.
        """
        critical = [one for one in self.failures if one.critical]
        if critical:
            first = critical[0]
            others = f"; {len(critical) - 1} more critical expectations failed" if critical[1:] else ""
            raise DataError(first.message + others, file=Path(first.file), row=first.row, rule=first.rule)


def judge(collection: Collection) -> Judgement:
    """Run every suite on every row.

    Returns:
        failures in the order corpus, queries, qrels by split; the page is self-contained.
    """
    import great_expectations as gx
    from great_expectations.core.expectation_suite import ExpectationSuite

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("collection")
    suites = {
        name: context.suites.add(ExpectationSuite(**json.loads((SUITES / f"{name}.json").read_text("utf-8"))))
        for name in ("corpus", "queries", "qrels", "splits")
    }
    results = []
    for number, judged in enumerate(frames(collection)):
        name = f"{number}-{judged.suite}"
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suites[judged.suite])
        context.validation_definitions.add(definition)
        columns = [one for one in ("line", *_IDS) if one in judged.frame.columns]
        results.append(
            (judged, definition.run(
                batch_parameters={"dataframe": judged.frame},
                result_format={
                    "result_format": "SUMMARY",
                    "unexpected_index_column_names": columns,
                    "partial_unexpected_count": ROWS_SHOWN,
                },
            ))
        )  # fmt: skip
    failures = [failure for judged, result in results for failure in _failures(collection, judged, result)]
    return Judgement(
        failures,
        sum(len(result.results) for _, result in results),
        render(collection.name, results, failures),
    )


def _failures(
    collection: Collection, judged: Judged, result: ExpectationSuiteValidationResult
) -> list[Failure]:
    found: dict[str, Failure] = {}
    for one in result.results:
        if one.success:
            continue
        _stop_on_exception(one, judged)
        config, detail = one.expectation_config, one.result
        rule = config.meta["rule"]
        listed = detail.get("partial_unexpected_index_list") or []
        # A frame without lines (one row a split) lists plain row numbers: its file is at fault as a whole.
        places = [place for place in listed if isinstance(place, Mapping) and _line(place)]
        place = min(places, key=_line, default={})
        count = max(1, int(detail.get("unexpected_count") or 0))
        message = f"{RULES[rule].statement}: got {_got(config.kwargs, detail, place)}"
        message += f" (and {count - 1} more rows)" if count > 1 else ""
        failure = Failure(
            judged.file,
            _line(place),
            rule,
            f"{message}; correct or remove",
            config.severity == "critical" and is_critical(collection, RULES[rule], count, len(judged.frame)),
            count,
        )
        # The same rule may be held twice, as a warning and beyond a share as critical: the graver one counts.
        if rule not in found or failure.critical > found[rule].critical:
            found[rule] = failure
    return list(found.values())


def _stop_on_exception(one: Any, judged: Judged) -> None:
    raised = one.exception_info or {}
    if raised.get("raised_exception") or any(
        isinstance(value, Mapping) and value.get("raised_exception") for value in raised.values()
    ):
        raise RuntimeError(
            f"expectation {one.expectation_config.type} could not be judged on {judged.file}: {raised}"
        )


def _line(place: Mapping[str, Any]) -> int | None:
    """The 1-based line of a broken row, where its table came from a file."""
    line = str(place.get("line", "")).removesuffix(".0")
    return int(line) if line.isdigit() else None


def _got(kwargs: Mapping[str, Any], detail: Mapping[str, Any], place: Mapping[str, Any]) -> str:
    """What was found, with the ids of the row."""
    ids = ", ".join(f"{name} {place[name]!r}" for name in _IDS if name in place)
    column = kwargs.get("column")
    value = place.get(column, detail.get("observed_value")) if column else detail.get("observed_value")
    if column in _IDS or str(value) in ("True", "False") or (value is None and ids):
        return ids or str(value)  # a column worked out by us says less than the ids do
    return f"{column or 'rows'} {_shown(value)}" + (f" ({ids})" if ids else "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"
