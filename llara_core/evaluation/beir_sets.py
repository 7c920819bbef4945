"""BEIR's sets by name: their sizes, the protocol each is scored under, and published scores.

The facts stand in ``beir_sets.yaml`` and ``anchors.yaml``, with their sources (issue 4, point 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from llara_core.data.collection import Collection
from llara_core.errors import DataError
from llara_core.settings import nearest

_HERE = Path(__file__).parent
CQADUPSTACK = "cqadupstack"


@dataclass(frozen=True)
class BeirSet:
    """One public set of BEIR, or one forum of CQADupStack.

    Args:
        name: BEIR's own, e.g. ``scifact``; a forum is ``cqadupstack-android``.
        title: as in papers.
        split: the split that papers report.
        documents: size of the corpus.
        queries: judged queries of the split.
        relevant: judgements above 0 of the split.
        identical_ids: ``drop`` or ``keep`` a result whose id is the query's own.
        relevance_cut: least grade that counts as relevant where only yes and no count.
        hub: id on the Hugging Face hub, or "".
        mteb_task: name of the task in MTEB.
        licence: as MTEB states it.
        source: who published it.
        forums: of CQADupStack, its twelve.
    """

    name: str
    title: str
    split: str
    documents: int
    queries: int
    relevant: int
    identical_ids: str
    relevance_cut: int
    mteb_task: str
    licence: str
    source: str
    hub: str = ""
    mteb: str = ""
    forums: Mapping[str, BeirSet] = field(default_factory=dict)

    @property
    def protocol(self) -> dict[str, Any]:
        """What ``evaluate_system`` takes as ``protocol``."""
        return {
            "set": self.name,
            "identical_ids": self.identical_ids,
            "relevance_cut": self.relevance_cut,
            "mteb_task": self.mteb_task,
        }


@dataclass(frozen=True)
class Anchor:
    """Published scores of one system.

    Args:
        name: short name, e.g. ``bm25``.
        title: for tables.
        source: where the numbers were published.
        scores: metric to set to value in [0, 1].
    """

    name: str
    title: str
    source: str
    scores: Mapping[str, Mapping[str, float]]

    def score(self, name: str, metric: str = "ndcg_at_10") -> float | None:
        """The published score on a set, or None where there is none to cite."""
        return self.scores.get(metric, {}).get(name)


def beir_sets() -> dict[str, BeirSet]:
    """Name to set, of the 15 public ones; CQADupStack is one of them."""
    return dict(_read_sets())


def find_set(name: str) -> BeirSet | None:
    """The public set, or forum of CQADupStack, of that name or alias; None for a name that is not BEIR's.

    Args:
        name: in any case, e.g. ``SciFact``, ``touche-2020``, ``cqadupstack-gis`` or ``cqadupstack/gis``.
    """
    key = name.strip().lower()
    known = _read_sets()
    key = _facts()["aliases"].get(key, key)
    if key in known:
        return known[key]
    forum = key.removeprefix(CQADUPSTACK).lstrip("-/_")
    return known[CQADUPSTACK].forums.get(forum) if key.startswith(CQADUPSTACK) else None


def beir_set(name: str) -> BeirSet:
    """The set of that name.

    Raises:
        DataError: there is none, with the nearest name; or it is one of the four that are not public,
            with where to ask.
    """
    found = find_set(name)
    if found is not None:
        return found
    closed = _facts()["not_public"].get(name.strip().lower())
    if closed is not None:
        raise DataError(
            f"{closed['title']} is one of BEIR's four sets that are not public: {closed['ask']}; "
            "then give its BEIR folder with --data"
        )
    raise DataError(f"no set of BEIR is called {name!r}{nearest(name.lower(), list(_read_sets()))}")


def recognise(collection: Collection, split: str) -> BeirSet | None:
    """The BEIR set that a collection is, told by its name, its size and its number of judged queries.

    A sample, or somebody's own data in a folder called ``quora``, is not taken for the public set.
    """
    known = find_set(collection.name)
    if known is None or known.split != split or collection.corpus.num_rows != known.documents:
        return None
    judged = collection.qrels.get(split)
    queries = 0 if judged is None else len(judged["query_id"].unique())
    return known if queries == known.queries else None


def anchors() -> list[Anchor]:
    """Published scores, in the order of ``anchors.yaml``."""
    listed = yaml.safe_load((_HERE / "anchors.yaml").read_text(encoding="utf-8"))["anchors"]
    return [
        Anchor(name, one["title"], one["source"], {key: one[key] for key in one if "_at_" in key})
        for name, one in listed.items()
    ]


@lru_cache(maxsize=1)
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = yaml.safe_load((_HERE / "beir_sets.yaml").read_text(encoding="utf-8"))
    return facts


@lru_cache(maxsize=1)
def _read_sets() -> dict[str, BeirSet]:
    sets = {}
    for name, facts in _facts()["sets"].items():
        forums = {
            forum: BeirSet(
                name=f"{name}-{forum}",
                title=f"{facts['title']} {forum}",
                **{
                    key: facts[key]
                    for key in ("split", "identical_ids", "relevance_cut", "licence", "source")
                },
                **own,
            )
            for forum, own in facts.get("forums", {}).items()
        }
        sets[name] = BeirSet(name=name, **{**facts, "forums": forums})
    return sets
