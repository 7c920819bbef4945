"""The cells of `adaptation_gain.py`: one arm of adaptation, one seed, one collection, the same fine-tuning.

A cell is a pure function of its settings, its seed and the text. Finished cells are kept as JSON.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from llara_core.config import AdaptSettings, TrainingSettings
from llara_core.data.collection import Collection
from llara_core.data.formats import load_collection, source_fingerprint
from llara_core.data.passages import adaptation_rows
from llara_core.data.text_folder import read_text
from llara_core.environment import describe
from llara_core.evaluation.beir import Bm25System, DenseSystem, evaluate_system
from llara_core.evaluation.subsets import leak_free_subsets
from llara_core.files import write_json
from llara_core.model.bundle import read_bundle
from llara_core.model.prepare import prepare_base
from llara_core.model.retriever import Retriever
from llara_core.retrieval.mining import NEGATIVES_SCHEMA
from llara_core.retrieval.vectors import corpus_vectors
from llara_core.training.adapt import adapt
from llara_core.training.adaptation_loss import mean_cosine
from llara_core.training.finetune import finetune

FORMAT = 1  # of a cell's record; another number makes every cell anew
_COSINES = 1_000  # passages whose mean cosine says whether the embedding has collapsed
Text = Literal["own", "wikipedia", "mixed"]


@dataclass(frozen=True)
class Arm:
    """One way to adapt.

    Args:
        label: what the table calls it.
        text: what it is adapted on; None: no adaptation.
        ebae: weight of EBAE. The weights of every arm sum to 1, so that the gradients' scale is alike.
        ebar: weight of EBAR.
        target: what EBAR foretells: the text after the span (the paper), or all that stands around it.
    """

    label: str
    text: Text | None
    ebae: float = 0.5
    ebar: float = 0.5
    target: Literal["next", "around"] = "next"

    def settings(self, given: AdaptSettings) -> AdaptSettings:
        """The stage's settings with this arm's objective."""
        update = {"ebae_weight": self.ebae, "ebar_weight": self.ebar, "ebar_target": self.target}
        return given.model_copy(update=update)


NONE = "none"
ARMS: dict[str, Arm] = {
    NONE: Arm("no adaptation", None),
    "ebae": Arm("EBAE only", "own", 1.0, 0.0),
    "ebar": Arm("EBAR only", "own", 0.0, 1.0),
    "both": Arm("EBAE + EBAR", "own"),
    "around": Arm("EBAE + EBAR around the span", "own", target="around"),
    "wikipedia": Arm("EBAE + EBAR", "wikipedia"),
    "mixed": Arm("EBAE + EBAR", "mixed"),
}


@dataclass(frozen=True)
class Study:
    """One collection under one budget.

    Args:
        name: of the collection.
        parameters: the given settings as plain values (they make the key of a cell).
        wikipedia: file of articles.
        folder: where finished cells lie.
        pretraining: settings of language modelling on Wikipedia before everything else; None: none.
    """

    name: str
    parameters: Mapping[str, Any]
    wikipedia: Path
    folder: Path
    pretraining: Mapping[str, Any] | None = None

    @property
    def settings(self) -> TrainingSettings:
        """The settings, checked."""
        return TrainingSettings.parse(self.parameters, self.name)

    def file(self, kind: str, **values: Any) -> Path:
        """The file of a record, named by all that decides what is in it."""
        # Where the text lies says nothing; what it says is checked by its hash.
        place = {**self.parameters["collection"], "source": self.name}
        parameters = {**self.parameters, "collection": place}
        parts = {"format": FORMAT, "parameters": parameters, "pretraining": self.pretraining, **values}
        text = json.dumps(parts, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        label = "-".join(
            [self.name, kind, *(str(values[name]) for name in ("arm", "seed") if name in values)]
        )
        return self.folder / f"{label}-{key}.json"

    def cell_file(self, arm: str, seed: int) -> Path:
        """The record of one cell."""
        return self.file("cell", arm=arm, seed=seed, objective=asdict(replace(ARMS[arm], label="")))

    def facts_file(self) -> Path:
        """The record of the collection itself, with BM25's scores."""
        return self.file("facts")


class Workshop:
    """Data and base models of one study, made when first asked for.

    Args:
        study: the collection and its budget.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.settings = study, study.settings
        self.collection = _collection(study)
        self._rows: dict[str, pa.Table] = {}
        self._temporary = tempfile.TemporaryDirectory(prefix="gain-", dir=study.folder)
        self._bases: dict[int, Path] = {}

    @property
    def folder(self) -> Path:
        """Where models lie until the work is done."""
        return Path(self._temporary.name)

    def base(self, seed: int) -> Path:
        """The unadapted model of a seed, the same for all arms; its tokenizer knows the collection only."""
        if seed not in self._bases:
            path = prepare_base(self.settings.model, self.collection, self.folder / f"base-{seed}", seed)
            if self.study.pretraining is not None:
                wanted = AdaptSettings.parse(self.study.pretraining, "pretraining")
                path = adapt(path, self._all("wikipedia"), wanted, self.folder / f"pretrained-{seed}", seed)
            self._bases[seed] = path
        return self._bases[seed]

    def rows(self, text: Text, seed: int) -> pa.Table:
        """Rows to adapt on: all of the collection's own, or as many of Wikipedia's as the steps read."""
        if text == "own":
            return self._all("own")
        read = self.settings.adapt.steps * self.settings.adapt.batch_size
        if text == "wikipedia":
            return _drawn(self._all("wikipedia"), read, seed)
        half = read // 2
        return pa.concat_tables([_drawn(self._all(one), half, seed) for one in ("own", "wikipedia")])

    def _all(self, text: Literal["own", "wikipedia"]) -> pa.Table:
        if text not in self._rows:
            source = self.collection if text == "own" else read_text(self.study.wikipedia, "wikipedia")
            self._rows[text] = adaptation_rows(source)
        return self._rows[text]

    def close(self) -> None:
        """Remove the models."""
        self._temporary.cleanup()


def run_cell(workshop: Workshop, arm: str, seed: int) -> dict[str, Any]:
    """Adapt as the arm says, fine-tune, judge both models, and keep the record.

    There are no mined negatives, only in-batch ones: mining with the adapted model would let the arms
    differ in more than adaptation.

    Returns:
        ``scores`` ({stage: nDCG@10 per query}), ``cosine`` ({stage: mean cosine of random passages}),
        ``curve`` (of the adaptation), ``seconds``, ``query_ids``, ``content_hash``, ``environment``.
    """
    study, settings, chosen = workshop.study, workshop.settings, ARMS[arm]
    started = time.monotonic()
    base = workshop.base(seed)
    with tempfile.TemporaryDirectory(dir=workshop.folder) as temporary:
        work, adapted, seconds = Path(temporary), base, {"base": time.monotonic() - started}
        if chosen.text is not None:
            started = time.monotonic()
            rows = workshop.rows(chosen.text, seed)
            adapted = adapt(base, rows, chosen.settings(settings.adapt), work / "adapted", seed)
            seconds["adapt"] = time.monotonic() - started
        started = time.monotonic()
        negatives = NEGATIVES_SCHEMA.empty_table()
        tuned = finetune(adapted, workshop.collection, negatives, settings.finetune, work / "finetuned", seed)
        seconds["finetune"] = time.monotonic() - started
        started = time.monotonic()
        stages = {"zero_shot": adapted, "finetuned": tuned}
        judged = {name: _judge(workshop, folder, work / "vectors") for name, folder in stages.items()}
        seconds["evaluate"] = time.monotonic() - started
        curve = [] if chosen.text is None else [dict(line) for line in read_bundle(adapted).history[-1].curve]
    record = {
        "collection": study.name,
        "content_hash": workshop.collection.content_hash,
        "arm": arm,
        "seed": seed,
        "query_ids": judged["finetuned"][0],
        "scores": {name: one[1] for name, one in judged.items()},
        "cosine": {name: one[2] for name, one in judged.items()},
        "curve": curve,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "environment": describe(),
    }
    write_json(study.cell_file(arm, seed), record)
    return record


def write_facts(workshop: Workshop) -> dict[str, Any]:
    """What the cells have in common: size of the collection, leak-free subsets, BM25's scores."""
    study, settings, data = workshop.study, workshop.settings, workshop.collection
    bm25 = evaluate_system(data, settings.evaluate.split, Bm25System(data, settings.evaluate.bm25))
    subsets = leak_free_subsets(data, settings.evaluate.split, settings.evaluate.train_split)
    record = {
        "collection": study.name,
        "content_hash": data.content_hash,
        "documents": data.corpus.num_rows,
        "training_pairs": data.qrels[settings.finetune.split].num_rows,
        "own_rows": adaptation_rows(data).num_rows,
        "query_ids": list(bm25.query_ids),
        "subsets": {name: marks.tolist() for name, marks in subsets.items()},
        "bm25": bm25.per_query["ndcg_at_10"].tolist(),
    }
    write_json(study.facts_file(), record)
    return record


def finished(path: Path) -> dict[str, Any] | None:
    """A kept record, or None; records are written whole or not at all."""
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Whether the record is ours to make: several processes may share the work. Freed when a process dies."""
    lock = path.with_suffix(".lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            lock.unlink(missing_ok=True)


def _judge(workshop: Workshop, folder: Path, cache: Path) -> tuple[Sequence[str], list[float], float]:
    """Query ids, nDCG@10 per query, and the mean cosine between random passages."""
    data, retriever = workshop.collection, Retriever.from_pretrained(folder)
    vectors = corpus_vectors(retriever, data.passages, cache)
    result = evaluate_system(
        data, workshop.settings.evaluate.split, DenseSystem("model", retriever, data, cache)
    )
    count = min(_COSINES, len(vectors))
    some = vectors[np.random.default_rng(0).choice(len(vectors), count, replace=False)]
    return list(result.query_ids), result.per_query["ndcg_at_10"].tolist(), mean_cosine(some)


def _collection(study: Study) -> Collection:
    """The collection; the built-in one is parsed once and kept beside the cells."""
    settings = study.settings.collection
    if settings.folder is not None:
        return load_collection(settings)
    text = source_fingerprint(settings) + json.dumps(settings.model_dump(mode="json"), sort_keys=True)
    kept = study.folder / f"{study.name}-data-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not (kept / "collection.json").is_file():  # written last
        load_collection(settings).save(kept)
    return Collection.load(kept)


def _drawn(rows: pa.Table, count: int, seed: int) -> pa.Table:
    if count >= rows.num_rows:
        return rows
    chosen = np.random.default_rng([seed, 1]).choice(rows.num_rows, count, replace=False)
    return rows.take(pa.array(np.sort(chosen)))
