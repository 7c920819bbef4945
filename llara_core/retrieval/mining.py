"""Hard negatives: passages that BM25 or the model itself takes for an answer, and that are none."""

from __future__ import annotations

import functools
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.config import Bm25Settings, MineSettings
from llara_core.data.collection import Collection
from llara_core.errors import ConfigError
from llara_core.progress import Progress
from llara_core.retrieval.bm25 import Bm25
from llara_core.retrieval.exact import search
from llara_core.retrieval.vectors import Encoder, corpus_vectors
from llara_core.retrieval.words import jaccard, word_set

logger = logging.getLogger(__name__)

NEGATIVES_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("corpus_id", pa.string()),
        ("source", pa.string()),  # "bm25" or "dense": the list that named it first
        ("rank", pa.int32()),  # in that list, from 1
        ("score", pa.float32()),  # the model's inner product with the query, for both sources
    ]
)
_QUERY_BLOCK = 2048  # queries searched at once: memory does not grow with queries x corpus
_WORD_SETS = 20_000  # word sets kept
_MUCH = 0.1  # share of negatives past the margin above which the log says so


class Mined(NamedTuple):
    """Hard negatives and how they came about.

    ``stats`` is JSON-able: ``queries`` (with a positive in the corpus), ``queries_without_positive``,
    ``queries_short`` (fewer negatives than asked, for lack of candidates), ``negatives``, ``candidates``,
    ``shares`` (of each source among the negatives), ``mean_score`` (per source), ``mean_positive_score``,
    ``excluded`` (``positive``, ``near_duplicate``, ``margin``: counts among the candidates looked at),
    ``past_margin`` (negatives taken back from the margin filter), ``note`` (a sentence, or "").
    """

    table: pa.Table
    stats: dict[str, Any]


class Candidate(NamedTuple):
    """A passage that one of the lists holds."""

    row: int
    source: str
    rank: int


@dataclass
class _Tally:
    """Counts that grow with every query; one line of the table is a query place and a scored candidate."""

    lines: list[tuple[int, Candidate, float]] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)
    positive_scores: list[float] = field(default_factory=list)
    candidates: int = 0
    past_margin: int = 0
    short: int = 0


def mine(
    collection: Collection,
    encoder: Encoder,
    settings: MineSettings,
    bm25: Bm25Settings | None = None,
    seed: int = 0,
    *,
    cache: Path | None = None,
) -> Mined:
    """Return hard negatives for the queries of a split, or for `settings.queries` of them.

    1. BM25 and the model's exact search each name candidates: the ranks after `skip_top`, as many as their
       depth. The two lists are interleaved by rank; `seed` draws, per query, which one comes first.
    2. Left out: positives of the query or of a query with the same words in the same order, the query
       itself, and passages whose word set is nearly that of a positive (`near_duplicate`).
    3. Left out too: passages that the model scores above `positive_margin` times the query's best
       positive: they may well be unjudged answers. BM25's candidates are judged by the same score.
    4. The first `negatives` that remain are kept. Where too few remain, those that step 3 left out are
       taken back, lowest score first. This matters for a model that knows little yet: it scores many
       passages above the positive, and without step 4 most queries would keep nothing.

    Args:
        collection: corpus, queries and judgements.
        encoder: the adapted model.
        settings: the split, depths and thresholds.
        bm25: settings of the lexical search.
        seed: draws which list comes first.
        cache: folder of corpus vectors, shared with the evaluation; None: encode anew.

    Returns:
        Table of ``NEGATIVES_SCHEMA``, in the order of the queries and, within one, of choice; and stats.

    Raises:
        ConfigError: both depths are 0.
        DataError: the split does not exist or judges no known query.

    Source: paper, section 3.4 (hard negatives); step 3 is the positive-aware filter of NV-Retriever
    (Moreira et al., 2024, "TopK-PercPos").
    """
    if not settings.bm25_depth and not settings.dense_depth:
        raise ConfigError("mine: bm25_depth and dense_depth are both 0; at least one list must be searched")
    query_ids, texts = collection.split_queries(settings.split)
    positives = _positives(collection, settings.split, query_ids, texts)
    places = _drawn([place for place, rows in enumerate(positives) if rows], settings.queries, seed)
    vectors = corpus_vectors(encoder, collection.passages, cache)
    lexical = Bm25(bm25).index(collection.passages) if settings.bm25_depth else None
    choose = _Chooser(collection, settings, vectors)
    first = np.random.default_rng(seed).integers(0, 2, len(query_ids))
    with Progress("mine", total=len(places), unit="queries") as progress:
        for start in range(0, len(places), _QUERY_BLOCK):
            block = places[start : start + _QUERY_BLOCK]
            asked = [texts[place] for place in block]
            queries, lists = _searched(asked, encoder, vectors, lexical, settings)
            for place, query, *named in zip(block, queries, *lists, strict=True):
                if first[place]:
                    named.reverse()
                choose(place, query_ids[place], query, positives[place], _interleave(named))
            progress.update(len(block))
    return _result(collection, query_ids, choose.tally, len(places), settings)


def _drawn(places: list[int], most: int | None, seed: int) -> list[int]:
    """At most ``most`` of the places, in their order; which ones is the seed's choice."""
    if most is None or most >= len(places):
        return places
    drawn = np.random.default_rng([seed, 1]).choice(len(places), most, replace=False)
    return [places[at] for at in np.sort(drawn)]


def _positives(
    collection: Collection, split: str, query_ids: Sequence[str], texts: Sequence[str]
) -> list[list[int]]:
    """Ascending corpus rows of the positives of each query, queries of the same text sharing theirs."""
    row_of = {document: row for row, document in enumerate(collection.corpus_ids)}
    qrels = collection.judgements(split)
    by_text: dict[str, set[int]] = defaultdict(set)
    keys = [" ".join(text.lower().split()) for text in texts]
    for query, key in zip(query_ids, keys, strict=True):
        graded = qrels[query].items()
        by_text[key].update(
            row_of[document] for document, grade in graded if grade > 0 and document in row_of
        )
    return [sorted(by_text[key]) for key in keys]


def _searched(
    texts: list[str],
    encoder: Encoder,
    vectors: NDArray[np.float32],
    lexical: Bm25 | None,
    settings: MineSettings,
) -> tuple[NDArray[np.float32], list[list[list[Candidate]]]]:
    """The queries of a block as vectors [B, D], and per source and query the candidates in order of rank."""
    queries = np.asarray(encoder.encode_queries(texts), np.float32)
    skip, lists = settings.skip_top, []
    if lexical is not None:
        scores, rows = lexical.search(texts, skip + settings.bm25_depth)
        # A passage without a term in common is no candidate of BM25's; those come last.
        lists.append(
            [_ranked(found[score > 0], "bm25", skip) for found, score in zip(rows, scores, strict=True)]
        )
    if settings.dense_depth:
        _, rows = search(queries, vectors, skip + settings.dense_depth)
        lists.append([_ranked(found, "dense", skip) for found in rows])
    return queries, lists


def _ranked(rows: NDArray[np.int64], source: str, skip: int) -> list[Candidate]:
    return [Candidate(int(row), source, skip + place) for place, row in enumerate(rows[skip:], start=1)]


def _interleave(lists: Sequence[Sequence[Candidate]]) -> Iterator[Candidate]:
    """First of each list, second of each, ...; a passage named twice counts where it comes first."""
    seen: set[int] = set()
    for tier in zip_longest(*lists):
        for candidate in tier:
            if candidate is not None and candidate.row not in seen:
                seen.add(candidate.row)
                yield candidate


class _Chooser:
    """Applies steps 2 to 4 of ``mine`` to one query after the other and keeps the tally."""

    def __init__(self, collection: Collection, settings: MineSettings, vectors: NDArray[np.float32]) -> None:
        self.tally = _Tally()
        self._settings, self._vectors = settings, vectors
        self._row_of = {document: row for row, document in enumerate(collection.corpus_ids)}
        passages = collection.passages
        self._words = functools.lru_cache(_WORD_SETS)(lambda row: word_set(passages[row]))

    def __call__(
        self,
        place: int,
        query_id: str,
        query: NDArray[np.float32],
        positives: Sequence[int],
        candidates: Iterator[Candidate],
    ) -> None:
        """Choose the negatives of one query [D] among its candidates."""
        tally, wanted = self.tally, self._settings.negatives
        banned = {*positives, self._row_of.get(query_id, -1)}
        everyone = list(candidates)
        tally.candidates += len(everyone)
        scores = self._vectors[[candidate.row for candidate in everyone]] @ query
        best = float((self._vectors[list(positives)] @ query).max())
        tally.positive_scores.append(best)
        # For a positive score this is `margin * best`; for a negative one it still lies below it.
        limit = best - (1 - self._settings.positive_margin) * abs(best)
        kept: list[tuple[Candidate, float]] = []
        held_back: list[tuple[Candidate, float]] = []
        for candidate, score in zip(everyone, map(float, scores), strict=True):
            if len(kept) == wanted:
                break
            reason = self._reason(candidate.row, banned, positives)
            if reason is None and score > limit:
                held_back.append((candidate, score))
                reason = "margin"
            if reason is None:
                kept.append((candidate, score))
            else:
                tally.excluded[reason] += 1
        held_back.sort(key=lambda pair: pair[1])
        taken_back = held_back[: wanted - len(kept)]
        tally.past_margin += len(taken_back)
        tally.short += len(kept) + len(taken_back) < wanted
        tally.lines += [(place, candidate, score) for candidate, score in [*kept, *taken_back]]

    def _reason(self, row: int, banned: set[int], positives: Sequence[int]) -> str | None:
        if row in banned:
            return "positive"
        words, threshold = self._words(row), self._settings.near_duplicate
        near = any(jaccard(words, self._words(positive)) >= threshold for positive in positives)
        return "near_duplicate" if near else None


def _result(
    collection: Collection, query_ids: Sequence[str], tally: _Tally, queries: int, settings: MineSettings
) -> Mined:
    ids, lines = collection.corpus_ids, tally.lines
    columns: tuple[list[Any], ...] = (
        [query_ids[place] for place, _, _ in lines],
        [ids[candidate.row] for _, candidate, _ in lines],
        [candidate.source for _, candidate, _ in lines],
        [candidate.rank for _, candidate, _ in lines],
        [score for _, _, score in lines],
    )
    table = pa.table(
        [pa.array(column, kind.type) for column, kind in zip(columns, NEGATIVES_SCHEMA, strict=True)],
        schema=NEGATIVES_SCHEMA,
    )
    note = _note(tally, queries, settings)
    if note:
        logger.warning("%s", note)
    by_source = {source: [s for _, c, s in lines if c.source == source] for source in ("bm25", "dense")}
    return Mined(
        table,
        {
            "queries": queries,
            "queries_without_positive": len(query_ids) - queries,
            "queries_short": tally.short,
            "negatives": len(lines),
            "candidates": tally.candidates,
            "shares": {source: len(scores) / max(1, len(lines)) for source, scores in by_source.items()},
            "mean_score": {source: float(np.mean(s)) if s else None for source, s in by_source.items()},
            "mean_positive_score": float(np.mean(tally.positive_scores)) if tally.positive_scores else None,
            "excluded": {
                reason: tally.excluded[reason] for reason in ("positive", "near_duplicate", "margin")
            },
            "past_margin": tally.past_margin,
            "note": note,
        },
    )


def _note(tally: _Tally, queries: int, settings: MineSettings) -> str:
    """One sentence where the negatives are not what the settings ask for."""
    count = len(tally.lines)
    if not queries:
        return "no query has a positive in the corpus, so nothing was mined"
    if not count:
        return "no hard negative was found; the corpus may hold little but positives"
    if tally.past_margin > _MUCH * count:
        return (
            f"{tally.past_margin} of {count} negatives score above {settings.positive_margin:g} times their "
            "query's positive and were kept for lack of others, lowest first; the model does not yet tell "
            "the positives apart"
        )
    return ""
