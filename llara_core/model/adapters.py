"""What of a model is trained: all of it, or low-rank adapters on frozen weights (LoRA, QLoRA).

    model, tokenizer = load_for_training(bundle, settings, device)
    model = trainable_model(model, settings, seed, trained_tokens)
    ...                                                              training
    model = plain_model(model, bundle, settings, device)             an ordinary model again

Source: LoRA (arXiv 2106.09685); QLoRA (arXiv 2305.14314): the frozen weights are held in 4 bits;
issue 3, point 4.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from llara_core.config import LoraSettings, OptimizerSettings
from llara_core.errors import ConfigError
from llara_core.model.bundle import Bundle

logger = logging.getLogger(__name__)

ALL_LINEAR = "all-linear"


def load_for_training(bundle: Bundle, settings: OptimizerSettings, device: str | None) -> tuple[Any, Any]:
    """The bundle's causal language model and tokenizer; in 4 bits where ``settings.lora`` says so.

    Args:
        bundle: as read from its folder.
        settings: of the stage.
        device: where the model goes; None: the CPU.

    Raises:
        ModelError: the folder's model cannot be loaded.
        MissingDependencyError: ``nf4`` without bitsandbytes.
    """
    if settings.lora is None or settings.lora.quantization == "none":
        return bundle.load(device)
    return bundle.load(device, settings.lora.quantization)


def trainable_model(
    model: Any,
    settings: OptimizerSettings,
    seed: int,
    trained_tokens: Sequence[int] = (),
    *,
    head: bool = True,
) -> Any:
    """The model with adapters, if the settings ask for them, and with checkpointed layers, if they do.

    Args:
        model: causal language model from ``load_for_training``.
        settings: of the stage.
        seed: of the adapters' first values.
        trained_tokens: ids whose embedding rows are trained beside the adapters (new slots know nothing).
        head: the stage uses the output head. If not, a head of its own (untied) is frozen: it would never
            get a gradient, and several processes would wait for one.

    Raises:
        ConfigError: the model has none of the target modules, or its layers cannot be checkpointed.
    """
    if settings.gradient_checkpointing:
        checkpoint_layers(model)
    if settings.lora is not None:
        return with_lora(model, settings.lora, seed, trained_tokens)
    output = model.get_output_embeddings()
    if not head and output is not None and output.weight is not model.get_input_embeddings().weight:
        output.requires_grad_(False)
    if model.dtype == torch.bfloat16:
        logger.warning(
            "all parameters are trained in bfloat16, where a step smaller than 1/256 of a weight is lost; "
            "better: model.dtype float32 with mixed_precision bf16, or lora"
        )
    return model


def plain_model(model: Any, bundle: Bundle, settings: OptimizerSettings, device: str | None = None) -> Any:
    """The trained model without adapters: they are merged into the weights.

    After QLoRA the weights are loaded afresh and the adapters merged into those, so that nothing of the
    4-bit rounding stays in the result.

    Args:
        model: from ``trainable_model``, trained.
        bundle: the one that it was loaded from.
        settings: of the stage.
        device: where fresh weights are loaded; None: the CPU.

    Raises:
        ModelError: the bundle's folder cannot be loaded again.
    """
    if settings.lora is None:
        return model
    if settings.lora.quantization == "none":
        return model.merge_and_unload()
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    adapters = get_peft_model_state_dict(model)
    whole = with_adapters(bundle.load(device)[0], model.peft_config["default"])
    set_peft_model_state_dict(whole, adapters)
    return whole.merge_and_unload()


def checkpoint_layers(model: Any) -> None:
    """Compute every layer again in the backward pass instead of keeping its activations.

    Not reentrant: layers whose input needs no gradient (frozen embeddings) still train their adapters.

    Args:
        model: causal language model, without adapters.

    Raises:
        ConfigError: this kind of model does not support it.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigError(
            f"gradient_checkpointing: models of type {model.config.model_type!r} do not support it; "
            "set it to false and lower micro_batch_tokens instead"
        )
    # transformers renames the method in version 6.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def with_lora(model: Any, settings: LoraSettings, seed: int, trained_tokens: Sequence[int] = ()) -> Any:
    """The model with low-rank adapters; all else is frozen, but the rows of ``trained_tokens``.

    Args:
        model: causal language model.
        settings: rank, alpha, dropout and the layers' names.
        seed: of the adapters' first values; the caller's random state is left as it was.
        trained_tokens: ids whose embedding rows are trained as well.

    Raises:
        ConfigError: the model has none of the target modules.
    """
    from peft import LoraConfig

    config = cast(Any, LoraConfig)(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_targets(model, settings),
        trainable_token_indices=list(trained_tokens) or None,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return with_adapters(model, config)


def with_adapters(model: Any, config: Any) -> Any:
    """The model with the adapters that a peft configuration describes.

    Args:
        model: causal language model.
        config: a ``peft.LoraConfig``.
    """
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers is about to drop.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


def _targets(model: Any, settings: LoraSettings) -> str | list[str]:
    if settings.target_modules == ALL_LINEAR:
        return ALL_LINEAR
    linear = linear_layers(model)
    targets = [name for name in settings.target_modules if name in linear]
    if not targets:
        raise ConfigError(
            f"lora.target_modules: the model has none of {', '.join(settings.target_modules)}; "
            f"its linear layers: {', '.join(linear)}. Name those that you mean, or set "
            f"target_modules: {ALL_LINEAR} for all of them"
        )
    if len(targets) < len(settings.target_modules):
        absent = [name for name in settings.target_modules if name not in linear]
        rest = [name for name in linear if name not in targets]
        logger.warning(
            "lora.target_modules: the model has no %s; adapters on %s alone, none on %s (target_modules: %s "
            "takes all)",
            ", ".join(absent),
            ", ".join(targets),
            ", ".join(rest) or "nothing else",
            ALL_LINEAR,
        )
    return targets


def linear_layers(model: Any) -> list[str]:
    """Last names of the layers that can have adapters, sorted; the output head is none of them."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    head = model.get_output_embeddings()
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        }
    )
