"""Two CPU processes (gloo) give what one process gives: losses, gradients and weights, of both stages."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llara_core.model.bundle import read_bundle
from tests.training.two_processes import SCENARIOS, engine, make_base, run

ROOT = Path(__file__).resolve().parents[2]
MEASURED = {"tokens_per_second", "seconds_left", "peak_memory_gib", "padding_waste"}  # not computed


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
        "FSDP_OFFLOAD_PARAMS": "false", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}  # fmt: skip


def start_two(folder: Path, scenarios: list[str], **more: str) -> list[subprocess.Popen[str]]:
    """The worker in two processes."""
    return start_two_of(
        [sys.executable, "-m", "tests.training.two_processes", str(folder), *scenarios], **more
    )


def start_two_of(command: list[str], **more: str) -> list[subprocess.Popen[str]]:
    """Two processes of a command that find each other on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
              "ACCELERATE_USE_CPU": "true"}  # fmt: skip
    return [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **shared, **more, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every scenario, in two processes at once and in this one."""
    folder = tmp_path_factory.mktemp("two")
    make_base(folder / "base")
    workers = start_two(folder, list(SCENARIOS))
    for name in SCENARIOS:
        run(folder, name)
    wait_for(workers)
    return folder


def wait_for(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        said, _ = worker.communicate(timeout=500)
        assert worker.returncode == 0, said


LEAVING = """
import atexit
from torch import distributed as dist
from llara_core.training.distributed import connect
atexit.register(lambda: print("in a group at the end:", dist.is_initialized()))  # called last
connect()
assert dist.is_initialized()
"""


def test_a_process_leaves_its_group_at_its_end() -> None:
    """Threads of gloo that met the end of the interpreter have aborted processes whose work was done."""
    for worker in start_two_of([sys.executable, "-c", LEAVING]):
        said, _ = worker.communicate(timeout=200)
        assert (worker.returncode, said.splitlines()[-1]) == (0, "in a group at the end: False"), said


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_equal_one(folder: Path, name: str) -> None:
    check_equal(folder, name)


@pytest.mark.slow
def test_fsdp_equals_one_process(folder: Path, tmp_path: Path) -> None:
    """Weights spread over two processes: the same again, and the saved weights are whole."""
    names = ["adapt", "adapt-lora", "finetune", "finetune-cached"]
    for path in [folder / "base", *(folder / f"{name}-1" for name in names)]:
        (tmp_path / path.name).symlink_to(path)
    for name in names:
        gradient = f"{name}-1.gradient.safetensors"
        (tmp_path / gradient).symlink_to(folder / gradient)
    wait_for(start_two(tmp_path, names, **FSDP))
    for name in names:
        check_equal(tmp_path, name)


def check_equal(folder: Path, name: str) -> None:
    base, one, two = (
        load_file(folder / bundle / "model.safetensors") for bundle in ("base", f"{name}-1", f"{name}-2")
    )
    assert largest_difference(one, base) > 1e-4  # it did train
    assert largest_difference(one, two) < 1e-6
    gradients = [load_file(folder / f"{name}-{count}.gradient.safetensors") for count in (1, 2)]
    largest = max(float(values.abs().max()) for values in gradients[0].values())
    assert largest_difference(*gradients) < 1e-6 * max(largest, 1.0)
    first, second = (read_bundle(folder / f"{name}-{count}").history[-1] for count in (1, 2))
    assert [line["step"] for line in second.curve] == [1, 2, 3, 4]
    for line, other in zip(first.curve, second.curve, strict=True):
        assert line.keys() == other.keys() and "loss" in line
        assert "mean_cosine" in line or "tiny" in name  # one row has no pair
        for term in line.keys() - MEASURED:
            assert other[term] == pytest.approx(line[term], rel=2e-6, abs=1e-6), term
    assert first.facts["tokens"] == second.facts["tokens"] or "tiny" in name  # prompts of an empty share


def test_other_candidates_give_another_loss(folder: Path) -> None:
    """The restricted candidates of ``finetune-own-negatives`` are really fewer."""
    losses = [
        read_bundle(folder / f"{name}-2").history[-1].curve[0]["loss"]
        for name in ("finetune", "finetune-own-negatives")
    ]
    assert losses[1] < losses[0] - 0.1


def test_only_the_main_process_writes(folder: Path) -> None:
    reports = [json.loads((folder / f"report-{rank}.json").read_text()) for rank in range(2)]
    assert [report["engine"]["lines"] for report in reports] == [4, 0]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_uneven_numbers_of_micro_batches_equal_one_process(folder: Path) -> None:
    report = engine(folder)
    one, two = (load_file(folder / f"engine-{count}.safetensors") for count in (1, 2))
    assert largest_difference(one, two) < 1e-6
    assert "process 0, micro-batch 0" in report["error"]


def test_a_loss_that_is_not_finite_in_one_process_stops_both(folder: Path) -> None:
    for rank in range(2):
        error = json.loads((folder / f"report-{rank}.json").read_text())["engine"]["error"]
        assert error.startswith(
            "adapt: the loss is not finite at step 3 of 6 (batch 2, process 1, micro-batch 0, rows 201, 203"
        )


def test_primitives(folder: Path) -> None:
    first, second = (
        json.loads((folder / f"report-{rank}.json").read_text())["primitives"] for rank in range(2)
    )
    for said in (first, second):
        assert said["gathered"] == [[1, 2], [3, 4], [5, 6]]
        assert said["sums"] == {"a": 30.0, "b": 3.0} and said["largest"] == {"x": 1.0}
        assert said["texts"] == ["", "néné"]
        assert said["answer"] == "from the main process"
    # Process 0 charges each row 1, 2, 3; process 1 ten times that: every row gets both.
    assert first["gradient"] == [[11, 11]]
    assert second["gradient"] == [[22, 22], [33, 33]]
    assert first["failure"] == "OSError: the disk is full"
    assert second["failure"] == "TrainingError: the main process failed: the disk is full"
    assert "process 0 of 2 has 3 rows, but sizes say [1, 2]" in first["wrong_size"]
