"""Which tokens of a tokenizer are stop words or punctuation: words that say nothing about a text.

The released code of LLaRA takes them out of the target texts (``remove_stop_words``, on in its published
command), with NLTK's English list; that list and those of other languages come with bm25s.
Source: issue 3, point 3.
"""

from __future__ import annotations

import re
from typing import Any

from llara_core.errors import ConfigError

_PREFIX = "STOPWORDS_"
# NLTK's list; the one that bm25s calls English is a shorter one of its own.
_ENGLISH = "EN_PLUS"
_NO_WORD = re.compile(r"[\W_]+")
# What stands for bytes that are no character of their own, such as a third of a Chinese one.
_PART_OF_A_CHARACTER = "\ufffd"


def stop_word_languages() -> list[str]:
    """Languages that ``stop_word_ids`` knows, sorted."""
    return sorted(_lists())


def _lists() -> dict[str, tuple[str, ...]]:
    from bm25s import stopwords

    lists = {
        name.removeprefix(_PREFIX): words
        for name, words in vars(stopwords).items()
        if name.startswith(_PREFIX)
    }
    lists["ENGLISH"] = lists.pop(_ENGLISH)
    return {name.lower(): words for name, words in lists.items() if name != "EN"}


def check_stop_words(language: str | None) -> None:
    """Refuse a language without a list.

    Raises:
        ConfigError: names the known ones.
    """
    if language is not None and language not in _lists():
        known = stop_word_languages()
        raise ConfigError(
            f"adapt.stop_words: there is no list for {language!r}; expected one of {', '.join(known)}, "
            "or nothing (no word is left out)"
        )


def stop_word_ids(tokenizer: Any, language: str) -> list[int]:
    """Ids that stand for a stop word or for punctuation, found by asking what each id stands for.

    With or without a space before it, in upper or lower case. A word that takes several tokens has no id
    of its own and stays a target.

    Args:
        tokenizer: a Hugging Face tokenizer.
        language: of the list, e.g. ``english``.

    Raises:
        ConfigError: there is no list for the language.
    """
    check_stop_words(language)
    words = {word.casefold() for word in _lists()[language]}
    ids = [[index] for index in range(len(tokenizer))]
    texts: list[str] = tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)
    return [
        index
        for index, text in enumerate(texts)
        if text.strip().casefold() in words or (_NO_WORD.fullmatch(text) and _PART_OF_A_CHARACTER not in text)
    ]
