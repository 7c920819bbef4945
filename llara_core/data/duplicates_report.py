"""What a person should know about the duplicates of a corpus, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.data_settings import DuplicateSettings

EXAMPLES = 10  # clusters shown, the largest first
SHOWN_ROWS, SHOWN_CHARACTERS = 3, 200  # of a cluster shown; of a passage shown
_SIZE_STEPS = (2, 3, 5, 10, 100, 1000)  # lower bounds of the classes of sizes

Rows = NDArray[np.int64]


def report_of(
    clusters: Rows,
    exact: Rows,
    kept: NDArray[np.bool_],
    passages: Sequence[str],
    ids: Sequence[str] | None,
    settings: DuplicateSettings,
) -> dict[str, Any]:
    """Count clusters and show the largest.

    Args:
        clusters: [N] lowest row of each row's cluster.
        exact: [N] the same of exact duplicates.
        kept: [N] what the policy leaves.
        passages: the N texts.
        ids: their names; None: rows.
        settings: what counted as the same.

    Returns:
        ``passages``, ``clusters``, ``repeats`` (passages beyond the first of their cluster; of them
        ``exact_repeats``, and ``near_repeats`` that no key gives away), ``removed``, ``sizes`` (class of
        sizes → clusters), ``examples`` and ``settings``.
    """
    repeated, sizes = np.unique(clusters, return_counts=True)
    repeated, sizes = repeated[sizes > 1], sizes[sizes > 1]
    repeats = int((clusters != np.arange(len(clusters))).sum())
    exact_repeats = int((exact != np.arange(len(exact))).sum())
    largest = repeated[np.lexsort((repeated, -sizes))][:EXAMPLES]
    return {
        "passages": len(clusters),
        "clusters": len(repeated),
        "repeats": repeats,
        "exact_repeats": exact_repeats,
        "near_repeats": repeats - exact_repeats,
        "removed": int((~kept).sum()),
        "sizes": _classes(sizes),
        "examples": [_example(cluster, clusters, exact, passages, ids) for cluster in largest.tolist()],
        "settings": settings.model_dump(mode="json"),
    }


def _classes(sizes: Rows) -> dict[str, int]:
    result = {}
    for low, following in zip(_SIZE_STEPS, (*_SIZE_STEPS[1:], None), strict=True):
        count = int(((sizes >= low) & (sizes < (following or np.inf))).sum())
        if following is None:
            name = f"{low}+"
        else:
            name = f"{low}" if following == low + 1 else f"{low}-{following - 1}"
        if count:
            result[name] = count
    return result


def _example(
    cluster: int, clusters: Rows, exact: Rows, passages: Sequence[str], ids: Sequence[str] | None
) -> dict[str, Any]:
    rows = np.flatnonzero(clusters == cluster)
    shown = _varied(rows, exact)
    return {
        "size": len(rows),
        "kind": "exact" if (exact[rows] == cluster).all() else "near",
        "passages": [
            {"id": str(row) if ids is None else ids[row], "text": clipped(passages[row])} for row in shown
        ],
    }


def _varied(rows: Rows, exact: Rows) -> list[int]:
    """The first row, then rows that differ from it in more than case and punctuation, then others."""
    _, places = np.unique(exact[rows], return_index=True)
    different = rows[np.sort(places)][:SHOWN_ROWS].tolist()
    others = [row for row in rows[:SHOWN_ROWS].tolist() if row not in different]
    return sorted([*different, *others][:SHOWN_ROWS])


def clipped(text: str) -> str:
    """The beginning of a text, for an example."""
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
