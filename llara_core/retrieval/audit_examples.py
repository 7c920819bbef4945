"""Some negatives of a mining run in full, for eyes to judge: what no figure tells."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.data.collection import Collection, passage_text
from llara_core.retrieval.mining_positives import Positives
from llara_core.retrieval.mining_sources import SOURCES, Rows
from llara_core.retrieval.mining_table import Lines

EXAMPLES = 20
_SNIPPET = 400  # characters of a passage that are shown
_STREAM = 3  # keeps the draw of examples apart from the seed's others
# What makes a negative suspect of being an unjudged answer; see ``audit.audit_of``.
SUSPICIONS = ("past_limit", "like_a_positive", "judged_elsewhere", "answers_a_like_query")


def examples_of(
    collection: Collection,
    positives: Positives,
    lines: Lines,
    marks: NDArray[np.bool_],
    levels: tuple[NDArray[np.float64], NDArray[np.float64]],
    seed: int,
) -> list[dict[str, Any]]:
    """Up to 20 negatives drawn by the seed: half of them suspect, where there are as many.

    Args:
        collection: whose passages they are.
        positives: of the split's Q queries.
        lines: all L negatives.
        marks: suspicions on each [L, 4].
        levels: best positive's score and limit of each query [Q].
        seed: draws them.

    Returns:
        In the order of the queries: ``query_id``, ``query``, ``suspicions`` (names, perhaps none),
        ``limit`` (None: no filter), ``positive`` (the first by row, with ``best_score``, the score of the
        best) and ``negative`` (with ``source``, ``rank``, ``score``), both with ``id``, ``title`` and
        ``snippet``.
    """
    best, limit = levels
    examples = []
    for line in drawn(np.asarray(marks.any(axis=1)), lines.places, seed):
        place = int(lines.places[line])
        group = positives.group[place]
        known = int(positives.rows[positives.starts[group]])
        bounded = bool(np.isfinite(limit[place]))
        examples.append(
            {
                "query_id": positives.query_ids[place],
                "query": positives.texts[place],
                "suspicions": [name for name, mark in zip(SUSPICIONS, marks[line], strict=True) if mark],
                "limit": round(float(limit[place]), 6) if bounded else None,
                "positive": {**_passage(collection, known), "best_score": round(float(best[place]), 6)},
                "negative": {
                    **_passage(collection, int(lines.rows[line])),
                    "source": SOURCES[lines.sources[line]],
                    "rank": int(lines.ranks[line]),
                    "score": round(float(lines.scores[line]), 6),
                },
            }
        )
    return examples


def drawn(suspect: NDArray[np.bool_], places: Rows, seed: int) -> list[int]:
    """Lines to show: at most one a query until every query has one, half of them suspect if possible."""
    random = np.random.default_rng([seed, _STREAM])
    order = random.permutation(len(suspect))
    _, first = np.unique(places[order], return_index=True)
    repeated = np.ones(len(order), np.bool_)
    repeated[first] = False
    order = order[np.argsort(repeated, kind="stable")]
    doubtful, others = order[suspect[order]], order[~suspect[order]]
    half = max(EXAMPLES // 2, EXAMPLES - len(others))
    doubtful = doubtful[:half]
    kept = np.concatenate([doubtful, others[: EXAMPLES - len(doubtful)]])
    return sorted(kept.tolist())


def _passage(collection: Collection, row: int) -> dict[str, str]:
    record = collection.corpus.slice(row, 1).select(["_id", "title", "text"]).to_pylist()[0]
    text = passage_text("", record["text"] or "")
    short = text if len(text) <= _SNIPPET else text[:_SNIPPET].rsplit(" ", 1)[0] + " …"
    return {"id": record["_id"], "title": record["title"] or "", "snippet": short}
