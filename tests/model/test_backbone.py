"""Decoders from scratch and from a folder, and the slots added to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llara_core.config import FromScratchSettings
from llara_core.errors import ConfigError, ModelError
from llara_core.model.backbone import add_slots, build_from_scratch
from llara_core.model.prepare import prepare_base
from llara_core.model.prompts import TEMPLATES
from llara_core.model.tokenization import train_tokenizer
from tests.model.conftest import SMALL, WORDS, collection, settings


def test_slots_are_added_once_as_the_mean_of_the_vocabulary() -> None:
    tokenizer = train_tokenizer(SMALL, WORDS)
    words = len(tokenizer)
    config = AutoConfig.for_model("llama", vocab_size=words, hidden_size=16, num_attention_heads=2,
                                  intermediate_size=16, num_hidden_layers=1,
                                  tie_word_embeddings=False)  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    ids = add_slots(model, tokenizer, TEMPLATES["llama2vec"], "mean", seed=0)
    assert ids == list(range(words, words + 16))
    for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        torch.testing.assert_close(table[ids[3]], table[:words].mean(dim=0))
    assert add_slots(model, tokenizer, TEMPLATES["llama2vec"], "mean", seed=0) == []
    assert model.get_input_embeddings().weight.shape[0] == words + 16


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="128 positions"):
        prepare_base(settings(passage_length=200), collection(), tmp_path / "x", seed=0)
    with pytest.raises(ConfigError, match="not a multiple of heads 5"):
        odd = SMALL.model_copy(update={"heads": 5})
        prepare_base(settings(from_scratch=odd), collection(), tmp_path / "x", seed=0)
    with pytest.raises(ConfigError, match="did you mean 'llama'"):
        odd = SMALL.model_copy(update={"architecture": "lama"})
        prepare_base(settings(from_scratch=odd), collection(), tmp_path / "x", seed=0)
    assert not (tmp_path / "x").exists()


def test_heads_may_share_keys_and_values() -> None:
    texts = ["open the file and read it"] * 4
    sizes = {"vocabulary_size": 300, "hidden_size": 32, "intermediate_size": 16, "layers": 1, "heads": 4}
    model, _ = build_from_scratch(FromScratchSettings(**sizes, key_value_heads=2), texts, seed=0)
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (16, 32)
    with pytest.raises(ConfigError, match="heads 4 is not a multiple of key_value_heads 3"):
        build_from_scratch(FromScratchSettings(**sizes, key_value_heads=3), texts, seed=0)
