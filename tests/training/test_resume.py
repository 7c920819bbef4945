"""Killed with SIGKILL and started again, a run ends with exactly the weights of an uninterrupted one.

Issue 3, point 7: both stages, with and without LoRA (with dropout), in one and two processes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from llara_core.model.bundle import read_bundle
from tests.training.killed_runs import EVERY, SCENARIOS, STEPS
from tests.training.two_processes import make_base

REPOSITORY = Path(__file__).resolve().parents[2]
# Before the first checkpoint; between two; while a file is written; when all is written but the name;
# while an old checkpoint is removed; after the last checkpoint.
KILLS = [["step", 1], ["step", 4], ["write", 4], ["rename", 1], ["prune", 1], ["step", 8]]
RESUMED_AT = [2, 2, 2, 6, 6]  # the second attempt found nothing, so it started at step 0
TIMED = {"tokens_per_second", "peak_memory_gib", "seconds_left"}


def run_all(folder: Path, plan: dict[str, dict[str, Any]]) -> Path:
    """Run a plan of ``killed_runs`` in a process of its own."""
    make_base(folder / "base")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.killed_runs", str(folder), json.dumps(plan)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def plans(world: int, scenarios: list[str], kills: list[list[Any]]) -> dict[str, dict[str, Any]]:
    """Every scenario uninterrupted, and with these kills one after the other."""
    return {
        f"{name}-{world}-{how}": {"scenario": name, "world": world, "kills": chosen}
        for name in scenarios
        for how, chosen in (("whole", []), ("killed", kills))
    }


def checkpoint_files(run: Path) -> dict[str, bytes]:
    """Weights, optimiser and random states of every checkpoint that a run kept."""
    kept = run / "checkpoints"
    return {str(path.relative_to(kept)): path.read_bytes() for path in sorted(kept.rglob("*.safetensors"))}


def measured(run: Path) -> list[dict[str, float]]:
    """The loss curve without what the clock says."""
    curve = read_bundle(run / "bundle").history[-1].curve
    return [{name: value for name, value in line.items() if name not in TIMED} for line in curve]


def assert_same(whole: Path, killed: Path) -> None:
    """The same bundle, the same state before the last step, the same loss curve."""
    assert json.loads((whole / "attempts.json").read_text())[-1][-1] == 0, (whole / "log").read_text()
    assert json.loads((killed / "attempts.json").read_text())[-1][-1] == 0, (killed / "log").read_text()
    assert read_bundle(killed / "bundle").fingerprint == read_bundle(whole / "bundle").fingerprint
    names = [path.name for path in sorted((whole / "bundle").glob("*.safetensors"))]
    for name in names:
        assert (killed / "bundle" / name).read_bytes() == (whole / "bundle" / name).read_bytes()
    expected, found = checkpoint_files(whole), checkpoint_files(killed)
    steps = {re.search(r"step-(\d+)", name)[1] for name in expected}
    assert steps == {"000006", "000008"} and expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    for step in sorted(steps):
        one, other = (next(run.glob(f"checkpoints/run-*/step-{step}/state.json")) for run in (whole, killed))
        for key in ("rates", "schedule", "environment"):
            assert json.loads(one.read_text())[key] == json.loads(other.read_text())[key]
    assert measured(killed) == measured(whole)
    facts = [read_bundle(run / "bundle").history[-1].facts for run in (whole, killed)]
    assert facts[0]["tokens"] == facts[1]["tokens"]
    assert facts[0]["padding_waste"] == facts[1]["padding_waste"]


def resumes(run: Path) -> list[int]:
    return [
        int(step) for step in re.findall(rf"resuming at step (\d+) of {STEPS}", (run / "log").read_text())
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process; the other two scenarios are among the slow tests, killed at every step."""
    return run_all(tmp_path_factory.mktemp("alone"), plans(1, ["adapt-lora", "finetune"], KILLS))


@pytest.mark.parametrize("scenario", ["adapt-lora", "finetune"])
def test_six_kills_leave_no_trace(alone: Path, scenario: str) -> None:
    killed = alone / f"{scenario}-1-killed"
    assert json.loads((killed / "attempts.json").read_text()) == [[-9]] * len(KILLS) + [[0]]
    assert resumes(killed) == RESUMED_AT
    assert "WARNING" not in (killed / "log").read_text()
    assert_same(alone / f"{scenario}-1-whole", killed)


def test_adapters_alone_are_kept_under_lora(alone: Path) -> None:
    def names(scenario: str) -> set[str]:
        path = next((alone / f"{scenario}-1-whole").glob("checkpoints/run-*/step-000008/weights.safetensors"))
        return set(load_file(path))

    adapters = names("adapt-lora")
    assert adapters and all("lora_" in name or "trainable_tokens" in name for name in adapters)
    assert not any("lora_" in name for name in names("finetune"))


def test_a_checkpoint_is_three_times_what_is_trained(alone: Path) -> None:
    """Weights and AdamW's two moments, as docs/guides/resume.md says."""
    folder = next((alone / "finetune-1-whole").glob("checkpoints/run-*/step-000008"))
    weights = sum(values.nbytes for values in load_file(folder / "weights.safetensors").values())
    optimizer = load_file(folder / "optimizer.safetensors")
    steps = sum(values.nbytes for name, values in optimizer.items() if name.startswith("step/"))
    assert sum(values.nbytes for values in optimizer.values()) == 2 * weights + steps


def test_nothing_is_pickled_and_nothing_half_written_stays(alone: Path) -> None:
    files = [path for path in alone.rglob("checkpoints/**/*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ""}
    assert {path.name for path in files if not path.suffix} == {"finished"}
    assert not [path for path in alone.rglob("*") if path.name.endswith((".part", ".old"))]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes: step 5 kills the second one, the others the main one."""
    plan = plans(2, list(SCENARIOS), [["step", 5], ["write", 6], ["step", 8]])
    return run_all(tmp_path_factory.mktemp("together"), plan)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_one_of_two_processes_is_killed(together: Path, scenario: str) -> None:
    killed = together / f"{scenario}-2-killed"
    ends = json.loads((killed / "attempts.json").read_text())
    assert [attempt.index(-9) for attempt in ends[:3]] == [1, 0, 0] and ends[3] == [0, 0]
    assert resumes(killed) == [4, 4, 6]
    assert len(list((killed / "checkpoints").rglob("random-1.safetensors"))) == 2
    assert_same(together / f"{scenario}-2-whole", killed)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_any_step(tmp_path: Path, scenario: str) -> None:
    plan = plans(1, [scenario], [])
    del plan[f"{scenario}-1-killed"]
    for step in range(1, STEPS + 1):
        plan[f"at-{step}"] = {"scenario": scenario, "world": 1, "kills": [["step", step]]}
    run_all(tmp_path, plan)
    for step in range(1, STEPS + 1):
        last = (step - 1) // EVERY * EVERY
        assert resumes(tmp_path / f"at-{step}") == ([last] if last else [])
        assert_same(tmp_path / f"{scenario}-1-whole", tmp_path / f"at-{step}")
