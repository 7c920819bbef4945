from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from llara_core.operations.live import LiveStore
from llara_core.retrieval.bm25 import Bm25
from llara_core.serving import lexical
from tests.serving.page_stories import NOTES, application, notes, serve_notes, three_generations

MORE = {"a/ø \"'&?#%": ("<b>bold</b>", "odd id"), "long": ("Long", "lava " * 200_000)}


@pytest.fixture(scope="module")
def store(work: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveStore, list[str]]:
    return three_generations(tmp_path_factory.mktemp("store"), work, MORE)


@pytest.fixture(scope="module")
def client(
    store: tuple[LiveStore, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    cache = tmp_path_factory.mktemp("cache")
    with application(store[0], cache, waiting=3) as app, TestClient(app) as client:
        yield client


def _ask(client: TestClient, query: str, systems: list[str], **more: Any) -> dict[str, Any]:
    """Ask until every system has answered or said that it will not."""
    deadline = time.monotonic() + 60
    while True:
        answer = client.post("/compare", json={"query": query, "systems": systems, **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        if all(column["state"] != "opening" for column in found["columns"]):
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _text(pieces: list[tuple[str, bool]]) -> str:
    return "".join(text for text, _ in pieces)


def test_what_can_be_compared(client: TestClient, store: tuple[LiveStore, list[str]]) -> None:
    one, two, three = store[1]
    found = client.get("/systems").json()
    systems = {system["id"]: system for system in found["systems"]}
    assert list(systems) == ["champion", "bm25", two, one]
    assert (systems["champion"]["pair"], systems["champion"]["version"]) == (three, "3")
    assert systems["champion"]["documents"] == len(NOTES) + len(MORE)
    assert systems[two]["label"].endswith("before")
    assert systems[two]["same_corpus"] is True
    assert (systems[one]["same_corpus"], systems[one]["documents"]) == (False, len(NOTES))
    assert "another corpus (12 documents)" in systems[one]["message"]
    assert (found["collection"], found["judged_queries"], found["open_generations"]) == ("notes", 3, 2)


def test_side_by_side(client: TestClient, store: tuple[LiveStore, list[str]]) -> None:
    one, two, _ = store[1]
    found = _ask(client, "How do  BEES make honey", ["champion", two, one, "bm25"], k=12)
    assert found["judged"] == 2
    champion, before, first, words = found["columns"]
    for column in (champion, before, first):
        assert (column["state"], len(column["results"])) == ("ready", 12)
        assert [result["rank"] for result in column["results"]] == list(range(1, 13))
        scores = [result["score"] for result in column["results"]]
        assert scores == sorted(scores, reverse=True)
        assert column["encode_ms"] > 0
        assert 0 <= column["ndcg_at_10"] <= 1
    assert "carries no texts" in first["message"]
    lava = next(result for result in first["results"] if result["id"] == "volcano/lava")
    assert (_text(lava["title"]), lava["known"]) == ("Lava", True)  # the champion's text
    best = words["results"][0]
    assert (best["id"], best["grade"]) == ("bees/honey", 2)
    assert (words["encode_ms"], words["ndcg_at_10"]) == (None, 1.0)
    assert [text for text, matched in best["title"] if matched] == ["How", "bees", "make", "honey"]
    assert {result["id"]: result["grade"] for result in champion["results"]}["bees/dance"] == 1
    assert all(result["score"] > 0 for result in words["results"])


def test_the_champion_answers_as_search_does(client: TestClient) -> None:
    ours = _ask(client, "lava", ["champion"], k=5)["columns"][0]["results"]
    theirs = client.post("/search", json={"query": "lava", "k": 5}).json()["results"][0]["hits"]
    assert [one["id"] for one in ours] == [one["id"] for one in theirs]
    assert [one["score"] for one in ours] == pytest.approx([one["score"] for one in theirs], abs=1e-6)


def test_a_query_that_nobody_judged(client: TestClient) -> None:
    found = _ask(client, "zebra", ["champion", "bm25"])
    assert found["judged"] is None
    assert found["columns"][0]["ndcg_at_10"] is None
    assert all(result["grade"] is None for result in found["columns"][0]["results"])
    assert found["columns"][1]["results"] == []


def test_a_passage_whole(client: TestClient) -> None:
    for document in MORE:
        found = client.get("/passage", params={"id": document, "query": "lava bold"}).json()
        assert (found["id"], _text(found["text"])) == (document, MORE[document][1])
        assert found["characters"] == len(MORE[document][1])
    assert client.get("/passage", params={"id": "harbour"}).json()["title"] == [["", False]]
    judged = client.get("/passage", params={"id": "bees/honey", "query": "how do bees make honey"}).json()
    assert judged["grade"] == 2


def test_examples_are_judged_queries(client: TestClient) -> None:
    assert sorted(client.get("/examples").json()["queries"]) == [
        "how do bees make honey", "what becomes of cooling lava", "why is the sea rising",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": " "}, "empty_query"),
        ({"query": "x" * 4001}, "text_too_long"),
        ({"query": "x", "k": 51}, "k_too_large"),
        ({"query": "x", "k": 0}, "greater_than_equal"),
        ({"query": "x", "systems": []}, "too_short"),
        ({"query": "x", "systems": ["bm25", "bm25"]}, "system_twice"),
        ({"query": "x", "systems": ["a", "b", "c"]}, "too_many_systems"),
        ({"query": "x", "sistems": ["a"]}, "extra_forbidden"),
    ],
)
def test_what_is_refused(client: TestClient, body: dict[str, Any], code: str) -> None:
    answer = client.post("/compare", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)


def test_hostile_queries_are_answered_or_refused(client: TestClient) -> None:
    for query in ("\\ud800", "\\u0000", "\\u202e abc", "e\\u0301" * 500, "🙂"):
        answer = client.post(
            "/compare", content=f'{{"query": "{query}"}}', headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (200, 422)
    for document in ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "\0", "x" * 9000):
        assert client.get("/passage", params={"id": document}).status_code in (404, 422)


def test_what_is_not_there(client: TestClient, store: tuple[LiveStore, list[str]]) -> None:
    assert client.post("/compare", json={"query": "x", "systems": ["v9-none"]}).status_code == 404
    assert client.get("/passage", params={"id": "none"}).json()["error"]["param"] == "id"
    assert (
        client.get("/passage", params={"id": "loom", "system": "../x"}).json()["error"]["param"] == "system"
    )


def test_the_page_allows_nothing_but_itself(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    for name in ("search.css", "search.js", "client.js", "draw.js", "keys.js", "icon.svg"):
        text = client.get(f"/page/{name}")
        assert text.status_code == 200
        assert text.headers["x-content-type-options"] == "nosniff"
        for banned in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="):
            assert banned not in text.text
    for text in (page.text, client.get("/page/search.css").text):
        assert "http" not in text.replace("http-equiv", "")
        assert "onclick" not in text


def test_a_page_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/page/search.js").headers["etag"]
    again = client.get("/page/search.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_with_a_key_the_page_is_open_and_its_answers_are_not(
    store: tuple[LiveStore, list[str]], tmp_path: Path
) -> None:
    with application(store[0], tmp_path, keys=("secret",)) as app, TestClient(app) as client:
        assert client.get("/").status_code == client.get("/page/search.js").status_code == 200
        for path in ("/systems", "/examples", "/passage?id=loom"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"X-API-Key": "secret"}).status_code == 200
        assert client.post("/compare", json={"query": "x"}).status_code == 401


def test_nothing_live_yet(tmp_path: Path) -> None:
    with application(LiveStore(tmp_path / "none"), tmp_path) as app, TestClient(app) as client:
        assert client.get("/systems").json()["systems"] == []
        answer = client.post("/compare", json={"query": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "nothing_serves")
        assert answer.headers["retry-after"] == "1"


def test_too_many_comparisons_are_sent_away_and_search_is_not(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ask(client, "lava", ["bm25"])
    go, statuses = threading.Event(), []
    search = Bm25.search

    def slow(self: Bm25, *arguments: Any) -> Any:
        assert go.wait(30)
        return search(self, *arguments)

    monkeypatch.setattr(Bm25, "search", slow)

    def ask() -> None:
        statuses.append(client.post("/compare", json={"query": "x", "systems": ["bm25"]}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while len(statuses) < 3 and time.monotonic() < deadline:  # the worker and its queue are full by now
        time.sleep(0.01)
    assert statuses == [429] * 3
    assert client.post("/search", json={"query": "lava"}).status_code == 200
    go.set()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 3 + [429] * 3


def test_a_damaged_generation_is_told_and_does_not_hide_the_others(work: Path, tmp_path: Path) -> None:
    store, names = three_generations(tmp_path, work)
    weights = next((store.folder / names[1] / "model").glob("*.safetensors"))
    weights.unlink()  # a hard link may be shared: the file itself stays as it is
    weights.write_bytes(b"not weights")
    with application(store, tmp_path / "cache") as app, TestClient(app) as client:
        champion, before = _ask(client, "lava", ["champion", names[1]])["columns"]
        assert champion["state"] == "ready"
        assert (before["state"], before["results"]) == ("failed", [])
        assert "cannot be opened" in before["message"]
        assert before["retry_after"] > 1


def test_bm25_that_cannot_be_built_is_told(
    store: tuple[LiveStore, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "_SMALL", 0)
    monkeypatch.setattr(lexical.sys, "executable", "/bin/false")
    with application(store[0], tmp_path) as app, TestClient(app) as client:
        (column,) = _ask(client, "lava", ["bm25"])["columns"]
        assert column["state"] == "failed"
        assert "has ended: exit 1" in column["message"]


def test_bm25_is_built_by_a_process_of_its_own_and_kept(
    store: tuple[LiveStore, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "_SMALL", 0)
    monkeypatch.setattr(Bm25, "index", None)  # the service itself indexes nothing
    with application(store[0], tmp_path) as app, TestClient(app) as client:
        first = client.post("/compare", json={"query": "lava", "systems": ["bm25"]}).json()["columns"][0]
        assert (first["state"], first["retry_after"]) == ("opening", 1.0)
        assert "being built over 14 passages" in first["message"]
        assert len(_ask(client, "honey", ["bm25"])["columns"][0]["results"]) == 1
    assert len(list(tmp_path.glob("bm25-*"))) == 1


def test_bm25_without_texts_is_told(work: Path, tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "live")
    serve_notes(store, work / "adapted", "1", notes(), None)
    with application(store, tmp_path / "cache") as app, TestClient(app) as client:
        found = _ask(client, "lava", ["champion", "bm25"])
        assert found["columns"][1]["state"] == "absent"
        assert not any(result["known"] for result in found["columns"][0]["results"])


def test_the_page_follows_the_champion(work: Path, tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "live")
    old = serve_notes(store, work / "adapted", "1", notes(), tmp_path / "one")
    with application(store, tmp_path / "cache") as app, TestClient(app) as client:
        assert len(_ask(client, "lava", ["bm25"])["columns"][0]["results"]) == 1
        serve_notes(store, work / "finetuned", "2", notes({"new": ("New", "lava")}), tmp_path / "two")
        deadline = time.monotonic() + 30
        while client.get("/systems").json()["systems"][0]["version"] != "2":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        champion, before, words = _ask(client, "lava", ["champion", old, "bm25"], k=20)["columns"]
        assert [len(column["results"]) for column in (champion, before, words)] == [13, 12, 2]
