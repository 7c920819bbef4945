"""One process alone; what the launchers' variables say. Several processes: test_two_processes.py."""

from __future__ import annotations

import pytest
import torch

from llara_core.training import distributed


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE",
                 "ACCELERATE_USE_CPU", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def test_alone_everything_is_the_identity() -> None:
    distributed.connect()  # joins nothing
    assert (distributed.world_size(), distributed.rank(), distributed.is_main()) == (1, 0, True)
    distributed.barrier()
    rows = torch.ones(2, 3, requires_grad=True)
    assert distributed.gather_rows(rows, [2]) is rows
    assert distributed.sum_over_ranks({"a": 2}) == {"a": 2.0}
    assert distributed.largest_over_ranks({"a": 2}) == {"a": 2.0}
    assert distributed.all_texts("é") == ["é"]
    assert distributed.run_on_main(lambda: "done") == "done"
    assert distributed.missing_calls(3) == 0


def test_sizes_must_be_those_of_the_rows() -> None:
    with pytest.raises(ValueError, match=r"process 0 of 1 has 2 rows, but sizes say \[3\]"):
        distributed.gather_rows(torch.ones(2, 3), [3])


def test_an_error_of_the_main_process_is_raised_as_it_is() -> None:
    def fail() -> str:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        distributed.run_on_main(fail)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_launched_processes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert distributed.launched_processes() == 1
    monkeypatch.setenv(name, "4")
    assert distributed.launched_processes() == 4


def test_where_models_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (distributed.starting_device(), distributed.training_device()) == ("cuda", "cuda")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # each GPU is to hold a part only
    assert (distributed.starting_device(), distributed.training_device()) == ("cpu", "cuda")
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert (distributed.starting_device(), distributed.training_device()) == ("cpu", "cpu")
