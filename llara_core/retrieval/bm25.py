"""BM25: the lexical baseline every dense model has to beat, and a source of hard negatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import bm25s
import numpy as np
import Stemmer
from bm25s.stopwords import STOPWORDS_EN
from numpy.typing import NDArray
from typing_extensions import Self

from llara_core.config import Bm25Settings
from llara_core.errors import DataError
from llara_core.retrieval.exact import top_k

_WORD = re.compile(r"\w\w+")
_LETTERS_OR_DIGITS = re.compile(r"[^\W\d_]+|\d+")  # with identifiers split, `x2` is two terms as well
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")


def split_identifiers(text: str) -> str:
    """Return the text with ``snake_case`` and ``camelCase`` names cut into their words.

    >>> split_identifiers("parse_HTTPHeader of getURL2")
    'parse HTTP Header of get URL2'
    """
    return _HUMP.sub(" ", text)


class Bm25:
    """BM25 (Lucene's form unless the settings say otherwise) over passages held in memory.

    Args:
        settings: weights k1 and b, and how text is cut into terms.
    """

    def __init__(self, settings: Bm25Settings | None = None) -> None:
        self.settings = settings or Bm25Settings()
        self._terms = _analyser(self.settings)
        self._vocabulary: dict[str, int] = {}
        self._scorer: bm25s.BM25 | None = None
        self._documents = 0

    def index(self, passages: Iterable[str]) -> Self:
        """Index the passages, in order; returns itself.

        Raises:
            DataError: there is no passage.
        """
        vocabulary: dict[str, int] = {}
        documents = [
            [vocabulary.setdefault(term, len(vocabulary)) for term in self._terms(text)] for text in passages
        ]
        if not documents:
            raise DataError("BM25 has no passage to index; the corpus is empty", rule="corpus_not_empty")
        self._documents, self._vocabulary, self._scorer = len(documents), vocabulary, None
        if vocabulary:  # without one term, every score is zero and bm25s would divide by the mean length 0
            settings = self.settings
            self._scorer = bm25s.BM25(k1=settings.k1, b=settings.b, method=settings.method, backend="numpy")
            self._scorer.index((documents, vocabulary), create_empty_token=False, show_progress=False)
        return self

    def search(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k best passages of each query, best first, ties by ascending row.

        A passage that shares no term with the query scores 0 and comes after all that do; an empty
        query gives zeros only.

        Returns:
            Scores [Q, min(k, N)] float32 and rows [Q, min(k, N)] int64.

        Raises:
            DataError: nothing has been indexed yet.
        """
        if not self._documents:
            raise DataError("BM25 is searched before it was given passages; call index first")
        width = min(k, self._documents)
        scores = np.zeros((len(queries), width), np.float32)
        rows = np.zeros((len(queries), width), np.int64)
        for place, text in enumerate(queries):
            scores[place], rows[place] = _best(self._score(text), width)
        return scores, rows

    def _score(self, query: str) -> NDArray[np.float32]:
        """Scores of all passages [N]; a term that the query repeats counts as often."""
        known = [self._vocabulary[term] for term in self._terms(query) if term in self._vocabulary]
        if self._scorer is None or not known:
            return np.zeros(self._documents, np.float32)
        return np.asarray(self._scorer.get_scores_from_ids(known), np.float32)


def _best(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k greatest of the scores [N] and their rows, ties by row; only passages with a match are sorted.

    Most scores are 0 or tiny; a selection over all of them is several times slower on such input.
    """
    matched = np.flatnonzero(scores)
    _, columns = top_k(scores[matched][None], k)
    rows = matched[columns[0]]
    if len(rows) < k:
        others = np.flatnonzero(scores == 0)[: k - len(rows)]
        rows = np.concatenate([rows, others])
    return scores[rows], rows


def _analyser(settings: Bm25Settings) -> Callable[[str], list[str]]:
    """Return the function that cuts a text into terms: words of two characters or more."""
    stop_words = frozenset(STOPWORDS_EN) if settings.stop_words else frozenset()
    stemmer = Stemmer.Stemmer("english") if settings.stem else None

    word = _LETTERS_OR_DIGITS if settings.split_identifiers else _WORD

    def terms(text: str) -> list[str]:
        if settings.split_identifiers:
            text = split_identifiers(text)
        words = [found for found in word.findall(text.lower()) if found not in stop_words]
        return words if stemmer is None else list(stemmer.stemWords(words))

    return terms
