"""Scores for the card of an export: judged now, or kept from an earlier judging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llara_core.data.collection import Collection
from llara_core.evaluation.beir import DenseSystem, evaluate_system
from llara_core.evaluation.metrics import METRICS
from llara_core.evaluation.results import SystemResult
from llara_core.evaluation.significance import bootstrap_interval, paired_bootstrap
from llara_core.model.bundle import Bundle
from llara_core.model.export_card import Score
from llara_core.retrieval.vectors import Encoder

MAIN = METRICS[0]  # nDCG@10


@dataclass(frozen=True)
class Measuring:
    """Judges what an export holds: an ONNX folder by its own graphs, any other by the bundle.

    Args:
        collection: that is searched.
        split: whose queries are judged.
    """

    collection: Collection
    split: str

    def __call__(self, folder: Path, bundle: Bundle) -> tuple[list[Score], dict[str, Any]]:
        """Scores with intervals, and for 8 bits the difference to the other graph, query by query."""
        found = {name: self._judged(name, encoder) for name, encoder in _encoders(folder, bundle).items()}
        scores = [score for name, result in found.items() for score in scores_of(result, name)]
        if "int8" not in found:
            return scores, {}
        whole, small = (found[name].per_query[MAIN] for name in ("float32", "int8"))
        low, high = paired_bootstrap(small, whole)
        change = {
            "metric": MAIN,
            "collection": self.collection.name,
            "split": self.split,
            "queries": len(whole),
            "difference": float(small.mean() - whole.mean()),
            "low": low,
            "high": high,
        }
        told = (
            f"{change['difference']:+.4f} {MAIN} on {self.collection.name}/{self.split} "
            f"(95% interval {low:+.4f} to {high:+.4f}, {len(whole)} queries)"
        )
        return scores, {"int8_change": change, "int8_minus_float32": told}

    def _judged(self, name: str, encoder: Encoder) -> SystemResult:
        return evaluate_system(self.collection, self.split, DenseSystem(name, encoder, self.collection))


def kept_scores(folder: Path, fingerprint: str) -> list[Score]:
    """Scores of a model among the results that `llara evaluate --results` kept.

    Args:
        folder: holds ``<collection>/<system>/``.
        fingerprint: of the model; results of others are left out.
    """
    results = [SystemResult.load(place.parent) for place in sorted(folder.glob("*/*/result.json"))]
    own = [result for result in results if result.protocol.get("model") == fingerprint]
    return [score for result in own for score in scores_of(result, "bundle")]


def scores_of(result: SystemResult, system: str) -> list[Score]:
    """The four means of a result with their intervals.

    Args:
        result: of judging.
        system: what the card calls what was judged.
    """
    scores = []
    for metric in METRICS:
        values = result.per_query[metric]
        low, high = bootstrap_interval(values)
        scores.append(
            Score(
                collection=result.collection,
                split=result.split,
                metric=metric,
                value=float(values.mean()),
                low=low,
                high=high,
                queries=len(values),
                documents=result.documents,
                system=system,
            )
        )
    return scores


def _encoders(folder: Path, bundle: Bundle) -> Mapping[str, Encoder]:
    from llara_core.model.export_onnx import INT8, MODEL, OnnxRetriever
    from llara_core.model.retriever import Retriever

    names = {"float32": MODEL, "int8": INT8}
    there = {name: file for name, file in names.items() if (folder / file).is_file()}
    if there:
        return {name: OnnxRetriever(folder, bundle.fingerprint, file) for name, file in there.items()}
    if bundle.folder is None:
        raise RuntimeError("a bundle that is exported lies in a folder")
    return {"bundle": Retriever.from_pretrained(bundle.folder)}
