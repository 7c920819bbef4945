"""What a text must keep to be taken in: rules over whole batches of rows, and their reasons for one row.

Each rule is first asked of all rows of a batch at once; only rows that might break it are looked at one
by one. Issue 5, point 3; names that ``quality.RULES`` has are the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.row_bytes import Marks, marks
from llara_core.data.row_debris import base64_candidates, base64_share, html_candidates, html_share
from llara_core.data.row_mojibake import first_mojibake, mended
from llara_core.data_settings import IngestSettings

STATEMENTS: Mapping[str, str] = {
    "valid_utf8": "rows are valid UTF-8",
    "valid_json": "rows of JSON lines are JSON",
    "json_object": "rows of JSON lines are objects",
    "row_length": "rows are shorter than the reader's bound",
    "readable": "files can be read to their end",
    "has_id": "every row has an id that is a string or a whole number",
    "has_text": "every row has its text, as a string that is not empty",
    "columns": "every row has the columns that its format asks for",
    "qrels_columns": "a judgement has three cells",
    "grades_in_range": "grades are whole numbers in the range",
    "non_empty_ids": "ids are not empty",
    "unique_ids": "an id has one text",
    "known_query": "judgements name queries that were taken in",
    "known_document": "judgements name documents that were taken in",
    "unique_judgements": "a query and a document are judged once",
    "query_text": "every query has text",
    "passage_text": "every document has a title or text",
    "text_length": "texts are shorter than the bound",
    "control_characters": "texts hold no control characters",
    "bidi_controls": "texts hold no characters that reorder what is shown",
    "html_debris": "texts are not mostly HTML",
    "base64_debris": "texts are not mostly base64",
    "replacement_characters": "texts hold no U+FFFD, the trace of a wrong decoding",
    "mojibake": "texts were decoded by the encoding they were written in",
    "duplicate_text": "no two documents have the same title and text",
    "dropped": "left out by the person who repaired the rows",
}
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")

Found = dict[str, NDArray[np.bool_]]


def judge_texts(column: pa.StringArray, longest: int, settings: IngestSettings) -> Found:
    """Which of N texts break which rule.

    Args:
        column: N texts, no nulls.
        longest: characters that a text may have.
        settings: the bounds.

    Returns:
        Rule to boolean ``[N]``, only of rules that a text breaks. Blank texts are not told here: whether
        one is wrong depends on what else the row holds (``blank``).
    """
    seen = marks(column)
    too_long = np.asarray(pc.greater(pc.binary_length(column), longest))
    if too_long.any():  # bytes are an upper bound of characters
        too_long = np.asarray(pc.greater(pc.utf8_length(column), longest))
    found = {
        "text_length": too_long,
        "control_characters": seen.control,
        "bidi_controls": seen.bidi,
        "html_debris": _asked(
            column, html_candidates(column) & ~too_long, lambda text: html_share(text) >= settings.html_share
        ),
        "base64_debris": _asked(
            column,
            base64_candidates(column, settings.base64_share) & ~too_long,
            lambda text: base64_share(text) >= settings.base64_share,
        ),
        "replacement_characters": seen.replacement,
        "mojibake": wrongly_decoded(column, seen),
    }
    return {rule: rows for rule, rows in found.items() if rows.any()}


def wrongly_decoded(column: pa.StringArray, seen: Marks | None = None) -> NDArray[np.bool_]:
    """Which of N texts hold mojibake: boolean ``[N]``."""
    seen = seen or marks(column)
    candidates = seen.late_control | seen.doubtful
    return _asked(column, candidates, lambda text: first_mojibake(text) is not None)


def repaired(column: pa.StringArray) -> tuple[pa.StringArray, NDArray[np.bool_]]:
    """A column of N texts with its mojibake mended, and which rows changed (boolean ``[N]``).

    Raises:
        MissingDependencyError: there is mojibake and ``ftfy`` is not installed.
    """
    rows = np.flatnonzero(wrongly_decoded(column))
    changed = np.zeros(len(column), np.bool_)
    if not rows.size:
        return column, changed
    texts = column.to_pylist()
    for row, better in zip(rows.tolist(), mended([texts[row] for row in rows]), strict=True):
        changed[row] = better != texts[row]
        texts[row] = better
    return pa.array(texts, column.type), changed


def blank(column: pa.StringArray) -> NDArray[np.bool_]:
    """Which of N texts are empty or white space alone: boolean ``[N]``."""
    return np.asarray(pc.or_(pc.equal(pc.binary_length(column), 0), pc.utf8_is_space(column)))


def explain(rule: str, field: str, text: str, settings: IngestSettings, longest: int) -> str:
    """What one text holds that breaks a rule of ``judge_texts``, in words."""
    return _REASONS[rule](field, text, settings, longest)


def _asked(
    column: pa.StringArray, candidates: NDArray[np.bool_], broken: Callable[[str], bool]
) -> NDArray[np.bool_]:
    result = np.zeros(len(column), np.bool_)
    for row in np.flatnonzero(candidates).tolist():
        result[row] = broken(column[row].as_py())
    return result


def _character(pattern: re.Pattern[str], what: str) -> Callable[[str, str, IngestSettings, int], str]:
    def reason(field: str, text: str, _settings: IngestSettings, _longest: int) -> str:
        found = pattern.search(text)
        code, place = (ord(found[0]), found.start()) if found else (0, 0)
        return f"{field!r} holds {what} U+{code:04X} at character {place + 1}; remove it"

    return reason


def _mojibake(field: str, text: str, _settings: IngestSettings, _longest: int) -> str:
    return (
        f"{field!r} holds {first_mojibake(text)!a}, the trace of a wrong decoding; read it anew by its "
        "encoding, or set ingest.mojibake: repair"
    )


_REASONS: Mapping[str, Callable[[str, str, IngestSettings, int], str]] = {
    "text_length": lambda field, text, _, longest: (
        f"{field!r} has {len(text):,} characters, at most {longest:,} are taken; cut it into documents"
    ),
    "control_characters": _character(_CONTROL, "the control character"),
    "bidi_controls": _character(_BIDI, "the invisible reordering character"),
    "html_debris": lambda field, text, settings, _: (
        f"{html_share(text):.0%} of {field!r} is HTML tags and entities, {settings.html_share:.0%} are "
        "too much; take the text out of the page"
    ),
    "base64_debris": lambda field, text, settings, _: (
        f"{base64_share(text):.0%} of {field!r} is base64, {settings.base64_share:.0%} are too much; "
        "decode or remove it"
    ),
    "replacement_characters": _character(re.compile("\ufffd"), "the replacement character"),
    "mojibake": _mojibake,
}
