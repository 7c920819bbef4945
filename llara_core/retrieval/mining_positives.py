"""What is known to be relevant: the positives of every query, and what scores too much like one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.config import MineSettings
from llara_core.data.collection import Collection
from llara_core.retrieval.mining_sources import Rows, pair_scores


@dataclass(frozen=True)
class Positives:
    """Queries of a split and their judged relevant passages; queries of the same words share theirs.

    Attributes:
        query_ids: of the split's Q queries.
        texts: of the queries [Q].
        group: number of each query's text, int64 [Q].
        starts: where each group's rows begin in ``rows``, int64 [G + 1].
        rows: corpus rows, ascending within a group.
        own: corpus row of the document with the query's own id, -1 for none, int64 [Q].
    """

    query_ids: list[str]
    texts: list[str]
    group: Rows
    starts: Rows
    rows: Rows
    own: Rows

    @property
    def counts(self) -> Rows:
        """Number of positives of each query [Q]."""
        return np.diff(self.starts)[self.group]

    def pairs(self, places: Rows) -> tuple[Rows, Rows]:
        """The positives of the queries at ``places`` [B], one after the other.

        Returns:
            The place within ``places`` [P], ascending, and the corpus row [P] of each.
        """
        groups = self.group[places]
        counts = np.diff(self.starts)[groups]
        query_of = np.repeat(np.arange(len(places)), counts)
        within = np.arange(len(query_of)) - np.repeat(np.cumsum(counts) - counts, counts)
        return query_of, self.rows[self.starts[groups][query_of] + within]

    def hold(self, places: Rows, rows: Rows) -> NDArray[np.bool_]:
        """Which of the rows [B, C] are a positive of their query, or the query itself."""
        query_of, known = self.pairs(places)
        width = int(max(rows.max(initial=0), known.max(initial=0))) + 2
        keys = np.sort(query_of * width + known)
        asked = np.arange(len(places))[:, None] * width + rows
        found = np.searchsorted(keys, asked)
        inside = found < len(keys)
        found[~inside] = 0
        positive = inside & (keys[found] == asked) if len(keys) else inside
        return np.asarray((rows >= 0) & (positive | (rows == self.own[places][:, None])))


def positives_of(collection: Collection, split: str) -> Positives:
    """Read queries and qrels of a split; of a pair judged twice, the last line counts.

    Raises:
        DataError: the split does not exist or judges no known query.
    """
    query_ids, texts = collection.split_queries(split)
    group = _groups(texts)
    groups = int(group.max(initial=-1)) + 1
    documents = collection.corpus["_id"].combine_chunks()
    ids = pa.array(query_ids, documents.type)
    keys = _relevant_pairs(collection, split, ids, documents)
    pairs = np.unique(group[keys[0]] * max(1, len(documents)) + keys[1])
    owner, rows = np.divmod(pairs, max(1, len(documents)))
    starts = np.searchsorted(owner, np.arange(groups + 1))
    return Positives(query_ids, texts, group, starts, rows, _places(ids, documents))


def _groups(texts: list[str]) -> Rows:
    """Number of each text's wording: case and spaces do not tell two apart."""
    number: dict[str, int] = {}
    words = (" ".join(text.lower().split()) for text in texts)
    return np.array([number.setdefault(one, len(number)) for one in words], np.int64)


def _relevant_pairs(
    collection: Collection, split: str, ids: pa.Array, documents: pa.Array
) -> tuple[Rows, Rows]:
    """Places of query and document of every relevant judgement that names a known pair."""
    qrels = collection.qrels[split]
    query, document = _places(qrels["query_id"], ids), _places(qrels["corpus_id"], documents)
    grade = qrels["score"].to_numpy()
    known = (query >= 0) & (document >= 0)
    query, document, grade = query[known], document[known], grade[known]
    keys = query * max(1, len(documents)) + document
    _, last = np.unique(keys[::-1], return_index=True)  # first from the end
    last = len(keys) - 1 - last
    kept = last[grade[last] > 0]
    return query[kept], document[kept]


def judged_pairs(collection: Collection, split: str, query_ids: list[str]) -> tuple[Rows, Rows]:
    """Query places [J] and corpus rows [J] of the relevant judgements of another split."""
    documents = collection.corpus["_id"].combine_chunks()
    return _relevant_pairs(collection, split, pa.array(query_ids, documents.type), documents)


def _places(values: Any, among: pa.Array) -> Rows:
    """Place of each value in ``among``, -1 where it is not there."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    found = pc.fill_null(pc.index_in(values.cast(among.type), value_set=among), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


@dataclass(frozen=True)
class Bar:
    """What a block's queries score with their positives, and how high a negative may score.

    Attributes:
        scores: of every positive [P] float32, in the order of ``Positives.pairs``.
        best: the highest of each query [B] float32.
        limit: a negative scores at most this, float64 [B]; infinity where ranks alone decide.
    """

    scores: NDArray[np.float32]
    best: NDArray[np.float32]
    limit: NDArray[np.float64]


def bar(
    queries: NDArray[np.float32], vectors: NDArray[Any], query_of: Rows, rows: Rows, settings: MineSettings
) -> Bar:
    """Score the positives of a block's queries [B, D] and draw the limit.

    The limit lies `(1 - positive_margin)` of the reference's size below the reference, so that it is
    `positive_margin` times a positive score and still below a negative one; `positive_distance` lowers
    it further where that is more. The reference is the best, the mean or the worst of the positives.

    Source: NV-Retriever (Moreira et al., 2024, arXiv 2407.15831), TopK-PercPos and TopK-MarginPos.
    """
    scores = pair_scores(queries, vectors, query_of, rows)
    best, limit = limits(scores, query_of, len(queries), settings)
    return Bar(scores, best, limit)


def limits(
    scores: NDArray[np.float32], query_of: Rows, count: int, settings: MineSettings
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Best score and limit of each of ``count`` queries, from all scores [P] of their positives."""
    best = np.full(count, -np.inf, np.float32)
    np.maximum.at(best, query_of, scores)
    if settings.positive_margin is None:
        return best, np.full(count, np.inf)
    reference = best.astype(np.float64)
    if settings.positive_reference == "worst":
        reference = np.full(count, np.inf)
        np.minimum.at(reference, query_of, scores.astype(np.float64))
    elif settings.positive_reference == "mean":
        number = np.bincount(query_of, minlength=count)
        reference = np.bincount(query_of, scores.astype(np.float64), count) / np.maximum(number, 1)
    return best, lowered(reference, settings.positive_margin, settings.positive_distance)


def lowered(reference: NDArray[np.float64], share: float, distance: float) -> NDArray[np.float64]:
    """The limit that ``share`` and ``distance`` draw below a reference score, of either sign."""
    return np.minimum(reference - (1 - share) * np.abs(reference), reference - distance)
