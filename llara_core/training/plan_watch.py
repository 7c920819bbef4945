"""Sees every tensor that an operation makes, until it is freed, and counts products of matrices.

Source: issue 3, point 10; the formulas are torch's (``torch.utils.flop_counter``) and what it lacks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

KINDS = ("weights", "gradients", "activations", "logits", "temporary")
WEIGHTS, GRADIENTS, ACTIVATIONS, LOGITS, TEMPORARY = KINDS

aten = torch.ops.aten
COUNTERS = frozenset([aten.arange.default, aten.arange.start, aten.arange.start_step])
# What depends on numbers that there are none of.
VALUES = frozenset([aten.nonzero.default, aten._local_scalar_dense.default])


@dataclass
class _Alive:
    kind: str
    size: int
    reference: Any = field(repr=False)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every tensor that is made, until it is freed, and every product of matrices.

    Args:
        vocabulary: tensors whose last dimension is this are logits.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.vocabulary = vocabulary
        self.flops = 0.0
        self._phase = WEIGHTS
        self._alive: dict[int, _Alive] = {}
        self._now = dict.fromkeys(KINDS, 0)
        self._history: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation where its tensors are: on shapes, or on real token ids."""
        kwargs = kwargs or {}
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if inputs and not any(isinstance(tensor, FakeTensor) for tensor in inputs):
            with unset_fake_temporarily():
                result = func(*args, **kwargs)
        elif not inputs and func in COUNTERS:
            with unset_fake_temporarily():  # positions of real rows are real
                result = func(*args, **kwargs)
        else:
            if func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default):
                # How many rows a mask selects cannot be known from its shape, but this mask is real.
                args = (args[0], _positions(args[1]), *args[2:])
            result = _unknowable(func, inputs) if func in VALUES else func(*args, **kwargs)
        formula = FLOPS.get(func.overloadpacket)
        if formula is not None:
            self.flops += float(formula(*args, **kwargs, out_val=result))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        self._history.append(tuple(self._now.values()))
        return result

    def start(self, phase: str) -> list[tuple[int, ...]]:
        """From here on what is made is of this kind; returns the bytes by kind after every operation to come.

        Args:
            phase: ``activations`` in the forward pass, ``temporary`` in the backward pass.
        """
        self._phase = phase
        self._history = [tuple(self._now.values())]
        return self._history

    def keep_gradient(self, weights: Tensor) -> None:
        """Whatever it was made as, it is the gradient of these weights now."""
        if weights.grad is not None:
            entry = self._alive.get(weights.grad.untyped_storage()._cdata)
            if entry is not None:
                self._now[entry.kind] -= entry.size
                self._now[GRADIENTS] += entry.size
                entry.kind = GRADIENTS

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        kind = self._phase
        if kind == ACTIVATIONS and tensor.ndim > 1 and tensor.shape[-1] == self.vocabulary:
            kind = LOGITS

        def gone(_: Any) -> None:
            freed = self._alive.pop(key, None)
            if freed is not None:
                self._now[freed.kind] -= freed.size

        self._alive[key] = _Alive(kind, storage.nbytes(), weakref.ref(storage, gone))
        self._now[kind] += storage.nbytes()


def _positions(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices with every real mask replaced by the positions that it selects."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            with unset_fake_temporarily():
                found += list(index.nonzero(as_tuple=True))
        else:
            found.append(index)
    return found


_forward_flops: Callable[..., int] = sdpa_flop_count
_backward_flops: Callable[..., int] = sdpa_backward_flop_count


def _unknowable(func: Any, inputs: Sequence[Tensor]) -> Any:
    """Where the code asks for rare values (underflow, say), there are none; any other number is 0."""
    if func is aten._local_scalar_dense.default:
        return 0
    with unset_fake_temporarily():
        return torch.empty(0, inputs[0].ndim, dtype=torch.long)


def _cpu_attention(query: Any, key: Any, value: Any, *_: Any, out_val: Any = None, **__: Any) -> int:
    return int(_forward_flops(query.shape, key.shape, value.shape))


def _cpu_attention_backward(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, out_val: Any = None, **__: Any
) -> int:
    return int(_backward_flops(gradient.shape, query.shape, key.shape, value.shape))


def _in_place_product(total: Any, left: Any, right: Any, *_: Any, out_val: Any = None, **__: Any) -> int:
    return int(2 * left.shape[0] * left.shape[1] * right.shape[1])


# torch has no formula for the CPU's fused attention, which does what the others do, nor for a product that is
# added in place.
MISSING_FORMULAS: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward,
    aten.addmm_: _in_place_product,
}
for _formula in MISSING_FORMULAS.values():
    cast(Any, _formula)._get_raw = True  # FlopCounterMode then hands it tensors, not shapes
FLOPS: dict[Any, Callable[..., Any]] = {**flop_registry, **MISSING_FORMULAS}
