"""The sharded pipeline on the local orchestrator: merged bytes, a planted failure, the cache."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llara_core.config import Bm25Settings, MineSettings
from llara_core.data.collection import Collection
from llara_core.model.retriever import Retriever
from llara_core.retrieval import vector_shards, vectors
from llara_core.retrieval.mining import mine
from tests.conftest import write_tiny_beir
from tests.training.two_processes import make_base

BLOCK = 5  # 24 passages are 5 blocks
MINE = {"negatives": 2, "bm25_depth": 5, "dense_depth": 5}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # a busy machine takes ten times as long as an idle one
]


def settings_of(place: Path) -> dict[str, Any]:
    return {
        "seed": 3,
        "collection": {"source": str(place / "tiny"), "name": "tiny"},
        "model": str(place / "base"),
        "shards": {"encoding": 3, "mining": 2},
        "mine": MINE,
    }


def outputs(run: Any) -> dict[str, Any]:
    """The artifacts of a run by name; of those that several steps gave, the last."""
    return {name: made for step in run.steps.values() for name, made in step.regular_outputs.items()}


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a handful of passages, wherever a default says 16,384."""
    for function in (vector_shards.plan_shards, vector_shards.encode_shard, vector_shards.merge_shards):
        if function.__kwdefaults__ and "block" in function.__kwdefaults__:
            monkeypatch.setitem(function.__kwdefaults__, "block", BLOCK)
        else:
            monkeypatch.setattr(function, "__defaults__", (BLOCK,))
    monkeypatch.setitem(vectors.stored_vectors.__kwdefaults__, "block", BLOCK)


@pytest.fixture
def source_root() -> Any:
    """Where ZenML looks for our code: it would take the folder of pytest's own script."""
    from zenml.utils import source_utils

    source_utils.set_custom_source_root(str(Path(__file__).resolve().parents[2]))
    yield
    source_utils.set_custom_source_root(None)


def test_a_failed_shard_is_done_again_alone_and_the_bytes_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source_root: Any
) -> None:
    from zenml.client import Client

    import steps.encode_shard as shard_step
    from pipelines.sharded import sharded_pipeline
    from steps.stored.shards import vectors_below

    small_blocks(monkeypatch)
    write_tiny_beir(tmp_path / "tiny")
    make_base(tmp_path / "base")
    calls: Counter[str] = Counter()
    encode, lock = shard_step.encode, threading.Lock()

    def flaky(encoder: Any, texts: Any, cache: Path, **more: Any) -> Any:
        with lock:
            calls[cache.name] += 1
        if cache.name == "1" and calls["1"] == 1:
            raise ConnectionError("the node of this shard was taken away")
        return encode(encoder, texts, cache, **more)

    monkeypatch.setattr(shard_step, "encode", flaky)
    # As `steps: {encode_shard: {retry: …}}` of a YAML: one entry for all shards.
    sharded_pipeline.with_options(steps={"encode_shard": {"retry": {"max_retries": 1}}})(
        **settings_of(tmp_path)
    )
    run = Client().get_pipeline("sharded").last_successful_run
    assert calls == {"0": 1, "1": 2, "2": 1}
    shards = [step for name, step in run.steps.items() if "encode_shard" in name]
    assert len(shards) == 3 and all(step.config.retry.max_retries == 1 for step in shards)
    made = outputs(run)
    data = made["ingested"].load()
    collection = Collection.load(data.path)

    encoder = Retriever.from_pretrained(tmp_path / "base")
    one = vectors.stored_vectors(encoder, collection.passages, tmp_path / "one")
    assert one.folder is not None
    merged = vectors_below(made["corpus_vectors"].load()) / one.folder.name
    for name in ("vectors.npy", "hashes.npy"):
        assert (merged / name).read_bytes() == (one.folder / name).read_bytes()

    whole = mine(
        collection, encoder, MineSettings.parse(MINE, "mine"), Bm25Settings(), 3, cache=tmp_path / "one"
    )
    table = made["hard_negatives"].load().path / "table.arrow"
    from steps.stored.table import write_table

    expected = write_table(whole.table, tmp_path / "table")
    assert hashlib.sha256(table.read_bytes()).digest() == hashlib.sha256(expected.read_bytes()).digest()
    from steps.stored.negatives import open_audit

    assert open_audit(made["hard_negatives"].load()) == whole.audit

    sharded_pipeline(**settings_of(tmp_path))  # nothing is encoded again
    assert sum(calls.values()) == 4
    again = Client().get_pipeline("sharded").last_successful_run
    assert again.id != run.id
    assert outputs(again)["hard_negatives"].id == made["hard_negatives"].id
