"""Both stages end to end on a tiny model: they learn, repeat themselves, merge adapters and stop on NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llara_core.config import (
    AdaptSettings,
    FinetuneSettings,
    FromScratchSettings,
    LoraSettings,
    ModelSettings,
)
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.errors import TrainingError
from llara_core.model.bundle import read_bundle
from llara_core.model.prepare import prepare_base
from llara_core.model.retriever import Retriever
from llara_core.training.adapt import adapt
from llara_core.training.finetune import finetune

SEED = 3
NONE = pa.table({"query_id": pa.array([], pa.string()), "corpus_id": pa.array([], pa.string())})


def make_collection() -> Collection:
    """40 documents of words of their own; a query says two of them in another order."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("aeioubdgklmnprst"), 6)) for _ in range(160)]
    documents = [words[4 * i : 4 * i + 4] for i in range(40)]
    corpus = [{"_id": f"d{i}", "title": "", "text": " ".join(own * 2)} for i, own in enumerate(documents)]
    queries = [{"_id": f"q{i}", "text": f"{own[2]} {own[0]}"} for i, own in enumerate(documents)]
    qrels = [{"query_id": f"q{i}", "corpus_id": f"d{i}", "score": 1} for i in range(40)]
    return Collection(
        "toy",
        pa.Table.from_pylist(corpus, CORPUS_SCHEMA),
        pa.Table.from_pylist(queries, QUERIES_SCHEMA),
        {"train": pa.Table.from_pylist(qrels, QRELS_SCHEMA)},
    )


@pytest.fixture(scope="module")
def collection() -> Collection:
    return make_collection()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, collection: Collection) -> Path:
    model = ModelSettings(
        from_scratch=FromScratchSettings(
            vocabulary_size=600, hidden_size=32, intermediate_size=48, layers=1, heads=2, max_positions=64
        ),
        template="slots", query_length=12, passage_length=24,
    )  # fmt: skip
    return prepare_base(model, collection, tmp_path_factory.mktemp("stages") / "base", SEED)


def rows_of(collection: Collection) -> pa.Table:
    texts = collection.passages
    return pa.table({"text": texts, "next_text": [*texts[1:], ""]})


def adapt_settings(**changes: object) -> AdaptSettings:
    values = {"steps": 12, "batch_size": 16, "learning_rate": 1e-2, "text_length": 16, "minimum_span": 6,
              "frequency_prior": True, "idf_weights": True, "log_every": 4}  # fmt: skip
    return AdaptSettings(**{**values, **changes})


def finetune_settings(**changes: object) -> FinetuneSettings:
    values = {
        "steps": 25,
        "batch_size": 20,
        "learning_rate": 1e-2,
        "temperature": 0.05,
        "hard_negatives": 1,
        "span_pairs": 4,
        "lora": None,
        "log_every": 5,
    }
    return FinetuneSettings(**{**values, **changes})


def recall_at_1(folder: Path, collection: Collection) -> float:
    retriever = Retriever.from_pretrained(folder, "cpu")
    scores = (
        retriever.encode_queries(collection.split_queries("train")[1])
        @ retriever.encode_passages(collection.passages).T
    )
    return float((scores.argmax(axis=1) == np.arange(40)).mean())


def test_adapt_learns_logs_and_repeats_itself(tmp_path: Path, base: Path, collection: Collection) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    first = adapt(
        base, rows_of(collection), adapt_settings(), tmp_path / "a", SEED, lambda *line: seen.append(line)
    )
    again = adapt(base, rows_of(collection), adapt_settings(), tmp_path / "b", SEED)
    other = adapt(base, rows_of(collection), adapt_settings(), tmp_path / "c", SEED + 1)
    prints = [read_bundle(folder).fingerprint for folder in (first, again, other, base)]
    assert prints[0] == prints[1] and len(set(prints)) == 3
    assert [step for step, _ in seen] == [1, 4, 8, 12]
    losses = [line["loss"] for _, line in seen]
    assert losses[-1] < losses[0] - 0.3
    last = seen[-1][1]
    assert last["loss"] == pytest.approx(0.5 * last["ebae"] + 0.5 * last["ebar"], rel=1e-5)
    assert 0 <= last["padding_waste"] < 0.2 and last["tokens_per_second"] > 0 and last["seconds_left"] == 0
    history = read_bundle(first).history
    assert [stage.name for stage in history] == ["prepare", "adapt"]
    assert [line["step"] for line in history[1].curve] == [1, 4, 8, 12]


def test_finetune_makes_queries_find_their_documents(
    tmp_path: Path, base: Path, collection: Collection
) -> None:
    negatives = pa.table({"query_id": ["q0", "q1"], "corpus_id": ["d5", "d6"]})
    before = recall_at_1(base, collection)
    settings = finetune_settings(symmetric=True)
    first = finetune(base, collection, negatives, settings, tmp_path / "a", SEED)
    again = finetune(base, collection, negatives, settings, tmp_path / "b", SEED)
    assert recall_at_1(first, collection) > max(0.8, before + 0.3)
    assert read_bundle(first).fingerprint == read_bundle(again).fingerprint
    curve = read_bundle(first).history[-1].curve
    assert curve[-1]["accuracy"] > curve[0]["accuracy"]


def test_adapters_are_merged(tmp_path: Path, base: Path, collection: Collection) -> None:
    lora = LoraSettings(rank=8, alpha=16, dropout=0.1)
    adapted = adapt(base, rows_of(collection), adapt_settings(steps=4, lora=lora), tmp_path / "a", SEED)
    tuned = finetune(adapted, collection, NONE, finetune_settings(steps=4, lora=lora), tmp_path / "f", SEED)
    again = finetune(adapted, collection, NONE, finetune_settings(steps=4, lora=lora), tmp_path / "g", SEED)
    start, end = (read_bundle(folder).load()[0].state_dict() for folder in (base, adapted))
    assert start.keys() == end.keys()
    slots = read_bundle(adapted).slot_ids["ebae"]
    name = "model.embed_tokens.weight"
    assert not np.allclose(start[name][slots], end[name][slots])  # new slots are trained
    assert np.array_equal(start[name][:300], end[name][:300])  # words are frozen
    assert not np.allclose(
        start["model.layers.0.self_attn.q_proj.weight"], end["model.layers.0.self_attn.q_proj.weight"]
    )
    bundle = read_bundle(tuned)
    assert bundle.history[-1].facts["adapters"] == "merged"
    assert bundle.fingerprint == read_bundle(again).fingerprint  # dropout is seeded
    assert bundle.fingerprint != read_bundle(adapted).fingerprint


def test_loss_that_is_not_finite_stops_and_saves_nothing(
    tmp_path: Path, base: Path, collection: Collection
) -> None:
    wild = adapt_settings(learning_rate=1e30, warmup_fraction=0.0, gradient_clip=1e30)
    with pytest.raises(TrainingError, match=r"adapt: the (loss|gradient) is not finite at step \d+"):
        adapt(base, rows_of(collection), wild, tmp_path / "a", SEED)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_train_on(tmp_path: Path, base: Path, collection: Collection) -> None:
    with pytest.raises(TrainingError, match="every row is empty"):
        adapt(base, pa.table({"text": [""], "next_text": [""]}), adapt_settings(), tmp_path / "a", SEED)
    zero = collection.qrels["train"].set_column(2, "score", pa.array([0] * 40, pa.int32()))
    empty = Collection("toy", collection.corpus, collection.queries, {"train": zero})
    with pytest.raises(TrainingError, match="no query of split 'train' has a relevant document"):
        finetune(base, empty, NONE, finetune_settings(), tmp_path / "b", SEED)
