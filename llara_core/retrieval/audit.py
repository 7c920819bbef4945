"""The audit of a mining run: are these hard negatives hard, and are they negatives?

Nobody can know how many negatives are unjudged answers (false negatives); what can be known is how near they
come to the positives, where they came from, and which of them bear a mark of suspicion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.config import MineSettings
from llara_core.data.collection import Collection
from llara_core.retrieval.audit_examples import SUSPICIONS, examples_of
from llara_core.retrieval.mining_chooser import REASONS
from llara_core.retrieval.mining_positives import Positives, judged_pairs
from llara_core.retrieval.mining_sources import SOURCES, windows
from llara_core.retrieval.mining_table import Findings, Lines
from llara_core.retrieval.words import jaccard, word_set

LIKE_A_POSITIVE = 0.5  # word-set Jaccard with a positive from which on a negative is suspect
LIKE_QUERY = 0.6  # word-set Jaccard of two queries that may have the same answers
_BINS = 40
_PERCENTILES = (5, 25, 50, 75, 95)


def audit_of(
    collection: Collection,
    positives: Positives,
    findings: Findings,
    settings: MineSettings,
    stats: dict[str, Any],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Tell what a mining run did, as JSON.

    Args:
        collection: whose passages were mined.
        positives: of the split's queries.
        findings: everything noted while mining.
        settings: of the run.
        stats: of the run (``mining_table.stats_of``).
        facts: ``collection``, ``split``, ``model`` (fingerprint), ``seed``.

    Returns:
        ``facts``, ``settings``, ``stats``: as given.
        ``scores``: ``edges`` [41] and counts [40] under ``positives`` (best of each query) and ``negatives``
        (by source); ``summary`` of each: mean and percentiles.
        ``margins``: ``edges``, ``counts``: best positive's score minus the negative's; ``mean``,
        ``above_positive`` (share of negatives that score above it).
        ``ranks``: by source, ``first``, ``last`` (the window), ``edges``, ``counts``, ``median``.
        ``suspected``: ``share`` of negatives with any suspicion, ``count``, and counts by reason:
        ``past_limit`` (taken back from the filter), ``like_a_positive`` (word-set Jaccard from 0.5),
        ``judged_elsewhere`` (relevant to the same query in another split), ``answers_a_like_query``
        (positive of another query with a word-set Jaccard from 0.6).
        ``overlap``: share of the shorter of BM25's and the model's lists that the other has too, ``at_10``
        and in the ``window``; None without both. ``found``: by source, share of queries with a positive
        in its window.
        ``excluded``: by source and reason, counts among the candidates looked at.
        ``examples``: 20 negatives (``audit_examples.examples_of``).

    Source: issue 4, point 4.
    """
    lines = findings.lines
    marks = _suspicions(collection, positives, settings, lines)
    best, limit = _by_place(findings, len(positives.texts))
    return {
        "schema": 1,
        "facts": facts,
        "settings": settings.model_dump(mode="json"),
        "stats": stats,
        "scores": _scores(np.concatenate([np.zeros(0, np.float32), *findings.best]), lines),
        "margins": _margins(best[lines.places] - lines.scores.astype(np.float64)),
        "ranks": _ranks(lines, settings),
        "suspected": _suspected(marks),
        "overlap": _overlap(findings),
        "found": {
            source: float(findings.found[SOURCES.index(source)] / max(1, stats["queries"]))
            for source in windows(settings)
        },
        "excluded": {
            source: dict(zip(REASONS, findings.excluded[SOURCES.index(source)].tolist(), strict=True))
            for source in windows(settings)
        },
        "examples": examples_of(collection, positives, lines, marks, (best, limit), facts["seed"]),
    }


def summary_lines(audit: dict[str, Any]) -> list[str]:
    """The audit's main figures as three or four lines for a terminal."""
    stats, suspected, margins = audit["stats"], audit["suspected"], audit["margins"]
    shares = ", ".join(f"{share:.0%} {source}" for source, share in stats["shares"].items() if share)
    lines = [f"{stats['negatives']} negatives for {stats['queries']} queries ({shares or 'none'})"]
    if stats["negatives"]:
        negatives = audit["scores"]["summary"]["negatives"]["mean"]
        lines.append(
            f"scores: positives {stats['mean_positive_score']:.3f}, negatives {negatives:.3f} on average; "
            f"{margins['above_positive']:.1%} of the negatives score above their query's best positive"
        )
        reasons = _listed({name: suspected[name] for name in SUSPICIONS})
        lines.append(
            f"suspected false negatives: {suspected['share']:.1%} ({reasons or 'none'}); "
            f"queries with too few negatives: {stats['queries_short']}"
        )
    lines.append(f"left out: {_listed(stats['excluded']) or 'nothing'}")
    return lines


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def _by_place(findings: Findings, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best positive's score and limit of every query of the split [Q]; NaN where it was not mined for."""
    best, limit = np.full(count, np.nan), np.full(count, np.nan)
    for places, scores, limits in zip(findings.asked, findings.best, findings.limit, strict=True):
        best[places], limit[places] = scores, limits
    return best, limit


def _suspicions(
    collection: Collection,
    positives: Positives,
    settings: MineSettings,
    lines: Lines,
) -> NDArray[np.bool_]:
    """Which suspicions [L, 4] lie on each negative, in the order of ``SUSPICIONS``."""
    width = max(1, collection.corpus.num_rows)
    elsewhere = [np.zeros(0, np.int64)]
    for split in collection.qrels:
        if split != settings.split:
            places, rows = judged_pairs(collection, split, positives.query_ids)
            elsewhere.append(places * width + rows)
    return np.stack(
        [
            lines.past_limit,
            lines.likeness >= LIKE_A_POSITIVE,
            np.isin(lines.places * width + lines.rows, np.concatenate(elsewhere)),
            _answers_like_queries(positives, lines),
        ],
        axis=1,
    )


def _answers_like_queries(positives: Positives, lines: Lines) -> NDArray[np.bool_]:
    """Which negatives are a positive of a query in much the same words as their own."""
    groups = np.repeat(np.arange(len(positives.starts) - 1), np.diff(positives.starts))
    order = np.argsort(positives.rows, kind="stable")
    rows, owners = positives.rows[order], groups[order]
    starts, ends = (np.searchsorted(rows, lines.rows, side) for side in ("left", "right"))
    text_of = np.zeros(len(positives.starts) - 1, np.int64)
    text_of[positives.group[::-1]] = np.arange(len(positives.texts))[::-1]  # the first query of each wording
    words: dict[int, frozenset[str]] = {}

    def set_of(place: int) -> frozenset[str]:
        if place not in words:
            if len(words) > 4096:
                words.clear()
            words[place] = word_set(positives.texts[place])
        return words[place]

    marks = np.zeros(len(lines.rows), np.bool_)
    for line in np.flatnonzero(ends > starts).tolist():
        own = set_of(int(lines.places[line]))
        rivals = text_of[owners[starts[line] : ends[line]]].tolist()
        marks[line] = any(jaccard(own, set_of(place)) >= LIKE_QUERY for place in rivals)
    return marks


def _suspected(marks: NDArray[np.bool_]) -> dict[str, Any]:
    count = int(marks.any(axis=1).sum())
    by_reason = {name: int(number) for name, number in zip(SUSPICIONS, marks.sum(axis=0), strict=True)}
    return {"share": count / max(1, len(marks)), "count": count, **by_reason}


def _scores(positives: NDArray[np.float32], lines: Lines) -> dict[str, Any]:
    edges = _edges(np.concatenate([positives, lines.scores]))
    sources = {
        source: lines.scores[lines.sources == place]
        for place, source in enumerate(SOURCES)
        if (lines.sources == place).any()
    }
    return {
        "edges": _rounded(edges),
        "positives": _counts(positives, edges),
        "negatives": {source: _counts(scores, edges) for source, scores in sources.items()},
        "summary": {
            "positives": _summary(positives),
            "negatives": _summary(lines.scores),
            **{source: _summary(scores) for source, scores in sources.items()},
        },
    }


def _margins(margins: NDArray[np.float64]) -> dict[str, Any]:
    edges = _edges(margins)
    return {
        "edges": _rounded(edges),
        "counts": _counts(margins, edges),
        "mean": float(margins.mean()) if len(margins) else None,
        "above_positive": float((margins < 0).mean()) if len(margins) else 0.0,
    }


def _ranks(lines: Lines, settings: MineSettings) -> dict[str, Any]:
    result = {}
    for source, (first, last) in windows(settings).items():
        ranks = lines.ranks[lines.sources == SOURCES.index(source)]
        width = max(1, -(-(last - first + 1) // _BINS))
        edges = np.arange(first, last + 1 + width, width) - 0.5
        result[source] = {
            "first": first,
            "last": last,
            "edges": _rounded(edges),
            "counts": _counts(ranks, edges),
            "median": float(np.median(ranks)) if len(ranks) else None,
        }
    return result


def _overlap(findings: Findings) -> dict[str, float] | None:
    if not findings.overlap[1, 1]:
        return None
    at_10, window = (float(shared / length) for shared, length in findings.overlap.tolist())
    return {"at_10": at_10, "window": window}


def _edges(values: NDArray[Any]) -> NDArray[np.float64]:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1)


def _counts(values: NDArray[Any], edges: NDArray[Any]) -> list[int]:
    counts: list[int] = np.histogram(values.astype(np.float64), edges)[0].tolist()
    return counts


def _summary(values: NDArray[np.float32]) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, **{f"p{share}": None for share in _PERCENTILES}}
    shares: Sequence[float] = np.percentile(values, _PERCENTILES).tolist()
    named = {f"p{share}": round(value, 6) for share, value in zip(_PERCENTILES, shares, strict=True)}
    return {"mean": round(float(values.mean(dtype=np.float64)), 6), **named}


def _rounded(values: NDArray[Any]) -> list[float]:
    return [round(value, 6) for value in values.tolist()]
