"""Where hard negatives come from: ranks of BM25, ranks of the model's own search, and chance.

Names of axes: B queries of a block, D dimensions, K ranks of one list, C candidates of a query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.config import MineSettings
from llara_core.retrieval.bm25 import Bm25
from llara_core.retrieval.exact import search

SOURCES = ("bm25", "dense", "random")
NOBODY = -1  # in place of a row: this list has no candidate here
_PAIR_NUMBERS = 1 << 20  # numbers of gathered vectors held in float64 at once: 8 MiB
_GOLDEN = 0x9E3779B97F4A7C15
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Named:
    """What one source names for the queries of a block, in order of rank.

    Attributes:
        source: its place in ``SOURCES``.
        rows: corpus rows [B, K]; ``NOBODY`` where the list has ended.
        scores: the model's inner products [B, K] float32; NaN where not known yet.
        skipped: ranks left out above the first.
    """

    source: int
    rows: Rows
    scores: NDArray[np.float32]
    skipped: int

    def of(self, some: slice) -> Named:
        """The same for some of the queries."""
        return Named(self.source, self.rows[some], self.scores[some], self.skipped)


@dataclass
class Candidates:
    """The lists of a block's queries merged: candidates in the order in which they are looked at.

    Attributes:
        rows: corpus rows [B, C]; ``NOBODY`` in gaps, and where a passage was named before.
        sources: place in ``SOURCES`` of the list that named it first, int8 [B, C].
        ranks: in that list, from 1, int32 [B, C]; of a random one, the number of the draw.
        scores: the model's inner products [B, C] float32.
    """

    rows: Rows
    sources: NDArray[np.int8]
    ranks: NDArray[np.int32]
    scores: NDArray[np.float32]

    def take(self, columns: Rows) -> None:
        """Put each query's candidates in the order of ``columns`` [B, C]."""
        for name in ("rows", "sources", "ranks", "scores"):
            setattr(self, name, np.take_along_axis(getattr(self, name), columns, axis=1))


def windows(settings: MineSettings) -> dict[str, tuple[int, int]]:
    """First and last rank of each source that is searched; of ``random``, the numbers of the draws."""
    skips = {"bm25": settings.bm25_skip, "dense": settings.dense_skip, "random": 0}
    found = {}
    for source in SOURCES:
        depth, skip = getattr(settings, f"{source}_depth"), skips[source]
        if depth:
            above = settings.skip_top if skip is None else skip
            found[source] = (above + 1, above + depth)
    return found


def named_by_bm25(lexical: Bm25, texts: list[str], window: tuple[int, int]) -> Named:
    """BM25's ranks within the window; a passage without a term in common is no candidate."""
    skip = window[0] - 1
    scores, rows = lexical.search(texts, window[1])
    found = np.where(scores > 0, rows, NOBODY)[:, skip:]
    return Named(0, found, np.full(found.shape, np.nan, np.float32), skip)


def named_by_model(queries: NDArray[np.float32], vectors: NDArray[Any], window: tuple[int, int]) -> Named:
    """The ranks of exact search within the window."""
    skip = window[0] - 1
    scores, rows = search(queries, vectors, window[1])
    return Named(1, rows[:, skip:], scores[:, skip:], skip)


def named_by_chance(places: Rows, count: int, documents: int, seed: int) -> Named:
    """Rows drawn for each query by seed and place alone, so that blocks and shards change nothing."""
    drawn = noise(places, count, seed) % np.uint64(documents)
    return Named(2, drawn.astype(np.int64), np.full(drawn.shape, np.nan, np.float32), 0)


def noise(places: Rows, count: int, seed: int) -> NDArray[np.uint64]:
    """Random numbers [B, count] that depend on seed and place only.

    Source: SplitMix64 (Steele, Lea and Flood, 2014), whose numbers need no state to walk through.
    """
    start = _mixed(np.array([seed], np.uint64) * np.uint64(2) + np.uint64(1))
    keys = _mixed(places.astype(np.uint64) * np.uint64(_GOLDEN) ^ start)
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return _mixed(keys[:, None] + steps[None])


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def merged(lists: list[Named], turned: NDArray[np.bool_]) -> Candidates:
    """The first of each list, then the second of each, …; a passage named twice counts where it comes first.

    Args:
        lists: at least one; random draws, where there are any, are the last and stay last in their turn.
        turned: [B]: the searched lists take turns in reverse order.
    """
    depth = max(named.rows.shape[1] for named in lists)
    searched = sum(named.source != SOURCES.index("random") for named in lists)
    shape = (len(turned), depth, len(lists))
    rows = np.full(shape, NOBODY, np.int64)
    scores = np.full(shape, np.nan, np.float32)
    sources = np.zeros(shape, np.int8)
    ranks = np.zeros(shape, np.int32)
    for place, named in enumerate(lists):
        width = named.rows.shape[1]
        rows[:, :width, place], scores[:, :width, place] = named.rows, named.scores
        sources[:, :, place] = named.source
        ranks[:, :, place] = named.skipped + np.arange(1, depth + 1)
    for array in (rows, scores, sources, ranks):
        array[turned, :, :searched] = array[turned, :, :searched][:, :, ::-1]
    flat = [array.reshape(len(turned), -1) for array in (rows, sources, ranks, scores)]
    flat[0][_repeated(flat[0])] = NOBODY
    return Candidates(*flat)


def _repeated(rows: Rows) -> NDArray[np.bool_]:
    """Which of the rows [B, C] stand further left as well."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    result = np.zeros(rows.shape, np.bool_)
    np.put_along_axis(result, order, again, axis=1)
    return result


def shared(first: Rows, second: Rows) -> Rows:
    """How many rows two lists [B, K] have in common, int64 [B]; ``NOBODY`` does not count."""
    ordered = np.sort(np.concatenate([first, second], axis=1), axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NOBODY)
    return np.asarray(twice.sum(axis=1), np.int64)


def pair_scores(
    queries: NDArray[np.float32], vectors: NDArray[Any], query_of: Rows, rows: Rows
) -> NDArray[np.float32]:
    """Inner products [P] of pairs, summed in float64 one by one: the same whatever stands beside them.

    Args:
        queries: [B, D].
        vectors: [N, D] float32 or float16; may be memory-mapped.
        query_of: place among the queries of each pair [P].
        rows: corpus row of each pair [P].
    """
    scores = np.empty(len(rows), np.float32)
    step = max(1, _PAIR_NUMBERS // max(1, queries.shape[1]))
    wide = queries.astype(np.float64)
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        gathered = np.asarray(vectors[rows[some]]).astype(np.float64)
        # One query at a time as in exact search: plain einsum sums every product in the same order.
        scores[some] = np.einsum("pd,pd->p", gathered, wide[query_of[some]])
    return scores
