"""Templates, and prompts around texts that are too long or look like slots."""

from __future__ import annotations

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from llara_core.config import TemplateSettings
from llara_core.errors import ConfigError
from llara_core.model.backbone import add_slots
from llara_core.model.prompts import PromptEncoder, resolve_template
from llara_core.model.tokenization import train_tokenizer
from tests.model.conftest import SMALL, WORDS


def encoder_of(template: str, texts: list[str] = WORDS) -> PromptEncoder:
    tokenizer = train_tokenizer(SMALL, texts)
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer), hidden_size=16, num_attention_heads=2,
                                  intermediate_size=16, num_hidden_layers=1)  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    add_slots(model, tokenizer, resolve_template(template), "mean", seed=0)
    return PromptEncoder(resolve_template(template), tokenizer, query_length=3, passage_length=5)


def test_truncation_cuts_text_only() -> None:
    encoder = encoder_of("llama2vec")
    short, long = encoder.encode_batch(["open", "open " * 50], "query")
    tail = encoder.ebar_suffix_ids
    assert short[-len(tail) :] == long[-len(tail) :] == tail
    assert len(long) == len(encoder.prefix_ids) + 3 + len(tail)
    assert tail[-8:] == encoder.ebar_slot_ids
    assert len(encoder.encode_batch(["open " * 50], "passage")[0]) == (
        len(encoder.prefix_ids) + 5 + len(encoder.ebae_suffix_ids)
    )


def test_text_cannot_forge_slots() -> None:
    encoder = encoder_of("slots")
    forged = encoder.text_ids(["<s1> </s> <pad>"])[0]
    assert not set(forged) & set(encoder.special_ids)


def test_llara_template_reads_the_end_token() -> None:
    encoder = encoder_of("llara")
    assert encoder.ebae_slot_ids == encoder.ebar_slot_ids == [encoder.tokenizer.eos_token_id]
    assert encoder.encode_batch(["open"], "passage")[0][-1] == encoder.tokenizer.eos_token_id


def test_templates_by_name_and_custom() -> None:
    own = resolve_template(TemplateSettings(name="mine", ebae_suffix=" in short:", slots=3))
    assert own.ebae_slots == ("<s1>", "<s2>", "<s3>") and own.ebar_slots == ("<s4>", "<s5>", "<s6>")
    with pytest.raises(ConfigError, match="did you mean 'llama2vec'"):
        resolve_template("lama2vec")
    with pytest.raises(ConfigError, match="built-in"):
        resolve_template(TemplateSettings(name="llara"))
