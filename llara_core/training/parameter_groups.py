"""Which weights learn how fast, and which decay."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(
    model: Any, learning_rate: float, embedding_learning_rate: float | None, weight_decay: float
) -> list[dict[str, Any]]:
    """Optimiser groups: embeddings (own rate), matrices (decayed), norms and biases (not decayed).

    Args:
        model: causal language model, perhaps with adapters; frozen parameters are left out.
        learning_rate: of all but the embeddings.
        embedding_learning_rate: of input and output embeddings; None: the same.
        weight_decay: decoupled decay of everything with two dimensions.
    """
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    embeddings = {id(weights) for layer in layers if layer is not None for weights in layer.parameters()}
    groups: dict[str, list[nn.Parameter]] = {"embeddings": [], "matrices": [], "vectors": []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            kind = "matrices" if parameter.ndim > 1 else "vectors"
            groups["embeddings" if id(parameter) in embeddings else kind].append(parameter)
    rates = {"embeddings": embedding_learning_rate or learning_rate}
    return [
        {
            "params": members,
            "lr": rates.get(name, learning_rate),
            "weight_decay": 0.0 if name == "vectors" else weight_decay,
        }
        for name, members in groups.items()
        if members
    ]
