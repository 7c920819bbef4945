"""Weights that are spread over processes for training, and put together again for saving.

FSDP 2 and DeepSpeed ZeRO-3 leave every process with a part of each weight. After training the main process
gets them whole, on the CPU, in the very modules that were trained; the others keep their parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llara_core.errors import ConfigError
from llara_core.model.backbone import decoder_of
from llara_core.training.distributed import is_main


def prepare_for_fsdp(module: Any, plugin: Any) -> None:
    """Tell FSDP which layers to gather one by one: those that the language model names.

    Args:
        module: the stage's objective.
        plugin: accelerate's settings of FSDP.

    Raises:
        ConfigError: FSDP 1, which flattens frozen and trained weights into one.
    """
    if plugin.fsdp_version != 2:
        raise ConfigError(
            f"accelerate: fsdp_version is {plugin.fsdp_version}; expected fsdp_version: 2, "
            "as in configs/accelerate/several_gpus_fsdp.yaml"
        )
    module._no_split_modules = list(decoder_of(module.model)._no_split_modules or ())


def make_whole(module: nn.Module) -> bool:
    """Replace the main process's parts of weights by the whole weights; all processes must call it.

    The module can then be read, merged and saved by the main process, and trained no more.

    Args:
        module: as the engine trained it; one that is not spread is left as it is.

    Returns:
        Whether any weight was spread.
    """
    # By the part that it replaces (kept, so that no other takes its id): tied weights stay tied.
    whole: dict[int, tuple[Any, nn.Parameter]] = {}
    for owner in module.modules():
        for name, part in list(owner._parameters.items()):
            if part is None or not _is_part(part):
                continue
            if id(part) not in whole:
                values = _values(part)
                whole[id(part)] = part, nn.Parameter(values, requires_grad=part.requires_grad)
            if is_main():
                owner._parameters[name] = whole[id(part)][1]
    return bool(whole)


def _is_part(weights: Any) -> bool:
    return hasattr(weights, "full_tensor") or hasattr(weights, "ds_id")


def _values(part: Any) -> Tensor:
    """All of a weight on the CPU in the main process, nothing in the others."""
    if hasattr(part, "full_tensor"):
        everything: Tensor = part.full_tensor().detach()
        return everything.cpu() if is_main() else torch.empty(0)
    from deepspeed.zero import GatheredParameters

    with GatheredParameters([part]):  # ZeRO-3
        return part.detach().cpu().clone() if is_main() else torch.empty(0)
