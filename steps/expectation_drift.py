"""How a collection differs from the version accepted before, as one row that the drift suite judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from steps.expectation_facts import Facts
from steps.frames import Judged

COLUMNS = (
    "size_ratio",
    "queries_ratio",
    "length_shift",
    "query_length_shift",
    "vocabulary_divergence",
    "vocabulary_noise",
    "vocabulary_excess",
    "new_share",
    "gone_share",
    "language_shift",
)


def drifted(change: Mapping[str, Any], file: str) -> Judged:
    """The row of numbers, null where there was nothing to compare (an expectation on a null holds).

    Args:
        change: of ``llara_core.data.profile.drift``; its ``numbers`` are the columns.
        file: for messages.

    Returns:
        one row with ``COLUMNS``; ``vocabulary_excess`` is the Jensen-Shannon divergence of the term counts
        [bits] less what two samples of these sizes from one text would show by chance, so that one bound
        does for small and large collections.
    """
    numbers = dict(change["numbers"])
    found, noise = numbers.get("vocabulary_divergence"), numbers.get("vocabulary_noise")
    numbers["vocabulary_excess"] = None if found is None else max(0.0, found - (noise or 0.0))
    row = pa.table({name: pa.array([numbers.get(name)], pa.float64()) for name in COLUMNS})
    return Judged("drift", file, row, Facts(row, {}))
