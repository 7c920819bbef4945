"""What a text is charged for in adaptation: which of its tokens are targets, and what they weigh.

Source: LLaRA (arXiv 2312.15503), section 3.1; frequency prior and IDF weights: issue 3, point 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

Ids = np.ndarray  # int32 or int64 [K], token ids

# Texts that are tokenised in one call: lists of Python integers take ten times the room of an array.
TEXTS_AT_ONCE = 2048


@dataclass(frozen=True)
class TokenRows:
    """Token ids of N texts in one array.

    Args:
        ids: int32 [sum of lengths].
        offsets: int64 [N + 1]; row i is ``ids[offsets[i]:offsets[i + 1]]``.
    """

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def pack(cls, rows: Iterable[Sequence[int]]) -> TokenRows:
        """Pack lists of ids."""
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in arrays], out=offsets[1:])
        return cls(np.concatenate([*arrays, np.zeros(0, dtype=np.int32)]), offsets)

    @classmethod
    def tokenised(
        cls, texts: Iterable[str], tokenise: Callable[[Sequence[str]], Sequence[Sequence[int]]]
    ) -> TokenRows:
        """Tokenise texts piece by piece, so that no more than a piece is ever held as Python lists.

        Args:
            texts: N texts.
            tokenise: token ids of some texts, e.g. ``PromptEncoder.text_ids``.
        """
        source = iter(texts)
        pieces = [cls.pack([])]
        while piece := list(islice(source, TEXTS_AT_ONCE)):
            pieces.append(cls.pack(tokenise(piece)))
        lengths = np.concatenate([piece.lengths for piece in pieces])
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        return cls(np.concatenate([piece.ids for piece in pieces]), offsets)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 [N]."""
        return np.diff(self.offsets)

    def row(self, index: int) -> np.ndarray:
        """Ids of one row."""
        ids: np.ndarray = self.ids[self.offsets[index] : self.offsets[index + 1]]
        return ids

    def __len__(self) -> int:
        """Number of rows, N."""
        return len(self.offsets) - 1


def log_unigram(rows: TokenRows, vocabulary: int, *, once_per_row: bool) -> Tensor:
    """Log relative frequency of every token, float32 [V], with one added to each count.

    Args:
        rows: the corpus.
        vocabulary: V.
        once_per_row: count rows that hold the token (what ``unique`` targets follow), not occurrences.
    """
    found = (
        document_frequency(rows, vocabulary) if once_per_row else np.bincount(rows.ids, minlength=vocabulary)
    )
    counts = found.astype(np.float64) + 1.0
    return torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)


def inverse_document_frequency(rows: TokenRows, vocabulary: int) -> np.ndarray:
    """IDF of every token over the rows, float32 [V]: log((N + 1) / (n + 1)), never negative."""
    weights: np.ndarray = np.log((len(rows) + 1) / (document_frequency(rows, vocabulary) + 1))
    return weights.astype(np.float32)


def document_frequency(rows: TokenRows, vocabulary: int) -> np.ndarray:
    """Rows that hold each token, int64 [V]."""
    counts = np.zeros(vocabulary, dtype=np.int64)
    for start in range(0, len(rows), TEXTS_AT_ONCE):  # a sort of the whole corpus would take its size again
        edges = rows.offsets[start : start + TEXTS_AT_ONCE + 1]
        numbers = np.repeat(np.arange(len(edges) - 1, dtype=np.int64), np.diff(edges))
        distinct = np.unique(numbers * vocabulary + rows.ids[edges[0] : edges[-1]])
        counts += np.bincount(distinct % vocabulary, minlength=vocabulary)
    return counts


@dataclass(frozen=True)
class TargetRule:
    """Which tokens are targets and what they weigh.

    Args:
        excluded: bool [V], true for tokens that are no targets (special tokens, stop words).
        all_occurrences: a token counts as often as it occurs, instead of once.
        token_weights: float32 [V], e.g. IDF; None: all the same.
    """

    excluded: np.ndarray
    all_occurrences: bool = False
    token_weights: np.ndarray | None = None

    def targets(self, rows: Sequence[Ids]) -> tuple[Tensor, Tensor, Tensor]:
        """Row numbers int64 [K], token ids int64 [K] and weights float32 [K] of B target texts.

        The weights of a row sum to 1; a row without (weighty) targets has no entries.
        """
        vocabulary = len(self.excluded)
        numbers = np.repeat(np.arange(len(rows), dtype=np.int64), [len(row) for row in rows])
        flat = np.concatenate([*rows, np.zeros(0, dtype=np.int64)]).astype(np.int64)
        kept = ~self.excluded[flat]
        # One sort finds each row's distinct tokens and their counts.
        keys, counts = np.unique(numbers[kept] * vocabulary + flat[kept], return_counts=True)
        owner, ids = keys // vocabulary, keys % vocabulary
        weights = counts.astype(np.float64) if self.all_occurrences else np.ones(len(keys))
        if self.token_weights is not None:
            weights = weights * self.token_weights[ids]
        totals = np.bincount(owner, weights=weights, minlength=len(rows))
        heavy = totals[owner] > 0
        owner, ids, weights = owner[heavy], ids[heavy], weights[heavy] / totals[owner[heavy]]
        return torch.from_numpy(owner), torch.from_numpy(ids), torch.from_numpy(weights.astype(np.float32))

    def count(self, rows: Iterable[Ids]) -> int:
        """How many of the texts have a target, without working the targets out."""
        heavy = ~self.excluded
        if self.token_weights is not None:
            heavy = heavy & (self.token_weights > 0)
        return sum(bool(heavy[row].any()) for row in rows)
