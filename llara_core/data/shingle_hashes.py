"""Words and word n-grams of many texts as 64-bit hashes, some million words a second.

Duplicates and leaks both ask which texts share runs of words. Texts are folded first (NFKC, case), then
all characters of a block are hashed at once by array operations; no word becomes a Python string.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK_CHARACTERS = 1 << 20  # hashed at once; 100 bytes of scratch memory each
KEY_BYTES = 16
Hashes = NDArray[np.uint64]

_SEPARATOR, _IGNORED, _SYMBOL, _WORD, _ALONE = range(5)  # what a character is
# Letters of scripts written without spaces are words of their own.
_ALONE_RANGES = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF),  # Thai, Lao; Burmese; Khmer
    (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),  # CJK
)  # fmt: skip
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers never vanish


class HashedWords(NamedTuple):
    """The words of N texts."""

    hashes: Hashes  # [T], text after text
    starts: NDArray[np.int64]  # [N + 1]: words of text i are hashes[starts[i]:starts[i + 1]]


def fold(text: str) -> str:
    """Return a text without differences of case and of Unicode form (NFKC, casefold, NFKC)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def blocks(texts: Iterable[str], most: int = BLOCK_CHARACTERS) -> Iterator[tuple[int, list[str]]]:
    """Yield (row of the first text, texts) in order, about ``most`` characters at a time.

    Args:
        texts: N texts; they are iterated, so they may be a lazy sequence over a memory-mapped table.
        most: characters of a block; a longer text is a block of its own.
    """
    block: list[str] = []
    first = size = 0
    for text in texts:
        if block and size + len(text) > most:
            yield first, block
            first, block, size = first + len(block), [], 0
        block.append(text)
        size += len(text)
    if block:
        yield first, block


def keys_and_words(texts: Sequence[str], *, keys: bool = True) -> tuple[bytes, HashedWords]:
    """Return a key of each text that equal texts share, and its words.

    A key is BLAKE2b over the folded text without punctuation, white space, control and format characters;
    so zero-width characters hide nothing. A text of nothing else keeps itself as its key.

    Args:
        texts: N texts.
        keys: false leaves the keys out (empty bytes).

    Returns:
        N · 16 bytes of keys; the hashed words.
    """
    folded = [fold(text) for text in texts]
    codes, starts = _codes(folded)
    kinds = _kinds()[codes]
    ignored = kinds == _IGNORED
    if ignored.any():
        starts = starts - np.concatenate(([0], np.cumsum(ignored)))[starts]
        codes, kinds = codes[~ignored], kinds[~ignored]
    words = _words(codes, kinds, starts)
    return (_keys(folded, codes, kinds, starts) if keys else b""), words


def ngram_hashes(words: HashedWords, n: int, *, short: bool) -> tuple[Hashes, NDArray[np.int64]]:
    """Hash the runs of ``n`` words of every text.

    Args:
        words: words of N texts.
        n: words of a run.
        short: a text of fewer words, but at least one, counts as one run; else it has none.

    Returns:
        Hashes [G] text after text; index [G] into ``words.hashes`` of each run's first word.
    """
    total = len(words.hashes)
    ends = np.repeat(words.starts[1:], np.diff(words.starts))  # [T] end of the text that a word is in
    places = np.arange(total, dtype=np.int64)
    whole = places + n <= ends
    if short:
        first = np.zeros(total, np.bool_)
        first[words.starts[:-1][np.diff(words.starts) > 0]] = True
        whole |= first
    places = places[whole]
    ends = ends[whole]
    hashes = np.zeros(len(places), np.uint64)
    for step, factor in enumerate(_powers(n)):
        at = places + step
        part = words.hashes[np.minimum(at, total - 1)] * factor
        hashes += np.where(at < ends, part, np.uint64(0))  # a short text's run ends before n words
    return _mixed(hashes), places


def counts_per_text(words: HashedWords, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many n-grams each text has, [N], from the places that ``ngram_hashes`` gave."""
    return np.diff(np.searchsorted(places, words.starts))


def _codes(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Code points of all texts, a line feed after each, and where each text starts, [N + 1]."""
    # Lone surrogates cannot be encoded otherwise; a data reader refuses them, a caller may not.
    raw = ("\n".join(texts) + "\n").encode("utf-32-le", "surrogatepass")
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    return np.frombuffer(raw, np.uint32)[: int(sizes.sum())], np.concatenate(([0], np.cumsum(sizes)))


def _words(codes: NDArray[np.uint32], kinds: NDArray[np.uint8], starts: NDArray[np.int64]) -> HashedWords:
    inside = kinds >= _WORD
    before = np.concatenate(([_SEPARATOR], kinds[:-1]))
    begins = inside & ((before < _WORD) | (before == _ALONE) | (kinds == _ALONE))
    text_starts = np.searchsorted(np.flatnonzero(begins), starts)
    letters = codes[inside]
    if not len(letters):
        return HashedWords(np.zeros(0, np.uint64), text_starts)
    firsts = np.flatnonzero(begins[inside])
    lengths = np.diff(np.append(firsts, len(letters)))
    places = np.arange(len(letters)) - np.repeat(firsts, lengths)
    values = _mixed(letters.astype(np.uint64)) * _powers(int(lengths.max()))[places]
    return HashedWords(_mixed(np.add.reduceat(values, firsts)), text_starts)


def _keys(
    texts: Sequence[str], codes: NDArray[np.uint32], kinds: NDArray[np.uint8], starts: NDArray[np.int64]
) -> bytes:
    kept = kinds >= _SYMBOL
    ends = np.concatenate(([0], np.cumsum(kept)))[starts]
    view = memoryview(codes[kept].tobytes())
    result = bytearray()
    for text, start, end in zip(texts, ends.tolist(), islice(ends.tolist(), 1, None), strict=False):
        if start == end:
            raw = text.encode("utf-8", "surrogatepass")
            result += hashlib.blake2b(raw, digest_size=KEY_BYTES, person=b"nothing else").digest()
        else:
            result += hashlib.blake2b(view[4 * start : 4 * end], digest_size=KEY_BYTES).digest()
    return bytes(result)


def _powers(count: int) -> Hashes:
    powers = np.full(count, _BASE, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _mixed(values: Hashes) -> Hashes:
    """Spread 64-bit values evenly. Source: Steele et al., SplittableRandom (2014), its mixing function."""
    values = (values + _BASE).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _kinds() -> NDArray[np.uint8]:
    """What each code point is, [0x110000]; made once, in half a second."""
    by_category = {"L": _WORD, "M": _WORD, "N": _WORD, "S": _SYMBOL}
    categories = [unicodedata.category(chr(code)) for code in range(0x110000)]
    kinds = np.array([by_category.get(one[0], _SEPARATOR) for one in categories], np.uint8)
    for low, high in _ALONE_RANGES:
        part = kinds[low : high + 1]
        part[part == _WORD] = _ALONE
    kinds[[code for code, one in enumerate(categories) if one == "Cf"]] = _IGNORED
    kinds[0xFE00:0xFE10] = _IGNORED  # variation selectors
    kinds[ord("_")] = _WORD  # as Python's \w; a name of code is one word
    return kinds
