"""Base and adapter, loaded by peft, are the bundle; what is no adapter is refused with its measure."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from llara_core.errors import ModelError
from llara_core.model.backbone import add_slots
from llara_core.model.bundle import Stage, read_bundle, save_bundle
from llara_core.model.export import ExportOptions, export_bundle
from llara_core.model.export_difference import difference
from llara_core.model.prompts import TEMPLATES
from llara_core.model.retriever import Retriever
from tests.model.exports import bundle_of, card_code, trained_with_lora
from tests.model.test_prompts import tiny_model
from tests.oracles.decoder_families import tiny
from tests.oracles.tokenizers import byte_level


def export(bundle: Path, base: Path, output: Path) -> dict:
    return export_bundle(bundle, "adapter", output, options=ExportOptions(base=str(base)))


def test_a_public_base_and_the_adapter_are_the_bundle(tmp_path: Path) -> None:
    """The base has no slots: their rows travel; what the card says to type gives the bundle's vectors."""
    tokenizer = byte_level()
    model = tiny_model(tokenizer)
    model.save_pretrained(tmp_path / "public")
    tokenizer.save_pretrained(tmp_path / "public")
    template = TEMPLATES["llama2vec"]
    add_slots(model, tokenizer, template, "mean", seed=0)
    bundle_of(tmp_path / "prepared", template, model, tokenizer)
    trained_with_lora(tmp_path / "prepared", tmp_path / "once", rank=2)
    trained_with_lora(tmp_path / "once", tmp_path / "twice", rank=3)  # two stages: ranks add up
    record = export(tmp_path / "twice", tmp_path / "public", tmp_path / "out")
    facts = record["facts"]
    assert facts["rank"] == 5 and facts["token_rows"] == 16 and facts["least_cosine"] > 0.99999
    assert facts["largest_unexplained_share_of_a_layer"] < 1e-6
    names = card_code(tmp_path / "out", BASE=tmp_path / "public")
    retriever = Retriever.from_pretrained(tmp_path / "twice", "cpu")
    found = names["embed"]("the harbour", "query").detach().numpy()
    assert float(found @ retriever.encode_queries(["the harbour"])[0]) > 0.99999
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "public"  # no path of this machine
    assert str(tmp_path) not in (tmp_path / "out" / "README.md").read_text()
    assert AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids("<s1>") >= 0


def test_only_stages_since_the_base_count(base: Path, tmp_path: Path) -> None:
    trained_with_lora(base, tmp_path / "once", rank=2)
    trained_with_lora(tmp_path / "once", tmp_path / "twice", rank=3)
    assert export(tmp_path / "twice", tmp_path / "once", tmp_path / "out")["facts"]["rank"] == 3


def test_what_is_no_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    bundle = trained_with_lora(base, tmp_path / "lora", rank=2)
    with pytest.raises(ModelError, match="from scratch"):
        export_bundle(tmp_path / "lora", "adapter", tmp_path / "out")
    with pytest.raises(ModelError, match="nothing was trained"):
        export(base, base, tmp_path / "out")
    model, tokenizer = bundle.load()
    stages = (*bundle.history, Stage("finetune", {"lora": None}))
    save_bundle(tmp_path / "whole", model, tokenizer, replace(bundle, history=stages))
    with pytest.raises(ModelError, match="finetune trained all parameters"):
        export(tmp_path / "whole", base, tmp_path / "out")
    with torch.no_grad():  # more than the history tells of
        layer = model.base_model.layers[0].mlp.up_proj
        layer.weight += 0.01 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1))
    save_bundle(tmp_path / "more", model, tokenizer, bundle)
    with pytest.raises(ModelError, match=r"up_proj\.weight differs .* more than rank 2: \d\.\d+e-\d+"):
        export(tmp_path / "more", base, tmp_path / "out")
    with torch.no_grad():
        layer.weight.copy_(bundle.load()[0].base_model.layers[0].mlp.up_proj.weight)
        model.base_model.norm.weight += 0.1
    save_bundle(tmp_path / "norm", model, tokenizer, bundle)
    with pytest.raises(ModelError, match=r"norm\.weight was changed, which no adapter covers"):
        export(tmp_path / "norm", base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gpt_neox"])
def test_factors_give_the_difference_back(family: str) -> None:
    """Weights that lie the other way round (GPT-2) and biases are told apart."""
    before = tiny(family)
    after = copy.deepcopy(before)
    generator = torch.Generator().manual_seed(0)
    changed = [
        name for name, w in after.named_parameters() if w.ndim == 2 and "mlp" in name and "weight" in name
    ]
    with torch.no_grad():
        for name in changed:
            weights = after.get_parameter(name)
            left, right = (torch.randn(n, 2, generator=generator) for n in weights.shape)
            weights += 0.1 * left @ right.T
    found = difference(before, after, rank=2, stages=1)
    assert {f"{name}.weight" for name in found.factors} == set(changed) and found.rows == []
    for name, (a, b) in found.factors.items():
        assert a.shape[0] == 2
        delta = after.get_parameter(f"{name}.weight") - before.get_parameter(f"{name}.weight")
        torch.testing.assert_close(b @ a, delta.T if family == "gpt2" else delta, atol=1e-5, rtol=1e-4)


def test_wide_layers_by_random_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick way is measured like the exact one, and leaves the caller's random numbers alone."""
    monkeypatch.setattr("llara_core.model.export_difference._EXACT", 8)
    before = tiny("llama")
    after = copy.deepcopy(before)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weights = after.model.layers[0].mlp.up_proj.weight
        weights += torch.randn(weights.shape[0], 3, generator=generator) @ torch.randn(
            3, weights.shape[1], generator=generator
        )
    state = torch.get_rng_state()
    found = difference(before, after, rank=3, stages=1)
    assert torch.equal(torch.get_rng_state(), state) and found.residual < 1e-5
    with pytest.raises(ModelError, match="more than rank 2"):
        difference(before, after, rank=2, stages=1)


def test_half_precision_is_measured_by_its_own_rounding(base: Path, tmp_path: Path) -> None:
    """In bfloat16 merging has rounded the weights: the difference is low rank but for that."""
    bundle = read_bundle(base)
    model, tokenizer = bundle.load()
    half = replace(bundle, dtype="bfloat16")
    save_bundle(tmp_path / "half", model.to(torch.bfloat16), tokenizer, half)
    trained_with_lora(tmp_path / "half", tmp_path / "trained")
    facts = export(tmp_path / "trained", tmp_path / "half", tmp_path / "out")["facts"]
    assert facts["least_cosine"] > 0.999
    assert 0 < facts["largest_unexplained_share_of_a_layer"] < 2**-7
