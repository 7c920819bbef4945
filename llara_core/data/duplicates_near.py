"""Near-duplicates: MinHash signatures in bands, candidates compared exactly, pairs joined to clusters.

The signatures come from ``rensa`` (Rust): it takes all n-grams of a block as one array, where datasketch
needs an object a passage; used plainly, datasketch is about ten times slower (docs/results/duplicates.md).
Neither package's index is used: datasketch's keeps an entry of Python objects a passage and band, and
rensa's tells for a matrix only that a row resembles another, not which. So bands are kept as columns of
32-bit numbers and equal ones are found by sorting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.data.duplicates_pairs import Ngrams, join_alike
from llara_core.data.shingle_hashes import HashedWords, blocks, counts_per_text, keys_and_words, ngram_hashes
from llara_core.errors import MissingDependencyError
from llara_core.progress import Progress

PERMUTATIONS = 128
_SEED = 1
_LEAST_RECALL = 0.99  # of a pair right at the threshold; likelier above it
LEADERS = 64  # texts of a group that are compared with all others of it; see ``join_alike``

Rows = NDArray[np.int64]


def band_rows(threshold: float) -> int:
    """Signature values a band: the most that let a pair at the threshold meet with probability 0.99.

    A pair of similarity t shares a band with probability 1 - (1 - t^r)^(128 // r) (Leskovec, Rajaraman &
    Ullman, Mining of Massive Datasets, section 3.4). Longer bands mean fewer vain comparisons.
    """
    fitting = [
        rows
        for rows in range(1, PERMUTATIONS + 1)
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= _LEAST_RECALL
    ]
    return max(fitting)


class NearGroups:
    """Collects the bands of a corpus, block by block, then joins what is alike.

    Args:
        threshold: Jaccard similarity of word n-grams from which on two texts are near-duplicates.
        ngram: words of an n-gram; a text of fewer words counts as one n-gram, one without words as none.

    Raises:
        MissingDependencyError: ``rensa`` is not installed.
    """

    def __init__(self, threshold: float, ngram: int) -> None:
        self.threshold, self.ngram = threshold, ngram
        self.facts: dict[str, Any] = {}
        self._rensa = _rensa()
        self._band_rows = band_rows(threshold)
        self._bands: list[NDArray[np.uint32]] = []  # [n, bands] a block
        self._rows: list[Rows] = []

    def add(self, first: int, words: HashedWords) -> None:
        """Keep the bands of a block of texts; ``first`` is the row of the block's first text."""
        hashes, places = ngram_hashes(words, self.ngram, short=True)
        counts = counts_per_text(words, places)
        filled = np.flatnonzero(counts)
        if not len(filled):
            return
        ends = np.concatenate(([0], np.cumsum(counts[filled])))
        matrix = self._rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends, PERMUTATIONS, _SEED)
        signatures = np.array(matrix.to_rows(), np.uint32)
        self._bands.append(_banded(signatures, self._band_rows))
        self._rows.append(first + filled)

    def join(self, exact: Rows, passages: Sequence[str]) -> Rows:
        """Join alike texts to clusters, and each text with its exact duplicates.

        Args:
            exact: [N] lowest row with the same key.
            passages: the N texts that were added; candidates among them are read again.

        Returns:
            Clusters [N]: the lowest row of each row's cluster.
        """
        labels = exact.copy()
        if not self._rows:
            return labels
        rows = np.concatenate(self._rows)
        chosen = exact[rows] == rows  # one text a key: repeats would only be found again
        self._rows.clear()
        bands = np.concatenate([block.T for block in self._bands], axis=1)
        self._bands.clear()
        rows, bands = rows[chosen], bands[:, chosen]
        groups = [_groups(band) for band in bands]
        candidates = np.unique(np.concatenate([order for order, _ in groups]))
        ngrams = self._read_again(rows[candidates], passages)
        dense = np.full(len(rows), -1, np.int64)
        dense[candidates] = np.arange(len(candidates))
        joined = join_alike(
            [(dense[order], sizes) for order, sizes in groups], ngrams, self.threshold, LEADERS
        )
        self.facts = {
            "candidates": len(candidates),
            "pairs_compared": joined.compared,
            "pairs_left_out": joined.left_out,
        }
        lowest = np.arange(len(labels))
        lowest[rows[candidates]] = rows[candidates][joined.labels]
        return lowest[labels]

    def _read_again(self, rows: Rows, passages: Sequence[str]) -> Ngrams:
        """The n-grams of the candidates, whose texts are read again rather than kept."""
        wanted = np.zeros(len(passages), np.bool_)
        wanted[rows] = True
        hashes: list[NDArray[np.uint64]] = []
        sizes: list[Rows] = []
        with Progress("duplicates: candidates", len(passages), "passages") as progress:
            for first, block in blocks(passages):
                takes = wanted[first : first + len(block)].tolist()
                chosen = [text for text, take in zip(block, takes, strict=True) if take]
                if chosen:
                    _, words = keys_and_words(chosen, keys=False)
                    runs, places = ngram_hashes(words, self.ngram, short=True)
                    hashes.append(runs)
                    sizes.append(counts_per_text(words, places))
                progress.update(len(block))
        return Ngrams.of(hashes, sizes)


def _banded(signatures: NDArray[np.uint32], rows: int) -> NDArray[np.uint32]:
    """One number for each band of each signature, [N, 128 // rows].

    Two texts that differ in a band get the same number once in 4 billion times: then they are compared in
    vain, no more.
    """
    count = PERMUTATIONS // rows
    values = signatures[:, : count * rows].reshape(len(signatures), count, rows).astype(np.uint64)
    mixed = np.zeros(values.shape[:2], np.uint64)
    for step in range(rows):
        mixed = (mixed ^ values[:, :, step]) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _groups(band: NDArray[np.uint32]) -> tuple[Rows, Rows]:
    """Places whose number another place has too, group after group, ascending; sizes of the groups."""
    order = np.argsort(band, kind="stable")
    ordered = band[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(np.append(begins, len(ordered)))
    shared = np.repeat(sizes > 1, sizes)
    return order[shared], sizes[sizes > 1]


def _rensa() -> Any:
    try:
        import rensa
    except ImportError:
        raise MissingDependencyError(
            "near-duplicates need the package rensa: pip install 'llara[data]', or set duplicates.near: false"
        ) from None
    return rensa
