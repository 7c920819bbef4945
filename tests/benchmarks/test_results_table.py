"""The tables of the README come from comparisons, and nothing beside the markers is touched."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
METRICS = ["ndcg_at_10", "mrr_at_10", "recall_at_100", "map_at_100"]
PAGE = """# Title

<!-- results:demo -->
old text
<!-- /results:demo -->

<!-- results:other -->
kept
<!-- /results:other -->
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_table", ROOT / "benchmarks" / "results_table.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell(mean: float, bm25: float | None = None, p: float = 0.01) -> dict[str, Any]:
    versus = None if bm25 is None else {"difference": mean - bm25, "p_value": p}
    return {"mean": mean, "interval": [mean, mean], "versus_bm25": versus, "versus_without_adaptation": None}


def record(name: str = "demo") -> dict[str, Any]:
    systems = {"bm25": dict.fromkeys(METRICS, cell(0.5)), "adapted": dict.fromkeys(METRICS, cell(0.45, 0.5))}
    systems["adapted"] = {**systems["adapted"], "recall_at_100": cell(0.75, 0.5)}
    return {
        "schema": 1,
        "collection": {"name": name, "split": "test", "documents": 12_345, "queries": 678,
                       "content_hash": "0123456789abcdef"},
        "metrics": METRICS, "query_ids": [], "histories": {}, "length_histograms": [], "best_queries": [],
        "worst_queries": [], "examples_of": "adapted", "notes": [],
        "systems": [{"name": system, "per_query": {}} for system in systems],
        "subsets": [
            {"name": "all", "description": "", "queries": 678, "systems": systems},
            {"name": "unseen_documents", "description": "", "queries": 90,
             "systems": {"bm25": {"ndcg_at_10": cell(0.4)}, "adapted": {"ndcg_at_10": cell(0.6, 0.4)}}},
            {"name": "no_near_duplicate", "description": "", "queries": 0, "systems": {}},
        ],
    }  # fmt: skip


def project(folder: Path, **records: dict[str, Any]) -> list[str]:
    """Lay out a README, a page of the docs and saved comparisons; returns the script's arguments."""
    (folder / "docs" / "results").mkdir(parents=True)
    (folder / "README.md").write_text(PAGE, encoding="utf-8")
    (folder / "docs" / "results" / "page.md").write_text(PAGE, encoding="utf-8")
    (folder / "reports").mkdir()
    for name, content in records.items():
        (folder / "reports" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return ["--reports", str(folder / "reports"), "--root", str(folder)]


def test_tables_hold_the_scores_and_the_best_is_bold(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(project(tmp_path, demo=record())) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "678 test queries against 12,345 passages (content hash `0123456789ab`)." in text
    assert "| BM25 | **0.500** | **0.500** | 0.500 | **0.500** | \N{EN DASH} | \N{EN DASH} |" in text
    changed = "\N{MINUS SIGN}0.050 (p = 0.010) | \N{EN DASH} |"
    assert f"| adapted | 0.450 | 0.450 | **0.750** | 0.450 | {changed}" in text
    assert "| system | All queries (678) | Documents unseen in training (90) |" in text
    assert "| adapted | 0.450 | **0.600** |" in text
    assert (tmp_path / "docs" / "results" / "page.md").read_text(encoding="utf-8") == (
        tmp_path / "README.md"
    ).read_text(encoding="utf-8")


def test_only_marked_text_of_judged_collections_changes(script: ModuleType, tmp_path: Path) -> None:
    script.main(project(tmp_path, demo=record()))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "old text" not in text
    before, after = PAGE.split("old text\n")
    assert text.startswith(before) and text.endswith(after)


def test_running_twice_changes_nothing_more(script: ModuleType, tmp_path: Path) -> None:
    arguments = project(tmp_path, demo=record())
    script.main(arguments)
    once = (tmp_path / "README.md").read_text(encoding="utf-8")
    script.main(arguments)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == once


def test_known_collections_name_their_command(script: ModuleType) -> None:
    comparison = script.Comparison.from_dict(record("pycode"))
    assert "Written by `make run`." in script.section(comparison)


@pytest.mark.parametrize("records", [{}, {"broken": {"schema": 9}}])
def test_nothing_to_read_is_an_input_error(
    script: ModuleType, tmp_path: Path, records: dict[str, Any]
) -> None:
    assert script.main(project(tmp_path, **records)) == 2
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == PAGE


def test_marks_of_the_readme_are_the_ones_the_script_looks_for() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("pycode", "scifact"):
        assert text.count(f"<!-- results:{name} -->\n") == text.count(f"<!-- /results:{name} -->") == 1
