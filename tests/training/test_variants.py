"""Both stages under tied and untied embeddings, full, LoRA and QLoRA, checkpointed layers and bfloat16.

Every variant computes the loss of the float32 model (or one that rounding explains), trains what it should
and nothing else, and ends as a plain bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llara_core.model.adapters import (
    plain_model,
    trainable_model,
)
from llara_core.model.bundle import Bundle, read_bundle
from llara_core.model.retriever import Retriever
from llara_core.training.adapt import adapt
from llara_core.training.finetune import finetune
from tests.training.variant_steps import (
    CLOSE,
    COLLECTION,
    METHODS,
    NO_NEGATIVES,
    SEED,
    STAGES,
    Step,
    adaptation_rows,
    lora_of,
    make_bundle,
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


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_loss_is_that_of_the_whole_model_and_the_right_weights_learn(
    bundles: Mapping[Any, Bundle], tied: str, method: str, stage: str
) -> None:
    bundle = bundles[tied, "float32"]
    plain = Step(stage, bundle, stage_settings(stage, "full"), rounded=method == "qlora")
    step = Step(stage, bundle, stage_settings(stage, method))
    assert step.loss == pytest.approx(plain.loss, abs=CLOSE["float32"])
    trained = {name for name, one in step.model.named_parameters() if one.requires_grad}
    assert set(step.gradients()) == trained
    assert all(bool(gradient.isfinite().all()) for gradient in step.gradients().values())
    if method == "full":
        heads = [name for name in trained if "lm_head" in name or "embed_tokens" in name]
        assert len(heads) == (2 if tied == "untied" and stage == "adapt" else 1)  # one table where tied
        assert any("layers.1.mlp" in name for name in trained)
        return
    others = {name for name in trained if "lora_" not in name}
    assert len(trained - others) == 2 * 7 * 2  # A and B of seven projections in two layers
    if stage == "finetune":
        assert not others
        return
    assert len(others) == 1 and "trainable_tokens" in others.pop()
    slots = next(one for name, one in step.gradients().items() if "trainable_tokens" in name)
    assert slots.shape == (2, 64) and bool((slots.norm(dim=1) > 0).all())  # both new slots learn


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_weights_in_bfloat16(bundles: Mapping[Any, Bundle], tied: str, method: str, stage: str) -> None:
    plain = Step(stage, bundles[tied, "float32"], stage_settings(stage, "full"))
    step = Step(stage, bundles[tied, "bfloat16"], stage_settings(stage, method))
    assert step.loss == pytest.approx(plain.loss, abs=CLOSE["bfloat16"])
    assert step.model.dtype == torch.bfloat16 or method == "lora"
    adapters = [one for name, one in step.gradients().items() if "lora_" in name]
    assert all(gradient.dtype == torch.float32 for gradient in adapters)  # only frozen weights are halved


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("method", METHODS)
def test_mixed_precision_keeps_float32_weights(
    bundles: Mapping[Any, Bundle], method: str, stage: str
) -> None:
    bundle = bundles["tied", "float32"]
    plain = Step(stage, bundle, stage_settings(stage, "full"), rounded=method == "qlora")
    step = Step(stage, bundle, stage_settings(stage, method, mixed_precision="bf16"), autocast=True)
    assert step.loss == pytest.approx(plain.loss, abs=CLOSE["bfloat16"])
    assert step.loss != plain.loss  # the arithmetic really is bfloat16
    assert all(gradient.dtype == torch.float32 for gradient in step.gradients().values())


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_checkpointed_layers_give_the_same_gradients(
    bundles: Mapping[Any, Bundle], tied: str, method: str, stage: str
) -> None:
    bundle, lora = bundles[tied, "float32"], lora_of(method, dropout=0.2)
    plain = Step(stage, bundle, stage_settings(stage, method, lora=lora))
    checkpointed = Step(stage, bundle, stage_settings(stage, method, lora=lora, gradient_checkpointing=True))
    layers = [one for one in checkpointed.model.modules() if getattr(one, "gradient_checkpointing", False)]
    assert layers
    assert checkpointed.loss == pytest.approx(plain.loss, abs=1e-6)
    wanted, found = plain.gradients(), checkpointed.gradients()
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_merged_weights_compute_what_the_adapters_computed(
    bundles: Mapping[Any, Bundle], tied: str, method: str
) -> None:
    bundle, settings = bundles[tied, "float32"], stage_settings("adapt", method)
    step = Step("adapt", bundle, settings)
    before = step.states(step.model)
    step.move()
    after = step.states(step.model)
    assert float((after - before).abs().max()) > 1e-2
    if method == "qlora":  # the same adapters on whole weights, not merged
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        whole = trainable_model(
            bundle.load("cpu")[0], settings, SEED, [*step.encoder.ebae_slot_ids, *step.encoder.ebar_slot_ids]
        )
        set_peft_model_state_dict(whole, get_peft_model_state_dict(step.model))
        rounded, after = after, step.states(whole)
        assert 1e-5 < float((rounded - after).abs().max()) < 0.5
    merged = plain_model(step.model, bundle, settings, "cpu")
    torch.testing.assert_close(step.states(merged), after, atol=1e-5, rtol=0)
    assert not hasattr(merged, "peft_config")
    base = bundle.load("cpu")[0].state_dict()
    end = merged.state_dict()
    assert end.keys() == base.keys() and {one.dtype for one in end.values()} == {torch.float32}
    if method == "full":
        return
    changed = {name for name in base if not torch.equal(base[name], end[name])}
    tables = {"model.embed_tokens.weight"} | ({"lm_head.weight"} if tied == "tied" else set())
    assert {name for name in changed if "proj" not in name} == tables
    rows = (base["model.embed_tokens.weight"] != end["model.embed_tokens.weight"]).any(dim=1)
    assert rows.nonzero().flatten().tolist() == sorted(
        [*step.encoder.ebae_slot_ids, *step.encoder.ebar_slot_ids]
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_stages_end_as_a_plain_bundle(
    tmp_path: Path, bundles: Mapping[Any, Bundle], tied: str, method: str
) -> None:
    base = bundles[tied, "float32"]
    assert base.folder is not None
    changes = {"gradient_checkpointing": True}
    adapted = adapt(
        base.folder, adaptation_rows(), stage_settings("adapt", method, **changes), tmp_path / "a", SEED
    )
    settings = stage_settings("finetune", method, **changes)
    tuned = finetune(adapted, COLLECTION, NO_NEGATIVES, settings, tmp_path / "f", SEED)
    for folder in (adapted, tuned):
        config = json.loads((folder / "config.json").read_text())
        assert "quantization_config" not in config and not (folder / "adapter_config.json").exists()
        bundle = read_bundle(folder)
        model, tokenizer = bundle.load("cpu")
        assert bundle.slot_ids == base.slot_ids
        assert len(tokenizer) == model.get_input_embeddings().weight.shape[0]
        same = model.get_input_embeddings().weight is model.get_output_embeddings().weight
        assert same == (tied == "tied")
        vectors = Retriever.from_pretrained(folder, "cpu").encode_passages(COLLECTION.passages[:3])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    curve = read_bundle(tuned).history[-1].curve
    assert all(np.isfinite(line["loss"]) for line in curve)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_stage_in_mixed_precision_follows_the_float32_one(
    tmp_path: Path, bundles: Mapping[Any, Bundle], method: str
) -> None:
    base = bundles["tied", "float32"]
    assert base.folder is not None
    curves = []
    for precision in ("no", "bf16"):
        settings = stage_settings("adapt", method, mixed_precision=precision, log_every=1)
        folder = adapt(base.folder, adaptation_rows(), settings, tmp_path / precision, SEED)
        bundle = read_bundle(folder)
        assert bundle.load("cpu")[0].dtype == torch.float32
        curves.append([line["loss"] for line in bundle.history[-1].curve])
    assert curves[0] != curves[1] and len(curves[0]) == 3
    assert curves[1] == pytest.approx(curves[0], abs=CLOSE["bfloat16"])


@pytest.mark.parametrize("tied", ["tied", "untied"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_slots_survive_in_both_tables(
    tmp_path: Path, bundles: Mapping[Any, Bundle], tied: str, dtype: str
) -> None:
    base = bundles[tied, dtype]
    assert base.folder is not None
    slots = [*base.slot_ids["ebae"], *base.slot_ids["ebar"]]
    model, tokenizer = base.load("cpu")
    words = len(tokenizer) - len(slots)
    for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        mean = table[:words].float().mean(dim=0)
        torch.testing.assert_close(table[slots[0]].float(), mean, atol=1e-3, rtol=1e-2)
    folder = adapt(
        base.folder, adaptation_rows(), stage_settings("adapt", "lora"), tmp_path / "adapted", SEED
    )
    after, _ = read_bundle(folder).load("cpu")
    inputs = [one.get_input_embeddings().weight[slots] for one in (model, after)]
    outputs = [one.get_output_embeddings().weight[slots] for one in (model, after)]
    assert not torch.equal(*inputs)  # trained
    assert torch.equal(*outputs) == (tied == "untied")  # a head of its own is frozen
    assert after.dtype == model.dtype
