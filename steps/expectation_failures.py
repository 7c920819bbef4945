"""From Great Expectations' results to failures that name file, row, rule and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steps.expectation_rules import RULES

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

_IDS = ("_id", "query_id", "corpus_id")


@dataclass(frozen=True)
class Failure:
    """An expectation that does not hold.

    Args:
        file: the file at fault.
        row: 1-based line of the first broken row, None when the file as a whole is.
        rule: key of ``steps.expectation_rules.RULES``.
        message: the rule, the value found and the number of rows.
        critical: whether the run must stop.
        count: rows that break it.
    """

    file: str
    row: int | None
    rule: str
    message: str
    critical: bool
    count: int


def failures_of(
    result: ExpectationSuiteValidationResult, file: str, rows: int, unresolved_share: float
) -> list[Failure]:
    """One failure for each broken rule.

    Args:
        result: of a suite on a whole table.
        file: that the table came from.
        rows: of the table.
        unresolved_share: share of judgements that may name unknown queries or documents.
    """
    found: dict[str, Failure] = {}
    for one in result.results:
        if one.success:
            continue
        config, detail = one.expectation_config, one.result
        rule = RULES[config.meta["rule"]]
        listed = detail.get("partial_unexpected_index_list") or []
        # A frame without lines (one row a split) lists plain row numbers: its file is at fault as a whole.
        places = [place for place in listed if isinstance(place, Mapping) and _line(place)]
        place = min(places, key=_line, default={})
        count = max(1, int(detail.get("unexpected_count") or 0))
        message = f"{rule.statement}: got {_got(config.kwargs, detail, place)}"
        message += f" (and {count - 1} more rows)" if count > 1 else ""
        tolerated = unresolved_share if rule.tolerated is None else rule.tolerated
        failure = Failure(
            file,
            _line(place),
            rule.name,
            f"{message}; {_MEND.get(rule.name, _MEND.get(rule.name.partition('_')[0], 'correct or remove'))}",
            config.severity == "critical" and not count <= tolerated * rows,
            count,
        )
        # The same rule may be held twice, as a warning and beyond a share as critical: the graver one counts.
        if rule.name not in found or failure.critical > found[rule.name].critical:
            found[rule.name] = failure
    return list(found.values())


# What else than correcting or removing a row helps, by rule or by its first word.
_MEND = {
    "drift": "look at what changed; if it is meant, loosen configs/expectations/drift.json",
    "passage_tokens": "raise model.passage_length, or cut documents into passages",
    "query_tokens": "raise model.query_length",
    "negative_is_no_positive": "remove it, or mine again with these judgements",
}


def _line(place: Mapping[str, Any]) -> int | None:
    """The 1-based line of a broken row, where its table came from a file."""
    line = str(place.get("line", "")).removesuffix(".0")
    return int(line) if line.isdigit() else None


def _got(kwargs: Mapping[str, Any], detail: Mapping[str, Any], place: Mapping[str, Any]) -> str:
    """What was found, with the ids of the row."""
    ids = ", ".join(f"{name} {place[name]!r}" for name in _IDS if name in place)
    column = kwargs.get("column") or " and ".join(
        kwargs[name] for name in ("column_A", "column_B") if name in kwargs
    )
    first = next(iter(detail.get("partial_unexpected_list") or []), detail.get("observed_value"))
    value = place.get(column, first)
    if column in _IDS or str(value) in ("True", "False") or (value is None and ids):
        return ids or str(value)  # a column worked out by us says less than the ids do
    return f"{column or 'rows'} {_shown(value)}" + (f" ({ids})" if ids else "")


def _shown(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"
