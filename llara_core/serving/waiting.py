"""What a comparison asks: a system that answers, or the reason why it does not yet."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llara_core.retrieval.bm25 import Bm25
from llara_core.serving.corpus import Corpus
from llara_core.serving.served import Served

# opening: ask again soon; failed: tried and told, tried again later; absent: will not be without a change
State = Literal["ready", "closed", "opening", "failed", "absent"]
_MILLISECONDS = 1000.0


@dataclass(frozen=True)
class Waiting:
    """Why a system does not answer now.

    Args:
        state: how it stands.
        message: for people.
        retry_after: seconds after which asking again is worth it; None: it is not.
        until: clock (``time.monotonic``) at which a failure is forgotten.
    """

    state: State
    message: str
    retry_after: float | None = None
    until: float = field(default=float("inf"), compare=False)

    @classmethod
    def failed(cls, message: str, seconds: float) -> Waiting:
        """A failure that is tried again after some seconds, when somebody asks."""
        return cls("failed", message, seconds, time.monotonic() + seconds)

    def over(self) -> bool:
        """Whether it is to be tried now."""
        return self.state == "closed" or time.monotonic() >= self.until


@dataclass(frozen=True)
class Found:
    """What a system found for one query.

    Args:
        scores: of k passages, best first.
        rows: of its corpus.
        encode_ms: to turn the query into a vector; None: it needs none.
        search_ms: to search.
    """

    scores: list[float]
    rows: list[int]
    encode_ms: float | None
    search_ms: float


class Answering(Protocol):
    """A system that is open."""

    @property
    def corpus(self) -> Corpus | None:
        """Texts behind its rows; None: it knows ids only."""

    def search(self, query: str, k: int) -> Found:
        """The k best passages."""

    def id_of(self, row: int) -> str:
        """Id of a row."""


@dataclass(frozen=True)
class Dense:
    """A pair of model and index."""

    served: Served

    @property
    def corpus(self) -> Corpus | None:
        """The texts of the pair."""
        return self.served.corpus

    def id_of(self, row: int) -> str:
        """Id of a row."""
        return "" if self.served.index is None else self.served.index.id_of(row)

    def search(self, query: str, k: int) -> Found:
        """The k nearest passages.

        Raises:
            ModelError: the model gives NaN.
            DataError: the index cannot be read.
        """
        begun = time.perf_counter()
        vectors = self.served.retriever.encode_queries([query])
        encoded = time.perf_counter()
        if self.served.index is None:
            return Found([], [], (encoded - begun) * _MILLISECONDS, 0.0)
        scores, rows = self.served.index.search(vectors, k, self.served.retriever)
        done = time.perf_counter()
        spent = ((encoded - begun) * _MILLISECONDS, (done - encoded) * _MILLISECONDS)
        return Found(scores[0].tolist(), rows[0].tolist(), *spent)


@dataclass(frozen=True)
class Lexical:
    """BM25 over a corpus."""

    bm25: Bm25
    corpus: Corpus

    def id_of(self, row: int) -> str:
        """Id of a row."""
        return self.corpus.passage(row).id

    def search(self, query: str, k: int) -> Found:
        """The k best passages; those that share no word with the query are left out."""
        begun = time.perf_counter()
        scores, rows = self.bm25.search([query], k)
        spent = (time.perf_counter() - begun) * _MILLISECONDS
        found = [
            (score, row) for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True) if score
        ]
        return Found([score for score, _ in found], [row for _, row in found], None, spent)
