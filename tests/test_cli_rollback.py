from __future__ import annotations

import pytest

from llara_core.cli import project
from llara_core.cli.app import run


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        ([], ["--model", "llara-retriever"]),
        (["--dry-run"], ["--model", "llara-retriever", "--dry-run"]),
        (["--model", "other", "--reason", "slow"], ["--model", "other", "--reason", "slow"]),
        (["--to", "v1-ab"], ["--model", "llara-retriever", "--to", "v1-ab"]),
        (["--live", "/srv/live"], ["--model", "llara-retriever", "--live", "/srv/live"]),
        (["--registry-only"], ["--model", "llara-retriever", "--registry-only"]),
    ],
)
@pytest.mark.parametrize("code", [0, 1, 2])
def test_llara_rollback_runs_the_module_of_the_project(
    monkeypatch: pytest.MonkeyPatch, words: list[str], passed: list[str], code: int
) -> None:
    calls: list[tuple[str, list[str]]] = []

    def run_module(module: str, arguments: list[str]) -> int:
        calls.append((module, arguments))
        return code

    monkeypatch.setattr(project, "run_module", run_module)
    assert run(["rollback", *words]) == code
    assert calls == [("pipelines.rollback", passed)]
