"""From answers, as dictionaries or as arrays, to what the metrics read: the ranks of relevant results.

Only relevant results, and those of equal score, are ever looked at one by one.

Names of axes: Q queries, K results per query, N documents, F relevant results found.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from llara_core.evaluation.metric_order import PADDING, Names, best_columns, names_of_rows, ranks_of_scores
from llara_core.evaluation.metric_values import Graded

Judged = Sequence[Mapping[str, int]]


@dataclass(frozen=True)
class Answers:
    """Results of Q queries, and which of them are relevant.

    Args:
        scores: [Q, K] float32, without NaN; minus infinity where there is no result.
        valid: where there is one, [Q, K].
        names: document ids of results, by place and column.
        places: queries of the relevant results, ascending, [F].
        values: their scores, [F] float32.
        gains: their grades, [F].
        ids: their document ids, [F].
    """

    scores: NDArray[np.float32]
    valid: NDArray[np.bool_]
    names: Names
    places: NDArray[np.int64]
    values: NDArray[np.float32]
    gains: NDArray[np.int64]
    ids: list[str]


def from_dictionaries(found: Sequence[Mapping[str, float]], judged: Judged) -> Answers:
    """Return the answers of {document id: score}, one mapping per query, and {document id: grade}."""
    counts = np.fromiter(map(len, found), np.int64, len(found))
    valid = np.arange(counts.max(initial=0)) < counts[:, None]
    scores = np.full(valid.shape, -np.inf, np.float32)
    flat = chain.from_iterable(results.values() for results in found)
    scores[valid] = _held(np.fromiter(flat, np.float64, int(counts.sum())))
    hits = [
        (place, results[document], grade, document)
        for place, (results, of_query) in enumerate(zip(found, judged, strict=True))
        for document, grade in of_query.items()
        if grade > 0 and document in results
    ]
    places, values, gains, ids = zip(*hits, strict=True) if hits else ((), (), (), ())
    listed: dict[int, list[str]] = {}  # the ids of those queries that ties ask for

    def names(places: NDArray[np.int64], columns: NDArray[np.int64]) -> list[str]:
        for place in np.unique(places).tolist():
            if place not in listed:
                listed[place] = list(found[place])
        return [
            listed[place][column] for place, column in zip(places.tolist(), columns.tolist(), strict=True)
        ]

    return Answers(
        scores, valid, names, np.array(places, np.int64), _held(np.array(values, np.float64)),
        np.array(gains, np.int64), list(ids),
    )  # fmt: skip


def from_rows(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    corpus_ids: Sequence[str],
    judged: Judged,
    row_of: Mapping[str, int],
) -> Answers:
    """Return the answers of rows and scores [Q, K] of a corpus of N, and {document id: grade}.

    Args:
        rows: ``PADDING`` where there is no result.
        scores: their scores.
        corpus_ids: N ids.
        judged: one mapping per query.
        row_of: the rows of all judged documents that the corpus has.
    """
    valid = rows != PADDING
    held = _held(scores)
    held[~valid] = -np.inf
    size = len(corpus_ids)
    pairs = [
        (place * size + row_of[document], grade)
        for place, of_query in enumerate(judged)
        for document, grade in of_query.items()
        if grade > 0 and document in row_of
    ]
    keys, grades = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    wanted_by_any = np.zeros(size + 1, np.bool_)  # the last place is the padding's
    wanted_by_any[keys % max(size, 1)] = len(keys) > 0
    places, columns = np.nonzero(wanted_by_any[rows])  # most results fall out here, without a search
    wanted = places * size + rows[places, columns]
    at = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
    known = keys[at] == wanted if len(keys) else np.zeros(0, np.bool_)
    places, columns, gains = places[known], columns[known], grades[at[known]]
    names = names_of_rows(corpus_ids, rows)
    return Answers(held, valid, names, places, held[places, columns], gains, names(places, columns))


def grade(answers: Answers, judged: Judged, depth: int, hole_depth: int, annotated: Container[str]) -> Graded:
    """Return what the metrics read of the answers.

    Args:
        answers: of Q queries.
        judged: {document id: grade} of each.
        depth: ranks that any metric reads.
        hole_depth: ranks in which results that nobody judged are looked for.
        annotated: ids of all judged documents, whatever their grade.
    """
    one = answers
    ranks = ranks_of_scores(one.scores, one.valid, one.places, one.values, one.ids, one.names, depth)
    order = np.lexsort((ranks, answers.places))
    hole_places, hole_ranks = _holes(answers, hole_depth, annotated)
    ideal, relevant = _ideal(judged)
    return Graded(
        answers.places[order], ranks[order], answers.gains[order], hole_places, hole_ranks, ideal, relevant
    )


def _holes(
    answers: Answers, depth: int, annotated: Container[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places and ranks of the results among the first `depth` that no query judges."""
    columns = best_columns(answers.scores, answers.valid, depth, answers.names)
    places, ranks = np.nonzero(columns != PADDING)
    names = answers.names(places, columns[places, ranks])
    unknown = np.fromiter((name not in annotated for name in names), np.bool_, len(names))
    return places[unknown], ranks[unknown]


def _ideal(judged: Judged) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positive grades of each query, descending, padded with 0, [Q, most], and their number, [Q]."""
    counts = np.fromiter(map(len, judged), np.int64, len(judged))
    flat = chain.from_iterable(of_query.values() for of_query in judged)
    grades = np.fromiter(flat, np.int64, int(counts.sum()))
    places = np.repeat(np.arange(len(judged)), counts)[grades > 0]
    grades = grades[grades > 0]
    relevant = np.bincount(places, minlength=len(judged)).astype(np.int64)
    order = np.lexsort((-grades, places))
    ranks = np.arange(len(places)) - (np.cumsum(relevant) - relevant)[places]
    ideal = np.zeros((len(judged), int(relevant.max(initial=0))), np.int64)
    ideal[places, ranks] = grades[order]  # `places` is ascending, sorted or not
    return ideal, relevant


def _held(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scores as trec_eval holds them; NaN counts as minus infinity."""
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        held = scores.astype(np.float32)
    held[np.isnan(held)] = -np.inf
    return held
