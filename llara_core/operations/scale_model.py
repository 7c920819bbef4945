"""What a plan for any size must know of a model, from its configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llara_core.config import ModelSettings
from llara_core.operations.scale import Corpus

_BYTES = {"float32": 4, "float16": 2}


def corpus_of(
    base: str,
    passages: int,
    mean_tokens: float,
    vectors: Literal["float32", "float16"] = "float32",
    config_file: Path | None = None,
) -> Corpus:
    """A corpus of a size, encoded by a model; nothing is downloaded.

    Args:
        base: a model's id or folder, as in ``model.base``.
        passages: N.
        mean_tokens: of a passage, prompt and slots included.
        vectors: how they are kept.
        config_file: the model's ``config.json``, where its id is not known here.

    Raises:
        ConfigError: nothing is known of the model.
        ModelError: it is no causal language model.
    """
    import torch

    from llara_core.training.flops import ForwardFlops
    from llara_core.training.plan_model import build_model, model_config

    config = model_config(ModelSettings(base=base), config_file)
    with torch.device("meta"):  # shapes without numbers
        model = build_model(config, torch.bfloat16)
    flops = ForwardFlops(model)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    width = config.get_text_config().hidden_size
    return Corpus(
        passages, mean_tokens, width, _BYTES[vectors], flops.per_token, flops.per_pair, float(weights)
    )
