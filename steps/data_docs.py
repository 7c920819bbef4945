"""Data Docs as one page: Great Expectations' own sections, without anything from the network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.frames import Judged

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

STYLE = Path(__file__).with_suffix(".css")
# The page shows text of the corpus, which may be hostile: no script may run and nothing may be fetched.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Failure:
    """An expectation that does not hold.

    Args:
        file: the file at fault.
        row: 1-based line of the first broken row, None when the file as a whole is.
        rule: key of ``llara_core.data.quality.RULES``.
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


def render(
    name: str,
    results: Sequence[tuple[Judged, ExpectationSuiteValidationResult]],
    failures: Sequence[Failure],
) -> str:
    """The page: verdict, what failed where, and every expectation with what was observed.

    Args:
        name: of the collection.
        results: frames and what their suites said.
        failures: the expectations that do not hold.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    renderer, view = ValidationResultsPageRenderer(run_info_at_end=True), DefaultJinjaSectionView()
    parts = []
    for judged, result in results:
        state = "passed" if result.success else "failed"
        parts.append(f'<h2>{html.escape(judged.file)} <span class="verdict {state}">{state}</span></h2>')
        parts += [
            view.render({"section": section.to_json_dict(), "section_loop": {"index": index}})
            for index, section in enumerate(renderer.render(_escaped(result)).sections, start=1)
        ]
    stopped = any(one.critical for one in failures)
    verdict = "stopped: a critical expectation failed" if stopped else "every critical expectation holds"
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Data Docs: {html.escape(name)}</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head><body>"
        f"<h1>Data Docs of {html.escape(name)}</h1>"
        f'<p class="verdict {"failed" if stopped else "passed"}">{verdict}</p>'
        f"{_table(failures)}{''.join(parts)}</body></html>"
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # a corpus may hold lone surrogates


def _escaped(result: ExpectationSuiteValidationResult) -> ExpectationSuiteValidationResult:
    """A copy whose observed values are HTML: Great Expectations writes them into its page as they are."""
    copy = deepcopy(result)
    for one in copy.results:
        one.result = _escape(one.result)
    return copy


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, Mapping):
        return {key: _escape(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_escape(one) for one in value]
    return value


def _table(failures: Sequence[Failure]) -> str:
    rows = "".join(
        f"<tr><td>{'critical' if one.critical else 'warning'}</td><td>{html.escape(one.rule)}</td>"
        f"<td>{html.escape(one.file)}:{one.row or ''}</td><td>{html.escape(one.message)}</td></tr>"
        for one in failures
    )
    head = "<tr><th>severity</th><th>rule</th><th>place</th><th>what</th></tr>"
    return f"<table>{head}{rows}</table>" if rows else ""
