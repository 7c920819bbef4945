"""The serving benchmark: its clients count what they get, and its page says what was measured."""

from __future__ import annotations

import argparse
import asyncio
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("serving_client")


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("serving")


def run(client: ModuleType, pieces: list[bytes], seen: list[bytes], clients: int = 3, most: int = 5) -> Any:
    """Clients against a server on loopback that answers every request with the pieces."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            seen.append(await reader.readexactly(length))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    async def both() -> Any:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await client.load(port, "/x", [{"n": number} for number in range(4)], clients, 30.0, most)
        finally:
            server.close()

    return asyncio.run(both())


def test_every_answer_is_counted_and_every_body_asked(client: ModuleType) -> None:
    seen: list[bytes] = []
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nvector"
    told = run(client, [whole[:9], whole[9:30], whole[30:]], seen)
    assert len(told["latencies"]) == len(seen) == 15 and told["failed"] == 0
    assert min(told["latencies"]) > 0 and told["seconds"] >= max(told["latencies"])
    assert {bytes(one) for one in seen} == {b'{"n": %d}' % number for number in range(4)}


def test_what_is_not_200_is_a_failure(client: ModuleType) -> None:
    told = run(client, [b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n"], [])
    assert told["failed"] == 15


def test_the_page_says_what_was_measured(serving: ModuleType, tmp_path: Path) -> None:
    listed = serving.ways(2)
    rates = {serving.OURS: 300.0, serving.SEARCH: 250.0, serving.MLFLOW: 50.0, serving.PLAIN: 120.0}
    found = {}
    for way in listed:
        for clients in serving.CLIENTS:
            rate = rates.get(way.name, 100.0)
            found[way.name, clients] = serving.Found([rate, 2 * rate, rate], [1.0], [0.001, 0.002, 0.1])
    assert serving.better_peer(found, listed) == (serving.PLAIN, 2.5)
    task = serving.Task(tmp_path, tmp_path, tmp_path, ("tiny", tmp_path), ["a", "query"], np.zeros((2, 4)))
    chosen = argparse.Namespace(rounds=3, seconds=2.0)
    text = "\n".join(serving.page(task, found, listed, {"llara serve": 100.0}, chosen))
    assert "answers 2.5 times the requests of the better peer** (FastAPI + SentenceTransformer)" in text
    assert "| FastAPI + SentenceTransformer | 120 | 2.50 | 2.0 | 90.2 |" in text
    assert text.count("| requests/s |") == len(serving.CLIENTS)


def test_other_vectors_end_the_run(
    serving: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    task = serving.Task(tmp_path, tmp_path, tmp_path, ("tiny", tmp_path), ["a", "b"], vectors)
    ours = [way for way in serving.ways(2) if way.name == serving.OURS]
    answers = {"a": [2.0, 0.0], "b": [0.0, 3.0]}  # of another length: the cosine counts
    monkeypatch.setattr(serving, "ask", lambda server, way, query: {"vectors": [answers[query]]})
    assert serving.check(task, {"ours": None}, ours) == pytest.approx(1.0)
    answers["b"] = [0.1, 1.0]
    with pytest.raises(SystemExit, match=r"another vector for 'b': cosine 0\.995037"):
        serving.check(task, {"ours": None}, ours)
