"""BM25's inverted index as three flat arrays, built in one pass over the passages.

bm25s scores by the same arrays and gives the formulas; its own builder keeps every token of the corpus as a
Python number (some 100 bytes a token). Here a token takes 4 bytes until its block of passages is sorted, and
a posting 12 bytes until the index is filled, 8 bytes then.

Names of axes: N passages, V terms, P postings (pairs of a term and a passage that has it).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from bm25s import scoring
from numpy.typing import NDArray

from llara_core.config import Bm25Settings
from llara_core.progress import track
from llara_core.retrieval.bm25_terms import STOP_WORD, Analyser, Numbers

_BLOCK_TOKENS = 1 << 18  # sorted at once; some 50 bytes each while that lasts


@dataclass(frozen=True)
class Postings:
    """What bm25s calls a score matrix in compressed columns: one column per term.

    Args:
        data: a passage's score for one occurrence of a term in the query, [P] float32.
        rows: the passages, ascending within a term, [P] int32.
        starts: term t owns the postings from ``starts[t]`` to ``starts[t + 1]``, [V + 1] int64.
        passages: N.
    """

    data: NDArray[np.float32]
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]
    passages: int


@dataclass(frozen=True)
class _Block:
    """Postings of some consecutive passages, sorted by term, then passage, all [P]."""

    terms: NDArray[np.int32]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]


def build_postings(
    passages: Iterable[str], analyser: Analyser, settings: Bm25Settings
) -> tuple[Postings, dict[str, int]]:
    """Return the index of the passages and its vocabulary, term to number in order of first appearance.

    Args:
        passages: N texts, read once and in order.
        analyser: cuts them into terms.
        settings: k1, b and the variant.

    Returns:
        The same numbers, bit for bit, as ``bm25s.BM25.index`` computes from the same terms.
    """
    numbers = Numbers(analyser)
    lengths = array("i")
    blocks = list(_blocks(track(passages, "bm25 index", unit="passages"), analyser, numbers, lengths))
    lengths_N = np.frombuffer(lengths, np.int32).astype(np.int64) if lengths else np.zeros(0, np.int64)
    frequency_V = np.zeros(len(numbers.vocabulary), np.int64)
    for block in blocks:
        frequency_V += np.bincount(block.terms, minlength=len(frequency_V))
    return _filled(blocks, lengths_N, frequency_V, settings), numbers.vocabulary


def _blocks(
    passages: Iterable[str], analyser: Analyser, numbers: Numbers, lengths: array[int]
) -> Iterator[_Block]:
    """Cut the passages into terms, block by block; appends each passage's number of terms."""
    tokens, counts, first = array("i"), array("i"), 0
    number = numbers.__getitem__
    for text in passages:
        before = len(tokens)
        tokens.extend(map(number, analyser.words(text)))
        counts.append(len(tokens) - before)
        if len(tokens) >= _BLOCK_TOKENS:
            yield _sorted_block(tokens, counts, first, lengths)
            first += len(counts)
            tokens, counts = array("i"), array("i")
    if counts:
        yield _sorted_block(tokens, counts, first, lengths)


def _sorted_block(tokens: array[int], counts: array[int], first: int, lengths: array[int]) -> _Block:
    """Count each term of each passage; `first` is the row of the block's first passage."""
    terms = np.array(tokens, np.int32)
    rows = np.repeat(np.arange(len(counts)), np.array(counts, np.int64))[terms != STOP_WORD]
    terms = terms[terms != STOP_WORD]
    lengths.extend(np.bincount(rows, minlength=len(counts)).tolist())
    keys = np.sort(terms.astype(np.int64) << 32 | rows)
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[1:] != keys[:-1]
    starts = np.flatnonzero(new)
    repeats = np.diff(starts, append=len(keys)).astype(np.int32)
    keys = keys[starts]
    return _Block(
        (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32) + np.int32(first), repeats
    )


def _filled(
    blocks: list[_Block],
    lengths_N: NDArray[np.int64],
    frequency_V: NDArray[np.int64],
    settings: Bm25Settings,
) -> Postings:
    """Score the postings and lay each term's behind one another; empties `blocks` on its way."""
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(frequency_V)])
    data, rows = np.empty(starts[-1], np.float32), np.empty(starts[-1], np.int32)
    inverse_V = _inverse_frequency(frequency_V, len(lengths_N), settings.method)
    mean = lengths_N.mean() if len(lengths_N) else np.float64(0)
    saturation = scoring._select_tfc_scorer(settings.method)
    heads_V = starts[:-1].copy()
    blocks.reverse()
    while blocks:
        block = blocks.pop()
        terms, first, count = np.unique(block.terms, return_index=True, return_counts=True)
        places = np.repeat(heads_V[terms] - first, count) + np.arange(len(block.terms))
        heads_V[terms] += count
        share = saturation(
            tf_array=block.counts.astype(np.float32), l_d=lengths_N[block.rows], l_avg=mean,
            k1=settings.k1, b=settings.b,
        )  # fmt: skip
        data[places] = inverse_V[block.terms] * share
        rows[places] = block.rows
    return Postings(data, rows, starts, len(lengths_N))


def _inverse_frequency(frequency_V: NDArray[np.int64], passages: int, method: str) -> NDArray[np.float32]:
    """Inverse document frequency of each term, [V]; worked out once per different frequency."""
    formula: Any = scoring._select_idf_scorer(method)
    different, inverse = np.unique(frequency_V, return_inverse=True)
    values = np.array([formula(int(frequency), N=passages) for frequency in different], np.float32)
    return values[inverse]
