"""What encoding gives, in plain numpy: search needs it without loading torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import ModelError


@dataclass
class Tally:
    """What encoding was given; tallies of parts add up.

    Args:
        texts: how many.
        cut: how many of them had more tokens than the model's length.
        tokens: tokens computed, prompts and slots included, padding not.
        padded: the same with padding.
    """

    texts: int = 0
    cut: int = 0
    tokens: int = 0
    padded: int = 0

    def add(self, other: Tally) -> None:
        """Count what ``other`` counted as well."""
        self.texts, self.cut = self.texts + other.texts, self.cut + other.cut
        self.tokens, self.padded = self.tokens + other.tokens, self.padded + other.padded


@dataclass(frozen=True)
class Encoded:
    """One block of texts as vectors.

    Args:
        vectors: float32 [N, D].
        tally: of its N texts.
    """

    vectors: NDArray[np.float32]
    tally: Tally


@dataclass(frozen=True)
class Counted:
    """Texts as vectors, and what each of them took.

    Args:
        vectors: float32 [N, D].
        tokens: computed for each text, prompt and slots included, int64 [N].
        cut: whether a text had more tokens than the model's length, bool [N].
    """

    vectors: NDArray[np.float32]
    tokens: NDArray[np.int64]
    cut: NDArray[np.bool_]

    def part(self, rows: slice) -> Counted:
        """The same of some texts."""
        return Counted(self.vectors[rows], self.tokens[rows], self.cut[rows])


def check_finite(
    vectors: NDArray[np.floating[Any]], rows: Sequence[int], text_of: Callable[[int], str]
) -> None:
    """Refuse vectors that hold NaN or infinity.

    Args:
        vectors: [N, D].
        rows: where their texts stand in what the caller was given, for the message.
        text_of: such a row → its text.

    Raises:
        ModelError: names the first such row and shows its text's beginning.
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        first = int(bad[0])
        raise ModelError(
            f"row {rows[first]} (counted from 0) got a vector that holds NaN or infinity, as {bad.size} of "
            f"{len(vectors)} did; its text begins {text_of(rows[first])[:40]!r}. Any text should give "
            "finite numbers: the weights are broken, or overflow in their dtype (not float16, but bfloat16?)"
        )
