"""Gradient caching: the loss and every gradient of the plain step, in the memory of one sub-batch."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from llara_core.config import FinetuneSettings, LoraSettings
from llara_core.model.adapters import with_lora
from llara_core.model.encoding import pad_rows
from llara_core.training import blockwise, recompute
from llara_core.training.contrastive import ContrastiveObjective
from tests.peak_memory import STATUS

VOCABULARY = 64
logger = logging.getLogger(__name__)


def tiny(lora: bool, dtype: torch.dtype = torch.float64) -> Any:
    """Two layers, with random weights; adapters that are not zero, with dropout."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, attention_dropout=0.0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype)
    if lora:
        model = with_lora(model, LoraSettings(rank=4, dropout=0.2), seed=0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def batch_of(queries: int, passages: int, longest: int = 24, shortest: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    batch: dict[str, Tensor] = {}
    for name, count in (("query", queries), ("passage", passages)):
        lengths = torch.randint(shortest, longest + 1, (count,), generator=generator).tolist()
        rows = [torch.randint(VOCABULARY, (size,), generator=generator).tolist() for size in lengths]
        batch[f"{name}_ids"], batch[f"{name}_lengths"] = pad_rows(
            sorted(rows, key=len, reverse=True), pad_id=0
        )
    batch["targets"] = torch.arange(queries)
    batch["masked"] = torch.zeros(queries, passages, dtype=torch.bool)
    return batch


def settings(**changes: object) -> FinetuneSettings:
    return FinetuneSettings(**{"temperature": 0.1, "micro_batch_tokens": 64, **changes})


def loss_and_gradients(
    model: Any, chosen: FinetuneSettings, batch: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(7)  # of dropout
    loss = ContrastiveObjective(model, chosen, slots=2)(batch)["loss"]
    loss.backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    return loss.detach(), gradients


@pytest.mark.parametrize("scores", [1 << 20, 70], ids=["all scores at once", "blocks of scores"])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora with dropout"])
def test_loss_and_every_gradient_are_those_of_the_plain_step(
    monkeypatch: pytest.MonkeyPatch, lora: bool, processes: int, scores: int
) -> None:
    # Several processes use torch's checkpointing, one on a CPU does not.
    monkeypatch.setattr(recompute, "world_size", lambda: processes)
    model, batch = tiny(lora), batch_of(6, 30)
    plain, wanted = loss_and_gradients(model, settings(), batch)
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", scores)
    cached, found = loss_and_gradients(model, settings(gradient_cache=True), batch)
    assert plain.dtype == torch.float64
    assert abs(float(plain - cached)) < 1e-9
    assert found.keys() == wanted.keys() and len(found) > 10
    for name, gradient in wanted.items():
        assert float(gradient.abs().max()) > 0, name
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("processes", [1, 2])
def test_bfloat16_arithmetic_keeps_every_gradient(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    monkeypatch.setattr(recompute, "world_size", lambda: processes)
    model, batch = tiny(lora=False, dtype=torch.float32), batch_of(4, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, wanted = loss_and_gradients(model, settings(), batch)
        cached, found = loss_and_gradients(model, settings(gradient_cache=True), batch)
    assert plain.dtype == torch.float32 and float(plain) == pytest.approx(float(cached), rel=1e-5)
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).norm() / gradient.norm()) < 0.05, name


def test_dropout_differs_from_row_to_row_and_is_drawn_anew() -> None:
    """Without dropout in play the test above would say little about random states."""
    model, batch = tiny(lora=True), batch_of(6, 30)
    objective = ContrastiveObjective(model, settings(gradient_cache=True), slots=2)
    losses = {float(objective(batch)["loss"].detach()) for _ in range(3)}
    assert len(losses) == 3


def test_no_dropout_then_sub_batches_change_nothing() -> None:
    model, batch = tiny(lora=False), batch_of(5, 20)
    whole, wanted = loss_and_gradients(model, settings(micro_batch_tokens=None), batch)
    parts, found = loss_and_gradients(model, settings(micro_batch_tokens=24), batch)
    assert abs(float(whole - parts)) < 1e-9
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-9, msg=name)


def kept_bytes(chosen: FinetuneSettings, rows: int) -> int:
    """Bytes that autograd keeps between the forward and the backward pass, weights left out."""
    model = tiny(lora=False, dtype=torch.float32)
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = ContrastiveObjective(model, chosen, slots=2)(batch_of(rows, rows, 16, 16))["loss"]
    kept = sum(seen.values())
    loss.backward()
    return kept


def test_kept_memory_is_one_sub_batch_and_the_embeddings() -> None:
    bound = {"micro_batch_tokens": 16 * 16}
    small, large = 16, 256
    plain = [kept_bytes(settings(**bound), rows) for rows in (small, large)]
    cached = [kept_bytes(settings(**bound, gradient_cache=True), rows) for rows in (small, large)]
    assert plain[1] > 14 * plain[0]
    # On top of the last sub-batch: the embeddings, the scores (and what is kept to differentiate them),
    # and the ids that every sub-batch is computed from again.
    embeddings, scores, ids = 2 * large * 32 * 4, large * large * 4, 2 * large * 16 * 8
    assert cached[1] < cached[0] + 4 * embeddings + 4 * scores + 2 * ids
    assert cached[1] < plain[1] / 8


CHILD = """
import sys, torch
from tests.peak_memory import peak_kib
from tests.training.test_gradient_cache import batch_of, settings, tiny
from llara_core.training.contrastive import ContrastiveObjective
torch.set_num_threads(1)
cached, rows = sys.argv[1] == "cached", int(sys.argv[2])
model = tiny(lora=True, dtype=torch.float32)
objective = ContrastiveObjective(model, settings(gradient_cache=cached, micro_batch_tokens=2048), slots=2)
objective(batch_of(2, 2, 64, 64))["loss"].backward()  # what the first step alone allocates
before = peak_kib()
objective(batch_of(rows, rows, 64, 64))["loss"].backward()
print((peak_kib() - before) / 1024)
"""


def peak_megabytes(kind: str, rows: int) -> float:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, str(rows)], cwd=root, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="peak memory is read from /proc")
def test_batch_2048_fits_where_16_did() -> None:
    few, many = peak_megabytes("cached", 16), peak_megabytes("cached", 2048)
    plain = peak_megabytes("plain", 2048)
    scores = 2048 * 2048 * 4 / 2**20
    logger.info("above the first step, MB: cached 16: %.0f, 2,048: %.0f; plain 2,048: %.0f", few, many, plain)
    # What is left to grow: ids, masks and embeddings; and a block of scores in place of all.
    assert many < few + 3 * scores
    assert plain > 10 * many
