"""The difference between a trained model and its base, as factors of low rank and rows of the embedding.

Source: LoRA (arXiv 2106.09685), section 4.1; issue 7, point 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llara_core.errors import ModelError

# Widths up to here are decomposed exactly; wider ones by random projection, and then measured alike.
_EXACT = 1024
_OVERSAMPLED, _ROUNDS = 32, 4  # of the random projection: far below the tolerance for spectra of LoRA
_MOST_ROWS = 4096  # trained token rows; more is an embedding that was trained as a whole


@dataclass(frozen=True)
class Difference:
    """What training changed.

    Args:
        factors: name of a layer to its A [r, in] and B [out, r].
        rows: ids of token embeddings.
        residual: the largest share of a layer's weights, by Frobenius norm, that the factors do not explain.
    """

    factors: Mapping[str, tuple[Tensor, Tensor]]
    rows: list[int]
    residual: float


def difference(start: Any, model: Any, rank: int, stages: int) -> Difference:
    """Compare all parameters.

    Raises:
        ModelError: a parameter that no adapter covers was changed, or a layer by more than the rank.
    """
    before = dict(start.named_parameters())
    after = dict(model.named_parameters())
    layers = dict(linear_parts(start))
    head, table = (
        _weight_name(start, one) for one in (start.get_output_embeddings(), start.get_input_embeddings())
    )
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    rows: list[int] = []
    worst = 0.0
    for name, now in after.items():
        was = before.get(name)
        if was is None or was.shape != now.shape:
            raise _other_model(name, was, now)
        if name == table:
            rows = torch.nonzero((was != now).any(dim=1)).flatten().tolist()
        elif name == head or torch.equal(was, now):
            continue
        elif name.removesuffix(".weight") in layers:
            layer = name.removesuffix(".weight")
            turned = layers[layer]
            factors[layer], share = _factors(
                name, was.T if turned else was, now.T if turned else now, rank, stages
            )
            worst = max(worst, share)
        else:
            raise ModelError(
                f"--to adapter: {name} was changed, which no adapter covers: the base is another one, or all "
                "parameters were trained; give the right --base, or use --to merged"
            )
    if not factors:
        raise ModelError("--to adapter: no layer differs from the base, so there is no adapter to write")
    if len(rows) > _MOST_ROWS:
        raise ModelError(
            f"--to adapter: {len(rows)} rows of the token embedding differ from the base (slots would be a "
            "few): the base is another one, or the embedding was trained; give the right --base, or use "
            "--to merged"
        )
    return Difference(factors, rows, worst)


def _other_model(name: str, was: Tensor | None, now: Tensor) -> ModelError:
    found = "no such tensor" if was is None else f"shape {tuple(was.shape)}"
    return ModelError(
        f"--base: {name} has the shape {tuple(now.shape)} in the bundle, {found} in the base; give the "
        "model that training started from"
    )


def linear_parts(model: Any) -> Iterator[tuple[str, bool]]:
    """Names of the layers that can have adapters, and whether their weights lie [in, out]."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield name, isinstance(module, Conv1D)


def _weight_name(model: Any, layer: Any) -> str | None:
    return next(
        (name for name, one in model.named_parameters() if layer is not None and one is layer.weight), None
    )


def _factors(
    name: str, was: Tensor, now: Tensor, rank: int, stages: int
) -> tuple[tuple[Tensor, Tensor], float]:
    """A [r, in] and B [out, r] with B A = now - was, and the share of ``now`` that is left over.

    Raises:
        ModelError: more is left than rounding explains: every stage's merging rounds each weight once.
    """
    precise = torch.float64 if min(was.shape) <= _EXACT else torch.float32
    delta = now.detach().to(precise) - was.detach().to(precise)
    rank = min(rank, *delta.shape)
    if min(delta.shape) <= _EXACT:
        left, sizes, right = torch.linalg.svd(delta, full_matrices=False)
        left, sizes, right = left[:, :rank], sizes[:rank], right[:rank]
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, sizes, turned = torch.svd_lowrank(
                delta, q=min(rank + _OVERSAMPLED, *delta.shape), niter=_ROUNDS
            )
        left, sizes, right = left[:, :rank], sizes[:rank], turned.T[:rank]
    root = sizes.sqrt()
    a, b = root[:, None] * right, left * root
    whole = float(now.detach().to(precise).norm())
    rest = float((delta - b @ a).norm())
    allowed = (1 + stages) * torch.finfo(now.dtype).eps * whole + 1e-5 * float(delta.norm())
    if rest > allowed:
        raise ModelError(
            f"--to adapter: {name} differs from the base by more than rank {rank}: {rest / whole:.2e} of its "
            f"weights is left over, rounding explains {allowed / whole:.2e}; the base is another one, or all "
            "parameters were trained. Give the right --base, or use --to merged"
        )
    return (a.float().contiguous(), b.float().contiguous()), rest / whole
