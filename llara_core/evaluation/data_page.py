"""The report about a collection as one self-contained HTML page: what came in, what did not, what changed.

Issue 5, point 9. The page shows rows that nobody has vetted, so every value is escaped, and characters that
act instead of show (control, bidi, zero width) are spelt out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from llara_core.data.profile_drift import check_profile
from llara_core.data.quarantine_facts import quarantine_facts
from llara_core.data.visible import visible
from llara_core.evaluation.data_page_charts import figures, language_name
from llara_core.evaluation.data_page_text import headline, percent, shown_number
from llara_core.evaluation.pages import render_page, save_page
from llara_core.evaluation.report_text import integer, number, sentence

PARTS = ("profile", "counts", "quarantine", "duplicates", "leaks", "drift")


def write_data_page(facts: Mapping[str, Any], path: Path) -> Path:
    """Write the report and return its path; an older one is replaced whole or not at all.

    Args:
        facts: each optional, absent or None where it is not known:
            ``profile`` (``data.profile.profile``), ``counts`` (``Ingested.counts``), ``quarantine`` (its
            table, or what ``quarantine_facts`` made of it), ``duplicates`` (``Duplicates.report``),
            ``leaks`` (``Leaks.report``), ``drift`` (``data.profile.drift`` against the version before).
        path: the HTML file; missing parent folders are made.

    Raises:
        DataError: the profile is of another version, or the file cannot be written.
    """
    return save_page(render_data_page(facts), path)


def render_data_page(facts: Mapping[str, Any]) -> str:
    """The page as a string; see ``write_data_page``."""
    known: dict[str, Any] = {part: facts.get(part) or None for part in PARTS}
    quarantine = facts.get("quarantine")
    if isinstance(quarantine, pa.Table):
        quarantine = quarantine_facts(quarantine)
    known["quarantine"] = quarantine or None
    if known["profile"]:
        check_profile(known["profile"])
    filters: dict[str, Callable[..., Any]] = {
        "integer": integer,
        "number": number,
        "sentence": sentence,
        "percent": percent,
        "language": language_name,
        "figure": shown_number,
        "shown": _shown,
        "words": lambda name: _shown(str(name).replace("_", " ")),
    }
    return render_page("data.html.j2", figures(known), filters, headline=headline(known), **known)


def _shown(value: Any, keep: str = "") -> str:
    """Text of the data; the template escapes what this returns."""
    return visible(str(value), keep=keep)
