"""sentence-transformers' training files: an anchor, what fits it, and perhaps what does not.

Rows with a label or score are refused: a retriever learns from pairs that fit, and which of the labelled
ones do is for whoever made them to say. Source: sentence-transformers' documentation of its data set
formats (pairs, triplets, n-tuples).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from llara_core.data.format_base import Format, Request
from llara_core.data.format_pairs import need, open_rows
from llara_core.data.format_tables import Table
from llara_core.data.places import shown
from llara_core.data.raw import Source
from llara_core.data.records import Convert, string, texts
from llara_core.errors import DataError

ANCHORS = ("anchor", "query", "question")
POSITIVES = ("positive", "answer")
LABELS = ("label", "labels", "score", "scores", "similarity_score", "similarity")
# Pairs of sentences that a label tells whether they fit.
LABELLED = (("sentence1", "sentence2"), ("sentence_a", "sentence_b"), ("premise", "hypothesis"))
_NEGATIVE = re.compile(r"negatives?(_\d+)?")


def open_sentence_transformers(request: Request) -> Source:
    """A file of ``anchor, positive, negative`` or ``query, answer``, or a folder of them.

    Raises:
        DataError: there is no such file, no such columns, or a column holds labels.
    """
    return open_rows(request, "sentence_transformers", partial(_converter, columns=request.columns))


def pair_columns(fields: Sequence[str]) -> tuple[str, str] | None:
    """The columns of anchor and positive, by their names; None where there are none."""
    anchor = next((one for one in ANCHORS if one in fields), None)
    positive = next((one for one in POSITIVES if one in fields), None)
    return None if anchor is None or positive is None else (anchor, positive)


def is_labelled(fields: Sequence[str]) -> bool:
    """Whether there are pairs of sentences and a label beside them."""
    pairs = pair_columns(fields) or next((one for one in LABELLED if set(one) <= set(fields)), None)
    return pairs is not None and any(one in fields for one in LABELS)


def _converter(table: Table, columns: Mapping[str, str]) -> Convert:
    found = pair_columns(table.fields) or ("anchor", "positive")
    anchor, positive = columns.get("query", found[0]), columns.get("positive", found[1])
    label = next((one for one in LABELS if one in table.fields), None)
    if label is not None:
        raise DataError(
            f"column {label!r} says how well each pair fits; training takes pairs that fit. Keep those rows, "
            "drop the column, and give anchor, positive and perhaps negative",
            file=shown(table.file),
            rule="label_column",
        )
    need(table, anchor, positive)
    return partial(_pair, anchor=anchor, positive=positive, negative=columns.get("negative"))


def _pair(record: Mapping[str, Any], anchor: str, positive: str, negative: str | None) -> tuple[Any, ...]:
    # The row's own keys: in JSON lines a later row may have more negatives than the first ones.
    negatives = [one for one in record if _NEGATIVE.fullmatch(one)] if negative is None else [negative]
    # Rows of n-tuples with fewer negatives than columns leave cells empty.
    given = [one for name in negatives for one in texts(name, record.get(name)) if one[2]]
    wanted = texts(positive, record.get(positive), required=True)
    return None, string(anchor, record.get(anchor)), wanted, given


SENTENCE_TRANSFORMERS = Format(
    name="sentence_transformers",
    files="*.jsonl, *.csv, *.tsv or *.parquet, one file or a folder; train, dev, test give the split",
    row='{"anchor": "what is lava", "positive": "Molten rock …", "negative": "A tail of dust …"}',
    recognised="by anchor, query or question with positive or answer; negative, negative_1, … are taken",
    becomes="as flag_embedding; files with a label or score column are refused",
    open=open_sentence_transformers,
)
