"""Every rule that a suite may name: the library's own, and those that only the pipeline asks for.

Whether a broken rule stops the run or warns is said by the ``severity`` in the suite.
"""

from __future__ import annotations

from collections.abc import Mapping

from llara_core.data.quality import RULES as LIBRARY_RULES
from llara_core.data.quality import TOLERATED_SHARE, Rule

_PAIRS = (
    Rule("pair_query_text", "every training pair has a query with text"),
    Rule("pair_passage_text", "every training pair has a passage with text", tolerated=TOLERATED_SHARE),
    Rule("pair_texts_differ", "a training query is not its own passage, word for word"),
    Rule("passage_tokens", "the model reads most passages to their end"),
    Rule("query_tokens", "the model reads most queries to their end"),
)
_NEGATIVES = (
    Rule("negatives_not_empty", "there are hard negatives"),
    Rule("negative_known_query", "every hard negative names a query of the queries file"),
    Rule("negative_known_document", "every hard negative names a document of the corpus"),
    Rule(
        "negative_is_no_positive",
        "no hard negative is judged relevant to its query",
        tolerated=TOLERATED_SHARE,
    ),
    Rule("unique_negatives", "a document is a hard negative of a query once"),
    Rule("negative_source", "every hard negative says which search named it"),
    Rule("negative_rank", "ranks start at 1"),
    Rule("negative_score", "scores of unit vectors lie in -1 to 1"),
    Rule("negative_passage_text", "every hard negative has text"),
    Rule("negative_differs_from_query", "a hard negative is not its query, word for word"),
)
_DRIFT = (
    Rule("drift_size", "the collection is about as large as the version before"),
    Rule("drift_length", "texts are about as long as in the version before"),
    Rule("drift_vocabulary", "texts use about the words of the version before"),
    Rule("drift_new_documents", "many documents were in the version before"),
    Rule("drift_gone_documents", "most documents of the version before are still there"),
    Rule("drift_languages", "texts are in the languages of the version before"),
)
RULES: Mapping[str, Rule] = {**LIBRARY_RULES, **{one.name: one for one in (*_PAIRS, *_NEGATIVES, *_DRIFT)}}
