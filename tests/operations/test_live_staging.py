"""Making pairs: what is encoded, linked, found again, and what damage does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from llara_core.errors import ModelError
from llara_core.operations.live import LiveError, LiveStore
from llara_core.operations.lock import Held, take
from llara_core.retrieval.index import Index
from tests.operations.live_stories import IDS, PASSAGES, REVISED, Recorder, other_bundle, serve, staged, whole
from tests.oracles.fake_encoder import FakeEncoder


@pytest.fixture
def one(work: Path) -> Path:
    return work / "finetuned"


@pytest.fixture
def store(one: Path, tmp_path: Path) -> Path:
    serve(tmp_path / "store", one, "1")
    return tmp_path / "store"


def weights(folder: Path) -> Path:
    return next((folder / "model").glob("*.safetensors"))


def test_the_first_pair_is_built(one: Path, tmp_path: Path) -> None:
    load = Recorder()
    made = staged(tmp_path / "store", one, "1", load=load)
    assert made.how == "built"
    assert made.counts["encoded"] == load.encoded == len(PASSAGES)
    assert LiveStore(tmp_path / "store").current() is None  # nothing serves before the cutover
    assert weights(made.pair.folder).stat().st_ino != next(one.glob("*.safetensors")).stat().st_ino


def test_a_changed_corpus_encodes_what_changed_and_links_the_model(one: Path, store: Path) -> None:
    load = Recorder()
    made = staged(store, one, "1", REVISED, load)
    assert made.how == "refreshed"
    assert made.counts == {"kept": 9, "added": 0, "changed": 3, "deleted": 0, "encoded": 3}
    assert load.encoded == 3
    live = LiveStore(store).current()
    assert live is not None
    assert weights(made.pair.folder).stat().st_ino == weights(live.folder).stat().st_ino
    # The same as a build of the new corpus, bit for bit.
    encoder = FakeEncoder(32, made.pair.fingerprint)
    fresh = Index.build(store.parent / "fresh", encoder, IDS, REVISED)
    queries = encoder.encode_queries(["matter 2 revised", PASSAGES[5]])
    for mine, theirs in zip(
        Index.open(made.pair.index).search(queries, 5, encoder),
        fresh.search(queries, 5, encoder),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert whole(store) == live.name  # the pair that serves is as it was


def test_another_model_encodes_everything(one: Path, store: Path, tmp_path: Path) -> None:
    load = Recorder()
    made = staged(store, other_bundle(one, tmp_path / "two"), "2", load=load)
    assert (made.how, load.encoded) == ("built", len(PASSAGES))


def test_the_same_again_is_found(one: Path, store: Path) -> None:
    load = Recorder()
    assert staged(store, one, "1", load=load).how == "unchanged"
    new = staged(store, one, "1", REVISED, load)
    again = staged(store, one, "1", REVISED, load)
    assert (again.how, again.pair) == ("found", new.pair)
    assert load.encoded == 3


@pytest.mark.parametrize("part", ["index", "model"])
def test_a_damaged_pair_is_made_anew_beside_it(one: Path, store: Path, part: str) -> None:
    live = LiveStore(store).current()
    assert live is not None
    damaged = next(live.index.rglob("vectors-*.npy")) if part == "index" else weights(live.folder)
    values = bytearray(damaged.read_bytes())
    values[-1] ^= 1
    damaged.write_bytes(bytes(values))
    load = Recorder()
    made = staged(store, one, "1", load=load)
    assert made.pair.name == f"{live.name}-2"
    if part == "index":  # vectors that rotted are not handed on
        assert (made.how, load.encoded) == ("built", len(PASSAGES))
    LiveStore(store).cutover(made.pair, live.name, "mended")
    assert whole(store) == made.pair.name


def test_a_bundle_that_is_not_what_it_says_is_refused(one: Path, store: Path, tmp_path: Path) -> None:
    planted = other_bundle(one, tmp_path / "two")
    (planted / "tokenizer_note.txt").write_text("changed afterwards", encoding="utf-8")
    with pytest.raises(ModelError, match=r"tokenizer_note\.txt: has"):
        staged(store, planted, "2")
    assert [pair.version for pair in LiveStore(store).generations()] == ["1"]
    assert not list(store.glob(".*partial"))


def test_one_at_a_time_but_a_rollback_waits_for_none(one: Path, store: Path) -> None:
    serve(store, one, "1", REVISED)
    held = take(store / ".staging.lock", "the other indexing")
    assert isinstance(held, Held)
    try:
        with pytest.raises(LiveError, match=r"the other indexing .* is making a pair; wait"):
            staged(store, one, "1", PASSAGES[:3] + REVISED[3:])
        LiveStore(store).rollback("now")
    finally:
        held.release()


def test_a_full_disk_loses_nothing(one: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = whole(store)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        staged(store, one, "1", REVISED)
    monkeypatch.undo()
    assert whole(store) == name
    assert staged(store, one, "1", REVISED).how == "refreshed"
