"""Stop words by asking the tokenizer what each id stands for, for tokenizers of different kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llara_core.config import AdaptSettings
from llara_core.errors import ConfigError
from llara_core.training.adapt import adapt
from llara_core.training.stop_words import check_stop_words, stop_word_ids, stop_word_languages


def byte_level(*tokens: str) -> Any:
    """A tokenizer whose ids are the given byte-level tokens (``Ġ`` is a space)."""
    model = models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def pieces(*tokens: str) -> Any:
    """A tokenizer of the sentencepiece kind (``▁`` is a space)."""
    tokenizer = Tokenizer(models.Unigram([(token, -1.0) for token in tokens], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def left_out(tokenizer: Any, language: str = "english") -> list[str]:
    return [tokenizer.convert_ids_to_tokens(index) for index in stop_word_ids(tokenizer, language)]


def test_with_and_without_space_in_any_case() -> None:
    tokenizer = byte_level("the", "Ġthe", "The", "ĠTHE", "theory", "Ġtheory", "he", "rat", "because", "7")
    assert left_out(tokenizer) == ["the", "Ġthe", "The", "ĠTHE", "he", "because"]


def test_of_the_sentencepiece_kind() -> None:
    assert left_out(pieces("<unk>", "▁the", "the", "▁And", "▁cat", "▁.", ",")) == [
        "▁the", "the", "▁And", "▁.", ",",
    ]  # fmt: skip


def test_punctuation_is_no_word_but_part_of_a_character_may_be() -> None:
    # "Ã" and "¤" are one byte each of a letter like "ä"; "Ġ" and "Ċ" are a space and a line's end.
    assert left_out(byte_level(".", "Ġ!?", "_", "Ġ", "Ċ", "Ã", "¤", "c++", "x")) == [
        ".",
        "Ġ!?",
        "_",
        "Ġ",
        "Ċ",
    ]


def test_other_languages() -> None:
    tokenizer = byte_level("und", "Ġund", "the", "Haus")
    assert left_out(tokenizer, "german") == ["und", "Ġund"]
    assert {"english", "german", "french", "chinese"} <= set(stop_word_languages())
    assert "en" not in stop_word_languages()


def test_an_unknown_language_names_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"adapt\.stop_words: there is no list for 'klingon'.*danish, dutch"
    ):
        check_stop_words("klingon")
    check_stop_words(None)


def test_adapt_refuses_it_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no list for 'elvish'"):
        adapt(tmp_path, pa.table({}), AdaptSettings(stop_words="elvish"), tmp_path / "out", 0)
