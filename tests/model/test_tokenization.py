"""Tokenizers trained from scratch: splitting, case, unseen characters."""

from __future__ import annotations

from llara_core.model.tokenization import train_tokenizer
from tests.model.conftest import SMALL


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
