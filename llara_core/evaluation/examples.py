"""The queries a system answered best and worst, with what it found: where reading beats averaging."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llara_core.data.collection import Collection
from llara_core.evaluation.results import SystemResult

EXAMPLES = 10  # best and worst queries shown
FOUND = 3  # passages shown per query
KEPT = 10  # results among which a relevant passage's rank is looked for
SNIPPET_CHARACTERS = 400
_METRIC = "ndcg_at_10"

Example = dict[str, Any]


def best_and_worst(
    collection: Collection, shown: SystemResult, baseline: SystemResult | None = None
) -> tuple[list[Example], list[Example]]:
    """Return up to ten best and ten worst queries of a system by nDCG@10, no query in both lists.

    Equal scores are settled by where the baseline stands: the best are those that it answered worst,
    the worst those that it answered best, since these tell the systems apart; then by order.

    Args:
        collection: gives texts and titles.
        shown: the system to read.
        baseline: BM25 on the same queries, where it was judged.

    Returns:
        Best (best first) and worst (worst first), as ``Comparison`` describes an example.
    """
    scores = shown.per_query[_METRIC]
    rival = baseline.per_query[_METRIC] if baseline is not None else np.zeros_like(scores)
    count = min(EXAMPLES, (len(scores) + 1) // 2)
    best = np.lexsort((np.arange(len(scores)), rival, -scores))[:count]
    rest = np.setdiff1d(np.arange(len(scores)), best)
    worst = rest[np.lexsort((rest, -rival[rest], scores[rest]))][:EXAMPLES]
    example = _writer(collection, shown, baseline)
    return [example(int(place)) for place in best], [example(int(place)) for place in worst]


def _writer(
    collection: Collection, shown: SystemResult, baseline: SystemResult | None
) -> Callable[[int], Example]:
    """Return the function that describes the query at a place."""
    queries = dict(
        zip(collection.queries["_id"].to_pylist(), collection.queries["text"].to_pylist(), strict=True)
    )
    row_of = {document: row for row, document in enumerate(collection.corpus_ids)}
    qrels = collection.judgements(shown.split)

    def passage(document: str) -> dict[str, str]:
        row = row_of[document]
        text = collection.corpus["text"][row].as_py() or ""
        return {
            "id": document,
            "title": collection.corpus["title"][row].as_py() or "",
            "snippet": text if len(text) <= SNIPPET_CHARACTERS else text[:SNIPPET_CHARACTERS].rstrip() + " …",
        }

    def example(place: int) -> Example:
        query = shown.query_ids[place]
        grades = qrels.get(query, {})
        top = shown.top(place, KEPT)
        rank_of = {document: rank for rank, (document, _) in enumerate(top, start=1)}
        positives = _best_grades_first(grades)
        return {
            "query_id": query,
            "text": queries[query],
            "ndcg_at_10": float(shown.per_query[_METRIC][place]),
            "bm25_ndcg_at_10": None if baseline is None else float(baseline.per_query[_METRIC][place]),
            "first_relevant_rank": min((rank_of[d] for d in positives if d in rank_of), default=None),
            "found": [
                {"rank": rank, **passage(document), "score": score, "grade": grades.get(document)}
                for rank, (document, score) in enumerate(top[:FOUND], start=1)
            ],
            "relevant": [
                {**passage(document), "grade": grades[document], "rank": rank_of.get(document)}
                for document in [d for d in positives if d in row_of][:FOUND]
            ],
        }

    return example


def _best_grades_first(grades: Mapping[str, int]) -> list[str]:
    """Ids of the relevant documents, best grade first."""
    return sorted((d for d, grade in grades.items() if grade > 0), key=lambda d: -grades[d])
