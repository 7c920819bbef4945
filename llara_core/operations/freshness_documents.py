"""How much of a corpus has changed, told from hashes alone.

N documents before, M now; 16 bytes of hash each (``retrieval.hashes``), of which the first eight are
compared: with ten million documents a change is overlooked with a chance of about 3 in a million. The index
on disk holds the same hashes, so its texts need not be kept. Source: issue 6, point 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.retrieval.hashes import passage_hashes

Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Changes:
    """What became of a corpus; every document is counted once.

    Args:
        unchanged: same id, same text.
        renamed: same text under another id.
        changed: same id, other text.
        added: only there now.
        removed: only there before.
    """

    unchanged: int
    renamed: int
    changed: int
    added: int
    removed: int

    @property
    def total(self) -> int:
        """Documents that were or are there."""
        return self.unchanged + self.renamed + self.changed + self.added + self.removed

    @property
    def share(self) -> float:
        """Part of the text that is another, in [0, 1]; a new id alone teaches a model nothing."""
        return (self.changed + self.added + self.removed) / max(1, self.total)

    @property
    def share_with_ids(self) -> float:
        """As ``share``, renamed documents included: an index gives ids back."""
        return (self.changed + self.added + self.removed + self.renamed) / max(1, self.total)

    def words(self) -> str:
        """The counts, for people."""
        parts = [(self.added, "new"), (self.changed, "changed"), (self.removed, "removed")]
        parts += [(self.renamed, "renamed")] if self.renamed else []
        return f"{', '.join(f'{count} {name}' for count, name in parts)} of {self.total} documents"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare(
    before_ids: Iterable[str],
    before_hashes: NDArray[np.uint8],
    after_ids: Iterable[str],
    after_hashes: NDArray[np.uint8],
) -> Changes:
    """Compare two versions of a corpus; ids are unique in each.

    Args:
        before_ids: N ids.
        before_hashes: of their passages, uint8 [N, 16].
        after_ids: M ids.
        after_hashes: of their passages, uint8 [M, 16].

    Raises:
        ValueError: there are not as many ids as hashes.
    """
    ids = [_keys(passage_hashes(one)) for one in (before_ids, after_ids)]
    texts = [_keys(one) for one in (before_hashes, after_hashes)]
    for some, others in zip(ids, texts, strict=True):
        if len(some) != len(others):
            raise ValueError(f"expected one hash for each id, got {len(others)} for {len(some)}")
    _, left, right = np.intersect1d(ids[0], ids[1], assume_unique=True, return_indices=True)
    same = texts[0][left] == texts[1][right]
    gone, come = (np.delete(one, places) for one, places in ((texts[0], left), (texts[1], right)))
    renamed = _in_both(gone, come)
    return Changes(
        unchanged=int(same.sum()),
        renamed=renamed,
        changed=int(len(same) - same.sum()),
        added=len(come) - renamed,
        removed=len(gone) - renamed,
    )


def _keys(hashes: NDArray[np.uint8]) -> Keys:
    """The first eight bytes of each hash as one number, [N]."""
    return np.ascontiguousarray(hashes[:, :8]).view(np.uint64).reshape(-1)


def _in_both(first: Keys, second: Keys) -> int:
    """How many have a partner in the other, each used once."""
    (a, counts_a), (b, counts_b) = (np.unique(one, return_counts=True) for one in (first, second))
    _, left, right = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return int(np.minimum(counts_a[left], counts_b[right]).sum())


def percent(share: float) -> str:
    """A share with as many digits as it takes to tell it from nothing: ``8.3%``, ``0.03%``, ``0.0%``."""
    for digits in range(1, 8):
        if round(share, digits + 2):
            return f"{share:.{digits}%}"
    return f"{share:.1%}"
