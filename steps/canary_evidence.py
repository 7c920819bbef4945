"""What the canary sees: a fixed sample of queries, asked of the new pair and of the live one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.errors import ModelError
from llara_core.evaluation.metrics import evaluate_rows, means
from llara_core.indexing_settings import CanarySettings
from llara_core.model.retriever import Retriever
from llara_core.operations.canary import TOP, Answers, Evidence, drawn, overlap
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.index import Index

logger = logging.getLogger(__name__)
_DEPTH = 100  # results that are judged
_TIMED = 32  # queries of a round of the timing


class Pair(Protocol):
    """A model and the index made with it, as the live store hands them out."""

    @property
    def model(self) -> Path:
        """The bundle."""

    @property
    def index(self) -> Path:
        """The folder of the index."""


@dataclass(frozen=True)
class Sample:
    """Queries of the canary.

    Args:
        ids: Q ids; of documents where there are no judgements.
        texts: Q texts.
        judgements: query id to {document id: grade}; empty: there are none.
    """

    ids: list[str]
    texts: list[str]
    judgements: dict[str, dict[str, int]]


class Opened:
    """A pair, opened for searching."""

    def __init__(self, pair: Pair) -> None:
        """Load model and index.

        Raises:
            DataError: the index is no index, or a file of it is broken.
            ModelError: the index holds vectors of another model.
        """
        self.model = Retriever.from_pretrained(pair.model)
        self.index = Index.open(pair.index)
        self.index.check_model(self.model)
        self.ids = self.index.ids

    def search(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows of queries, [Q, min(k, N)]."""
        return self.index.search(self.model.encode_queries(queries), k, self.model)

    def unchanged_first(self, rows: NDArray[np.int64], unchanged: set[str]) -> list[list[str]]:
        """Of each query the first ten found documents that did not change."""
        found = ([self.ids[row] for row in line] for line in rows.tolist())
        return [[one for one in line if one in unchanged][:TOP] for line in found]


def sample(data: Collection, rules: CanarySettings) -> Sample:
    """The queries that are asked: the same for the same collection and settings.

    Args:
        data: the corpus, with its judged queries.
        rules: which split, how many, which seed.
    """
    if rules.split is not None and rules.split in data.qrels:
        ids, texts = data.split_queries(rules.split)
        places = drawn(len(ids), rules.queries, rules.seed).tolist()
        chosen, judged = [ids[place] for place in places], data.judgements(rules.split)
        return Sample(chosen, [texts[place] for place in places], {one: judged[one] for one in chosen})
    places = drawn(len(data.passages), rules.queries, rules.seed).tolist()
    return Sample([data.corpus_ids[one] for one in places], [data.passages[one] for one in places], {})


def gather(new: Pair, live: Pair | None, data: Collection, rules: CanarySettings) -> Evidence:
    """Ask both pairs, and write down what they answered.

    Args:
        new: the pair that shall serve.
        live: the pair that serves; None: there is none.
        data: the corpus that the new index should hold.
        rules: sample and limits.

    Raises:
        DataError, ModelError: a pair cannot be opened, or its model and index do not belong together.
    """
    asked, ours = sample(data, rules), Opened(new)
    corpus, held = set(data.corpus_ids), set(ours.ids)
    nothing = Evidence(len(corpus), len(ours.ids), len(corpus ^ held), 0, 0, 0, 0.0, Answers(0.0))
    if not asked.texts:
        return nothing
    try:
        scores, rows = ours.search(asked.texts, _DEPTH)
    except ModelError as error:  # a vector of a query is NaN: an answer about this pair, not a failure
        logger.warning("The new pair cannot encode the sample: %s", error)
        return replace(nothing, infinite=len(asked.texts), queries=len(asked.texts))
    theirs = None if live is None else Opened(live)
    seconds = _timed([ours] if theirs is None else [ours, theirs], asked.texts[:_TIMED], rules.rounds)
    answers, common = None, None
    if theirs is not None:
        live_scores, live_rows = theirs.search(asked.texts, _DEPTH)
        answers = _answers(theirs, asked, live_scores, live_rows, seconds[1])
        if theirs.model.fingerprint == ours.model.fingerprint:
            unchanged = _unchanged(ours.index, theirs.index)
            common = overlap(
                ours.unchanged_first(rows, unchanged), theirs.unchanged_first(live_rows, unchanged)
            )
    return replace(
        nothing,
        unknown=sum(ours.ids[row] not in corpus for row in np.unique(rows).tolist()),
        infinite=int((~np.isfinite(scores)).sum()),
        queries=len(asked.texts),
        itself=_itself(ours, data, rules),
        new=_answers(ours, asked, scores, rows, seconds[0]),
        live=answers,
        overlap=common,
    )


def _answers(
    opened: Opened, asked: Sample, scores: NDArray[np.float32], rows: NDArray[np.int64], seconds: float
) -> Answers:
    if not asked.judgements:
        return Answers(seconds)
    judged = evaluate_rows(
        asked.judgements, asked.ids, opened.ids, rows, scores, ("ndcg_at_10", "recall_at_100")
    )
    found = means(judged)
    return Answers(seconds, found["ndcg_at_10"], found["recall_at_100"])


def _itself(opened: Opened, data: Collection, rules: CanarySettings) -> float:
    """Share of sampled documents that their own vectors find: vectors, rows and ids belong together.

    Encoded as passages, not as queries, so that it holds for a weak model too. A document with the same text
    counts as itself.
    """
    places = drawn(len(data.passages), rules.documents, rules.seed)
    texts = [data.passages[place] for place in places.tolist()]
    _, rows = opened.index.search(opened.model.encode_passages(texts), TOP, opened.model)
    wanted = [one.tobytes() for one in passage_hashes(texts)]
    hits = [
        any(opened.index.hash_of(row) == one for row in line)
        for one, line in zip(wanted, rows.tolist(), strict=True)
    ]
    return float(np.mean(hits))


def _unchanged(new: Index, live: Index) -> set[str]:
    """Ids that have the same text in both indexes."""
    before = {one: live.hash_of(row) for row, one in enumerate(live.ids)}
    return {one for row, one in enumerate(new.ids) if before.get(one) == new.hash_of(row)}


def _timed(
    pairs: Sequence[Opened],
    texts: Sequence[str],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds a query of each pair: the median of rounds in turns, so that a busy moment meets both."""
    taken: list[list[float]] = [[] for _ in pairs]
    for _ in range(rounds):
        for place, pair in enumerate(pairs):
            start = clock()
            pair.search(texts, TOP)
            taken[place].append((clock() - start) / len(texts))
    return [median(one) for one in taken]
