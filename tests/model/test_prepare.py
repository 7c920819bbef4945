"""A base that is a bundle of ours already: adapted once, started from often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llara_core.config import ModelSettings, TemplateSettings
from llara_core.errors import ConfigError
from llara_core.model.bundle import Stage, read_bundle, save_bundle
from llara_core.model.prepare import prepare_base
from tests.model.conftest import collection


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with its slots trained (to a number nobody would initialise them with)."""
    bundle = read_bundle(base)
    model, tokenizer = bundle.load()
    with torch.no_grad():
        model.get_input_embeddings().weight[list(bundle.slot_ids["ebae"])] = 7.0
    stage = Stage("adapt", curve=({"step": 1, "loss": 2.0},))
    folder = tmp_path_factory.mktemp("adapted") / "bundle"
    save_bundle(folder, model, tokenizer, bundle.with_stage(stage, {"wikipedia": "abc"}))
    return folder


def settings_for(folder: Path, **changes: object) -> ModelSettings:
    return ModelSettings(**{"base": str(folder), "query_length": 4, "passage_length": 20, **changes})


def test_slots_history_and_hashes_are_kept(adapted: Path, tmp_path: Path) -> None:
    before = read_bundle(adapted)
    folder = prepare_base(
        settings_for(adapted), collection(), tmp_path / "base", 5, "models:/llara-adapted/3"
    )
    after = read_bundle(folder)
    model, _ = after.load()
    assert (model.get_input_embeddings().weight[list(after.slot_ids["ebae"])] == 7.0).all()
    assert after.template == before.template and after.slot_ids == before.slot_ids
    assert [stage.name for stage in after.history] == ["prepare", "adapt", "prepare"]
    assert after.history[1] == before.history[1]
    assert set(after.data_hashes) == {"wikipedia", "tiny"}
    assert after.base_model == "models:/llara-adapted/3"
    facts = after.history[2].facts
    assert facts["base"] == "models:/llara-adapted/3" and facts["base_of_base"] == before.base_model
    assert facts["base_fingerprint"] == before.fingerprint
    assert after.fingerprint == before.fingerprint  # the same weights, tokenizer and template
    assert (after.query_length, after.passage_length) == (4, 20)  # lengths are the new run's own


def test_without_a_reference_the_folder_is_the_origin(adapted: Path, tmp_path: Path) -> None:
    folder = prepare_base(settings_for(adapted), collection(), tmp_path / "base", 0)
    assert read_bundle(folder).base_model == str(adapted)


@pytest.mark.parametrize("template", ["llara", "slots", TemplateSettings(name="mine", ebae_suffix=" So:")])
def test_another_wording_is_refused(adapted: Path, tmp_path: Path, template: str | TemplateSettings) -> None:
    with pytest.raises(ConfigError, match=r"model\.template: got '.*', but .* was trained with 'llama2vec'"):
        prepare_base(settings_for(adapted, template=template), collection(), tmp_path / "x", 0)
    assert not (tmp_path / "x").exists()


def test_slots_that_were_renamed_are_the_same_wording(base: Path, tmp_path: Path) -> None:
    bundle = read_bundle(base)
    model, tokenizer = bundle.load()
    names = [*bundle.template.ebae_slots, *bundle.template.ebar_slots]
    renamed = replace(bundle.template, slot_name="<own{}>")
    tokenizer.add_tokens([*renamed.ebae_slots, *renamed.ebar_slots], special_tokens=True)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    save_bundle(tmp_path / "renamed", model, tokenizer, replace(bundle, template=renamed))
    again = read_bundle(prepare_base(settings_for(tmp_path / "renamed"), collection(), tmp_path / "base", 0))
    assert again.template.slot_name == "<own{}>" and len(names) == 16


def test_a_reference_into_a_registry_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"python -m pipelines training.*mlflow artifacts download"):
        prepare_base(ModelSettings(base="models:/llara-adapted@champion"), collection(), tmp_path / "x", 0)
