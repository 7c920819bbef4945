"""The beginning of a very long text, so that a 10 MB document is not tokenised for its first 512 tokens.

A tokenizer decides a token by the text near it. Pre-tokenisers cut at white space, punctuation or script;
within such a piece, merges of BPE and paths of Unigram settle within a few tokens of a cut. What the text's
end does to its beginning is therefore *looked at* rather than assumed: the beginning and the half of it are
tokenised, and only when both give the same first tokens, well before the cut of the shorter one, is the rest
dropped. Otherwise a beginning four times as long is tried, in the end the whole text (a word of 10 MB that
WordPiece calls unknown, a megabyte of spaces).
Source: issue 4, point 1; tests/model/test_long_text.py compares with whole texts for each kind of tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

# Characters a token that are tried first; English has about 4, most code 3, Chinese 1.
CHARACTERS_A_TOKEN = 16
LEAST_CHARACTERS = 4096
MARGIN = 64  # tokens behind the last one wanted that the shorter beginning must give as well

Tokenise = Callable[[Sequence[str]], Sequence[Sequence[int]]]


def beginning(text: str, tokens: int, tokenise: Tokenise) -> str:
    """A beginning of ``text`` whose first ``tokens`` tokens are those of the whole; short texts as they are.

    Args:
        text: of any length.
        tokens: how many of its first tokens matter.
        tokenise: texts → token ids, untruncated.
    """
    size = max(LEAST_CHARACTERS, CHARACTERS_A_TOKEN * tokens)
    while len(text) > 4 * size:  # below, looking costs about as much as tokenising all of it
        shorter, longer = tokenise([text[: size // 2], text[:size]])
        if len(shorter) >= tokens + MARGIN and shorter[:tokens] == longer[:tokens]:
            return text[:size]
        size *= 4
    return text
