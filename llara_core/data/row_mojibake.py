"""Mojibake: UTF-8 that was once read as Windows-1252 or Latin-1, as in ``itâ€™s`` for ``it's``.

The patterns ask for more than two odd characters side by side wherever real text could hold these:
a capital accent before a closing quotation mark is French, ``Ã©`` is nothing. ``ftfy`` mends what they
find (Speer 2019, ftfy); it is optional, finding needs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llara_core.errors import MissingDependencyError

# What the bytes 0x80-0xBF of UTF-8's later bytes become when they are read as Windows-1252 or Latin-1.
_SPECIAL = "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0))
_LATER = f"\u0080-\u00bf{_SPECIAL}"
_QUOTING = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026"  # real text has these behind a letter
_PLAIN_SPECIAL = "".join(sorted(set(_SPECIAL) - set(_QUOTING)))
_PATTERN = re.compile(
    "|".join(
        (
            "[\u0080-\u009f]",  # a control nobody types; behind a letter it is mojibake by Latin-1
            "\u00e2\u20ac",  # quotation marks, dashes, dots: U+2000-203F
            f"\u00e2[{_PLAIN_SPECIAL}][{_LATER}]",  # other symbols: the euro, trade mark, minus
            f"\u00c3[\u00a1-\u00ba\u00bc-\u00bf{_PLAIN_SPECIAL}]",  # accented letters
            f"\u00c3[{_QUOTING}](?=[^\\W\\d_])",  # capital ones, within a word
            "\u00c2[\u00a0-\u00ba\u00bc-\u00bf]",  # hard spaces, signs
            f"(?:[\u00d0\u00d1][{_LATER}]){{3}}",  # Cyrillic
            "\u00ef\u00bb\u00bf|\u00ef\u00bf\u00bd",  # a byte order mark, U+FFFD
            "\u00f0\u0178",  # emoji
        )
    )
)


def first_mojibake(text: str) -> str | None:
    """The first piece of a text that looks wrongly decoded, or None."""
    found = _PATTERN.search(text)
    return found[0] if found else None


def mended(texts: Sequence[str]) -> list[str]:
    """The texts as ``ftfy`` mends their encoding; nothing else of them is changed.

    Raises:
        MissingDependencyError: ``ftfy`` is not installed.
    """
    try:
        import ftfy
        from ftfy.fixes import fix_c1_controls
    except ImportError:
        raise MissingDependencyError(
            "mojibake is mended by ftfy, which is not installed; install llara[data], "
            "or set ingest.mojibake: flag"
        ) from None
    return [str(fix_c1_controls(ftfy.fix_encoding(text))) for text in texts]
