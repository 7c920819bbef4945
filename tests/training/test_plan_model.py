"""What a plan knows of models and devices without downloads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from llara_core.config import FromScratchSettings, ModelSettings, TemplateSettings
from llara_core.errors import ConfigError
from llara_core.training.plan_gpus import GIB, device_names, find_device
from llara_core.training.plan_model import PlanEncoder, build_model, data_table, model_config

# Parameters as the model cards or the papers state them; ours add 16 rows of slots to each table.
PUBLISHED = {
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_known_models_have_the_published_size(name: str) -> None:
    config = model_config(ModelSettings(base=name))
    with torch.device("meta"):
        model = build_model(config, torch.float32)
    tables = 1 if config.tie_word_embeddings else 2
    assert sum(weights.numel() for weights in model.parameters()) == (
        PUBLISHED[name] + 16 * config.hidden_size * tables
    )


def test_every_known_model_is_checked() -> None:
    assert set(data_table("known_models")) == set(PUBLISHED)


def test_unknown_base_says_what_to_give() -> None:
    with pytest.raises(ConfigError, match=r"nobody/nothing.*--model-config FILE"):
        model_config(ModelSettings(base="nobody/nothing"))


def test_a_config_file_describes_a_model(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "hidden_size": 64, "vocab_size": 100}))
    config = model_config(ModelSettings(base="nobody/nothing", template="slots"), file)
    assert (config.hidden_size, config.vocab_size) == (64, 102)
    file.write_text(json.dumps({"model_type": "llama", "hidden_size": 48}))  # 32 heads do not divide it
    with pytest.raises(ConfigError, match="hidden size"):
        model_config(ModelSettings(base="x"), file)
    file.write_text("{}")
    with pytest.raises(ConfigError, match=r"not the config\.json of a transformers model"):
        model_config(ModelSettings(base="x"), file)
    with pytest.raises(ConfigError, match="no such file"):
        model_config(ModelSettings(base="x"), tmp_path / "none.json")


def test_from_scratch_is_what_the_settings_say() -> None:
    settings = FromScratchSettings(vocabulary_size=300, hidden_size=64, layers=3, key_value_heads=2)
    config = model_config(ModelSettings(from_scratch=settings, template="llama2vec"))
    assert (config.vocab_size, config.num_hidden_layers, config.num_key_value_heads) == (316, 3, 2)
    unknown = FromScratchSettings(architecture="lama")
    with pytest.raises(ConfigError, match="did you mean 'llama'"):
        model_config(ModelSettings(from_scratch=unknown))


def test_prompts_are_counted_in_words_and_marks() -> None:
    encoder = PlanEncoder(ModelSettings(base="nobody/nothing"))
    # begin and a quotation mark; quotation mark, comma, seven words and a colon, and eight slots.
    assert len(encoder.prefix_ids) == 2 and len(encoder.ebae_suffix_ids) == 2 + 7 + 1 + 8
    assert encoder.text_ids(["5 6 7", "8"], 2) == [[5, 6], [8]]
    own = TemplateSettings(prefix="Find: ", ebae_suffix=" !", ebar_suffix="", slots=2)
    counted = PlanEncoder(ModelSettings(from_scratch=FromScratchSettings(), template=own))
    assert len(counted.prefix_ids) == 3 and len(counted.ebar_suffix_ids) == 2


def test_devices_by_name() -> None:
    device = find_device("H100")
    assert device.memory == 79 * GIB and device.peak(bfloat16=True) == 989e12
    assert device.usable < 0.95 * device.memory and device.kind == "cuda"
    assert find_device("t4").peak(bfloat16=True) == find_device("t4").fp32  # no bfloat16 arithmetic
    with pytest.raises(ConfigError, match="unknown 'h10'; did you mean 'h100'"):
        find_device("h10")


def test_devices_of_ones_own() -> None:
    own = find_device("my card", memory_gib=10, tflops=50, utilisation=0.3)
    assert (own.memory, own.peak(bfloat16=True), own.utilisation) == (10 * GIB, 50e12, 0.3)
    assert find_device("l4", memory_gib=30).memory == 30 * GIB
    with pytest.raises(ConfigError, match="--memory-gib and --tflops"):
        find_device("my card", memory_gib=10)


def test_this_machine_is_a_device() -> None:
    device = find_device("cpu")
    assert device.kind == "cpu" and device.fp32 > 1e8 and device.usable == device.memory > GIB


def test_the_table_is_complete() -> None:
    assert len(device_names()) > 10
    for row in data_table("gpus").values():
        assert set(row) == {"title", "memory_gib", "bf16", "fp32"} and row["memory_gib"] > 1
