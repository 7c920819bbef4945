"""Data Docs as one page: Great Expectations' own sections, without anything from the network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.expectation_failures import Failure

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

STYLE = Path(__file__).with_suffix(".css")
# The page shows text of the corpus, which may be hostile: no script may run and nothing may be fetched.
_SHOWN = 200  # characters of a value; twenty documents of a megabyte would make no page
_UNSEEN = "\\u{:04x}"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Section:
    """What one suite said of one table.

    Args:
        suite: its name.
        version: ``meta.version`` of the suite.
        file: that the table came from.
        rows: rows judged.
        result: of Great Expectations, over all rows.
    """

    suite: str
    version: int
    file: str
    rows: int
    result: ExpectationSuiteValidationResult


def render(
    name: str, sections: Sequence[Section], failures: Sequence[Failure], notes: Sequence[str] = ()
) -> str:
    """The page: verdict, what failed where, and every expectation with what was observed.

    Args:
        name: of the collection.
        sections: what the suites said, table by table.
        failures: the expectations that do not hold.
        notes: sentences for the top of the page.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    renderer, view = ValidationResultsPageRenderer(run_info_at_end=True), DefaultJinjaSectionView()
    parts = []
    for number, one in enumerate(sections):
        # The first section of Great Expectations' page is an overview whose links lead out of this one.
        blocks = renderer.render(_escaped(one.result)).sections[1:]
        body = "".join(
            view.render({"section": block.to_json_dict(), "section_loop": {"index": index}})
            for index, block in enumerate(blocks, start=1)
        )
        opened = "" if one.result.success else " open"
        parts.append(
            f'<details id="suite-{number}"{opened}><summary><h2>{html.escape(one.suite)} '
            f"{_state(one)}</h2><p>{_facts(one)}</p></summary>{body}</details>"
        )
    stopped = any(one.critical for one in failures)
    verdict = "stopped: a critical expectation failed" if stopped else "every critical expectation holds"
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Data Docs: {html.escape(name)}</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head><body>"
        f"<h1>Data Docs of {html.escape(name)}</h1>"
        f'<p class="verdict {"failed" if stopped else "passed"}">{verdict}</p>'
        f"{''.join(f'<p>{html.escape(note)}</p>' for note in notes)}"
        f"{_index(sections)}{_table(failures)}{''.join(parts)}</body></html>"
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # a corpus may hold lone surrogates


def _state(one: Section) -> str:
    state = "passed" if one.result.success else "failed"
    return f'<span class="verdict {state}">{state}</span>'


def _facts(one: Section) -> str:
    failed = one.result.statistics["unsuccessful_expectations"]
    return (
        f"{html.escape(one.file)}: {one.rows:,} rows, {len(one.result.results)} expectations, "
        f"{failed} failed; suite version {one.version}"
    )


def _index(sections: Sequence[Section]) -> str:
    rows = "".join(
        f'<li><a href="#suite-{number}">{html.escape(one.suite)}</a> {_state(one)}<br>{_facts(one)}</li>'
        for number, one in enumerate(sections)
    )
    return f'<ul class="suites">{rows}</ul>'


def _escaped(result: ExpectationSuiteValidationResult) -> ExpectationSuiteValidationResult:
    """A copy whose observed values are HTML: Great Expectations writes them into its page as they are."""
    copy = deepcopy(result)
    for one in copy.results:
        one.result = _escape(one.result)
    return copy


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        # A character that no font draws must not make a broken value look like a whole one.
        return html.escape("".join(one if one.isprintable() else _UNSEEN.format(ord(one)) for one in shown))
    if isinstance(value, Mapping):
        return {key: _escape(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_escape(one) for one in value]
    return value


def _table(failures: Sequence[Failure]) -> str:
    rows = "".join(
        f'<tr><td class="{"critical" if one.critical else "warning"}">'
        f"{'critical' if one.critical else 'warning'}</td><td>{html.escape(one.rule)}</td>"
        f"<td>{html.escape(one.file)}{f':{one.row}' if one.row else ''}</td>"
        f"<td>{html.escape(one.message)}</td>"
        f'<td class="number">{one.count:,}</td></tr>'
        for one in sorted(failures, key=lambda one: not one.critical)
    )
    head = "<tr><th>severity</th><th>rule</th><th>place</th><th>what</th><th>rows</th></tr>"
    return f'<table class="failures"><thead>{head}</thead><tbody>{rows}</tbody></table>' if rows else ""
