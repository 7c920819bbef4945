"""Taking over a new champion: beside the old one, in one step, and never at its expense."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from collections import Counter
from pathlib import Path

import pytest

from llara_core.errors import DataError
from llara_core.operations.live import LiveStore
from llara_core.serving.champion import Champion, StoreSource
from llara_core.serving.served import Served, open_folders, open_pair
from llara_core.serving_settings import SwitchSettings
from tests.serving.page_stories import notes, serve_notes
from tests.serving.service_stories import QUICK, client_of, notes_store, service_of, until


@pytest.fixture
def store(work: Path, tmp_path: Path) -> LiveStore:
    return notes_store(tmp_path, work / "finetuned")


def looked(store: LiveStore) -> Champion:
    champion = Champion(StoreSource(store, "cpu"), SwitchSettings(**QUICK))
    champion.look()
    return champion


def test_a_switch_under_load_drops_nothing_and_mixes_nothing(
    store: LiveStore, work: Path, tmp_path: Path
) -> None:
    service, answers = service_of(store), []
    ended = threading.Event()
    with client_of(service) as client:
        old = service.champion.current
        assert old is not None

        def ask() -> None:
            while not ended.is_set():
                answers.append(client.post("/search", json={"query": "lava and ash", "k": 2}))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        serve_notes(store, work / "adapted", "2", notes(), tmp_path / "two")
        until(lambda: service.champion.counts.switches == 1)
        after = len(answers)
        until(lambda: len(answers) > after + 20)
        LiveStore(store.folder).rollback("the test says so")
        until(lambda: service.champion.counts.switches == 2)
        ended.set()
        for thread in threads:
            thread.join()
        page = client.get("/metrics").text
    assert Counter(answer.status_code for answer in answers) == {200: len(answers)}
    told = [answer.json() for answer in answers]
    fingerprints = {one["pair"]: one["fingerprint"] for one in told}
    assert len(fingerprints) == 2
    scores: dict[str, set[float]] = {}
    for one in told:
        assert one["fingerprint"] == fingerprints[one["pair"]]
        scores.setdefault(one["pair"], set()).add(round(one["results"][0]["hits"][0]["score"], 5))
    assert all(len(found) == 1 for found in scores.values())  # each pair gave its own answer, always
    assert {one["version"] for one in told} == {"1", "2"}
    assert "llara_switches_total 2.0" in page


def test_the_old_pair_goes_with_its_last_request(store: LiveStore, work: Path, tmp_path: Path) -> None:
    champion = looked(store)
    request = champion.current
    assert request is not None
    old = weakref.ref(request)
    serve_notes(store, work / "adapted", "2", notes(), tmp_path / "two")
    champion.look()
    assert champion.current is not request
    assert champion.opened == 2
    del request
    gc.collect()
    assert old() is None
    assert champion.opened == 1


def test_a_pair_that_cannot_be_opened_leaves_the_old_one(
    store: LiveStore, work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = service_of(store)
    with client_of(service) as client:
        pair = store.current()
        assert pair is not None
        serve_notes(store, work / "adapted", "2", notes(), tmp_path / "two")
        broken = store.current()
        assert broken is not None
        kept = shutil.move(broken.index, tmp_path / "kept")
        # The thread may have opened the new pair before it was broken: back, and to it again.
        store.rollback("to begin with")
        until(lambda: service.champion.current.name == pair.name)  # type: ignore[union-attr]
        store.rollback("to the broken one", to=broken.name)
        until(lambda: service.champion.counts.failures >= 2)  # tried again by itself
        assert client.post("/search", json={"query": "lava"}).json()["version"] == "1"
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert "cannot be opened" in ready.json()["reason"]
        assert str(store.folder) not in ready.text  # anybody may ask
        assert "goes on serving" in caplog.text
        shutil.move(kept, broken.index)
        until(lambda: client.post("/search", json={"query": "lava"}).json()["version"] == "2")
        assert client.get("/readyz").json()["reason"] is None
        assert service.champion.trouble is None


def test_a_damaged_pointer_leaves_the_old_pair(store: LiveStore) -> None:
    champion = looked(store)
    (store.folder / "live.json").write_text("{")
    champion.look()
    assert champion.current is not None
    assert "is damaged" in str(champion.trouble)
    (store.folder / "live.json").unlink()
    champion.look()
    assert champion.current is not None


def test_an_empty_store_is_not_ready_until_something_is_live(work: Path, tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "live")
    with client_of(service_of(store), ready=False) as client:
        for answer in (
            client.get("/readyz"),
            client.post("/search", json={"query": "lava"}),
            client.post("/embed", json={"texts": ["lava"], "kind": "query"}),
            client.get("/v1/models"),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "nothing_serves")
        assert client.get("/healthz").status_code == 200
        notes_store(tmp_path, work / "finetuned")
        until(lambda: client.get("/readyz").status_code == 200)


def test_nothing_is_opened_while_the_pointer_stands_still(
    store: LiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = looked(store)
    before = champion.current
    monkeypatch.setattr(StoreSource, "name", lambda self: pytest.fail("the pointer was read"))
    champion.look()
    assert champion.current is before


def test_texts_of_another_corpus_are_refused(store: LiveStore, tmp_path: Path) -> None:
    pair = store.current()
    assert pair is not None
    assert pair.texts is not None
    shutil.rmtree(pair.texts)
    notes({"more": ("One", "passage more")}).save(pair.texts)
    with pytest.raises(DataError, match="13"):
        open_pair(pair, "cpu")


def test_folders_serve_too(store: LiveStore, work: Path, tmp_path: Path) -> None:
    pair, model = store.current(), work / "finetuned"
    assert pair is not None
    given = open_folders(model, pair.index, notes(), device="cpu")
    made = open_folders(model, None, notes(), cache=tmp_path / "cache", device="cpu")
    again = open_folders(model, None, notes(), cache=tmp_path / "cache", device="cpu")
    bare = open_folders(model, device="cpu")
    assert [found(one) for one in (given, made, again)] == [found(open_pair(pair, "cpu"))] * 3
    assert (bare.index, bare.corpus) == (None, None)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    with pytest.raises(DataError):
        open_folders(model, pair.index, notes({"more": ("One", "passage more")}), device="cpu")


def found(served: Served) -> list[str]:
    assert served.index is not None
    assert served.corpus is not None
    _, rows = served.index.search(served.retriever.encode_queries(["lava"]), 3, served.retriever)
    return [served.corpus.passage(row).id for row in rows[0].tolist()]
