"""Train, refresh the index only, or do nothing? One look at corpus, queries and champion decides.

``decide`` is a pure function of what was observed. A check that fails asks for something to be done; one that
could not be made (``passed`` is None) asks for nothing, and says why. Source: issue 6, point 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llara_core.evaluation.significance import bootstrap_interval
from llara_core.operations.decision import Check, Verdict, first_failed
from llara_core.operations.freshness_documents import Changes, percent
from llara_core.operations.freshness_queries import Shift
from llara_core.retraining_settings import FreshJudgedSettings, RetrainingSettings

TRAIN, REFRESH, SKIP, FAILED = "train", "refresh", "skip", "failed"
ASKS_FOR_TRAINING = ("champion", "documents", "queries", "quality", "age")
ASKS_FOR_REFRESH = ("live", "index")


@dataclass(frozen=True)
class Quality:
    """How well the champion answers judged queries of these days.

    Args:
        mean: of the metric over these queries, in [0, 1].
        low: of the interval of that mean.
        high: of the same.
        recorded: what the champion was registered with.
        queries: how many were judged.
        metric: which one.
    """

    mean: float
    low: float
    high: float
    recorded: float
    queries: int
    metric: str

    @classmethod
    def of(
        cls, scores: NDArray[np.float64], recorded: float, metric: str, settings: FreshJudgedSettings
    ) -> Quality:
        """Mean and interval of scores per query, [Q] (bootstrap over queries)."""
        low, high = bootstrap_interval(scores, confidence=settings.confidence)
        return cls(float(scores.mean()) if len(scores) else 0.0, low, high, recorded, len(scores), metric)


@dataclass(frozen=True)
class Observation:
    """All that a tick decides by. What is None was not to be had; ``absent`` says why.

    Args:
        busy: who is at work already, in words; nothing else is looked at then.
        champion: version of the champion; None: there is none.
        age_days: since it was registered.
        live: what is wrong with the live pair, in words; empty: it serves the champion.
        index: what became of the documents since the live index was made.
        documents: what became of them since the champion was trained.
        queries: what is asked now, against what the champion has learnt.
        quality: on judged queries of these days.
        tried: which version was trained on the same data with the same settings, and what became of it.
        unfinished: what became of a tick that was cut off, in words.
        absent: name of a check to why it could not be made.
        data_hash: content hash of the collection that was looked at.
    """

    busy: str | None = None
    champion: str | None = None
    age_days: float | None = None
    live: str | None = None
    index: Changes | None = None
    documents: Changes | None = None
    queries: Shift | None = None
    quality: Quality | None = None
    tried: str | None = None
    unfinished: str | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    data_hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for an artifact."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Observation:
        """What ``to_dict`` wrote."""
        kinds: dict[str, Any] = {"index": Changes, "documents": Changes, "queries": Shift, "quality": Quality}
        made = {name: kinds[name](**values[name]) for name in kinds if values[name] is not None}
        return cls(**{**values, **made})


def decide(seen: Observation, settings: RetrainingSettings) -> Verdict:
    """Return ``train``, ``refresh`` or ``skip``, with the numbers behind it.

    A check that asks for a training decides first, one that asks for a refresh after it. A training that
    would only repeat one that was judged already (same data, same settings) is not asked for again.

    Args:
        seen: what was observed.
        settings: the thresholds.
    """
    if seen.busy is not None:
        return Verdict(SKIP, f"{seen.busy} is under way", (Check("lock", None, None, None, seen.busy),))
    training = (
        _champion(seen),
        _documents(seen, settings),
        _queries(seen, settings),
        _quality(seen, settings),
        _age(seen, settings),
    )
    refreshing = (_live(seen, settings), _index(seen, settings))
    known = (*_told("tried", seen.tried), *_told("unfinished", seen.unfinished))
    checks = (*training, *refreshing, *known)
    asked, stale = first_failed(training), first_failed(refreshing)
    if asked is not None and seen.tried is None:
        return Verdict(TRAIN, _because(asked), checks)
    spared = f"; no training, since {seen.tried}" if asked is not None else ""
    if stale is not None:
        return Verdict(REFRESH, _because(stale) + spared, checks)
    if asked is not None:
        return Verdict(SKIP, f"{_because(asked)}{spared}", checks)
    return Verdict(SKIP, f"nothing asks for anything: {_least(checks)}", checks)


def _champion(seen: Observation) -> Check:
    there = seen.champion is not None
    words = f"version {seen.champion} is the champion" if there else "there is no champion yet"
    return Check("champion", there, None, None, words)


def _documents(seen: Observation, settings: RetrainingSettings) -> Check:
    limit, found = settings.documents.train_above, seen.documents
    if found is None:
        return _absent(seen, "documents", limit)
    shares = f"{percent(found.share)}; trains above {percent(limit)}"
    words = f"since the champion was trained {found.words()} ({shares})"
    return Check("documents", found.share <= limit, found.share, limit, words)


def _queries(seen: Observation, settings: RetrainingSettings) -> Check:
    limit, found = settings.queries.minimum_shift, seen.queries
    if found is None:
        return _absent(seen, "queries", limit)
    limit = max(limit, found.by_chance)
    words = (
        f"energy coefficient {found.value:.4f} between {found.reference} queries of the champion's time and "
        f"{found.fresh} new ones, p = {found.p_value:.3g} (trains above {limit:.4f}: by chance up to "
        f"{found.by_chance:.4f}, and at least {settings.queries.minimum_shift:g})"
    )
    return Check("queries", found.value <= limit, found.value, limit, words)


def _quality(seen: Observation, settings: RetrainingSettings) -> Check:
    limit, found = settings.judged.drop, seen.quality
    if found is None:
        return _absent(seen, "quality", limit)
    loss, least = found.recorded - found.mean, found.recorded - found.high
    words = (
        f"{found.metric} {found.mean:.4f} [{found.low:.4f}, {found.high:.4f}] on {found.queries} fresh "
        f"queries, {found.recorded:.4f} when it was registered: lost {loss:+.4f}, surely {least:+.4f} "
        f"(trains above {limit:g} surely lost)"
    )
    if found.queries < settings.judged.minimum_queries:
        few = f"{found.queries} fresh judged queries, {settings.judged.minimum_queries} are needed; {words}"
        return Check("quality", None, loss, limit, few)
    return Check("quality", least <= limit, loss, limit, words)


def _age(seen: Observation, settings: RetrainingSettings) -> Check:
    limit = settings.maximum_age_days
    if seen.age_days is None or limit is None:
        why = "no limit is set" if limit is None else "there is no champion"
        return Check("age", None, seen.age_days, limit, why)
    words = f"the champion is {seen.age_days:.1f} days old (trains above {limit:g})"
    return Check("age", seen.age_days <= limit, seen.age_days, limit, words)


def _live(seen: Observation, settings: RetrainingSettings) -> Check:
    if settings.indexing is None or seen.live is None:
        why = (
            "no live index is kept" if settings.indexing is None else seen.absent.get("live", "not looked at")
        )
        return Check("live", None, None, None, why)
    return Check("live", not seen.live, None, None, seen.live or "the champion serves")


def _index(seen: Observation, settings: RetrainingSettings) -> Check:
    limit, found = settings.documents.refresh_above, seen.index
    if settings.indexing is None:
        return Check("index", None, None, limit, "no live index is kept")
    if found is None:
        return _absent(seen, "index", limit)
    share = found.share_with_ids
    words = (
        f"since the live index was made {found.words()} ({percent(share)}; refreshes above {percent(limit)})"
    )
    return Check("index", share <= limit, share, limit, words)


def _absent(seen: Observation, name: str, limit: float) -> Check:
    return Check(name, None, None, limit, seen.absent.get(name, "not looked at"))


def _told(name: str, words: str | None) -> tuple[Check, ...]:
    return () if words is None else (Check(name, None, None, None, words),)


def _because(check: Check) -> str:
    return f"{check.name}: {check.words}"


def _least(checks: tuple[Check, ...]) -> str:
    """Which checks were made and hold."""
    held = [check.name for check in checks if check.passed]
    return f"{', '.join(held)} hold" if held else "nothing could be looked at"
