"""A corpus made ready for many searches: its vectors rounded to bfloat16 once, and not anew by each of them.

Names of axes: N documents, D dimensions, P pieces of PIECE documents.

Of a search of few queries most time goes into reading and rounding the documents. The copy costs half of what
float32 vectors take, and is all that a search reads of the corpus beside its few candidates.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import InputError
from llara_core.retrieval import exact_bfloat
from llara_core.retrieval.exact_bfloat import PIECE, BfloatPool, BfloatScanner
from llara_core.retrieval.exact_scan import lengths, norms
from llara_core.retrieval.exact_threads import in_order

# Below these, float32 products of the vectors themselves take as long; the sizes were found by measuring.
_LEAST_PRODUCTS, _LEAST_DIMENSION, _LEAST_PER_RESULT = 1 << 15, 64, 64


class Prepared:
    """Vectors [N, D] and, where the processor multiplies bfloat16 itself, a rounded copy of them.

    Args:
        vectors: [N, D] float32 or float16, perhaps memory-mapped; must not change while they are searched.
        rounded: whether to make the copy; None: where ``exact_bfloat.native``.

    Attributes:
        vectors: as given.
        rounded: bfloat16 tensor [N, D]; None where there is no copy.
        longest: float64 [P], the greatest length of a vector of each piece.
        errors: float64 [P], the greatest length of a difference to the rounded vector.

    Raises:
        InputError: the shape is not [N, D], or a vector holds NaN or infinity or is longer than 1e18.
    """

    def __init__(self, vectors: NDArray[Any], rounded: bool | None = None) -> None:
        if vectors.ndim != 2:
            raise InputError(f"search: expected a corpus [N, D], got an array of shape {vectors.shape}")
        self.vectors = vectors
        self.rounded: Any = None
        pieces = -(-len(vectors) // PIECE)
        self.longest, self.errors = np.zeros(pieces), np.zeros(pieces)
        import torch  # before it is asked what the processor can: whoever prepares a corpus wants the copy

        if (exact_bfloat.native() if rounded is None else rounded) and len(vectors):
            self.rounded = torch.empty(vectors.shape, dtype=torch.bfloat16)
            for _ in in_order([partial(self._round, piece) for piece in range(pieces)]):
                pass

    def __len__(self) -> int:
        """Number of vectors, N."""
        return len(self.vectors)

    @property
    def nbytes(self) -> int:
        """Memory of the copy, in bytes."""
        return 0 if self.rounded is None else int(self.rounded.nbytes)

    def worthwhile(self, queries: int, k: int) -> bool:
        """Whether products with the copy are likely to be the fastest way.

        Args:
            queries: Q.
            k: results per query.
        """
        documents, dimension = self.vectors.shape
        large = queries * documents >= _LEAST_PRODUCTS and dimension >= _LEAST_DIMENSION
        return self.rounded is not None and large and documents >= _LEAST_PER_RESULT * k

    def _round(self, piece: int) -> None:
        import torch

        here = slice(piece * PIECE, (piece + 1) * PIECE)
        block = np.array(self.vectors[here], np.float32)  # a copy: torch warns of memory it may not write
        self.longest[piece] = lengths(block, "document").max()
        rounded = self.rounded[here]
        rounded.copy_(torch.from_numpy(block))
        block -= rounded.float().numpy()
        self.errors[piece] = float(norms(block).max()) + exact_bfloat.flushed(block.shape[1])


class PreparedScanner(BfloatScanner):
    """As ``BfloatScanner``, for a corpus that is rounded already.

    Args:
        queries: [Q, D] float32.
        corpus: with its rounded copy.
        pool: read for its floors; hits are not added to it.
    """

    def __init__(self, queries: NDArray[np.float32], corpus: Prepared, pool: BfloatPool) -> None:
        super().__init__(queries, corpus.vectors, pool)
        self._prepared = corpus

    def _documents(self, start: int, end: int) -> tuple[Any, float, float]:
        pieces = slice(start // PIECE, -(-end // PIECE))
        corpus = self._prepared
        return (
            corpus.rounded[start:end],
            float(corpus.longest[pieces].max()),
            float(corpus.errors[pieces].max()),
        )
