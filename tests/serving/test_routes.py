"""/embed and /search: what they answer, and that company changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from llara_core.serving.routes import beginning
from llara_core.serving.schemas import EmbedResponse, SearchResponse
from llara_core.serving.service import Service
from tests.serving.page_stories import NOTES, QUERIES, notes, serve_notes
from tests.serving.service_stories import client_of, notes_store, service_of

TEXTS = [text for _, text in NOTES.values()] + ["", "a\x00b", "lava " * 400, *QUERIES.values()]


@pytest.fixture(scope="module")
def service(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    return service_of(notes_store(tmp_path_factory.mktemp("routes"), work / "finetuned"))


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with client_of(service) as made:
        yield made


@pytest.mark.parametrize("kind", ["query", "passage"])
def test_vectors_are_the_retrievers(client: TestClient, service: Service, kind: str) -> None:
    answer = client.post("/embed", json={"texts": TEXTS, "kind": kind})
    assert answer.status_code == 200, answer.text
    told = EmbedResponse.model_validate_json(answer.content)
    served = service.champion.current
    assert served is not None
    encode = served.retriever.encode_queries if kind == "query" else served.retriever.encode_passages
    np.testing.assert_array_equal(np.array(told.vectors, np.float32), encode(TEXTS))
    ids, cut = served.retriever.encoder.encode_counted(TEXTS, kind)  # type: ignore[arg-type]
    assert (told.tokens, told.cut) == (sum(map(len, ids)), cut)
    assert told.cut > 0
    assert (told.dimension, told.kind) == (served.retriever.dimension, kind)
    assert (told.pair, told.version, told.fingerprint) == (served.name, "1", served.fingerprint)


def test_many_at_once_get_what_each_gets_alone(client: TestClient, service: Service) -> None:
    alone = [client.post("/embed", json={"texts": [text], "kind": "query"}).json() for text in TEXTS]
    before = batches(client)
    with ThreadPoolExecutor(16) as pool:
        asked = TEXTS * 8
        found = list(
            pool.map(lambda text: client.post("/embed", json={"texts": [text], "kind": "query"}), asked)
        )
    for place, answer in enumerate(found):
        expected = alone[place % len(TEXTS)]
        one = answer.json()
        np.testing.assert_allclose(one["vectors"], expected["vectors"], rtol=0, atol=1e-6)
        assert float(np.dot(one["vectors"][0], expected["vectors"][0])) >= 1 - 1e-6
        assert {key: one[key] for key in one if key != "vectors"} == {
            key: expected[key] for key in expected if key != "vectors"
        }
    assert batches(client) - before < len(asked)  # some did share a batch


def test_more_texts_than_a_batch_come_back_in_order(client: TestClient) -> None:
    texts = [f"text {number} of lava and ice" for number in range(150)]
    told = client.post("/embed", json={"texts": texts, "kind": "passage"}).json()
    last = client.post("/embed", json={"texts": texts[-1:], "kind": "passage"}).json()
    assert len(told["vectors"]) == 150
    np.testing.assert_allclose(told["vectors"][-1], last["vectors"][0], atol=1e-6)


def test_a_search_finds_what_the_index_finds_with_texts(client: TestClient, service: Service) -> None:
    answer = client.post("/search", json={"queries": list(QUERIES.values()), "k": 3})
    assert answer.status_code == 200, answer.text
    told = SearchResponse.model_validate_json(answer.content)
    served = service.champion.current
    assert served is not None
    assert served.index is not None
    vectors = served.retriever.encode_queries(list(QUERIES.values()))
    scores, rows = served.index.search(vectors, 3, served.retriever)
    for place, one in enumerate(told.results):
        assert [hit.id for hit in one.hits] == [served.index.id_of(row) for row in rows[place]]
        np.testing.assert_allclose([hit.score for hit in one.hits], scores[place], atol=1e-6)
        assert [hit.rank for hit in one.hits] == [1, 2, 3]
        for hit in one.hits:
            title, text = NOTES[hit.id]
            assert (hit.title, hit.text, hit.cut) == (title or "", text, False)
    assert told.documents == len(NOTES)
    assert told.took.total_ms >= told.took.search_ms > 0


def test_one_query_is_a_list_of_one(client: TestClient) -> None:
    one = client.post("/search", json={"query": "honey", "k": 50}).json()
    many = client.post("/search", json={"queries": ["honey"], "k": 50}).json()
    assert one["results"] == many["results"]
    assert len(one["results"][0]["hits"]) == len(NOTES)  # no more than there are


def test_long_passages_are_shown_by_their_beginning(work: Path, tmp_path: Path) -> None:
    store = notes_store(tmp_path, work / "finetuned")
    with client_of(service_of(store, limits={"snippet": 20})) as client:
        hits = client.post("/search", json={"query": "lava", "k": 12}).json()["results"][0]["hits"]
        assert all(hit["cut"] and len(hit["text"]) <= 20 for hit in hits)
        assert all(NOTES[hit["id"]][1].startswith(hit["text"]) for hit in hits)
        whole = client.post("/search", json={"query": "lava", "k": 12, "full_text": True}).json()
        assert all(hit["text"] == NOTES[hit["id"]][1] for hit in whole["results"][0]["hits"])


def test_a_generation_without_texts_gives_ids(work: Path, tmp_path: Path) -> None:
    store = notes_store(tmp_path, work / "finetuned")
    serve_notes(store, work / "adapted", "2", notes(), None)
    with client_of(service_of(store)) as client:
        (hit,) = client.post("/search", json={"query": "lava", "k": 1}).json()["results"][0]["hits"]
        assert hit["id"] in NOTES
        assert (hit["title"], hit["text"], hit["cut"]) == (None, None, False)


def test_a_beginning_ends_with_a_word() -> None:
    assert beginning("one two three", 9) == "one two"
    assert beginning("o twothreefour", 9) == "o twothre"  # not at a space in the first half


def batches(client: TestClient) -> float:
    (line,) = (
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith('llara_batch_texts_count{stage="encode"}')
    )
    return float(line.split()[-1])
