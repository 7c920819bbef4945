"""What the next step of a training depends on, as plain tensors by name: weights, optimiser, generators."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from llara_core.errors import TrainingError

_DTYPES = {
    "torch": torch.uint8,
    "cuda": torch.uint8,
    "python": torch.int64,
    "python_gauss": torch.float64,
    "numpy": torch.int64,
    "numpy_rest": torch.float64,
}


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name; tied ones once."""
    return {name: values for name, values in module.named_parameters() if values.requires_grad}


def optimizer_tensors(optimizer: Any, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The optimiser's state as ``<key>/<parameter>``, e.g. ``exp_avg/model.norm.weight``.

    Args:
        optimizer: whose state holds tensors alone, as AdamW's does.
        parameters: names to the parameters it optimises.
    """
    return {
        f"{key}/{name}": _plain(value)
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    optimizer: Any, tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor], rates: list[float]
) -> None:
    """Put ``optimizer_tensors`` back, whatever the order of the parameters.

    Args:
        optimizer: new, over the same parameters.
        tensors: as ``optimizer_tensors`` gave them.
        parameters: names to the parameters it optimises.
        rates: the learning rate of each group.
    """
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        by_name.setdefault(name, {})[kind] = value.clone()  # the file is mapped, and will be removed
    names = {id(parameter): name for name, parameter in parameters.items()}
    state, groups, first = {}, [], 0
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        indices = range(first, first + len(group["params"]))
        for index, parameter in zip(indices, group["params"], strict=True):
            if names[id(parameter)] in by_name:
                state[index] = by_name[names[id(parameter)]]
        groups.append({**group, "lr": rate, "params": list(indices)})
        first = indices.stop
    # By way of torch's own method, which knows which of the tensors belong on the GPU.
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of all generators that training may draw from: torch's, Python's and numpy's."""
    version, numbers, gauss = random.getstate()
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    if (version, kind) != (3, "MT19937"):
        raise TrainingError(f"cannot save the random states: Python's version {version}, numpy's {kind}")
    states = {
        "torch": torch.get_rng_state(),
        **as_random_states(
            {
                "python": list(numbers),
                "python_gauss": [math.nan if gauss is None else gauss],
                "numpy": keys.tolist(),
                "numpy_rest": rest,
            }
        ),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def as_random_states(values: Mapping[str, list[Any]]) -> dict[str, Tensor]:
    """The states from their ``tolist()``, as another process sent them."""
    return {name: torch.tensor(numbers, dtype=_DTYPES[name]) for name, numbers in values.items()}


def restore_random(states: Mapping[str, Tensor]) -> None:
    """Put ``random_states`` back."""
    torch.set_rng_state(states["torch"].clone())
    gauss = float(states["python_gauss"][0])
    random.setstate((3, tuple(states["python"].tolist()), None if math.isnan(gauss) else gauss))
    position, has_gauss, cached = states["numpy_rest"].tolist()
    keys = states["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].clone())


def _plain(values: Tensor) -> Tensor:
    return values.detach().cpu().contiguous()


def environment(device: torch.device) -> dict[str, Any]:
    """What a result may depend on in its last bits: versions, device, threads."""
    import transformers

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": name,
        "threads": torch.get_num_threads(),
    }
