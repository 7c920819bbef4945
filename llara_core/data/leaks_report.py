"""What a person should know about leaks, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llara_core.data.duplicates_report import clipped
from llara_core.data.leaks_sides import Evaluation, Finding, Training
from llara_core.data_settings import LeakSettings

EXAMPLES = 5  # of a kind
WORST = 5  # in the message of ``stop``

# In the order of how much they give away. A query may leak in several ways and counts for each.
KINDS = {
    "query_verbatim": "stands word for word among the training queries",
    "query_case_or_punctuation": "is a training query but for case, punctuation, white space or Unicode form",
    "query_inside_query": "stands in a training query, whole, cut short or with a word changed",
    "query_near_duplicate": "shares most of its words with a training query, verbatim ones included",
    "query_inside_passage": "stands inside a passage that is a training positive",
    "document_is_positive": "has a relevant passage that is a training positive",
    "document_copied": "has a relevant passage whose text stands in a training positive of another name",
    "query_inside_adaptation": "stands inside the text of adaptation",
}


def report_of(
    evaluation: Evaluation,
    training: Training,
    findings: Sequence[Finding],
    settings: LeakSettings,
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """Count and show the leaks.

    Args:
        evaluation: the queries judged.
        training: what was trained on.
        findings: one entry a kind that was looked for.
        settings: what counted as a leak.
        sizes: ``adaptation_texts``, and ``too_short``: queries that were not looked for inside text.

    Returns:
        Names and sizes of both sides; ``relevant_documents`` and how many of them are
        ``relevant_documents_trained_on``; ``leaking_queries`` (each counted once); ``kinds``: name →
        ``what``, ``queries``, ``share``, ``places`` (rows of training that show them) and ``examples``;
        ``settings``.
    """
    leaking = {place for one in findings for place in one.queries.tolist()}
    by_kind = {one.kind: one for one in findings}
    return {
        "split": evaluation.split,
        "train_split": training.split if training.known else None,
        "action": settings.action,
        "evaluation_queries": len(evaluation.ids),
        "queries_too_short": sizes["too_short"],
        "training_queries": len(training.ids),
        "training_positives": len(training.positives),
        "adaptation_texts": sizes["adaptation_texts"],
        "relevant_documents": len(evaluation.relevant),
        "relevant_documents_trained_on": len(evaluation.relevant.keys() & training.positives.keys()),
        "leaking_queries": len(leaking),
        "kinds": {
            kind: _kind(by_kind[kind], what, evaluation) for kind, what in KINDS.items() if kind in by_kind
        },
        "settings": settings.model_dump(mode="json"),
    }


def worst(report: Mapping[str, Any]) -> str:
    """The most telling examples of a report, a line each."""
    examples = [
        f"  {one['query_id']} {one['query']!r} {kind['what']} ({one['where']}: {one['text']!r})"
        for kind in report["kinds"].values()
        for one in kind["examples"]
    ]
    return "\n".join(examples[:WORST])


def _kind(finding: Finding, what: str, evaluation: Evaluation) -> dict[str, Any]:
    queries = len(np.unique(finding.queries))
    return {
        "what": what,
        "queries": queries,
        "share": queries / len(evaluation.ids),
        "places": len(set(finding.names)),
        "examples": _examples(finding, evaluation),
    }


def _examples(finding: Finding, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Those most alike, of each query one."""
    order = np.lexsort((np.arange(len(finding.queries)), -finding.likeness))
    _, firsts = np.unique(finding.queries[order], return_index=True)
    return [
        {
            "query_id": evaluation.ids[finding.queries[place]],
            "query": clipped(evaluation.texts[finding.queries[place]]),
            "where": finding.names[place],
            "text": clipped(finding.text_of(place)),
            "likeness": round(float(finding.likeness[place]), 4),
        }
        for place in order[np.sort(firsts)][:EXAMPLES].tolist()
    ]
