"""Which languages a sample of texts is written in, by a small offline detector (py3langid)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

LEAST_LETTERS = 20  # fewer say little about their language
CUT = 1000  # characters that are looked at
UNDETERMINED = "und"  # ISO 639-3
MISSING = "py3langid is not installed; `pip install 'llara[data]'` brings it"


def languages(texts: Sequence[str]) -> dict[str, Any]:
    """Share of each language among texts.

    Args:
        texts: a sample, [N].

    Returns:
        ``available`` (whether the detector is installed), ``documents`` (N), ``shares`` (ISO 639-1 code →
        share, most frequent first; ``und`` for texts with fewer than 20 letters), ``detector`` (name and
        version), ``why`` (why there is nothing, else None). Source code is taken for some language too.
    """
    facts: dict[str, Any] = {"available": False, "documents": len(texts), "shares": {}, "detector": None}
    try:
        from py3langid.langid import classify
    except ImportError:
        return {**facts, "why": MISSING}
    found = Counter(_language(text[:CUT], classify) for text in texts)
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    return {
        **facts,
        "available": True,
        "shares": {name: count / len(texts) for name, count in ordered},
        "detector": f"py3langid {version('py3langid')}",
        "why": None,
    }


def _language(text: str, classify: Any) -> str:
    if sum(map(str.isalpha, text)) < LEAST_LETTERS:
        return UNDETERMINED
    return str(classify(text)[0])
