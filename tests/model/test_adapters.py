"""Adapters on other families, what is refused, and 4-bit weights on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from llara_core.config import (
    FromScratchSettings,
    LoraSettings,
    ModelSettings,
)
from llara_core.errors import ConfigError, MissingDependencyError, ModelError
from llara_core.model.adapters import (
    linear_layers,
    load_for_training,
    plain_model,
    trainable_model,
    with_lora,
)
from llara_core.model.bundle import Bundle, read_bundle
from llara_core.model.prepare import prepare_base
from tests.training.variant_steps import (
    COLLECTION,
    SEED,
    Step,
    four_bit_weights,
    make_bundle,
    needs_bitsandbytes,
    stage_settings,
)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Bundle]:
    """Base bundles by (tied or untied, dtype)."""
    folder = tmp_path_factory.mktemp("variants")
    return {
        (tied, dtype): make_bundle(folder / f"{tied}-{dtype}", tied == "tied", dtype)
        for tied in ("tied", "untied")
        for dtype in ("float32", "bfloat16")
    }


@needs_bitsandbytes
def test_widths_that_bitsandbytes_gets_wrong_are_refused(tmp_path: Path) -> None:
    scratch = FromScratchSettings(
        vocabulary_size=400, hidden_size=64, intermediate_size=96, layers=1, heads=2, max_positions=64
    )
    model = ModelSettings(from_scratch=scratch, template="slots", query_length=12, passage_length=24)
    bundle = read_bundle(prepare_base(model, COLLECTION, tmp_path / "base", SEED))
    with pytest.raises(ModelError, match=r"down_proj takes 96 values.*multiples of 64"):
        load_for_training(bundle, stage_settings("adapt", "qlora"), "cpu")


@needs_bitsandbytes
def test_four_bits_still_learn_after_a_look_in_evaluation_mode(bundles: Mapping[Any, Bundle]) -> None:
    bundle, settings = bundles["tied", "float32"], stage_settings("adapt", "qlora")
    model, _ = load_for_training(bundle, settings, "cpu")
    ids = torch.tensor([[5, 6, 7]])
    frozen = [name for name, one in model.named_modules() if type(one).__name__ == "Linear4bit"]
    before = [model.get_submodule(name).weight.data.clone() for name in frozen]
    with torch.no_grad():
        model.eval()(ids)
    after = [model.get_submodule(name).weight.data for name in frozen]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    embeddings = model.train().get_input_embeddings()(ids).detach().requires_grad_()
    model(inputs_embeds=embeddings).logits.square().sum().backward()
    assert float(embeddings.grad.norm()) > 0


@needs_bitsandbytes
def test_four_bits_hold_all_but_embeddings_and_head(bundles: Mapping[Any, Bundle]) -> None:
    bundle = bundles["untied", "float32"]
    weights, rounded = bundle.load("cpu")[0].state_dict(), four_bit_weights(bundle)
    projections = {name for name in weights if "_proj" in name}
    assert set(rounded) == projections
    for name, weight in rounded.items():
        error = float((weight - weights[name]).norm() / weights[name].norm())
        assert 0.01 < error < 0.15  # 16 levels for normally distributed weights: about 9 %
    model, _ = bundle.load("cpu", "nf4")
    assert model.get_output_embeddings().weight.dtype == torch.float32


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3", "gemma3_text", "qwen3"])
def test_adapters_on_other_families(tmp_path: Path, family: str, caplog: pytest.LogCaptureFixture) -> None:
    scratch = FromScratchSettings(
        architecture=family, vocabulary_size=600, hidden_size=32, intermediate_size=48, layers=1, heads=2,
        max_positions=64, tie_embeddings=family != "gpt_neox",
    )  # fmt: skip
    model = ModelSettings(from_scratch=scratch, template="slots", query_length=12, passage_length=24)
    bundle = read_bundle(prepare_base(model, COLLECTION, tmp_path / "base", SEED))
    if family in ("gpt2", "gpt_neox"):  # none of the seven projections
        with pytest.raises(ConfigError, match="target_modules: all-linear"):
            Step("adapt", bundle, stage_settings("adapt", "lora"))
    if family == "phi3":  # two of the seven: q_proj, k_proj and v_proj are one layer here, gate and up too
        Step("adapt", bundle, stage_settings("adapt", "lora"))
        assert "no q_proj, k_proj, v_proj, gate_proj, up_proj" in caplog.text
    everywhere = LoraSettings(rank=4, alpha=8, dropout=0.0, target_modules="all-linear")
    settings = stage_settings("adapt", "lora", lora=everywhere)
    plain = Step("adapt", bundle, stage_settings("adapt", "full"))
    step = Step("adapt", bundle, settings)
    assert step.loss == pytest.approx(plain.loss, abs=1e-5)
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in step.gradients() if "lora_" in name}
    assert adapted == set(linear_layers(bundle.load("cpu")[0]))
    step.move()
    after = step.states(step.model)
    torch.testing.assert_close(
        step.states(plain_model(step.model, bundle, settings)), after, atol=1e-5, rtol=0
    )


def test_nf4_without_bitsandbytes_names_the_extra(
    bundles: Mapping[Any, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"llara\[gpu\]"):
        load_for_training(bundles["tied", "float32"], stage_settings("adapt", "qlora"), "cpu")


def test_layers_that_cannot_be_checkpointed_are_refused(
    bundles: Mapping[Any, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stage_settings("adapt", "full", gradient_checkpointing=True)
    model, _ = load_for_training(bundles["tied", "float32"], settings, "cpu")
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(ConfigError, match="gradient_checkpointing: models of type 'llama'"):
        trainable_model(model, settings, SEED)


def test_all_parameters_in_bfloat16_is_warned_about(
    bundles: Mapping[Any, Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    for dtype, warned in (("float32", False), ("bfloat16", True)):
        settings = stage_settings("adapt", "full")
        trainable_model(load_for_training(bundles["tied", dtype], settings, "cpu")[0], settings, SEED)
        assert ("a step smaller than 1/256 of a weight is lost" in caplog.text) == warned


def test_the_callers_random_state_stays(bundles: Mapping[Any, Bundle]) -> None:
    model, _ = bundles["tied", "float32"].load("cpu")
    before = torch.random.get_rng_state()
    first = with_lora(model, LoraSettings(rank=4), seed=1).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    again = with_lora(bundles["tied", "float32"].load("cpu")[0], LoraSettings(rank=4), seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
