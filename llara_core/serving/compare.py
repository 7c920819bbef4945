"""One query, several systems: what each finds, marked and judged.

Everything here runs in the page's own worker and is handed plain values.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from llara_core.errors import LlaraError
from llara_core.evaluation.metrics import evaluate_run
from llara_core.retrieval.bm25_terms import Analyser
from llara_core.serving.corpus import Corpus, Passage
from llara_core.serving.matches import Matches
from llara_core.serving.page_schemas import Column, CompareResponse, PassageResponse, Result
from llara_core.serving.systems import Systems
from llara_core.serving.waiting import Answering, Waiting

logger = logging.getLogger(__name__)
METRIC, _DEPTH = "ndcg_at_10", 10
# Of a passage that is shown whole. Beyond it a browser stands still, and nobody reads on.
LONGEST = 2_000_000  # characters
_TITLE = 200  # characters of a title in a list of results; the whole one stands with the whole passage


class UnknownSystemError(LlaraError):
    """No system has this name (any more)."""


class UnknownPassageError(LlaraError):
    """The system's texts hold no passage of this id."""


class NotYetError(LlaraError):
    """The system does not answer yet."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.message)
        self.waiting = waiting


def compare(
    systems: Systems, analyser: Analyser, query: str, asked: Sequence[str], k: int
) -> CompareResponse:
    """Ask every system; those that are not open say so and do not hold up the others.

    Args:
        systems: all there are.
        analyser: finds the words of the query.
        query: what is asked.
        asked: ids of systems.
        k: passages of each.

    Raises:
        UnknownSystemError: there is no such system; nothing was searched.
    """
    found = [(one, systems.find(one)) for one in asked]
    for name, system in found:
        if system is None:
            raise UnknownSystemError(f"there is no system {name[:80]!r}; GET systems lists those there are")
    corpus, matches = _corpus(systems), Matches(query, analyser)
    grades = {} if corpus is None else corpus.grades(query)
    columns = []
    for name, system in found:
        if isinstance(system, Waiting):
            columns.append(_waiting(name, system))
        elif system is not None:
            try:
                columns.append(_column(name, system, query, k, matches, corpus, grades))
            except LlaraError as error:  # a damaged index must not hide what the others find
                logger.warning("%s did not answer a comparison: %s", name, error)
                columns.append(_waiting(name, Waiting("failed", f"It did not answer: {error}")))
    judged = sum(grade > 0 for grade in grades.values()) if grades else None
    return CompareResponse(judged=judged, columns=columns)


def whole_passage(
    systems: Systems, analyser: Analyser, document: str, system: str, query: str
) -> PassageResponse:
    """A passage with the words of a query marked.

    Args:
        systems: all there are.
        analyser: finds the words of the query.
        document: its id.
        system: that found it: two versions may hold two texts under one id.
        query: what was asked; "" marks nothing.

    Raises:
        UnknownSystemError: there is no such system.
        NotYetError: it is not open.
        UnknownPassageError: its texts do not hold the passage.
    """
    found = systems.find(system)
    if found is None:
        raise UnknownSystemError(f"there is no system {system[:80]!r}; GET systems lists those there are")
    if isinstance(found, Waiting):
        raise NotYetError(found)
    corpus, matches = _corpus(systems), Matches(query, analyser)
    passage = _look_up(document, None, found.corpus, corpus)
    if passage is None:
        raise UnknownPassageError("the texts of this system hold no passage of that id")
    grades = {} if corpus is None else corpus.grades(query)
    return PassageResponse(
        id=passage.id,
        title=matches.whole(passage.title[:LONGEST]),
        text=matches.whole(passage.text[:LONGEST]),
        characters=len(passage.text),
        grade=grades.get(passage.id),
    )


def _corpus(systems: Systems) -> Corpus | None:
    """The champion's texts: their judgements count for every column, else columns could not be compared."""
    champion = systems.champion()
    return None if champion is None else champion.corpus


def _column(
    name: str,
    system: Answering,
    query: str,
    k: int,
    matches: Matches,
    corpus: Corpus | None,
    grades: Mapping[str, int],
) -> Column:
    found = system.search(query, k)
    results = []
    for rank, (score, row) in enumerate(zip(found.scores, found.rows, strict=True), start=1):
        document = system.id_of(row)
        passage = _look_up(document, row, system.corpus, corpus)
        results.append(_result(rank, score, document, passage, matches, grades.get(document)))
    message = "" if system.corpus is not None else "It carries no texts; those shown are the champion's."
    judged = {document: max(grade, 0) for document, grade in grades.items()}
    return Column(
        system=name,
        state="ready",
        message=message,
        retry_after=None,
        results=results,
        encode_ms=found.encode_ms,
        search_ms=found.search_ms,
        ndcg_at_10=_ndcg(judged, results) if k >= _DEPTH and any(judged.values()) else None,
    )


def _result(
    rank: int, score: float, document: str, passage: Passage | None, matches: Matches, grade: int | None
) -> Result:
    snippet = matches.snippet("" if passage is None else passage.text)
    return Result(
        rank=rank,
        score=score if math.isfinite(score) else 0.0,
        id=document,
        title=list(matches.snippet("" if passage is None else passage.title, _TITLE).pieces),
        snippet=list(snippet.pieces),
        before=snippet.before,
        after=snippet.after,
        grade=grade,
        known=passage is not None,
    )


def _look_up(document: str, row: int | None, own: Corpus | None, other: Corpus | None) -> Passage | None:
    """A passage by the row of its own corpus, or by its id in whatever corpus there is."""
    if own is not None and row is not None:
        return own.passage(row)
    corpus = other if own is None else own
    if corpus is None:
        return None
    place = corpus.row_of(document)
    return None if place is None else corpus.passage(place)


def _waiting(name: str, waiting: Waiting) -> Column:
    return Column(
        system=name,
        state=waiting.state,
        message=waiting.message,
        retry_after=waiting.retry_after,
        results=[],
        encode_ms=None,
        search_ms=None,
        ndcg_at_10=None,
    )


def _ndcg(judged: Mapping[str, int], results: Sequence[Result]) -> float:
    run = {"query": {one.id: one.score for one in results}}
    return float(evaluate_run({"query": dict(judged)}, run, [METRIC])[METRIC][0])
