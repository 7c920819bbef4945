"""Making pairs: what is encoded, linked, found again, and what damage does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from llara_core.data.collection import Collection
from llara_core.errors import DataError, ModelError
from llara_core.operations.live import LiveError, LiveStore, Pair
from llara_core.operations.live_staging import Staged, check_pair, stage
from llara_core.operations.lock import Held, take
from llara_core.retrieval.index import Index, IndexSettings
from tests.operations.live_stories import IDS, PASSAGES, REVISED, Recorder, other_bundle, serve, staged, whole
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.tiny_collection import collection


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


def saved(folder: Path, grade: int = 1) -> Path:
    """The passages as a saved collection with one judgement."""
    texts = dict(zip(IDS, PASSAGES, strict=True))
    return collection(texts, {"q": "matter 1"}, {"test": {"q": {"d1": grade}}}).save(folder)


def with_texts(store: Path, bundle: Path, texts: Path) -> Staged:
    return stage(
        LiveStore(store), bundle, "1", IDS, PASSAGES, IndexSettings(kind="flat"), Recorder(), texts=texts
    )


def test_a_pair_holds_the_texts_it_was_made_of(one: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "texts")
    pair = with_texts(tmp_path / "store", one, folder).pair
    assert pair.texts is not None
    held = Collection.load(pair.texts)
    assert list(held.corpus_ids) == IDS
    assert held.passages == PASSAGES
    assert held.judgements("test") == {"q": {"d1": 1}}
    linked = (pair.texts / "corpus.arrow").stat().st_ino, (folder / "corpus.arrow").stat().st_ino
    assert linked[0] == linked[1]  # no second copy of a corpus
    assert Pair.read(pair.folder) == pair
    check_pair(pair)


def test_other_judgements_make_another_pair_that_encodes_nothing(one: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = with_texts(store, one, saved(tmp_path / "texts"))
    LiveStore(store).cutover(first.pair, None, "the test says so")
    assert with_texts(store, one, tmp_path / "texts").how == "unchanged"
    second = with_texts(store, one, saved(tmp_path / "other", grade=2))
    assert (second.how, second.counts["encoded"]) == ("refreshed", 0)
    assert second.pair.answers_as(first.pair)
    # What was rolled back for its answers does not come back with other judgements.
    LiveStore(store).cutover(second.pair, first.pair.name, "the test says so")
    LiveStore(store).rollback("bad answers")
    third = with_texts(store, one, saved(tmp_path / "third", grade=3))
    with pytest.raises(LiveError, match="bad answers"):
        LiveStore(store).cutover(third.pair, first.pair.name, "the test says so")


def test_a_pair_without_texts_is_read_as_it_was(store: Path) -> None:
    pair = LiveStore(store).current()
    assert pair is not None
    assert pair.texts is None
    facts = json.loads((pair.folder / "pair.json").read_text(encoding="utf-8"))
    del facts["collection"]  # as it was written before there were texts
    (pair.folder / "pair.json").write_text(json.dumps(facts), encoding="utf-8")
    assert Pair.read(pair.folder) == pair
    check_pair(pair)


@pytest.mark.parametrize("damage", ["gone", "other", "judgements"])
def test_damaged_texts_are_found_and_the_pair_is_made_again(one: Path, tmp_path: Path, damage: str) -> None:
    store, folder = tmp_path / "store", saved(tmp_path / "texts")
    pair = with_texts(store, one, folder).pair
    assert pair.texts is not None
    shutil.rmtree(pair.texts)  # the files are shared with the source, so they are replaced and not changed
    if damage == "other":
        texts = dict(zip(IDS, REVISED, strict=True))
        collection(texts, {"q": "matter 1"}, {"test": {"q": {"d1": 1}}}).save(pair.texts)
    elif damage == "judgements":
        saved(pair.texts, grade=3)
    with pytest.raises(DataError):
        check_pair(pair)
    again = with_texts(store, one, folder)
    assert again.how == "built"
    check_pair(again.pair)
