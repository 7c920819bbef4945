"""Judging one system on a list of collections: resumable, and no failure loses what the others gave."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llara_core.config import CollectionSettings
from llara_core.data import quality
from llara_core.data.collection import Collection
from llara_core.data.formats import load_collection
from llara_core.errors import DataError, LlaraError
from llara_core.evaluation import beir
from llara_core.evaluation.beir import System, beir_metrics
from llara_core.evaluation.beir_places import Place
from llara_core.evaluation.beir_sets import find_set, recognise
from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.mteb_json import FILE, mteb_json
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.subsets import LeakFree, judged_subsets, leak_free_means
from llara_core.progress import Progress

logger = logging.getLogger(__name__)

LEAK_FREE = "leak_free.json"  # beside a saved result, where training gives queries away


@dataclass(frozen=True)
class Outcome:
    """What judging one collection came to.

    Args:
        place: what was judged.
        result: its scores; None where it failed.
        error: why it failed, or "".
        seconds: what it took, loading and encoding included.
        reused: whether an earlier result with the same model, data and protocol was taken.
        public: name of BEIR's set where the collection is all of it, or "": only then may published
            scores stand beside it.
        leak_free: its scores on the leak-free subsets, see ``leak_free_means``; empty where the collection
            has no training split, or that gives no query away.
    """

    place: Place
    result: SystemResult | None = None
    error: str = ""
    seconds: float = 0.0
    reused: bool = False
    public: str = ""
    leak_free: LeakFree = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """One system, and how it is judged.

    Args:
        name: the system's, in tables and of its folders of results.
        fingerprint: changes when anything does that could change its answers.
        open_system: makes the system over a collection.
        depth: results per query; 1000 gives BEIR's metrics at 1000 too.
        metrics: None: all of BEIR's as deep as that.
        results: folder for ``<collection>/<system>/``; None: nothing is kept.
    """

    name: str
    fingerprint: str
    open_system: Callable[[Collection], System]
    depth: int = 100
    metrics: Sequence[str] | None = None
    results: Path | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return beir_metrics(self.depth) if self.metrics is None else tuple(self.metrics)


def judge_places(
    judge: Judge, listed: Sequence[Place], base: CollectionSettings | None = None
) -> list[Outcome]:
    """Judge a system on every collection of a list.

    A collection that fails is reported in its outcome, logged, and the next one is taken. With a folder of
    results, one that was judged before with the same model, data and protocol is read from there; what an
    interrupted run had finished is therefore not done again.

    Args:
        judge: the system and how it is judged.
        listed: from ``beir_places.places``.
        base: settings of the built-in collection, where the list has it.

    Raises:
        KeyboardInterrupt: what was finished is kept.
    """
    outcomes = []
    with Progress(f"evaluate {judge.name}", len(listed), "sets") as bar:
        for place in listed:
            outcomes.append(judge_place(judge, place, base))
            if outcomes[-1].reused:
                bar.skip(1)
            else:
                bar.update(1, last=place.name)
    return outcomes


def judge_place(judge: Judge, place: Place, base: CollectionSettings | None = None) -> Outcome:
    """Judge a system on one collection; a failure is told in the outcome and logged."""
    started = time.monotonic()
    try:
        return judge_or_raise(judge, place, base)
    except Exception as error:  # whatever it was, the other sets go on; nothing is hidden
        kind = "" if isinstance(error, LlaraError) else f"{type(error).__name__}: "
        logger.error("%s: not judged: %s%s", place.name, kind, error)
        logger.debug("%s", place.name, exc_info=True)
        return Outcome(place, error=f"{kind}{error}", seconds=time.monotonic() - started)


def judge_or_raise(judge: Judge, place: Place, base: CollectionSettings | None = None) -> Outcome:
    """Judge a system on one collection, or take an earlier result of the same; with its files written.

    Raises:
        DataError: the collection is missing or unusable, or the results cannot be written.
    """
    started = time.monotonic()
    base = base or CollectionSettings()
    _check_free(judge, place)
    data = place.fingerprint(base)
    earlier = _earlier(judge, place, data)
    if earlier is not None:
        logger.info("%s: judged before with this model, data and protocol; taken from there", place.name)
        return replace(earlier, seconds=time.monotonic() - started)
    collection = load_place(place, base)
    known = recognise(collection, place.split)
    public = known.name if known is not None else ""
    protocol = {**(known.protocol if known is not None else {}), **place.protocol, "public": public}
    result = beir.evaluate_system(
        collection,
        place.split,
        judge.open_system(collection),
        judge.depth,
        metrics=judge.wanted,
        protocol={**protocol, **_identity(judge, data)},
    )
    result = replace(result, name=judge.name)
    leak_free = leak_free_means(result, judged_subsets(collection, result))
    seconds = time.monotonic() - started
    if judge.results is not None:
        extra: dict[str, Any] = {LEAK_FREE: leak_free} if leak_free else {}
        if "ndcg_at_10" in result.per_query:
            extra[FILE] = mteb_json(result, seconds=seconds)
        result.save(folder_of(judge, place), run=True, extra=extra)
    shown = ", ".join(f"{metric} {result.means[metric]:.4f}" for metric in METRICS if metric in result.means)
    logger.info("%s: %s in %.0f s", place.name, shown, seconds)
    return Outcome(place, result, seconds=seconds, public=public, leak_free=leak_free)


def load_place(place: Place, base: CollectionSettings) -> Collection:
    """Open a collection, check its rows and that its split can be judged.

    Raises:
        DataError: it is missing, a row breaks a critical rule, or the split judges nothing.
    """
    collection = load_collection(place.settings(base))
    quality.check(collection)
    collection.split_queries(place.split)  # before the corpus is encoded: a missing split should fail at once
    known = place.expected
    if known is None and find_set(place.name) is not None and recognise(collection, place.split) is None:
        logger.info("%s: called like a public set, but of another size; judged as an unknown one", place.name)
    if known is not None and recognise(collection, place.split) is None:
        logger.warning(
            "%s: has %d documents, the public set has %d documents and %d judged queries in %r; its scores "
            "do not compare with published ones",
            place.name,
            collection.corpus.num_rows,
            known.documents,
            known.queries,
            known.split,
        )
    return collection


def folder_of(judge: Judge, place: Place) -> Path:
    """Folder of the results of one system on one collection: ``<results>/<collection>/<system>``.

    Raises:
        ValueError: the judge keeps no results.
    """
    if judge.results is None:
        raise ValueError("no folder of results was given")
    return judge.results / place.name / judge.name


def _check_free(judge: Judge, place: Place) -> None:
    """Refuse now, not after hours of encoding, a folder that holds something other than a result."""
    folder = None if judge.results is None else folder_of(judge, place)
    if folder is None or not folder.is_dir() or (folder / "result.json").is_file():
        return
    if any(folder.iterdir()):
        raise DataError(
            "the folder holds something other than a result; choose another --results or --name",
            file=folder,
            rule="writable",
        )


def _identity(judge: Judge, data: str) -> dict[str, Any]:
    return {"model": judge.fingerprint, "data": data, "metrics": list(judge.wanted)}


def _earlier(judge: Judge, place: Place, data: str) -> Outcome | None:
    """The outcome of an earlier run, where all that it depends on is the same."""
    if judge.results is None or not (folder_of(judge, place) / "result.json").is_file():
        return None
    try:
        result = SystemResult.load(folder_of(judge, place))
        beside = folder_of(judge, place) / LEAK_FREE
        leak_free = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (DataError, OSError, ValueError, KeyError) as error:
        logger.warning("%s: the earlier result cannot be read (%s); judged again", place.name, error)
        return None
    same: Mapping[str, Any] = {
        **place.protocol,
        **_identity(judge, data),
        "split": place.split,
        "depth": judge.depth,
    }
    if any(result.protocol.get(key) != value for key, value in same.items()):
        logger.info("%s: judged before with another model, data or protocol; judged again", place.name)
        return None
    public = str(result.protocol.get("public", ""))
    return Outcome(place, result, reused=True, public=public, leak_free=leak_free)
