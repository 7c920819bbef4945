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


class Reader:
    """Looks up the texts and grades that examples show.

    Args:
        collection: queries, corpus and judgements.
        split: whose judgements are shown.

    Raises:
        DataError: the split does not exist.
    """

    def __init__(self, collection: Collection, split: str) -> None:
        self._texts = dict(
            zip(collection.queries["_id"].to_pylist(), collection.queries["text"].to_pylist(), strict=True)
        )
        self._row_of = {document: row for row, document in enumerate(collection.corpus_ids)}
        self._corpus = collection.corpus
        self._qrels = collection.judgements(split)

    def text(self, query: str) -> str:
        """The query's text, empty for one that the queries file lacks."""
        return self._texts.get(query) or ""

    def grades(self, query: str) -> Mapping[str, int]:
        """Judged document ids and grades of a query."""
        return self._qrels.get(query, {})

    def positives(self, query: str) -> list[str]:
        """Ids of the relevant documents, best grade first."""
        return _best_grades_first(self.grades(query))

    def knows(self, document: str) -> bool:
        """Whether the corpus has that document."""
        return document in self._row_of

    def passage(self, document: str) -> dict[str, str]:
        """``id``, ``title`` and ``snippet``; the last two are empty for a document the corpus lacks."""
        if document not in self._row_of:
            return {"id": document, "title": "", "snippet": ""}
        row = self._row_of[document]
        text = self._corpus["text"][row].as_py() or ""
        return {
            "id": document,
            "title": self._corpus["title"][row].as_py() or "",
            "snippet": text if len(text) <= SNIPPET_CHARACTERS else text[:SNIPPET_CHARACTERS].rstrip() + " …",
        }


def _writer(
    collection: Collection, shown: SystemResult, baseline: SystemResult | None
) -> Callable[[int], Example]:
    """Return the function that describes the query at a place."""
    reader = Reader(collection, shown.split)

    def example(place: int) -> Example:
        query = shown.query_ids[place]
        grades = reader.grades(query)
        top = shown.top(place, KEPT)
        rank_of = {document: rank for rank, (document, _) in enumerate(top, start=1)}
        positives = reader.positives(query)
        return {
            "query_id": query,
            "text": reader.text(query),
            "ndcg_at_10": float(shown.per_query[_METRIC][place]),
            "bm25_ndcg_at_10": None if baseline is None else float(baseline.per_query[_METRIC][place]),
            "first_relevant_rank": min((rank_of[d] for d in positives if d in rank_of), default=None),
            "found": [
                {"rank": rank, **reader.passage(document), "score": score, "grade": grades.get(document)}
                for rank, (document, score) in enumerate(top[:FOUND], start=1)
            ],
            "relevant": [
                {**reader.passage(document), "grade": grades[document], "rank": rank_of.get(document)}
                for document in [d for d in positives if reader.knows(d)][:FOUND]
            ],
        }

    return example


def _best_grades_first(grades: Mapping[str, int]) -> list[str]:
    """Ids of the relevant documents, best grade first."""
    return sorted((d for d, grade in grades.items() if grade > 0), key=lambda d: -grades[d])
