"""Floating-point operations that a step needs, and the peak of the GPU: model FLOPs utilisation.

Counted are the matrix products of real tokens (a multiplication and an addition are two), no matter what is
computed besides: padding, recomputation and element-wise work lower the utilisation. Attention counts every
pair of tokens of a row, as is usual (PaLM, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments
from transformers.pytorch_utils import Conv1D

from llara_core.model.backbone import decoder_of
from llara_core.training.distributed import sum_over_ranks, world_size

# What CUDA calls a GPU → its row in gpus.yaml; the first pattern that the name holds wins.
NAMES = (
    ("H100 PCIe", "h100-pcie"), ("H100", "h100"), ("H200", "h200"), ("B200", "b200"),
    ("A100-SXM4-40", "a100-40gb"), ("A100-PCIE-40", "a100-40gb"), ("A100", "a100-80gb"),
    ("L40S", "l40s"), ("L4", "l4"), ("A10G", "a10g"), ("RTX 4090", "rtx4090"), ("T4", "t4"),
    ("V100", "v100-32gb"), ("MI300X", "mi300x"),
)  # fmt: skip


def peak_flops(name: str, *, bfloat16: bool) -> float | None:
    """Peak of dense matrix products, FLOP/s (gpus.yaml); None for a GPU that the table does not hold.

    Args:
        name: as ``torch.cuda.get_device_name`` gives it.
        bfloat16: of bfloat16 arithmetic, else of float32.
    """
    from llara_core.training.plan_model import data_table

    row = next((row for pattern, row in NAMES if pattern in name), None)
    if row is None:
        return None
    figures = data_table("gpus")[row]
    chosen = figures["bf16"] if bfloat16 and figures["bf16"] else figures["fp32"]
    return float(chosen) * 1e12


class ForwardFlops:
    """FLOPs of one forward pass of a decoder, from its rows' lengths.

    Args:
        model: causal language model of dense layers, perhaps with adapters (which are left out).
    """

    def __init__(self, model: Any) -> None:
        decoder = decoder_of(model)
        config = decoder.config.get_text_config()
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.per_token = 2.0 * sum(_products(name, layer) for name, layer in decoder.named_modules())
        self.per_pair = 4.0 * heads * width * config.num_hidden_layers
        self.per_prediction = 2.0 * config.hidden_size * config.vocab_size

    def total(self, work: Tensor) -> float:
        """FLOPs of ``work``.

        Args:
            work: float64 [3]: sum of the rows' lengths, sum of their squares, and positions to which the
                output embedding is applied.
        """
        tokens, pairs, predictions = work.tolist()
        flops: float = tokens * self.per_token + pairs * self.per_pair + predictions * self.per_prediction
        return flops


def _products(name: str, layer: Any) -> int:
    """Multiplications per token of a linear layer, quantised or not; 0 for any other, and for adapters."""
    if "lora_" in name:
        return 0
    if hasattr(layer, "base_layer"):  # an adapted layer: what it wraps comes by itself
        return 0
    if isinstance(layer, Conv1D):
        return int(layer.nx * layer.nf)
    return int(layer.in_features * layer.out_features) if isinstance(layer, nn.Linear) else 0


def batch_work(module: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """What ``ForwardFlops.total`` takes, of a micro-batch of either stage; it stays on the batch's device.

    Args:
        module: the stage's objective.
        batch: as the objective takes it.
    """
    if "segments" not in batch:
        lengths = torch.cat([batch["query_lengths"], batch["passage_lengths"]]).double()
        return torch.stack([lengths.sum(), lengths.square().sum(), lengths.new_zeros(())])
    segments, rows = batch["segments"], len(batch["slots"])
    # A sequence may hold several rows, each a document of its own.
    documents = batch.get("documents", torch.zeros_like(segments))
    sequences = torch.arange(len(segments), device=segments.device)[:, None] * segments.shape[1]
    lengths = torch.bincount((sequences + documents)[segments > 0]).double()
    predictions = torch.tensor(float(batch["slots"].numel()), dtype=torch.float64, device=lengths.device)
    if module.settings.language_model_weight:
        predictions = predictions + (segments == 1).sum() - rows * max(module.prefix_length, 1)
    return torch.stack([lengths.sum(), lengths.square().sum(), predictions])


class Utilisation:
    """Adds up the work of micro-batches and says which share of the GPUs' peak it was.

    Args:
        module: the stage's objective; its ``model`` is what computes.
        peak: of one GPU, FLOP/s.
    """

    def __init__(self, module: Any, peak: float) -> None:
        self.module, self.peak = module, peak
        self.forward = ForwardFlops(module.model)
        # Backward: gradients of activations and of weights, as much again each; frozen weights need no own.
        frozen = any("lora_" in name for name, _ in module.named_parameters())
        self.passes = 2.0 if frozen else 3.0
        self._work: Tensor | float = 0.0

    def add(self, batch: Mapping[str, Tensor]) -> None:
        """Count a micro-batch of this process."""
        self._work = self._work + batch_work(self.module, batch)

    def since_last(self, seconds: float) -> float:
        """Share of the peak of all processes' GPUs since the last call; all processes must call it.

        Args:
            seconds: since the last call.
        """
        flops = self.forward.total(self._work) if isinstance(self._work, Tensor) else 0.0
        self._work = 0.0
        done = sum_over_ranks({"flops": self.passes * flops})["flops"]
        return done / max(seconds * self.peak * world_size(), 1e-9)


def utilisation_of(module: Any, arguments: TrainingArguments) -> Utilisation | None:
    """The counter for this process's device; None on a CPU and on a GPU of unknown peak.

    Args:
        module: the stage's objective.
        arguments: of the Trainer.
    """
    if arguments.device.type != "cuda" or not hasattr(module, "settings"):
        return None
    bfloat16 = arguments.bf16 or module.model.dtype == torch.bfloat16
    peak = peak_flops(torch.cuda.get_device_name(arguments.device), bfloat16=bfloat16)
    return None if peak is None else Utilisation(module, peak)
