"""Hostile characters made visible: what a page or a terminal shows of a text that nobody has vetted."""

from __future__ import annotations

import re

# Control characters; line and paragraph separators; marks that hide or turn text (zero width, bidi,
# tags, byte-order mark); lone surrogates, which no encoding carries; and noncharacters.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_NAMES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def visible(text: str, *, keep: str = "") -> str:
    r"""The text with characters that act instead of show spelt out: ``\n``, ``\x00``, ``\u202e``.

    Args:
        text: any string, lone surrogates included.
        keep: characters that stay as they are, e.g. newlines where lines may break.

    Returns:
        A string that UTF-8 can carry. It shows what is there; it is not meant to be read back.
    """
    return _HIDDEN.sub(lambda found: found[0] if found[0] in keep else _spelt(found[0]), text)


def visible_bytes(data: bytes, *, keep: str = "") -> str:
    r"""Bytes as text: UTF-8 where it is, ``\xff`` where not, hostile characters spelt out."""
    return visible(data.decode("utf-8", errors="backslashreplace"), keep=keep)


def _spelt(character: str) -> str:
    code = ord(character)
    known = _NAMES.get(character)
    if known:
        return known
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
