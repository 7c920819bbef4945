"""What mining found, gathered block by block as numbers, and told as a table and as counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llara_core.config import MineSettings
from llara_core.data.collection import Collection
from llara_core.retrieval.mining_chooser import REASONS, Choice
from llara_core.retrieval.mining_positives import Bar
from llara_core.retrieval.mining_sources import NOBODY, SOURCES, Candidates, Named, Rows, shared

NEGATIVES_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("corpus_id", pa.string()),
        ("source", pa.string()),  # "bm25", "dense" or "random": the list that named it first
        ("rank", pa.int32()),  # in that list, from 1; of a random one, the number of the draw
        ("score", pa.float32()),  # the model's inner product with the query, for every source
    ]
)
_MUCH = 0.1  # share of negatives past the margin above which the log says so
_TOP = 10  # ranks at which the lists' overlap is told, beside the whole window


@dataclass(frozen=True)
class Lines:
    """Chosen negatives, one line each, in the order of the queries and, within one, of choice.

    Attributes:
        places: of the query in the split [L].
        rows: of the passage in the corpus [L].
        sources: place in ``SOURCES`` [L] int8.
        ranks: in that source's list [L] int32.
        scores: the model's inner product [L] float32.
        past_limit: taken back from the positive-aware filter [L].
        likeness: greatest word-set Jaccard with a positive, -1 where not asked [L] float32.
    """

    places: Rows
    rows: Rows
    sources: NDArray[np.int8]
    ranks: NDArray[np.int32]
    scores: NDArray[np.float32]
    past_limit: NDArray[np.bool_]
    likeness: NDArray[np.float32]


@dataclass
class Findings:
    """Everything noted while mining; grows with queries and negatives, never with the corpus.

    Attributes:
        asked: places of the mined queries in the split [M].
        best: score of each one's best positive [M] float32.
        limit: what its negatives may score [M] float64.
        positives: scores of all positives of all of them [P] float32.
        excluded: candidates left out among those looked at, by source and reason [S, R].
        candidates: distinct candidates of all queries together.
        short: queries with fewer negatives than asked.
        overlap: for BM25 and the model's search: at ``_TOP`` ranks and in the whole window, passages in
            both lists and the length of the shorter one, summed over queries [2, 2].
        found: queries with a positive in the window of each source [S].
    """

    asked: list[Rows] = field(default_factory=list)
    best: list[NDArray[np.float32]] = field(default_factory=list)
    limit: list[NDArray[np.float64]] = field(default_factory=list)
    positives: list[NDArray[np.float32]] = field(default_factory=list)
    excluded: Rows = field(default_factory=lambda: np.zeros((len(SOURCES), len(REASONS)), np.int64))
    candidates: int = 0
    short: int = 0
    overlap: Rows = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    found: Rows = field(default_factory=lambda: np.zeros(len(SOURCES), np.int64))
    _lines: list[Lines] = field(default_factory=list)

    def note_lists(self, lists: list[Named], known: list[NDArray[np.bool_]]) -> None:
        """Count the overlap of a block's lists, and the positives in them.

        Args:
            lists: of the sources.
            known: which rows of each are positives [B, K].
        """
        for named, positive in zip(lists, known, strict=True):
            self.found[named.source] += int(positive.any(axis=1).sum())
        if [named.source for named in lists][:2] != [0, 1]:
            return
        first, second = (named.rows for named in lists[:2])
        for place, depth in enumerate((_TOP, None)):
            pair = first[:, :depth], second[:, :depth]
            lengths = np.minimum(*((rows != NOBODY).sum(axis=1) for rows in pair))
            self.overlap[place] += (int(shared(*pair).sum()), int(lengths.sum()))

    def note_choice(
        self, places: Rows, candidates: Candidates, choice: Choice, bar: Bar, wanted: int
    ) -> None:
        """Take in what was chosen for a block of queries, and why the others were not."""
        rows, columns = choice.places, choice.columns
        self.asked.append(places)
        self.best.append(bar.best)
        self.limit.append(bar.limit)
        self.positives.append(bar.scores)
        self.candidates += int((candidates.rows != NOBODY).sum())
        self.short += int((np.bincount(rows, minlength=len(places)) < wanted).sum())
        out = choice.looked_at & (choice.why > 0)
        pairs = candidates.sources[out].astype(np.int64) * len(REASONS) + choice.why[out] - 1
        self.excluded += np.bincount(pairs, minlength=self.excluded.size).reshape(self.excluded.shape)
        self._lines.append(
            Lines(
                places[rows],
                candidates.rows[rows, columns],
                candidates.sources[rows, columns],
                candidates.ranks[rows, columns],
                candidates.scores[rows, columns],
                choice.past_limit,
                choice.likeness,
            )
        )

    def add_lines(self, lines: Lines) -> None:
        """Take in chosen negatives of queries that come after those so far."""
        self._lines.append(lines)

    @property
    def lines(self) -> Lines:
        """All lines so far as one."""
        if len(self._lines) != 1:
            kinds = (np.int64, np.int64, np.int8, np.int32, np.float32, np.bool_, np.float32)
            empty = Lines(*(np.zeros(0, kind) for kind in kinds))  # type: ignore[arg-type]
            parts = [empty, *self._lines]
            names = empty.__dataclass_fields__
            joined = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
            self._lines = [Lines(*joined)]
        return self._lines[0]


def table_of(collection: Collection, query_ids: list[str], lines: Lines) -> pa.Table:
    """The lines as a table of ``NEGATIVES_SCHEMA`` in one chunk, so that its bytes do not tell the blocks."""
    columns = [
        pa.array(query_ids, pa.string()).take(pa.array(lines.places)),
        collection.corpus["_id"].take(pa.array(lines.rows)),
        pa.array(SOURCES, pa.string()).take(pa.array(lines.sources)),
        pa.array(lines.ranks),
        pa.array(lines.scores),
    ]
    return pa.table(columns, names=NEGATIVES_SCHEMA.names).cast(NEGATIVES_SCHEMA).combine_chunks()


def stats_of(findings: Findings, without_positive: int, settings: MineSettings) -> dict[str, Any]:
    """Counts and means of a run, JSON-able; see ``mining.Mined``."""
    lines, positives = findings.lines, _joined(findings.best)
    count, queries = len(lines.rows), len(positives)
    scores = {source: lines.scores[lines.sources == place] for place, source in enumerate(SOURCES)}
    if not settings.random_depth:
        del scores["random"]
    excluded = findings.excluded.sum(axis=0)
    return {
        "queries": queries,
        "queries_without_positive": without_positive,
        "queries_short": findings.short,
        "negatives": count,
        "candidates": findings.candidates,
        "shares": {source: len(some) / max(1, count) for source, some in scores.items()},
        "mean_score": {source: _mean(some) for source, some in scores.items()},
        "mean_positive_score": _mean(positives),
        "excluded": {reason: int(number) for reason, number in zip(REASONS, excluded, strict=True)},
        "past_margin": int(lines.past_limit.sum()),
        "note": _note(count, queries, int(lines.past_limit.sum()), settings),
    }


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _mean(values: NDArray[np.float32]) -> float | None:
    return float(np.mean(values, dtype=np.float64)) if len(values) else None


def _note(count: int, queries: int, past: int, settings: MineSettings) -> str:
    """One sentence where the negatives are not what the settings ask for."""
    if not queries:
        return "no query has a positive in the corpus, so nothing was mined"
    if not count:
        return "no hard negative was found; the corpus may hold little but positives"
    if past > _MUCH * count:
        apart = f" and {settings.positive_distance:g} below" if settings.positive_distance else ""
        return (
            f"{past} of {count} negatives score above {settings.positive_margin:g} times{apart} their "
            "query's positive and were kept for lack of others, lowest first; the model does not yet tell "
            "the positives apart"
        )
    return ""
