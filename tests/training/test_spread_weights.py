"""Weights spread over processes: what is refused, and putting them together (here: parts of a stand-in)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llara_core.errors import ConfigError
from llara_core.training.spread_weights import make_whole, prepare_for_fsdp
from tests.training.engine_toys import ToyObjective, toy_model


def test_fsdp_1_is_refused_and_layers_are_named() -> None:
    objective = ToyObjective(toy_model())
    with pytest.raises(ConfigError, match="fsdp_version is 1; expected fsdp_version: 2"):
        prepare_for_fsdp(objective, SimpleNamespace(fsdp_version=1))
    prepare_for_fsdp(objective, SimpleNamespace(fsdp_version=2))
    assert objective._no_split_modules == ["LlamaDecoderLayer"]


def test_whole_weights_are_left_alone() -> None:
    model = toy_model()
    before = dict(model.named_parameters())
    assert make_whole(model) is False
    assert all(before[name] is weights for name, weights in model.named_parameters())


def test_parts_become_whole_and_tied_ones_stay_tied() -> None:
    class Part(nn.Parameter):
        def full_tensor(self) -> torch.Tensor:
            return torch.cat([self.data, self.data + 1])

    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    first.weight = second.weight = Part(torch.zeros(1, 2), requires_grad=False)
    both = nn.Sequential(first, second)
    assert make_whole(both) is True
    assert first.weight is second.weight
    assert first.weight.tolist() == [[0, 0], [1, 1]] and not first.weight.requires_grad
