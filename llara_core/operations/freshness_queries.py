"""Do users ask something else than the champion has learnt? Two samples of query vectors, compared.

The statistic is the energy coefficient H = E / (2 mean|x-y|), in [0, 1], of the energy distance
E = 2 mean|x-y| - mean|x-x'| - mean|y-y'| (Székely and Rizzo, Energy statistics, 2013): 0 where both come from
one distribution, and it sees any difference, not only one of means. Its threshold is made of the data
themselves: the same number after the labels of both samples were shuffled (a permutation test), so that it
holds for any model, dimension and sample size. Source: issue 6, point 2.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import DataError

_BLOCK = 64  # permutations at once: [N + M, 64] float64
_FIELDS = ("text", "query")


@dataclass(frozen=True)
class Shift:
    """How far two samples of queries lie apart.

    Args:
        value: the energy coefficient, in [0, 1].
        by_chance: what it exceeds by chance with the level's probability, if nothing has changed.
        p_value: of the permutation test.
        reference: queries of the champion's time that were compared.
        fresh: queries of now.
    """

    value: float
    by_chance: float
    p_value: float
    reference: int
    fresh: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def energy_shift(
    reference: NDArray[np.float32],
    fresh: NDArray[np.float32],
    *,
    level: float = 0.01,
    permutations: int = 499,
    seed: int = 0,
) -> Shift:
    """Compare two samples of vectors.

    Args:
        reference: [N, D].
        fresh: [M, D]; N + M squared numbers of 8 bytes are held in memory.
        level: chance to exceed ``by_chance`` where both come from one distribution.
        permutations: how often the labels are shuffled.
        seed: of the shuffling.

    Raises:
        ValueError: a sample is empty, the dimensions differ, a vector is not finite, or so few permutations
            cannot reach the level.
    """
    if reference.ndim != 2 or fresh.ndim != 2 or reference.shape[1] != fresh.shape[1]:
        raise ValueError(f"expected [N, D] and [M, D], got {reference.shape} and {fresh.shape}")
    allowed = int(np.floor(level * (permutations + 1) + 1e-9)) - 1  # permuted values that may be as great
    if not len(reference) or not len(fresh) or allowed < 0:
        raise ValueError(
            f"expected vectors in both samples and at least 1 / {level} permutations, got {len(reference)}, "
            f"{len(fresh)} and {permutations}"
        )
    pooled = np.concatenate([reference, fresh]).astype(np.float64)
    if not np.isfinite(pooled).all():
        raise ValueError("a vector holds what is no finite number")
    distances = _distances(pooled)
    labels = np.zeros(len(pooled))
    labels[: len(reference)] = 1
    observed = float(_coefficients(distances, labels[:, None])[0])
    rng = np.random.default_rng(seed)
    shuffled = np.concatenate(
        [
            _coefficients(distances, np.stack([rng.permutation(labels) for _ in range(count)], axis=1))
            for count in _blocks(permutations)
        ]
    )
    by_chance = float(np.sort(shuffled)[::-1][allowed])
    p_value = (1 + int((shuffled >= observed).sum())) / (permutations + 1)
    return Shift(observed, by_chance, p_value, len(reference), len(fresh))


def read_queries(path: Path, last: int) -> list[str]:
    """The newest different queries of a log.

    Args:
        path: a text a line, or, where the name ends with ``.jsonl`` or ``.json``, JSON lines with ``text`` or
            ``query``. Newer lines stand below older ones.
        last: how many to give at most.

    Returns:
        Texts with single blanks, none twice, the newest last. Lines that are empty or cut off are left out.

    Raises:
        DataError: there is no such file, it is no UTF-8, or most of its lines are no queries.
    """
    if not path.is_file():
        raise DataError("no such log of queries", file=path, rule="file_exists")
    newest: OrderedDict[str, None] = OrderedDict()
    lines = broken = 0
    try:
        with path.open(encoding="utf-8") as source:
            for line in source:
                if not line.strip():
                    continue
                lines += 1
                text = " ".join((_json_text(line) if path.suffix in (".jsonl", ".json") else line).split())
                broken += not text
                if text:
                    newest[text] = None
                    newest.move_to_end(text)
                    if len(newest) > last:
                        newest.popitem(last=False)
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 ({error.reason}); save it as UTF-8", file=path, rule="utf8") from None
    if broken * 2 > max(lines, 1):
        raise DataError(
            f"{broken} of {lines} lines hold no query; expected JSON lines with {' or '.join(_FIELDS)}",
            file=path,
            rule="query_log",
        )
    return list(newest)


def _json_text(line: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        return ""
    found = next((row[name] for name in _FIELDS if name in row), "") if isinstance(row, dict) else ""
    return found if isinstance(found, str) else ""


def _distances(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances of all pairs, [T, T]."""
    squares = (vectors**2).sum(axis=1)
    found: NDArray[np.float64] = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    np.maximum(found, 0, out=found)  # rounding
    np.fill_diagonal(found, 0)
    return np.sqrt(found, out=found)


def _coefficients(distances: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The energy coefficient for each column of labels (1: reference), [T, P] → [P]."""
    count = labels.sum(axis=0)
    others = len(labels) - count
    product = distances @ labels
    within = (labels * product).sum(axis=0)
    across = product.sum(axis=0) - within
    beyond = distances.sum() - within - 2 * across
    between = across / (count * others)
    energy = 2 * between - within / count**2 - beyond / others**2
    result: NDArray[np.float64] = np.where(between > 0, energy / np.maximum(2 * between, 1e-300), 0.0)
    return np.clip(result, 0.0, 1.0)


def _blocks(total: int) -> list[int]:
    return [min(_BLOCK, total - start) for start in range(0, total, _BLOCK)]
