"""BM25: the lexical baseline every dense model has to beat, and a source of hard negatives."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import bm25s
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from llara_core.config import Bm25Settings
from llara_core.errors import DataError
from llara_core.files import mark_used, new_folder
from llara_core.progress import track
from llara_core.retrieval.bm25_files import FACTS, FILES, read_index, write_index
from llara_core.retrieval.bm25_postings import Postings, build_postings
from llara_core.retrieval.bm25_terms import Analyser, split_identifiers
from llara_core.retrieval.exact import top_k
from llara_core.retrieval.vectors import content_hash

__all__ = ["Bm25", "split_identifiers"]

logger = logging.getLogger(__name__)


class Bm25:
    """BM25 (Lucene's form unless the settings say otherwise) on bm25s.

    Names of axes: N passages, Q queries.

    Args:
        settings: weights k1 and b, and how text is cut into terms.
    """

    def __init__(self, settings: Bm25Settings | None = None) -> None:
        self.settings = settings or Bm25Settings()
        self._analyser = Analyser(self.settings)
        self._vocabulary: dict[str, int] = {}
        self._scorer: bm25s.BM25 | None = None
        self._postings: Postings | None = None

    @property
    def analyser(self) -> Analyser:
        """How text is cut into terms."""
        return self._analyser

    @property
    def passages(self) -> int:
        """Number of passages indexed, N."""
        return 0 if self._postings is None else self._postings.passages

    def index(self, passages: Iterable[str]) -> Self:
        """Index the passages, in order; returns itself.

        They are read once and never held together: what grows is 12 bytes per different term of a passage
        while indexing, 8 bytes afterwards.

        Raises:
            DataError: there is no passage.
        """
        postings, vocabulary = build_postings(passages, self._analyser, self.settings)
        if not postings.passages:
            raise DataError("BM25 has no passage to index; the corpus is empty", rule="corpus_not_empty")
        return self._use(postings, vocabulary)

    def search(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k best passages of each query, best first, ties by ascending row.

        A passage that shares no term with the query scores 0 and comes after all that do; an empty
        query gives zeros only.

        Returns:
            Scores [Q, min(k, N)] float32 and rows [Q, min(k, N)] int64.

        Raises:
            DataError: nothing has been indexed yet.
        """
        if not self.passages:
            raise DataError("BM25 is searched before it was given passages; call index first")
        width = min(k, self.passages)
        scores = np.zeros((len(queries), width), np.float32)
        rows = np.zeros((len(queries), width), np.int64)
        # One query is a user's: a service must not draw a bar for each.
        shown = queries if len(queries) == 1 else track(queries, "bm25 search", unit="queries")
        for place, text in enumerate(shown):
            scores[place], rows[place] = _best(self._score(text), width)
        return scores, rows

    def save(self, folder: Path) -> Path:
        """Write the index, whole or not at all, in place of an earlier one; returns the folder.

        Raises:
            DataError: nothing has been indexed yet, the folder holds something else, or cannot be written.
        """
        return self._save(folder, replace=(FACTS,))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open an index written by ``save``; its arrays are memory-mapped.

        Raises:
            DataError: the folder holds no index, or one that is damaged or of another version.
        """
        settings, postings, vocabulary = read_index(folder)
        return cls(settings)._use(postings, vocabulary)

    @classmethod
    def cached(
        cls,
        passages: Sequence[str],
        settings: Bm25Settings | None = None,
        cache: Path | None = None,
        *,
        content: str | None = None,
    ) -> Self:
        """Return the index of the passages, from the cache where it has it: mining and evaluation share one.

        Args:
            passages: N texts, as ``Collection.passages`` gives them.
            settings: as for ``Bm25``.
            cache: folder of ``bm25-<key>`` folders, made when missing; the key hashes passages, settings and
                the versions of bm25s and the stemmer. A damaged index is made anew. None: no cache.
            content: a hash of the passages, where the caller has one, in place of one over all of them.

        Raises:
            DataError: there is no passage, or the cache cannot be written.
        """
        made = cls(settings)
        if cache is None:
            return made.index(passages)
        folder = cache / f"bm25-{_key(content or content_hash(passages), made.settings)}"
        if folder.is_dir():
            try:
                found = cls.load(folder)
            except DataError as error:
                logger.warning("%s; indexing again", error)
            else:
                mark_used(folder)
                logger.info("BM25 index of %d passages taken from %s", found.passages, folder.name)
                return found
        made.index(passages)._save(folder, replace=FILES)  # it is ours by its name, if damaged
        return made

    def _save(self, folder: Path, replace: tuple[str, ...]) -> Path:
        if self._postings is None:
            raise DataError("BM25 is saved before it was given passages; call index first")
        with new_folder(folder, replace=replace) as partial:
            write_index(partial, self.settings, self._postings, self._vocabulary)
        return folder

    def _use(self, postings: Postings, vocabulary: dict[str, int]) -> Self:
        settings = self.settings
        self._postings, self._vocabulary, self._scorer = postings, vocabulary, None
        if vocabulary:
            scorer = bm25s.BM25(k1=settings.k1, b=settings.b, method=settings.method, backend="numpy")
            scorer.scores = {
                "data": postings.data, "indices": postings.rows, "indptr": postings.starts,
                "num_docs": postings.passages,
            }  # fmt: skip
            scorer.nonoccurrence_array = None  # only the variants that we do not offer have one
            self._scorer = scorer
        return self

    def _score(self, query: str) -> NDArray[np.float32]:
        """Scores of all passages [N]; a term that the query repeats counts as often."""
        terms = self._analyser.terms(query)
        known = [self._vocabulary[term] for term in terms if term in self._vocabulary]
        if self._scorer is None or not known:
            return np.zeros(self.passages, np.float32)
        return np.asarray(self._scorer.get_scores_from_ids(known), np.float32)


def _best(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k greatest of the scores [N] and their rows, ties by row; only passages with a match are sorted.

    Most scores are 0 or tiny; a selection over all of them is several times slower on such input.
    """
    matched = np.flatnonzero(scores != 0)  # of floats themselves it takes ten times as long
    _, columns = top_k(scores[matched][None], k)
    rows = matched[columns[0]]
    if len(rows) < k:
        others = np.flatnonzero(scores == 0)[: k - len(rows)]
        rows = np.concatenate([rows, others])
    return scores[rows], rows


def _key(content: str, settings: Bm25Settings) -> str:
    """Changes when anything does that could change a score."""
    facts = {
        "passages": content,
        "settings": settings.model_dump(mode="json"),
        "versions": [version("bm25s"), version("PyStemmer")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
