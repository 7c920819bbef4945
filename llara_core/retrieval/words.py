"""Word sets, for the rooms above data: the plain measure of how alike two texts are."""

from __future__ import annotations

from llara_core.data.word_sets import jaccard, word_set

__all__ = ["jaccard", "word_set"]
