"""Where sentences end: after . ! ? and their likes in other scripts, but not after abbreviations.

Wrong cuts cost more than missed ones, because a window takes whole sentences anyway: where a full stop
is ambiguous (``U.S.``, ``J. Smith``) the sentence goes on. Issue 5, point 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llara_core.data.passages_clusters import inside_cluster

# Signs that close a quotation or a bracket still belong to the sentence. After . ! ? white space must
# follow, because 3.14 and llara.core are no ends (looked at outside the expression, which would take time
# quadratic in "!!!!" otherwise); after the others, whose scripts know no spaces, nothing need to.
_END = re.compile(
    r"""(?P<stop>[.!?\u2026\u203c\u2047-\u2049]+)["'\u201d\u2019\u00bb)\]}*_]*"""
    # ideographic, half-width, full-width; danda; Arabic; Armenian; Ethiopic; Khmer; Burmese; Tibetan
    r"""|[\u3002\uff61\uff01\uff1f\uff0e\u0964\u0965\u061f\u06d4\u0589\u1362\u1367\u17d4\u17d5\u104b\u0f0d]+"""
    r"""["'\u201d\u2019\u00bb)\]}\u300d\u300f\uff09\u3011\u300b\u3009\u3015]*"""
)
_LONG_LINE = 120  # characters: nobody breaks lines by hand as late as this, so such a line is a paragraph
_BEFORE = re.compile(r"[^\s\"'\u201c\u2018\u00ab(\[{]*$")  # the word that a full stop ends
_INITIALS = re.compile(r"(?:\w\.)*\w")  # e.g, U.S, a.m, J
_LOOKED_BACK = 24  # characters; no abbreviation is longer
_ABBREVIATIONS = re.compile(  # something always follows them
    r"(?:dr|mrs?|ms|mx|prof|st|rev|hon|gen|col|capt|lt|sgt|cmdr|maj|gov|sen|pres|supt|messrs|mme|mlle"
    r"|figs?|eqs?|sect?|ch|chap|vols?|nos|pp?|eds|refs|def|thm|prop|lem|phi?l?|vs?|cf|al|viz|resp|approx|ca"
    r"|esp|incl|excl|op|cit|ibid|et|seq|ser|dept|univ|assoc|est|mt|ft"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|tues?|wed|thu|thurs?|fri"
    r"|bzw|nr|hr|fr|bd|vgl|sog|evtl|ggf|inkl|str|geb|dipl|ing|sra|dra|av|cie)"
)
_BEFORE_NUMBERS = frozenset(("no", "art", "app", "ed", "ex", "ref", "tab"))  # words of their own elsewhere
_MAY_END = frozenset(("jr", "sr", "etc", "inc", "ltd", "co", "corp", "usw"))  # before a capital they do


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Where the sentences of a paragraph begin and end, white space around them left out.

    Before a lower-case letter nothing ends, unless the text holds no capital letter at all.

    Args:
        text: the document.
        start: where the paragraph begins.
        end: where it ends; None: with the text.

    Yields:
        ``(start, end)`` in characters of ``text``, in order; between them is only white space.
    """
    end = len(text) if end is None else end
    paragraph = text[start:end]
    cased = paragraph != paragraph.lower()
    done = 0
    for stop in _stops(paragraph, cased):
        piece = paragraph[done:stop]
        left = len(piece) - len(piece.lstrip())
        right = len(piece.rstrip())
        if right > left:
            yield start + done + left, start + done + right
        done = stop


def _stops(paragraph: str, cased: bool) -> Iterator[int]:
    """Ends of sentences and of long lines, in order; the paragraph's own end is the last."""
    line, feed = 0, paragraph.find("\n")  # where the present line begins and ends
    for match in _END.finditer(paragraph):
        while 0 <= feed < match.start():
            if feed - line > _LONG_LINE:
                yield feed
            line, feed = feed + 1, paragraph.find("\n", feed + 1)
        if match["stop"] is None:
            if not inside_cluster(paragraph, match.end()):
                yield match.end()
        elif _ends(paragraph, match, cased):
            yield match.end()
    while feed >= 0:
        if feed - line > _LONG_LINE:
            yield feed
        line, feed = feed + 1, paragraph.find("\n", feed + 1)
    yield len(paragraph)


def _ends(paragraph: str, match: re.Match[str], cased: bool) -> bool:
    """Whether . ! ? ends the sentence."""
    if not paragraph[match.end() : match.end() + 1].isspace():
        return match.end() == len(paragraph)
    following = _next_sign(paragraph, match.end())
    if cased and following.islower():
        return False
    return match["stop"] != "." or not _shortens(paragraph, match.start(), following)


def _shortens(paragraph: str, stop: int, following: str) -> bool:
    """Whether the full stop belongs to an abbreviation, or to the number of an item."""
    before = paragraph[max(0, stop - _LOOKED_BACK) : stop]
    found = _BEFORE.search(before)
    word = found[0].lower() if found else ""
    if word.isdigit():
        # "1." before the text of an item; a year or a number elsewhere may end a sentence.
        begins = "\n" in before or stop <= _LOOKED_BACK
        return begins and before.rsplit("\n", 1)[-1].strip() == word
    if word in _MAY_END:
        return not following.isupper()
    if word in _BEFORE_NUMBERS:
        return following.isdigit()
    initials = _INITIALS.fullmatch(word) and word[0] != word[0].upper()
    return bool(initials or _ABBREVIATIONS.fullmatch(word))


def _next_sign(paragraph: str, start: int) -> str:
    """The first character after white space and opening signs."""
    for place in range(start, min(len(paragraph), start + _LOOKED_BACK)):
        sign = paragraph[place]
        if not sign.isspace() and sign not in "\"'\u201c\u2018\u00ab([{*_":
            return sign
    return ""
