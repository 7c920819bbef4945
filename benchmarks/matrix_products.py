"""For benchmarks/adaptation_step.py: the matrix products that a step cannot do without, and nothing else.

Every linear layer of the decoder over all positions, and the output embedding over the positions whose words
are predicted: forward, gradient of the inputs, gradient of the weights. Attention, softmax, norms, the
optimiser and the making of batches cost nothing here, so no exact step made of torch's products is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from adaptation_texts import clock
from torch import Tensor, nn

from llara_core.model.backbone import decoder_of

BOUND = "float32 matrix products alone (bound)"
# Rows multiplied at one time: a CPU's products are about as fast as they get, and logits stay at 256 MiB.
MOST = 1 << 26


class Product(NamedTuple):
    """A linear layer over some rows: [rows, inputs] by [inputs, outputs]."""

    rows: int
    inputs: int
    outputs: int

    @property
    def flops(self) -> int:
        """Operations of forward and backward pass; a multiplication and an addition are two."""
        return 6 * self.rows * self.inputs * self.outputs


def products_of(model: Any, work: Tensor) -> list[Product]:
    """What a step of a model has to multiply, from the shapes of its own layers.

    Args:
        model: causal language model of dense layers.
        work: float64 [3] of ``llara_core.training.flops.batch_work``: tokens, pairs, predicted positions.
    """
    tokens, _, predictions = (int(value) for value in work.tolist())
    layers = [layer for layer in decoder_of(model).modules() if isinstance(layer, nn.Linear)]
    head = model.get_output_embeddings()
    rows = [(tokens, layer) for layer in layers] + [(predictions, head)]
    return [Product(count, layer.in_features, layer.out_features) for count, layer in rows]


def prepared(products: Sequence[Product]) -> Callable[[], float]:
    """Operands and outputs of all products, made once; calling it gives the seconds of one round."""
    work = {product: _operands(product) for product in set(products)}

    def round_of_all() -> float:
        start = clock("cpu")
        for product in products:
            _multiply(product.rows, *work[product])
        return clock("cpu") - start

    return round_of_all


def _operands(product: Product) -> tuple[Tensor, ...]:
    rows = min(product.rows, max(1, MOST // product.outputs))
    inputs, weight = torch.randn(rows, product.inputs), torch.randn(product.outputs, product.inputs)
    on_outputs = torch.randn(rows, product.outputs)
    return inputs, weight, on_outputs, *(torch.empty_like(like) for like in (on_outputs, inputs, weight))


def _multiply(rows: int, inputs: Tensor, weight: Tensor, on_outputs: Tensor, *found: Tensor) -> None:
    outputs, on_inputs, on_weight = found
    for start in range(0, rows, len(inputs)):
        part = slice(0, min(len(inputs), rows - start))
        torch.mm(inputs[part], weight.T, out=outputs[part])
        torch.mm(on_outputs[part], weight, out=on_inputs[part])
        torch.mm(on_outputs[part].T, inputs[part], out=on_weight)
