"""What a tokenizer says about itself: which ids are no words, what stands before a text, words as ids."""

from __future__ import annotations

from typing import Any


def special_ids(tokenizer: Any) -> list[int]:
    """Ids that are no words: the tokenizer's special tokens and every added token marked special."""
    added = [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
    return sorted({*tokenizer.all_special_ids, *added})


def pad_id(tokenizer: Any) -> int:
    """An id to fill padding with; masks hide it, so any id will do where the tokenizer names none."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def forgeable_names(tokenizer: Any) -> list[str]:
    """Special tokens that a text can spell even where special tokens are split like any other word.

    Unigram and WordPiece models list them among their pieces, so ``</s>`` in a text is one of them.
    """
    ids = {*special_ids(tokenizer)} - {tokenizer.unk_token_id}
    names: list[str] = tokenizer.convert_ids_to_tokens(sorted(ids))
    return [name for name in names if len(name) > 1 and ids & {*_split_ids(tokenizer, name)}]


def _split_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def begin_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text (a begin-of-sequence token, or nothing)."""
    whole: list[int] = tokenizer("a")["input_ids"]
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    return []


def part_ids(tokenizer: Any, words: str) -> list[int]:
    """Ids of some words of a prompt by themselves; names of special tokens in them are those tokens."""
    ids: list[int] = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    return ids


def suffix_ids(tokenizer: Any, words: str) -> list[int]:
    """Ids of the words after a text; a leading space is the one between text and words, not a second."""
    if words.startswith(" "):
        before, whole = part_ids(tokenizer, "a"), part_ids(tokenizer, f"a{words}")
        if whole[: len(before)] == before:
            return whole[len(before) :]
    return part_ids(tokenizer, words)
