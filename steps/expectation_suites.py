"""Suites as JSON files that people edit: read strictly, so that a mistake stops before any row is judged."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llara_core.errors import ConfigError
from steps.expectation_rules import RULES

SUITES = Path(__file__).resolve().parents[1] / "configs" / "expectations"
_KEYS = {"name", "meta", "expectations"}
_EXPECTATION_KEYS = {"type", "kwargs", "severity", "meta"}
_SEVERITIES = ("critical", "warning")
# These look at all rows at once, so their answers on batches cannot be put together.
_INSTEAD = {
    "expect_column_values_to_be_unique": "expect_column_values_to_stand_once",
    "expect_compound_columns_to_be_unique": "expect_column_values_to_stand_once with 'within'",
}
_OF_MANY_ROWS = (
    *_INSTEAD,
    "expect_column_value_z_scores_to_be_less_than",
    "expect_column_values_to_be_decreasing",
    "expect_column_values_to_be_increasing",
    "expect_column_values_to_not_be_outliers",
)
COUNTS_ROWS = "expect_table_row_count_to_be_between"


@dataclass(frozen=True)
class Suite:
    """Expectations on one kind of table.

    Args:
        name: of the suite, and of its file.
        version: counted up by whoever changes what is expected.
        expectations: Great Expectations' configurations, each with a ``rule`` in its ``meta``.
    """

    name: str
    version: int
    expectations: tuple[Mapping[str, Any], ...]

    def given(self, parameters: Iterable[str]) -> Suite:
        """The suite without expectations whose ``{"$PARAMETER": …}`` nobody gives."""
        known = set(parameters)
        kept = tuple(one for one in self.expectations if set(_parameters(one["kwargs"])) <= known)
        return Suite(self.name, self.version, kept)


def read_suite(name: str, folder: Path = SUITES) -> Suite:
    """Read ``<name>.json``.

    Raises:
        ConfigError: the file is missing or no JSON, or an expectation in it has an unknown type, rule, key
            or argument, or cannot be judged batch by batch; names file and place.
    """
    file = folder / f"{name}.json"
    content = _parsed(file)
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected an object with {_list(_KEYS)}, got {type(content).__name__}")
    _only(content, _KEYS, str(file))
    if content.get("name") != name:
        raise ConfigError(
            f"{file}: name: expected {name!r}, as the file is called, got {content.get('name')!r}"
        )
    meta = content.get("meta")
    version = meta.get("version") if isinstance(meta, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigError(f"{file}: meta.version: expected a whole number from 1, got {version!r}")
    expectations = content.get("expectations")
    if not isinstance(expectations, list) or not expectations:
        raise ConfigError(f"{file}: expectations: expected a list with at least one expectation")
    for place, one in enumerate(expectations):
        _check(one, f"{file}: expectations[{place}]")
    return Suite(name, version, tuple(expectations))


def _parsed(file: Path) -> Any:
    if not file.is_file():
        raise ConfigError(f"{file}: no such suite; copy the one that the project comes with")
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_no_key_twice)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{file}:{error.lineno}: not valid JSON: {error.msg} (column {error.colno})"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} stands twice in one object; remove one")
    return result


def _check(one: Any, where: str) -> None:
    if not isinstance(one, dict):
        raise ConfigError(f"{where}: expected an object with {_list(_EXPECTATION_KEYS)}, got {one!r}")
    _only(one, _EXPECTATION_KEYS, where)
    kind, kwargs, meta = one.get("type"), one.get("kwargs"), one.get("meta")
    if one.get("severity") not in _SEVERITIES:
        raise ConfigError(f"{where}.severity: expected {_list(_SEVERITIES)}, got {one.get('severity')!r}")
    rule = meta.get("rule") if isinstance(meta, dict) else None
    if rule not in RULES:
        raise ConfigError(f"{where}.meta.rule: {_unknown('rule', rule, RULES)}")
    if not isinstance(kwargs, dict):
        raise ConfigError(f"{where}.kwargs: expected an object of arguments, got {kwargs!r}")
    _check_type(kind, where)
    _check_arguments(str(kind), kwargs, where)


def _check_type(kind: Any, where: str) -> None:
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    import steps.expectation_types  # noqa: F401 - registers our own

    known = list_registered_expectation_implementations()
    if kind not in known:
        raise ConfigError(f"{where}.type: {_unknown('expectation', kind, known)}")
    of_rows = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    if kind in _OF_MANY_ROWS or not (kind == COUNTS_ROWS or issubclass(get_expectation_impl(kind), of_rows)):
        instead = f"; use {_INSTEAD[kind]}" if kind in _INSTEAD else ""
        raise ConfigError(
            f"{where}.type: {kind} needs all rows at once, but rows are judged batch by batch{instead}; "
            f"allowed are expectations on single rows and {COUNTS_ROWS}"
        )


def _check_arguments(kind: str, kwargs: Mapping[str, Any], where: str) -> None:
    from great_expectations.compatibility import pydantic
    from great_expectations.expectations.registry import get_expectation_impl

    try:
        get_expectation_impl(kind)(**kwargs)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}.kwargs.{place}: {first['msg']}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}.kwargs: {error}") from None


def _parameters(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [value["$PARAMETER"]] if "$PARAMETER" in value else []
        return own + [name for one in value.values() for name in _parameters(one)]
    return [name for one in value for name in _parameters(one)] if isinstance(value, list) else []


def _only(found: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in found:
        if key not in known:
            raise ConfigError(f"{where}: {_unknown('key', key, known)}")


def _unknown(what: str, name: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (known: {_list(known)})"
    return f"unknown {what} {name!r}{hint}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
