"""What a reader sees as one sign may be several characters: letters with marks, flags, families."""

from __future__ import annotations

import regex

_CLUSTER = regex.compile(r"\X")  # an extended grapheme cluster: Unicode Standard Annex 29
_FIRST_MARK = "\u0300"  # no character before it joins the one on its left


def inside_cluster(text: str, place: int) -> bool:
    """Whether a cut after a punctuation sign would part it from the mark upon it."""
    if not 0 < place < len(text) or text[place] < _FIRST_MARK:
        return False
    return bool(_CLUSTER.fullmatch(text, place - 1, place + 1))


def last_boundary(text: str, start: int, stop: int) -> int:
    """The last place up to ``stop`` that is between two clusters; ``start``, which is one, if no other."""
    found = start
    # One character more, because whether there is a boundary at ``stop`` depends on what follows.
    for match in _CLUSTER.finditer(text, start, min(len(text), stop + 1)):
        if match.end() > stop:
            break
        found = match.end()
    return found
