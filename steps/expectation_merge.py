"""Great Expectations' results on batches of a table, put together as if the table had been one batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from steps.expectation_suites import COUNTS_ROWS

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult

ROWS_SHOWN = 20  # broken rows kept per expectation
_COUNTS = ("element_count", "unexpected_count", "missing_count")
PLACES = "partial_unexpected_index_list"
_LISTS = ("partial_unexpected_list", PLACES)


def merged(results: Iterable[ExpectationSuiteValidationResult]) -> ExpectationSuiteValidationResult:
    """What the suite says of all batches together; equal to its result on one batch of all rows.

    Counts are added up, the first ``ROWS_SHOWN`` broken rows kept, and success judged anew: a share
    (``mostly``) is of all rows. Batches may come from a generator; only the merged result is kept.

    Args:
        results: of the same suite on the batches, in the order of the rows; at least one.
    """
    together: ExpectationSuiteValidationResult | None = None
    for result in results:
        if together is None:
            together = result
        else:
            for one, other in zip(together.results, result.results, strict=True):
                _add(one, other)
    if together is None:
        raise ValueError("no batch was judged")
    for one in together.results:
        if not raised(one):
            _conclude(one)
    failed = sum(not one.success for one in together.results)
    count = len(together.results)
    together.success = not failed
    together.statistics = {
        "evaluated_expectations": count,
        "successful_expectations": count - failed,
        "unsuccessful_expectations": failed,
        "success_percent": (count - failed) / count * 100 if count else None,
    }
    return together


def raised(one: ExpectationValidationResult) -> Mapping[str, Any] | None:
    """What Great Expectations caught while it judged, or None."""
    caught = one.exception_info or {}
    if caught.get("raised_exception"):
        return caught
    inner = (value for value in caught.values() if isinstance(value, Mapping))
    return next((value for value in inner if value.get("raised_exception")), None)


def _add(one: ExpectationValidationResult, other: ExpectationValidationResult) -> None:
    if raised(one):
        return
    if raised(other):
        one.exception_info, one.success = other.exception_info, False
        return
    if one.expectation_config.type == COUNTS_ROWS:
        one.result["observed_value"] += other.result["observed_value"]
        return
    for name in _COUNTS:
        if name in one.result:
            one.result[name] += other.result[name]
    for name in _LISTS:
        both = [*one.result.get(name, []), *other.result.get(name, [])]
        one.result[name] = both[:ROWS_SHOWN]


def _conclude(one: ExpectationValidationResult) -> None:
    """Work out anew what follows from the counts, by Great Expectations' own arithmetic."""
    kwargs, found = one.expectation_config.kwargs, one.result
    if one.expectation_config.type == COUNTS_ROWS:
        one.success = _between(found["observed_value"], kwargs)
        return
    rows, unexpected = found["element_count"], found["unexpected_count"]
    present = rows - found.get("missing_count", 0)
    one.success = not present or (float(present) - unexpected) / present >= float(kwargs.get("mostly", 1))
    share = unexpected / present * 100 if present else None
    found["unexpected_percent"] = share if rows else None
    if "missing_count" in found:
        found["missing_percent"] = found["missing_count"] / rows * 100 if rows else None
        found["unexpected_percent_total"] = unexpected / rows * 100 if rows else None
        found["unexpected_percent_nonmissing"] = share if rows else None
    found.setdefault(PLACES, [])
    found["partial_unexpected_counts"] = _most_common(found["partial_unexpected_list"])


def _between(value: float, kwargs: Mapping[str, Any]) -> bool:
    least, most = kwargs.get("min_value"), kwargs.get("max_value")
    above = least is None or (value > least if kwargs.get("strict_min") else value >= least)
    return bool(above and (most is None or (value < most if kwargs.get("strict_max") else value <= most)))


def _most_common(values: Sequence[Any]) -> list[dict[str, Any]]:
    plain = [tuple(one.values()) if isinstance(one, Mapping) else one for one in values]
    try:
        ranked = sorted(Counter(plain).most_common(ROWS_SHOWN), key=lambda pair: (-pair[1], pair[0]))
    except TypeError:
        return [{"error": "partial_exception_counts requires a hashable type"}]
    return [{"value": deepcopy(value), "count": count} for value, count in ranked]
