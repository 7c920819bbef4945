"""Which candidates become negatives: what is cheap to know first, what is dear only where it decides.

Names of axes: B queries of a block, C candidates of a query, S sources.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llara_core.config import MineSettings
from llara_core.retrieval.mining_sources import NOBODY, SOURCES, Candidates, Rows, noise

# Why a candidate is left out, in the order in which it is asked; it counts for the last that was found.
REASONS = ("positive", "margin", "near_duplicate", "repeated", "veto")
_POSITIVE, _MARGIN, _NEAR, _REPEATED, _VETO = range(1, len(REASONS) + 1)
_QUOTA_STREAM = 1 << 32  # keeps the draws of quotas apart from those of random candidates
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Checks:
    """What is dear to know, asked only of candidates that would be chosen.

    Attributes:
        like: places of queries and corpus rows [P] to the greatest likeness with a positive [P] float64;
            None: near-duplicates are not left out.
        objects: places and rows [P] to whether the teacher objects [P]; None: there is no teacher.
        codes: rows [P] to numbers of their texts, equal for equal texts.
    """

    like: Callable[[Rows, Rows], NDArray[np.float64]] | None
    objects: Callable[[Rows, Rows], Marks] | None
    codes: Callable[[Rows], Rows]


@dataclass(frozen=True)
class Choice:
    """The negatives of a block, one line each, in the order of the queries and, within one, of choice.

    Attributes:
        places: of the query within the block [L].
        columns: of the candidate [L].
        past_limit: taken back from the positive-aware filter [L].
        likeness: greatest word-set Jaccard with a positive, -1 where not asked [L] float32.
        why: of each candidate the reason that kept it out, int8 [B, C]: 1 + its place in ``REASONS``;
            0: none, or nobody had to look.
        looked_at: candidates up to the last that was needed [B, C].
    """

    places: Rows
    columns: Rows
    past_limit: Marks
    likeness: NDArray[np.float32]
    why: NDArray[np.int8]
    looked_at: Marks


class Chooser:
    """Chooses for one block after the other.

    Args:
        settings: how many, from where, and what is left out.
        seed: rounds the sources' shares to whole negatives, fairly over queries.
    """

    def __init__(self, settings: MineSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed

    def __call__(
        self,
        candidates: Candidates,
        known: Marks,
        limit: NDArray[np.float64],
        places: Rows,
        checks: Checks,
    ) -> Choice:
        """Choose the negatives of a block.

        Args:
            candidates: of the block's queries; they are put into the order of choice.
            known: which of them are positives, or the query itself [B, C].
            limit: of each query's score [B].
            places: of the block's queries in the split [B].
            checks: of the block.
        """
        position, held = self._ordered(candidates, limit, known)
        known = np.take_along_axis(known, position, axis=1)
        open_ = (candidates.rows != NOBODY) & ~known
        why = np.where(known & (candidates.rows != NOBODY), _POSITIVE, 0).astype(np.int8)
        why[held & open_] = _MARGIN
        if not self._settings.take_back:
            open_ &= ~held
        quotas = self._quotas(places)
        likeness = np.full(why.shape, -1, np.float32)
        checked = np.zeros(why.shape, np.bool_)
        while True:
            chosen = self._first(open_, held, candidates.sources, quotas)
            fresh = chosen & ~checked
            if not fresh.any():
                break
            checked |= fresh
            out = self._refused(candidates.rows, fresh, chosen, likeness, checks)
            for reason, marks in out.items():
                why[marks] = reason
                open_ &= ~marks
        why[chosen] = 0
        where, columns = np.nonzero(chosen)
        looked = self._looked_at(chosen, held, position)
        return Choice(where, columns, held[where, columns], likeness[where, columns], why, looked)

    def _ordered(
        self, candidates: Candidates, limit: NDArray[np.float64], known: Marks
    ) -> tuple[Rows, Marks]:
        """Put candidates into the order of choice: as named, then those past the limit, lowest score first.

        Returns:
            Where each candidate was before, and which ones lie past the limit [B, C].
        """
        held = (candidates.rows != NOBODY) & ~known & (candidates.scores > limit[:, None])
        key = np.where(held, candidates.scores, -np.inf)
        key[candidates.rows == NOBODY] = np.inf
        position = np.argsort(key, axis=1, kind="stable")
        candidates.take(position)
        return position, np.take_along_axis(held, position, axis=1)

    def _quotas(self, places: Rows) -> Rows | None:
        """Negatives due to each source [B, S]; over many queries exactly the shares.

        A share of 0.3 of 8 negatives is 2 or 3: one draw per query rounds all its shares together, up or
        down, so that they add up to all (systematic sampling; Madow, 1949).
        """
        shares, wanted = self._settings.shares, self._settings.negatives
        if shares is None:
            return None
        parts = np.array([getattr(shares, source) for source in SOURCES])
        ends = np.round(np.cumsum(parts / parts.sum()) * wanted, 9)
        drawn = noise(places, 1, self._seed + _QUOTA_STREAM)[:, 0] / 2.0**64
        whole = np.floor(ends[None] + drawn[:, None]).astype(np.int64)
        return np.diff(whole, prepend=0, axis=1)

    def _first(self, open_: Marks, held: Marks, sources: NDArray[np.int8], quotas: Rows | None) -> Marks:
        """The first open candidates; with quotas, each source's own first, then others to fill up."""
        wanted = self._settings.negatives
        if quotas is None:
            return open_ & (np.cumsum(open_, axis=1) <= wanted)
        chosen = np.zeros_like(open_)
        for source in range(len(SOURCES)):
            own = open_ & ~held & (sources == source)
            chosen |= own & (np.cumsum(own, axis=1) <= quotas[:, source, None])
        by_chance = sources == SOURCES.index("random")
        # What a source cannot give: from the other searched one, then at random, then from past the limit.
        for fill in (~held & ~by_chance, ~held, np.ones_like(held)):
            rest = open_ & fill & ~chosen
            chosen |= rest & (np.cumsum(rest, axis=1) <= wanted - chosen.sum(axis=1, keepdims=True))
        return chosen

    def _refused(
        self,
        rows: Rows,
        fresh: Marks,
        chosen: Marks,
        likeness: NDArray[np.float32],
        checks: Checks,
    ) -> dict[int, Marks]:
        """Look closely at what has just been chosen; notes the likeness, gives what must go, by reason."""
        out = {reason: np.zeros_like(fresh) for reason in (_NEAR, _REPEATED, _VETO)}
        places, columns = np.nonzero(fresh)
        if checks.like is not None and self._settings.near_duplicate is not None:
            values = checks.like(places, rows[places, columns])
            likeness[places, columns] = values
            out[_NEAR][places, columns] = values >= self._settings.near_duplicate
        out[_REPEATED] = _same_text(rows, chosen & ~out[_NEAR], np.asarray(fresh.any(axis=1)), checks.codes)
        if checks.objects is not None:
            places, columns = np.nonzero(fresh & ~out[_NEAR] & ~out[_REPEATED])
            out[_VETO][places, columns] = checks.objects(places, rows[places, columns])
        return out

    def _looked_at(self, chosen: Marks, held: Marks, position: Rows) -> Marks:
        """Up to the last chosen candidate, in the order as named; all where not enough were found."""
        short = (chosen & ~held).sum(axis=1) < self._settings.negatives
        last = np.where(chosen, position, -1).max(axis=1)
        last[short] = position.shape[1]
        return np.asarray(position <= last[:, None])


def _same_text(rows: Rows, chosen: Marks, asked: Marks, codes: Callable[[Rows], Rows]) -> Marks:
    """Which of the chosen repeat the text of one chosen before for the same query."""
    repeated = np.zeros_like(chosen)
    places, columns = np.nonzero(chosen & asked[:, None])
    if not len(places):
        return repeated
    text = codes(rows[places, columns])
    _, first = np.unique(places * (int(text.max()) + 1) + text, return_index=True)
    again = np.ones(len(places), np.bool_)
    again[first] = False
    repeated[places[again], columns[again]] = True
    return repeated
