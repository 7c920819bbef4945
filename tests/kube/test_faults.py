"""Faults of the cluster, through the real orchestrator: a run fails with its cause named, or goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kube.conftest import run_program, write_values

pytestmark = pytest.mark.timeout(900)
# Name of the scenario -> pods that the first step must have had. The run goes on as if nothing had been.
OVERCOME = {
    "none": 1, "evicted once": 2, "node lost twice": 3, "out of memory once": 2, "one error 500": 1,
    "errors 500 while it runs": 1, "slow": 1, "one time-out": 1,
}  # fmt: skip
# Name of the scenario -> words that the person must be told.
FAILED = {
    "quota refused": "is forbidden: exceeded quota: gpu",
    "image not pulled": "ImagePullBackOff",
    "no node fits": "step first: no node fits: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    "out of memory always": "OOMKilled",
    "errors 500 always": "step first: the API server did not take its Job: planted (500)",
    "time-outs always": "step first: the API server did not take its Job: ",
    "an answer is lost": "already exists",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    for package in ("kubernetes", "kubernetes_validate", "zenml"):
        pytest.importorskip(package)
    folder: Path = tmp_path_factory.mktemp("faults")
    write_values(folder)
    found: dict[str, Any] = run_program(["tests.kube.fault_runs", str(folder)], folder, folder / "kubeconfig")
    assert set(found) == {*OVERCOME, *FAILED}
    assert all(one["met"] for one in found.values()), "a fault that was planted has not struck"
    return found


@pytest.mark.parametrize(("name", "pods"), OVERCOME.items())
def test_a_passing_fault_stops_nothing(runs: dict[str, Any], name: str, pods: int) -> None:
    run = runs[name]
    assert run["error"] is None
    assert run["status"] != "failed", run["causes"]
    assert run["pods"] == {"first": pods, "second": 1}
    assert run["causes"] == []


@pytest.mark.parametrize(("name", "words"), FAILED.items())
def test_a_lasting_fault_fails_the_run_and_is_named(runs: dict[str, Any], name: str, words: str) -> None:
    run = runs[name]
    assert run["error"] is None, "the orchestrator itself must not fall over"
    assert run["status"] == "failed"
    assert run["pods"]["second"] == 0
    assert any(words in cause for cause in run["causes"]), run["causes"]


def test_nothing_waits_for_ever(runs: dict[str, Any]) -> None:
    """Every deadline in the scenarios is at most a minute; the orchestrator gives up with it."""
    assert max(run["seconds"] for run in runs.values()) < 90
