"""Prompts, tokenizer, bundles and the Retriever, on a tiny model from scratch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llara_core.config import FromScratchSettings, ModelSettings, TemplateSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.errors import ConfigError, ModelError
from llara_core.model.backbone import add_slots, build_from_scratch, load_decoder
from llara_core.model.bundle import read_bundle, save_bundle, write_scores
from llara_core.model.encoding import token_budget_batches
from llara_core.model.prepare import prepare_base
from llara_core.model.prompts import TEMPLATES, PromptEncoder, resolve_template
from llara_core.model.retriever import Retriever
from llara_core.model.tokenization import train_tokenizer

SMALL = FromScratchSettings(
    vocabulary_size=400, hidden_size=32, intermediate_size=48, layers=1, heads=2, max_positions=128
)
WORDS = [
    "def parse_json_file(path):",
    "class HTTPServer: pass",
    "return the sum of two numbers",
    "open a file",
]


def collection() -> Collection:
    corpus = pa.Table.from_pylist(
        [{"_id": f"d{i}", "title": "", "text": t} for i, t in enumerate(WORDS)], CORPUS_SCHEMA
    )
    queries = pa.Table.from_pylist([{"_id": "q0", "text": "zebra"}], QUERIES_SCHEMA)
    qrels = pa.Table.from_pylist([{"query_id": "q0", "corpus_id": "d0", "score": 1}], QRELS_SCHEMA)
    return Collection("tiny", corpus, queries, {"test": qrels})


def settings(**changes: object) -> ModelSettings:
    return ModelSettings(**{"from_scratch": SMALL, "query_length": 8, "passage_length": 16, **changes})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_base(settings(), collection(), tmp_path_factory.mktemp("model") / "base", seed=0)


# ------------------------------------------------------------------ tokenizer and prompts
def words_of(text: str, **changes: object) -> list[str]:
    tokenizer = train_tokenizer(SMALL.model_copy(update=changes), [text] * 3)
    return tokenizer.decode(tokenizer(text)["input_ids"]), [
        piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(
            tokenizer.backend_tokenizer.normalizer.normalize_str(text)
        )
    ]  # fmt: skip


def test_identifiers_are_split_before_lower_casing() -> None:
    assert words_of("getHTTPServer foo_bar(x1)")[1] == [
        "get",
        "http",
        "server",
        "foo",
        "bar",
        "(",
        "x",
        "1",
        ")",
    ]
    assert words_of("fooBar_x", split_identifiers=False)[1] == ["foobar_x"]
    assert words_of("a(b)", keep_punctuation=False)[1] == ["a", "b"]
    assert words_of("fooBar", lowercase=False)[1] == ["foo", "Bar"]


def test_unseen_characters_are_kept_as_bytes() -> None:
    tokenizer = train_tokenizer(SMALL, ["plain words"])
    ids = tokenizer("né日")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == "né日"


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


# ------------------------------------------------------------------ bundle and Retriever
def test_same_seed_same_fingerprint_and_card_survives(base: Path, tmp_path: Path) -> None:
    again = read_bundle(prepare_base(settings(), collection(), tmp_path / "again", seed=0))
    first = read_bundle(base)
    assert again.fingerprint == first.fingerprint and len(first.fingerprint) == 64
    other = read_bundle(prepare_base(settings(), collection(), tmp_path / "other", seed=1))
    assert other.fingerprint != first.fingerprint
    model, tokenizer = first.load()
    copy = save_bundle(tmp_path / "copy", model, tokenizer, first)
    assert copy.fingerprint == first.fingerprint
    assert read_bundle(tmp_path / "copy").to_dict() == first.to_dict()
    assert write_scores(tmp_path / "copy", {"tiny/base/ndcg_at_10": 0.5}).fingerprint == first.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again",
        "copy",
        "other",
    ]  # nothing half-written


def test_test_queries_do_not_shape_the_vocabulary(base: Path) -> None:
    tokens = Retriever.from_pretrained(base, "cpu").tokenizer.get_vocab()
    assert "server" in tokens and "zebra" not in tokens


def test_vectors_are_normalised_and_do_not_depend_on_the_batch(base: Path) -> None:
    retriever = Retriever.from_pretrained(base, device="cpu")
    texts = [*WORDS, "", "\ud800 broken", "nul \0 byte", "word " * 400]
    together = retriever.encode_passages(texts)
    assert together.shape == (8, retriever.dimension) and together.dtype == np.float32
    assert np.isfinite(together).all()
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    alone = np.concatenate([retriever.encode_passages([text], batch_tokens=1) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert retriever.encode_queries([]).shape == (0, retriever.dimension)
    assert not np.allclose(retriever.encode_queries(WORDS), together[:4], atol=1e-3)  # another prompt
    titled = retriever.encode_passages([{"title": "open", "text": "a file"}, {"text": "open a file"}])
    np.testing.assert_allclose(titled[0], titled[1], atol=1e-6)


def test_token_budget_batches() -> None:
    assert token_budget_batches([2, 9, 3, 3], 6) == [[1], [2, 3], [0]]


def test_folder_without_a_decoder(tmp_path: Path, base: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_decoder(settings(from_scratch=None, base=str(tmp_path / "missing")))
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_decoder(settings(from_scratch=None, base=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="no weights"):
        load_decoder(settings(from_scratch=None, base=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"")
    for kind in ("bert", "t5"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(ModelError, match="no decoder-only"):
            load_decoder(settings(from_scratch=None, base=str(tmp_path)))
    with pytest.raises(ModelError, match=r"no llara\.json"):
        Retriever.from_pretrained(tmp_path)
    model, _ = load_decoder(settings(from_scratch=None, base=str(base)))
    assert model.config.model_type == "llama"


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
