"""Pieces of a document → windows of at most so many tokens, about equally long, with whole sentences.

``atoms`` are what is never cut: a sentence, a row, a heading with what it leads; what is too long for a
window is cut here, at the best place there is. ``layout`` fills windows with them. Issue 5, point 6.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from llara_core.data.passages_blocks import Piece
from llara_core.data.passages_clusters import inside_cluster, last_boundary
from llara_core.data.passages_tokens import Tokens

_CLAUSE = re.compile(r"[;:,|]\s+|[\u3001\uff0c\uff1b\uff1a]")


class Atom(NamedTuple):
    """What windows are filled with."""

    start: int
    end: int
    header: tuple[int, int] | None = None  # the table's, where this is a row without it


class Window(NamedTuple):
    """A passage to be: ``text[start:end]``, with a table's header before it where there is one."""

    start: int
    end: int
    header: tuple[int, int] | None = None


def atoms(text: str, tokens: Tokens, found: Sequence[Piece], room: int) -> list[Atom]:
    """Join what belongs together and cut what is longer than a window.

    Args:
        text: the document.
        tokens: where its tokens lie.
        found: its pieces, in order.
        room: tokens of a window; no atom has more (a single sign may).
    """
    result: list[Atom] = []
    lead: list[Piece] = []  # headings that wait for what they lead
    for unit in _units(tokens, found, room, lead):
        if unit.leads:
            lead.append(unit)
            continue
        if lead and tokens.between(lead[0].start, lead[-1].end) > room // 2:
            # A heading as long as this is text itself.
            result += _cut(text, tokens, lead[0].start, lead[-1].end, room)
            lead.clear()
        start = lead[0].start if lead else unit.start
        if lead and lead[-1].table >= 0 and tokens.between(start, unit.end) > room:
            # A table's header goes without its first row rather than that a row is cut.
            result.append(Atom(start, lead[-1].end))
            start = unit.start
        if tokens.between(start, unit.end) <= room:
            inside = unit.header is not None and start > unit.header[1]
            result.append(Atom(start, unit.end, unit.header if inside else None))
        else:
            result += _cut(text, tokens, start, unit.end, room, beyond=unit.start)
        lead.clear()
    if lead:
        last = result[-1] if result else None
        if last and tokens.between(last.start, lead[-1].end) <= room:  # a heading at the end follows the text
            result[-1] = Atom(last.start, lead[-1].end, last.header)
        else:
            result += _cut(text, tokens, lead[0].start, lead[-1].end, room)
    return result


def layout(
    tokens: Tokens, parts: Sequence[Atom], room: int, overlap: int, repeat_headers: bool = True
) -> list[Window]:
    """Fill windows with atoms: as few windows as full ones would be, but about equally long.

    Args:
        tokens: where the document's tokens lie.
        parts: its atoms.
        room: tokens of a window.
        overlap: each window begins with the last atoms of the one before it, as many as have at most so
            many tokens together; fewer where the next atom would not find room.
        repeat_headers: put a table's header before a window that begins with a later row of it.
    """
    if not parts:
        return []
    plan = _Plan(tokens, parts, room, overlap, repeat_headers)
    wanted = len(plan.fill(room))
    low, high = -(-int(plan.after[-1] - plan.before[0]) // wanted), room
    while low < high:
        middle = (low + high) // 2
        if len(plan.fill(middle)) <= wanted:
            high = middle
        else:
            low = middle + 1
    return [
        Window(parts[first].start, parts[last].end, parts[first].header if plan.headers[first] else None)
        for first, last in plan.fill(high)
    ]


class _Plan:
    """Atoms as running token counts: atoms i to j have ``after[j] - before[i]`` tokens."""

    def __init__(
        self, tokens: Tokens, parts: Sequence[Atom], room: int, overlap: int, repeat_headers: bool
    ) -> None:
        starts, ends = np.array([part[:2] for part in parts], np.int64).T
        self.before: list[int] = np.searchsorted(tokens.ends, starts, side="right").tolist()
        self.after: list[int] = np.searchsorted(tokens.starts, ends, side="left").tolist()
        self.room, self.overlap = room, overlap
        self.headers = [0] * len(parts)  # tokens of the header to repeat, where there is room for it
        for row, part in enumerate(parts):
            if repeat_headers and part.header is not None:
                cost = tokens.between(*part.header) + 1  # and a line feed
                self.headers[row] = cost if cost + self.after[row] - self.before[row] <= room else 0

    def fill(self, limit: int) -> list[tuple[int, int]]:
        """First and last atom of every window, where windows have ``limit`` tokens if they can."""
        found, first, least, count = [], 0, 0, len(self.before)
        while True:
            last = bisect_right(self.after, self.before[first] + limit - self.headers[first]) - 1
            last = min(max(last, least), count - 1)
            found.append((first, last))
            if last == count - 1:
                return found
            first, least = self._next(first, last), last + 1

    def _next(self, first: int, last: int) -> int:
        """The atom that the following window begins with."""
        if not self.overlap:
            return (
                last + 1
            )  # an atom without tokens (signs that the tokenizer drops) would count as overlap 0
        start = max(first + 1, bisect_left(self.before, self.after[last] - self.overlap))
        start = min(start, last + 1)
        while start <= last and self.after[last + 1] - self.before[start] + self.headers[start] > self.room:
            start += 1
        return start


def _units(tokens: Tokens, found: Sequence[Piece], room: int, lead: Sequence[Piece]) -> Iterator[Piece]:
    """Pieces, but a table or a code block as one where it fits a window with the heading above it."""
    for block, members in groupby(found, key=lambda piece: piece.whole):
        rows = list(members)
        start = lead[0].start if lead else rows[0].start
        if block >= 0 and tokens.between(start, rows[-1].end) <= room:
            yield Piece(rows[0].start, rows[-1].end)
        else:
            yield from rows


def _cut(text: str, tokens: Tokens, start: int, end: int, room: int, beyond: int = 0) -> Iterator[Atom]:
    """Cut ``text[start:end]`` into atoms of at most ``room`` tokens, the first reaching past ``beyond``."""
    while start < end and tokens.between(start, end) > room:
        first = int(np.searchsorted(tokens.ends, start, side="right"))
        hard = max(start + 1, min(end, int(tokens.starts[first + room])))
        stop = _best_cut(text, max(start, beyond), start, hard) if hard < end else end
        yield Atom(start, start + len(text[start:stop].rstrip()))
        start = stop
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield Atom(start, end)


def _best_cut(text: str, least: int, start: int, hard: int) -> int:
    """Where to cut in ``text[least:hard]``: line, clause, word, or between what a reader sees as signs."""
    half = max(least, start + (hard - start) // 2)
    if (line := text.rfind("\n", half, hard)) > least:
        return line
    clauses = [match.end() for match in _CLAUSE.finditer(text, half, hard)]
    for clause in reversed(clauses):
        if clause > least and not inside_cluster(text, clause):
            return clause
    if text[hard].isspace():
        return hard
    quarter = max(least, start + (hard - start) // 4)
    words = text[quarter:hard].rsplit(None, 1)
    if text[hard - 1].isspace() and hard - 1 > quarter:
        return hard - 1
    if len(words) == 2 and words[0]:
        return quarter + len(words[0])
    fits = last_boundary(text, start, hard)
    # A single cluster longer than a window (letters under heaps of marks) is the one that is cut.
    return fits if fits > least else hard
