"""The door: limits, keys, hosts, hostile bodies, and what is noted."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from llara_core.operations.logs import JsonFormatter
from llara_core.serving.service import Service
from tests.serving.service_stories import client_of, notes_store, service_of

JSON = {"content-type": "application/json"}
KEYS = ("the first key of them", "another key, also good")
LIMITS = {"body_bytes": 4000, "texts": 3, "queries": 2, "characters": 200, "k": 5}


@pytest.fixture(scope="module")
def store(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return notes_store(tmp_path_factory.mktemp("guard"), work / "finetuned")


@pytest.fixture(scope="module")
def client(store: Any) -> Iterator[TestClient]:
    with client_of(service_of(store, limits=LIMITS)) as made:
        yield made


def refused(answer: Any) -> tuple[int, str]:
    """Status and code of a refusal, which has the one shape of all."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return answer.status_code, error["code"]


@pytest.mark.parametrize(
    ("path", "body", "expected", "param"),
    [
        ("/embed", {"texts": ["a"] * 4, "kind": "query"}, (422, "too_many_texts"), "texts"),
        ("/embed", {"texts": ["a", "b" * 201], "kind": "query"}, (422, "text_too_long"), "texts.1"),
        ("/embed", {"texts": [], "kind": "query"}, (422, "too_short"), "texts"),
        ("/embed", {"texts": ["a"], "kind": "other"}, (422, "literal_error"), "kind"),
        ("/embed", {"texts": ["a", 7], "kind": "query"}, (422, "string_type"), "texts.1"),
        ("/embed", {"texts": "a", "kind": "query"}, (422, "list_type"), "texts"),
        ("/embed", {"texts": ["a"]}, (422, "missing"), "kind"),
        ("/embed", {"texts": ["a"], "kind": "query", "knid": 1}, (422, "extra_forbidden"), "knid"),
        ("/search", {"queries": ["a"] * 3}, (422, "too_many_queries"), "queries"),
        ("/search", {"query": "a", "k": 6}, (422, "k_too_large"), "k"),
        ("/search", {"query": "a", "k": 0}, (422, "greater_than_equal"), "k"),
        ("/search", {"query": "a", "k": 10**30}, (422, "k_too_large"), "k"),
        ("/search", {"query": "a", "k": 1.5}, (422, "int_type"), "k"),
        ("/search", {"query": "a", "k": True}, (422, "int_type"), "k"),
        ("/search", {}, (422, "query_or_queries"), None),
        ("/search", {"query": "a", "queries": ["a"]}, (422, "query_or_queries"), None),
        ("/search", ["a"], (422, "model_attributes_type"), None),
    ],
)  # fmt: skip
def test_what_a_field_may_hold(
    client: TestClient, path: str, body: Any, expected: tuple[int, str], param: str | None
) -> None:
    answer = client.post(path, json=body)
    assert refused(answer) == expected
    assert answer.json()["error"]["param"] == param


def test_a_large_body_is_refused_whatever_its_headers_say(client: TestClient) -> None:
    assert refused(client.post("/embed", content=b"x" * 4001, headers=JSON)) == (413, "body_too_large")

    def chunks() -> Iterator[bytes]:  # no Content-Length
        for _ in range(100):
            yield b" " * 1000

    assert refused(client.post("/embed", content=chunks(), headers=JSON)) == (413, "body_too_large")
    fits = json.dumps({"texts": ["a"], "kind": "query"}).encode().ljust(4000)
    assert client.post("/embed", content=fits, headers=JSON).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 3000, 400),
        (b'{"texts":' * 400, 400),
        (b'{"texts": ["a"], "kind": "query", "k": ' + b"9" * 3000 + b"}", 422),
        (b'{"texts": [NaN], "kind": "query"}', 422),
        (b'{"texts": [1e999], "kind": "query"}', 422),
        (b"null", 422),
        (b'"text"', 422),
        (b'{"texts": ["\\ud800", "\\u0000", ""], "kind": "query"}', 200),
        (b'{"\\ud800": 1, "texts": ["a"], "kind": "query"}', 422),
        (b'{"texts": ["a"], "kind": "\\udfff"}', 422),
    ],
)
def test_hostile_bodies_are_answered_and_never_with_500(client: TestClient, body: bytes, status: int) -> None:
    for path in ("/embed", "/search", "/v1/embeddings"):
        answer = client.post(path, content=body, headers=JSON)
        assert answer.status_code in (200, 400, 422), (path, answer.text)
        if path == "/embed":
            assert answer.status_code == status, answer.text
        answer.content.decode("utf-8")
        json.loads(answer.content)


def test_only_json_is_read(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        answer = client.post("/search", content=b'{"query": "a"}', headers={"content-type": kind})
        assert refused(answer) == (415, "not_json")
    answer = client.post(
        "/search", content=b'{"query": "a"}', headers={"content-type": "Application/JSON; charset=utf-8"}
    )
    assert answer.status_code == 200


def test_paths_and_methods_that_are_not(client: TestClient) -> None:
    assert refused(client.get("/nothing")) == (404, "not_found")
    assert refused(client.get("/embed")) == (405, "method_not_allowed")
    assert client.get("/docs").status_code == 404  # it would load scripts from elsewhere


def test_one_of_the_keys_opens_and_probes_need_none(store: Any) -> None:
    with client_of(service_of(store), keys=KEYS) as client:
        body = {"query": "lava", "k": 1}
        for wrong in ({}, {"authorization": "Bearer no"}, {"authorization": KEYS[0]}, {"x-api-key": ""}):
            answer = client.post("/search", json=body, headers=wrong)
            assert refused(answer) == (401, "no_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        for right in ({"authorization": f"bearer {KEYS[0]}"}, {"x-api-key": KEYS[1]}):
            assert client.post("/search", json=body, headers=right).status_code == 200
        for path in ("/metrics", "/v1/models", "/openapi.json", "/nothing"):
            assert refused(client.get(path)) == (401, "no_key")
        assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        assert client.post("/search", json=body, headers={"x-api-key": "ключ".encode()}).status_code == 401


def test_a_foreign_name_is_refused(store: Any) -> None:
    with client_of(service_of(store), hosts=("localhost", "[::1]")) as client:
        for host, status in (
            ("localhost", 200), ("LOCALHOST:8000", 200), ("[::1]:8000", 200), ("[::1]", 200),
            ("evil.example", 400), ("localhost.evil.example:80", 400), ("", 400),
        ):  # fmt: skip
            assert client.get("/healthz", headers={"host": host}).status_code == status, host


def test_a_crowd_is_told_to_come_back(store: Any) -> None:
    service = service_of(store, queue={"requests": 4, "texts": 1024, "batch_texts": 1})
    with client_of(service) as client, ThreadPoolExecutor(24) as pool:
        release = hold(service)
        asked = [
            pool.submit(client.post, "/embed", json={"texts": ["a"], "kind": "query"}) for _ in range(24)
        ]
        while sum(one.done() for one in asked) < 20:
            time.sleep(0.005)
        assert client.get("/healthz").status_code == 200  # whoever asks whether it lives is answered
        release.set()
        answers = [one.result() for one in asked]
    statuses = sorted(one.status_code for one in answers)
    assert statuses == [200] * 4 + [429] * 20
    assert all(int(one.headers["retry-after"]) >= 1 for one in answers if one.status_code == 429)


def test_a_full_queue_is_told(store: Any) -> None:
    service = service_of(store, limits={"texts": 4, "queries": 4}, queue={"texts": 4, "batch_texts": 1})
    with client_of(service) as client, ThreadPoolExecutor(8) as pool:
        release = hold(service)
        body = {"texts": ["a"] * 3, "kind": "query"}
        asked = [pool.submit(client.post, "/embed", json=body) for _ in range(8)]
        while sum(one.done() for one in asked) < 6:
            time.sleep(0.005)
        release.set()
        answers = [one.result() for one in asked]
    assert {one.status_code for one in answers} == {200, 429}
    assert {refused(one) for one in answers if one.status_code == 429} == {(429, "queue_full")}


def test_a_request_that_takes_too_long_is_told(store: Any) -> None:
    service = service_of(store, queue={"seconds": 0.1})
    with client_of(service) as client:
        release = hold(service)
        answer = client.post("/embed", json={"texts": ["a"], "kind": "query"})
        release.set()
        assert refused(answer) == (503, "took_too_long")


def test_nothing_of_a_failure_is_told_but_that_it_is_one(
    store: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = service_of(store)
    with client_of(service) as client:
        served = service.champion.current
        assert served is not None

        def fails(*_: Any) -> Any:
            raise RuntimeError("secret of the machine")

        monkeypatch.setattr(served.retriever, "encode_counted", fails)
        answer = client.post("/embed", json={"texts": ["a"], "kind": "query"})
    assert refused(answer) == (500, "internal_error")
    assert "secret" not in answer.text
    assert "secret of the machine" in caplog.text


def test_a_line_and_a_count_for_every_request_and_no_text(
    store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(service_of(store)) as client, caplog.at_level(logging.INFO, "llara_core.serving"):
        client.post("/search", json={"query": "very private words"})
        client.get("/nothing/very/private")
        page = client.get("/metrics").text
    lines = [record for record in caplog.records if record.name.endswith("guard")]
    told = [json.loads(JsonFormatter().format(record)) for record in lines]
    assert [(one["method"], one["route"], one["status"]) for one in told] == [
        ("POST", "/search", 200), ("GET", "other", 404),
    ]  # fmt: skip
    assert all(one["seconds"] > 0 for one in told)
    assert "private" not in json.dumps(told)
    assert 'llara_requests_total{route="/search",status="200"} 1.0' in page
    assert 'llara_texts_total{kind="query"} 1.0' in page
    assert 'llara_pair_info{fingerprint="' in page


def hold(service: Service) -> threading.Event:
    """Let the encoder wait before its next batch, until the event is set."""
    served = service.champion.current
    assert served is not None
    release, encode = threading.Event(), served.retriever.encode_counted

    def held(texts: Any, kind: Any) -> Any:
        assert release.wait(30)
        return encode(texts, kind)

    served.retriever.encode_counted = held  # type: ignore[method-assign]
    return release
