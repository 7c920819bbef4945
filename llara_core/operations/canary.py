"""The canary: may a new pair of model and index serve? Numbers in, a verdict out; nothing is searched here.

A fixed sample of queries is asked of the new pair and of the live one (``steps.canary`` does it). What is
broken (NaN, unknown ids, documents that do not find themselves) is refused in any case; what is merely
different is refused from a limit on. Source: issue 6, point 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llara_core.indexing_settings import CanarySettings
from llara_core.operations.decision import Check, Verdict, first_failed

CUTOVER, REFUSE, KEEP = "cutover", "refuse", "keep"
TOP = 10  # results that a user looks at


@dataclass(frozen=True)
class Answers:
    """What one pair answered to the sample.

    Args:
        seconds: of a query, encoding and search; the median of several rounds.
        ndcg: mean nDCG@10; None without judgements.
        recall: mean recall@100; None without judgements.
    """

    seconds: float
    ndcg: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What was seen of a new pair.

    Args:
        documents: of the corpus, N.
        indexed: ids that the new index holds.
        missing: ids of the corpus that the index lacks, plus ids of the index that the corpus lacks.
        unknown: found documents that the corpus lacks.
        infinite: scores that are NaN or infinite.
        queries: that were asked, Q.
        itself: share of sampled documents that are among the first ten found by their own text.
        new: what the new pair answered.
        live: what the live pair answered; None: nothing is live yet.
        overlap: mean share of the live pair's first ten that the new one gives too, both counted over the
            documents that did not change; None: of another model, or nothing is live.
    """

    documents: int
    indexed: int
    missing: int
    unknown: int
    infinite: int
    queries: int
    itself: float
    new: Answers
    live: Answers | None = None
    overlap: float | None = None


def judge(evidence: Evidence, rules: CanarySettings) -> Verdict:
    """Decide whether the new pair may serve.

    Args:
        evidence: what was seen of it.
        rules: the limits.

    Returns:
        Action ``cutover`` or ``refuse``, with every check; the first that fails is the reason.
    """
    checks = (*_whole(evidence, rules), *_against_live(evidence, rules))
    failed = first_failed(checks)
    if failed is not None:
        return Verdict(REFUSE, f"{failed.name}: {failed.words}", checks)
    against = "nothing was live before" if evidence.live is None else "compared with the live pair"
    return Verdict(CUTOVER, f"all checks hold on {evidence.queries} queries; {against}", checks)


def overlap(new: Sequence[Sequence[str]], live: Sequence[Sequence[str]]) -> float:
    """Mean share of what the live pair found for a query that the new pair found too, in [0, 1].

    A query for which the live pair found nothing does not count; with none left it is 1.

    Args:
        new: ids per query, Q lists.
        live: alike.
    """
    shares = [
        len(set(mine) & set(theirs)) / len(set(theirs))
        for mine, theirs in zip(new, live, strict=True)
        if theirs
    ]
    return float(np.mean(shares)) if shares else 1.0


def drawn(count: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """Places of a sample without replacement: the same for the same numbers, ascending, [min(wanted, count)].

    Args:
        count: how many there are.
        wanted: how many to draw.
        seed: of the draw.
    """
    if count <= wanted:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False)).astype(np.int64)


def _whole(evidence: Evidence, rules: CanarySettings) -> tuple[Check, ...]:
    """Whether the pair is what it should be."""
    asked = evidence.queries > 0 and evidence.documents > 0
    return (
        Check(
            "sample", asked, evidence.queries, 1,
            f"{evidence.queries} queries were asked of {evidence.documents} documents",
        ),
        Check(
            "corpus", evidence.missing == 0, evidence.missing, 0,
            f"the corpus has {evidence.documents} documents, the index {evidence.indexed}; "
            f"{evidence.missing} stand in one of them only",
        ),
        Check(
            "scores", evidence.infinite == 0, evidence.infinite, 0,
            f"{evidence.infinite} scores are NaN or infinite",
        ),
        Check(
            "ids", evidence.unknown == 0, evidence.unknown, 0,
            f"{evidence.unknown} found documents are not in the corpus",
        ),
        Check(
            "self", evidence.itself >= rules.self_retrieval, evidence.itself, rules.self_retrieval,
            f"{evidence.itself:.1%} of sampled documents are among the first {TOP} found by their own text, "
            f"at least {rules.self_retrieval:.1%} are asked",
        ),
    )  # fmt: skip


def _against_live(evidence: Evidence, rules: CanarySettings) -> tuple[Check, ...]:
    """Whether it is no worse than what serves."""
    if evidence.live is None:
        return tuple(
            Check(name, None, None, None, "nothing is live yet")
            for name in ("ndcg", "recall", "overlap", "latency")
        )
    new, live = evidence.new, evidence.live
    return (
        _drop("ndcg", f"nDCG@{TOP}", new.ndcg, live.ndcg, rules.drop),
        _drop("recall", "recall@100", new.recall, live.recall, rules.drop),
        _overlap(evidence.overlap, rules.overlap),
        _latency(new.seconds, live.seconds, rules),
    )


def _drop(name: str, metric: str, new: float | None, live: float | None, allowed: float) -> Check:
    if new is None or live is None:
        return Check(name, None, new, None, "there are no judged queries in the sample")
    least = live - allowed
    return Check(
        name, new >= least, new, least,
        f"{metric} is {new:.4f}, the live pair's {live:.4f}; a loss up to {allowed:.4f} is accepted",
    )  # fmt: skip


def _overlap(found: float | None, least: float) -> Check:
    if found is None:
        return Check(
            "overlap", None, None, least, "the live pair is of another model, which may rank otherwise"
        )
    return Check(
        "overlap", found >= least, found, least,
        f"{found:.1%} of the live pair's first {TOP} are found again among unchanged documents, at least "
        f"{least:.1%} are asked",
    )  # fmt: skip


def _latency(new: float, live: float, rules: CanarySettings) -> Check:
    most = max(live * rules.latency_ratio, rules.latency_floor)
    return Check(
        "latency", new <= most, new, most,
        f"a query takes {new * 1000:.1f} ms, the live pair {live * 1000:.1f} ms; up to {most * 1000:.1f} ms "
        "are accepted",
    )  # fmt: skip
