"""Write the results of finished runs into the README and the docs: no number there is typed by hand.

    .venv/bin/python benchmarks/results_table.py

Reads every comparison that a run left in ``.local/reports/<collection>.json`` and replaces what
stands between ``<!-- results:<collection> -->`` and ``<!-- /results:<collection> -->`` in README.md
and below docs/. A collection that has not been run here keeps the text it has.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llara_core.errors import DataError, LlaraError
from llara_core.evaluation.comparison import Comparison
from llara_core.evaluation.report_charts import metric_name, subset_name, system_name
from llara_core.evaluation.report_text import MAIN_METRIC, MISSING, integer, narrower, number, p_value, signed

REPOSITORY = Path(__file__).resolve().parents[1]
COMMANDS = {"pycode": "make run", "scifact": "make scifact DATA=path/to/scifact"}
logger = logging.getLogger("results_table")


def main(arguments: Sequence[str] | None = None) -> int:
    """Update the files; exits 0, or 2 when there is no comparison to read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reports", type=Path, default=REPOSITORY / ".local" / "reports")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="folder of README.md and docs/")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        sections = read_sections(chosen.reports)
    except LlaraError as error:
        logger.error("results_table: %s", error)
        return error.exit_code
    for path in [chosen.root / "README.md", *sorted((chosen.root / "docs").rglob("*.md"))]:
        if path.is_file() and update(path, sections):
            logger.info("updated %s", path)
    return 0


def read_sections(reports: Path) -> dict[str, str]:
    """Collection name to its Markdown, from every comparison in the folder.

    Raises:
        DataError: there is none, or one cannot be read.
    """
    files = sorted(reports.glob("*.json"))
    if not files:
        raise DataError("no <collection>.json here; `make run` writes one", file=reports)
    records = [Comparison.load(file) for file in files]
    return {str(record.collection["name"]): section(record) for record in records}


def update(path: Path, sections: Mapping[str, str]) -> bool:
    """Replace the marked sections of a file; returns whether anything changed."""
    old = new = path.read_text(encoding="utf-8")
    for name, content in sections.items():
        pattern = re.compile(
            rf"(<!-- results:{re.escape(name)} -->\n).*?(<!-- /results:{re.escape(name)} -->)", re.DOTALL
        )
        # A function, because a replacement string would read backslashes of the content.
        new = pattern.sub(lambda match, text=content: f"{match[1]}{text}{match[2]}", new)
    if new != old:
        path.write_text(new, encoding="utf-8")
    return new != old


def section(record: Comparison) -> str:
    """The Markdown of one collection: all systems and metrics, then the leak-free subsets."""
    collection = record.collection
    name = str(collection["name"])
    command = f" Written by `{COMMANDS[name]}`." if name in COMMANDS else ""
    lines = [
        f"{integer(collection['queries'])} {collection['split']} queries against "
        f"{integer(collection['documents'])} passages (content hash `{collection['content_hash'][:12]}`)."
        f"{command}",
        "",
        *_scores(record),
    ]
    judged = narrower(record.to_dict())
    if len(judged) > 1:
        lines += ["", f"{metric_name(MAIN_METRIC)} on the leak-free subsets:", "", *_subsets(record, judged)]
    return "\n".join(lines) + "\n"


def _scores(record: Comparison) -> list[str]:
    whole = record.subsets[0]["systems"]
    head = ["system", *map(metric_name, record.metrics), "against BM25", "against no adaptation"]
    rows = []
    for system in _names(record):
        cells = whole[system]
        best = {m: max(scores[m]["mean"] for scores in whole.values()) for m in record.metrics}
        values = [_bold(cells[m]["mean"], best[m]) for m in record.metrics]
        main = cells[MAIN_METRIC]
        rows.append(
            [system_name(system), *values, _change(main["versus_bm25"]),
             _change(main["versus_without_adaptation"])]
        )  # fmt: skip
    return _table(head, rows)


def _subsets(record: Comparison, judged: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ["system", *(f"{subset_name(one['name'])} ({integer(one['queries'])})" for one in judged)]
    rows = []
    for system in _names(record):
        row = [system_name(system)]
        for subset in judged:
            means = {name: scores[MAIN_METRIC]["mean"] for name, scores in subset["systems"].items()}
            row.append(_bold(means[system], max(means.values())) if system in means else MISSING)
        rows.append(row)
    return _table(head, rows)


def _names(record: Comparison) -> list[str]:
    return [one["name"] for one in record.systems if one["name"] in record.subsets[0]["systems"]]


def _bold(value: float, best: float) -> str:
    return f"**{number(value)}**" if value == best else number(value)


def _change(versus: Mapping[str, float] | None) -> str:
    return f"{signed(versus['difference'])} ({p_value(versus['p_value'])})" if versus else MISSING


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, rule, *rows)]


if __name__ == "__main__":
    sys.exit(main())
