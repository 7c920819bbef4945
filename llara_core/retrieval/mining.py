"""Hard negatives: passages that BM25 or the model itself takes for an answer, and that are none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.config import Bm25Settings, MineSettings
from llara_core.data.collection import Collection
from llara_core.errors import ConfigError
from llara_core.progress import Progress
from llara_core.retrieval.audit import audit_of
from llara_core.retrieval.bm25 import Bm25
from llara_core.retrieval.mining_chooser import Checks, Chooser
from llara_core.retrieval.mining_likeness import Likeness
from llara_core.retrieval.mining_positives import Positives, bar, positives_of
from llara_core.retrieval.mining_sources import (
    Named,
    Rows,
    merged,
    named_by_bm25,
    named_by_chance,
    named_by_model,
    pair_scores,
    windows,
)
from llara_core.retrieval.mining_table import NEGATIVES_SCHEMA, Findings, stats_of, table_of
from llara_core.retrieval.mining_teacher import Teacher, open_veto
from llara_core.retrieval.vectors import Encoder, corpus_vectors

__all__ = ["NEGATIVES_SCHEMA", "Mined", "mine"]

logger = logging.getLogger(__name__)

_ENCODE_BLOCK = 2048  # queries encoded and searched at once, always the same ones together
_CHOICE_BLOCK = 256  # of these, chosen for at once: memory does not grow with queries x corpus


class Mined(NamedTuple):
    """Hard negatives and how they came about.

    ``stats`` is JSON-able: ``queries`` (with a positive in the corpus), ``queries_without_positive``,
    ``queries_short`` (fewer negatives than asked, for lack of candidates), ``negatives``, ``candidates``,
    ``shares`` (of each source among the negatives), ``mean_score`` (per source), ``mean_positive_score``,
    ``excluded`` (``positive``, ``margin``, ``near_duplicate``, ``repeated``, ``veto``: counts among the
    candidates looked at), ``past_margin`` (negatives taken back from the margin filter), ``note`` (a
    sentence, or ""). ``audit`` is what ``retrieval.audit.audit_of`` gives, JSON-able too.
    """

    table: pa.Table
    stats: dict[str, Any]
    audit: dict[str, Any]


def mine(  # noqa: PLR0913 - the last three are rarely given
    collection: Collection,
    encoder: Encoder,
    settings: MineSettings,
    bm25: Bm25Settings | None = None,
    seed: int = 0,
    *,
    cache: Path | None = None,
    shard: tuple[int, int] = (0, 1),
    teacher: Teacher | None = None,
) -> Mined:
    """Return hard negatives for the queries of a split, or for `settings.queries` of them.

    1. BM25, the model's exact search and chance each name candidates: the ranks after `skip_top`, as many
       as their depth. The lists are interleaved by rank; `seed` draws, per query, which one comes first.
    2. Left out: positives of the query or of a query with the same words in the same order, the query
       itself, passages whose word set is nearly that of a positive (`near_duplicate`), and passages of the
       same text as a negative chosen before.
    3. Left out too: passages that the model scores above `positive_margin` times the query's best
       positive: they may well be unjudged answers. BM25's candidates are judged by the same score. And
       those to which the teacher of `veto` objects.
    4. The first `negatives` that remain are kept, or with `shares` the first of each source. Where too few
       remain, those that the margin left out are taken back, lowest score first. This matters for a
       model that knows little yet: it scores many passages above the positive, and without step 4 most
       queries would keep nothing.

    What is dear (word sets, the teacher) is asked only of candidates that would be kept. Every query's
    negatives depend on nothing but the query, the corpus, the settings and the seed: blocks, shards and
    repeated runs give the same bytes.

    Args:
        collection: corpus, queries and judgements.
        encoder: the adapted model.
        settings: the split, depths and thresholds.
        bm25: settings of the lexical search.
        seed: draws which list comes first, and the random candidates.
        cache: folder of corpus vectors, shared with the evaluation; None: encode anew.
        shard: number of this part and count of parts: only its queries are mined. The tables of all
            parts, one after the other, are the table of the whole.
        teacher: who may object; None: the model that `veto` names, if any.

    Returns:
        Table of ``NEGATIVES_SCHEMA``, in the order of the queries and, within one, of choice; stats; audit.

    Raises:
        ConfigError: all depths are 0, or the shard is none of its parts.
        DataError: the split does not exist or judges no known query.
        ModelError: the teacher cannot be loaded.

    Source: paper, section 3.4 (hard negatives); step 3 is the positive-aware filter of NV-Retriever
    (Moreira et al., 2024, arXiv 2407.15831, "TopK-PercPos"); issue 4, point 4.
    """
    findings = find(collection, encoder, settings, bm25, seed, cache=cache, shard=shard, teacher=teacher)
    return conclude(collection, encoder.fingerprint, settings, seed, findings, shard)


def find(  # noqa: PLR0913 - as ``mine``
    collection: Collection,
    encoder: Encoder,
    settings: MineSettings,
    bm25: Bm25Settings | None = None,
    seed: int = 0,
    *,
    cache: Path | None = None,
    shard: tuple[int, int] = (0, 1),
    teacher: Teacher | None = None,
) -> Findings:
    """The part of ``mine`` that can be shared: what was found for the queries of a shard.

    Arguments and errors are those of ``mine``; ``mining_shards`` keeps what it returns and joins it.
    """
    if not windows(settings):
        raise ConfigError(
            "mine: bm25_depth, dense_depth and random_depth are all 0; "
            "at least one source must give candidates"
        )
    if not 0 <= shard[0] < shard[1]:
        raise ConfigError(f"mine: shard {shard[0]} of {shard[1]} does not exist; parts count from 0")
    miner = _Miner(collection, encoder, settings, seed, teacher)
    miner.prepare(bm25, cache)
    return miner.run(shard)


def conclude(
    collection: Collection,
    model: str,
    settings: MineSettings,
    seed: int,
    findings: Findings,
    shard: tuple[int, int] = (0, 1),
) -> Mined:
    """The part of ``mine`` that is done once: table, stats and audit of all that was found.

    Args:
        collection: that was mined.
        model: fingerprint of the encoder.
        settings: of the run.
        seed: of the run.
        findings: of ``find``, or of all shards together.
        shard: whose findings they are.
    """
    positives = positives_of(collection, settings.split)
    stats = stats_of(findings, int((positives.counts == 0).sum()), settings)
    if stats["note"]:
        logger.warning("%s", stats["note"])
    facts = {
        "collection": collection.name,
        "split": settings.split,
        "documents": collection.corpus.num_rows,
        "model": model,
        "seed": seed,
        "shard": list(shard),
    }
    audit = audit_of(collection, positives, findings, settings, stats, facts)
    table = table_of(collection, positives.query_ids, findings.lines)
    return Mined(table, stats, audit)


class _Miner:
    """One run of ``mine``: what all its blocks share."""

    def __init__(
        self,
        collection: Collection,
        encoder: Encoder,
        settings: MineSettings,
        seed: int,
        teacher: Teacher | None,
    ) -> None:
        self.positives: Positives = positives_of(collection, settings.split)
        self._collection, self._encoder, self._settings, self._seed = collection, encoder, settings, seed
        self._veto = open_veto(settings.veto, teacher)
        self._likeness = Likeness(collection)
        self._windows = windows(settings)
        self._vectors: NDArray[Any] = np.zeros((0, 0), np.float32)
        self._lexical: Bm25 | None = None

    def prepare(self, bm25: Bm25Settings | None, cache: Path | None) -> None:
        """Encode and index the corpus."""
        # As a plain view: every slice of a numpy.memmap costs microseconds of Python.
        self._vectors = np.asarray(corpus_vectors(self._encoder, self._collection.passages, cache))
        if "bm25" in self._windows:
            self._lexical = Bm25.cached(self._collection.passages, bm25, cache)

    def run(self, shard: tuple[int, int]) -> Findings:
        """Mine for the queries of the shard, block by block."""
        places = _drawn(np.flatnonzero(self.positives.counts), self._settings.queries, self._seed)
        first, last = (len(places) * part // shard[1] for part in (shard[0], shard[0] + 1))
        turned = np.random.default_rng(self._seed).integers(0, 2, len(self.positives.texts)).astype(np.bool_)
        findings, choose = Findings(), Chooser(self._settings, self._seed)
        with Progress("mine", total=last - first, unit="queries") as progress:
            for block, queries in self._encoded(places, first, last):
                lists = self._named(block, queries)
                for start in range(0, len(block), _CHOICE_BLOCK):
                    some = slice(start, start + _CHOICE_BLOCK)
                    part = [named.of(some) for named in lists]
                    self._choose(choose, findings, block[some], queries[some], part, turned[block[some]])
                progress.update(len(block))
        return findings

    def _encoded(self, places: Rows, first: int, last: int) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
        """Places and vectors of the queries ``first`` to ``last``, a block at a time.

        A query's vector depends in its last bits on what it is encoded with, so a shard encodes whole blocks
        of the whole list and leaves out what is not its own.
        """
        for start in range(first - first % _ENCODE_BLOCK, last, _ENCODE_BLOCK):
            block = places[start : start + _ENCODE_BLOCK]
            vectors = self._encoder.encode_queries([self.positives.texts[place] for place in block])
            own = slice(max(0, first - start), max(0, last - start))
            yield block[own], np.asarray(vectors, np.float32)[own]

    def _named(self, places: Rows, queries: NDArray[np.float32]) -> list[Named]:
        lists = []
        if self._lexical is not None:
            texts = [self.positives.texts[place] for place in places]
            lists.append(named_by_bm25(self._lexical, texts, self._windows["bm25"]))
        if "dense" in self._windows:
            lists.append(named_by_model(queries, self._vectors, self._windows["dense"]))
        if "random" in self._windows:
            count = self._windows["random"][1]
            lists.append(named_by_chance(places, count, len(self._vectors), self._seed))
        return lists

    def _choose(
        self,
        choose: Chooser,
        findings: Findings,
        places: Rows,
        queries: NDArray[np.float32],
        lists: list[Named],
        turned: NDArray[np.bool_],
    ) -> None:
        """Choose the negatives of a block of queries [B, D] and note how."""
        candidates = merged(lists, turned)
        unscored = np.nonzero((candidates.rows >= 0) & np.isnan(candidates.scores))
        candidates.scores[unscored] = pair_scores(
            queries, self._vectors, unscored[0], candidates.rows[unscored]
        )
        query_of, rows = self.positives.pairs(places)
        measure = bar(queries, self._vectors, query_of, rows, self._settings)
        findings.note_lists(lists, [self.positives.hold(places, named.rows) for named in lists])
        known = self.positives.hold(places, candidates.rows)
        choice = choose(candidates, known, measure.limit, places, self._checks(places, query_of, rows))
        findings.note_choice(places, candidates, choice, measure, self._settings.negatives)

    def _checks(self, places: Rows, query_of: Rows, positives: Rows) -> Checks:
        """What may still speak against a passage, for the queries of a block."""
        starts, veto = np.searchsorted(query_of, np.arange(len(places) + 1)), self._veto
        limits: dict[int, float] = {}  # of the teacher's scores, by query

        def like(asked: Rows, rows: Rows) -> NDArray[np.float64]:
            return self._likeness.with_positives(asked, rows, starts, positives)

        def objects(asked: Rows, rows: Rows) -> NDArray[np.bool_]:
            marks = np.zeros(len(rows), np.bool_)
            if veto is None:
                return marks
            for place in np.unique(asked).tolist():
                text, own = self.positives.texts[places[place]], asked == place
                if place not in limits:
                    known = self._likeness.texts(positives[starts[place] : starts[place + 1]])
                    limits[place] = veto.limit(text, known)
                marks[own] = veto.against(text, self._likeness.texts(rows[own]), limits[place])
            return marks

        near = self._settings.near_duplicate is not None
        return Checks(like if near else None, objects if veto else None, self._likeness.codes)


def _drawn(places: Rows, most: int | None, seed: int) -> Rows:
    """At most ``most`` of the places, in their order; which ones is the seed's choice."""
    if most is None or most >= len(places):
        return places
    drawn = np.random.default_rng([seed, 1]).choice(len(places), most, replace=False)
    return places[np.sort(drawn)]
