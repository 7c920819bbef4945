"""Expectations of our own: references, uniqueness over all batches, and token counts.

Importing this module registers them with Great Expectations (seconds), so only functions import it.
Source: issue 5, point 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from great_expectations.compatibility import pydantic
from great_expectations.core.suite_parameters import SuiteParameterDict
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnMapExpectation, render_suite_parameter_string
from great_expectations.expectations.metrics import ColumnMapMetricProvider, column_condition_partial
from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer

from steps.expectation_facts import current


class ColumnValuesKnown(ColumnMapMetricProvider):
    """Whether a value is an id of another table."""

    condition_metric_name = "column_values.known"
    condition_value_keys = ("among",)
    filter_column_isnull = False  # a reference to nothing is broken too

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, among: str, **_: Any) -> pd.Series:
        return _of_rows(column, current().known(str(column.name), among))


class ColumnValuesStandOnce(ColumnMapMetricProvider):
    """Whether a value, with those of other columns in the same row, is in no other row."""

    condition_metric_name = "column_values.stand_once"
    condition_value_keys = ("within",)

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, within: Any = None, **_: Any) -> pd.Series:
        return _of_rows(column, current().single([str(column.name), *(within or [])]))


class ColumnTokenCountsBetween(ColumnMapMetricProvider):
    """Whether a text has no fewer and no more tokens than given."""

    condition_metric_name = "column_values.token_count.between"
    condition_value_keys = ("min_value", "max_value")

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(
        cls,
        column: pd.Series,
        min_value: float | None = None,
        max_value: float | None = None,
        **_: Any,
    ) -> pd.Series:
        tokens = current().tokens(pa.array(column, pa.string()))
        least = -np.inf if min_value is None else min_value
        most = np.inf if max_value is None else max_value
        return pd.Series((tokens >= least) & (tokens <= most), index=column.index)


def _of_rows(column: pd.Series, facts: Any) -> pd.Series:
    return pd.Series(facts[column.index.to_numpy()], index=column.index)


class _Ours(ColumnMapExpectation):
    """What the three share: one sentence for the Data Docs."""

    library_metadata: ClassVar[dict[str, Any]] = {"maturity": "production", "tags": [], "requirements": []}
    _library_metadata = library_metadata
    _sentence: ClassVar[str] = ""

    @classmethod
    def is_abstract(cls) -> bool:
        """Great Expectations does not register abstract ones."""
        return not cls.map_metric

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    @render_suite_parameter_string
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None, **_: Any
    ) -> list[RenderedStringTemplateContent]:
        configuration = configuration or result.expectation_config
        kwargs: Mapping[str, Any] = configuration.kwargs
        shown = {name: _words(value) for name, value in kwargs.items() if value is not None}
        sentence = cls._says(kwargs)
        mostly = kwargs.get("mostly")
        if isinstance(mostly, int | float) and mostly < 1:
            shown["mostly_pct"] = f"{mostly * 100:g}"
            sentence += ", at least $mostly_pct % of the time"
        runtime_configuration = runtime_configuration or {}
        if runtime_configuration.get("include_column_name") is not False:
            sentence = f"$column {sentence}"
        return [
            RenderedStringTemplateContent(
                content_block_type="string_template",
                string_template={
                    "template": f"{sentence}.",
                    "params": shown,
                    "styling": runtime_configuration.get("styling"),
                },
            )
        ]

    @classmethod
    def _says(cls, kwargs: Mapping[str, Any]) -> str:
        return cls._sentence


def _words(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


class ExpectColumnValuesToBeKnown(_Ours):
    """Every value is an ``_id`` of the table ``corpus`` or ``queries``, whatever batch that row is in.

    Args:
        column: of ids.
        among: ``corpus`` or ``queries``.
        mostly: share of the rows that must be so.
    """

    among: str = pydantic.Field(description="corpus or queries")
    map_metric = "column_values.known"
    success_keys = ("among", "mostly")
    args_keys = ("column", "among")
    _sentence = "values must be ids of the table $among"


class ExpectColumnValuesToStandOnce(_Ours):
    """No value stands twice in the table, in one batch or in two.

    Args:
        column: whose values are compared.
        within: columns whose values must be the same too, e.g. ``["query_id"]`` for ``corpus_id``: a
            document once for each query.
        mostly: share of the rows that must be so.
    """

    within: list[str] | None = None
    map_metric = "column_values.stand_once"
    success_keys = ("within", "mostly")
    args_keys = ("column", "within")

    @classmethod
    def _says(cls, kwargs: Mapping[str, Any]) -> str:
        return "values must stand once" + (" for each $within" if kwargs.get("within") else "")


class ExpectColumnTokenCountsToBeBetween(_Ours):
    """Texts have so many tokens for the run's tokenizer, or by an estimate where none is at hand.

    Args:
        column: of texts.
        min_value: fewest tokens, None: any.
        max_value: most tokens, None: any; ``{"$PARAMETER": "passage_length"}`` is what the model reads.
        mostly: share of the texts that must be so.
    """

    min_value: int | SuiteParameterDict | None = None
    max_value: int | SuiteParameterDict | None = None
    map_metric = "column_values.token_count.between"
    success_keys = ("min_value", "max_value", "mostly")
    args_keys = ("column", "min_value", "max_value")

    @classmethod
    def _says(cls, kwargs: Mapping[str, Any]) -> str:
        bounds = [("min_value", "at least"), ("max_value", "at most")]
        given = [f"{word} ${name}" for name, word in bounds if kwargs.get(name) is not None]
        return f"values must have {' and '.join(given) or 'any number of'} tokens"
