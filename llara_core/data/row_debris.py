"""Debris: texts that are mostly HTML or base64, left by a scraper or a mail reader.

What counts is the share of a text's characters: an article with a few tags, a program with a table of
bytes or generics such as ``Map<String>`` is text. Issue 5, point 3.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.row_bytes import bytes_of, counts_of

_LEAST_TAGS = 5  # fewer are no page, however short the text
_LEAST_BASE64 = 200  # characters; less is a key or a hash, and belongs to its text
_TAGS = (
    "a|abbr|address|article|aside|b|blockquote|body|br|button|caption|center|code|col|dd|div|dl|dt|em|font|"
    "footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|label|li|link|main|meta|nav|ol|option|p|pre|"
    "script|section|select|small|span|strong|style|sub|sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|"
    "tr|tt|u|ul|path"
)
_HTML = re.compile(
    rf"</?(?:{_TAGS})(?:[\s/][^<>]{{0,4000}})?>|<!doctype[^<>]{{0,400}}>|<!--[^<>]{{0,4000}}-->"
    r"|&(?:#\d{1,6}|#x[0-9a-f]{1,6}|[a-z]{2,8}[0-9]{0,2});",
    re.IGNORECASE,
)
_RUN = re.compile(r"[A-Za-z0-9+/_\-]{60,}={0,2}")


def html_share(text: str) -> float:
    """Share of a text's characters that are HTML tags, comments and entities; 0 for fewer than five."""
    found = [len(one[0]) for one in _HTML.finditer(text)]
    return sum(found) / len(text) if len(found) >= _LEAST_TAGS else 0.0


def base64_share(text: str) -> float:
    """Share of a text's characters that stand in long runs of base64; 0 for less than 200 characters."""
    size = sum(len(one[0]) for one in _RUN.finditer(text) if _is_base64(one[0]))
    return size / len(text) if size >= _LEAST_BASE64 else 0.0


def html_candidates(column: pa.StringArray) -> NDArray[np.bool_]:
    """Which of N texts have enough ``<`` or ``&`` to be looked at: boolean ``[N]``."""
    found: NDArray[np.bool_] = counts_of(column, ord("<"), ord("&")) >= _LEAST_TAGS
    return found


def base64_candidates(column: pa.StringArray, share: float) -> NDArray[np.bool_]:
    """Which of N texts are long and have few enough spaces to be base64 to ``share``: boolean ``[N]``."""
    lengths = np.diff(bytes_of(column)[0])
    # Prose has a space every six characters; where base64 has its share, only the rest has them. Texts
    # without spaces (Chinese, packed code) are looked at too, and found to hold no long run.
    found: NDArray[np.bool_] = (lengths >= _LEAST_BASE64) & (
        counts_of(column, ord(" ")) <= lengths * (1.0 - share) * 0.5
    )
    if not found.any():
        return found
    found &= np.asarray(pc.match_substring_regex(column, "[A-Za-z0-9+/_-]{40}"))
    return found


def _is_base64(run: str) -> bool:
    # Of 64 equally frequent characters 26 are capitals, 26 small, 10 digits and 2 others. Genes have no
    # small letters, hexadecimal digests one case, paths and rulers too many others.
    size = len(run)
    capitals = sum(map(str.isupper, run))
    digits = sum(map(str.isdigit, run))
    small = sum(map(str.islower, run))
    return (
        capitals >= 0.2 * size
        and small >= 0.2 * size
        and digits >= 0.05 * size
        and size - capitals - digits - small <= 0.1 * size
    )
