from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from llara_core.cli.app import run


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        ([], []),
        (["--apply"], ["--apply"]),
        (["--all", "--json"], ["--all", "--json"]),
        (["-c", "own.yaml"], ["--config", str(Path("own.yaml").absolute())]),
        (
            ["--volume", "one", "--volume", "two", "--apply"],
            ["--apply", "--volume", str(Path("one").absolute()), "--volume", str(Path("two").absolute())],
        ),
    ],
)
@pytest.mark.parametrize("code", [0, 1, 2])
def test_llara_gc_runs_the_module_of_the_project(
    monkeypatch: pytest.MonkeyPatch, words: list[str], passed: list[str], code: int
) -> None:
    calls: list[tuple[str, list[str]]] = []
    project = ModuleType("llara_core.cli.project")

    def run_module(module: str, arguments: list[str]) -> int:
        calls.append((module, list(arguments)))
        return code

    project.run_module = run_module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llara_core.cli.project", project)
    assert run(["gc", *words]) == code
    assert calls == [("pipelines.gc", passed)]
