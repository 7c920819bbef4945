"""Load: more requests a second together than one by one, flat memory, a switch in the middle, no error.

    .venv/bin/python -m pytest tests/serving/test_serving_load.py -m slow -s

One by one means: the same server, asked by one client that sends a request when the last is answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from llara_core.config import TrainingSettings
from llara_core.data.collection import CORPUS_SCHEMA, Collection
from llara_core.model.bundle import read_bundle
from llara_core.model.prepare import prepare_base
from llara_core.operations.live import LiveStore
from llara_core.operations.live_staging import stage
from llara_core.retrieval.index import IndexSettings
from llara_core.settings import load_yaml
from tests.oracles.tiny_collection import collection
from tests.serving.test_server import ROOT, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
DOCUMENTS = 30_000  # as many as the demo's
MANY = 100_000  # requests over which memory must stay flat
SETTLED = 10_000  # requests after which a process has the memory it needs
CLIENTS = 32
FIRST = ("ba", "do", "ke", "li", "mu", "ra", "so", "ti", "ve", "zu")
LAST = ("bel", "dan", "for", "gin", "hal", "kom", "lut", "mer", "nop", "ros", "sit", "tor", "val", "wek")
WORDS = [f"{first}{last}" for first in FIRST for last in LAST]


@dataclass
class Load:
    """What clients have seen."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    pairs: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        return self.statuses.total() / self.seconds

    def words(self) -> str:
        told = " ".join(f"p{p} {1000 * float(np.percentile(self.latencies, p)):.1f}" for p in (50, 95, 99))
        return f"{self.statuses.total()} requests, {self.rate:.1f}/s, {told} ms, {dict(self.statuses)}"


def texts(seed: int) -> Collection:
    """Texts of random words, as many and as long as the demo's functions."""
    draw = np.random.default_rng(seed)
    rows = [
        {"_id": f"d{place}", "title": " ".join(words[:3]), "text": " ".join(words[3:])}
        for place, words in enumerate(draw.choice(WORDS, (DOCUMENTS, 43)).tolist())
    ]
    queries = {
        f"q{place}": " ".join(words) for place, words in enumerate(draw.choice(WORDS, (200, 8)).tolist())
    }
    empty = dict.fromkeys(("group", "position", "line"))
    made = collection({"x": ""}, queries, {"test": {"q0": {"d0": 1}}}, f"load{seed}")
    return Collection(
        made.name,
        pa.Table.from_pylist([row | empty for row in rows], CORPUS_SCHEMA),
        made.queries,
        made.qrels,
    )


class Scatter:
    """Gives random vectors for passages: they cost as much to search, and their encoding is not measured."""

    def __init__(self, bundle: Path, dimension: int) -> None:
        self.fingerprint, self.dimension = read_bundle(bundle).fingerprint, dimension
        self._draw = np.random.default_rng(3)

    def encode_passages(self, passages: Sequence[str]) -> NDArray[np.float32]:
        vectors = self._draw.standard_normal((len(passages), self.dimension)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LiveStore:
    """A store with two pairs of the demo's model, of which the first serves."""
    folder = tmp_path_factory.mktemp("load")
    settings = TrainingSettings.parse(load_yaml(ROOT / "configs" / "demo.yaml")["parameters"], "demo")
    assert settings.model.from_scratch is not None
    width = settings.model.from_scratch.hidden_size
    made = LiveStore(folder / "live")
    for version in (1, 2):
        data, model = texts(version), folder / f"model{version}"
        prepare_base(settings.model, data, model, version)
        pair = stage(
            made, model, str(version), data.corpus_ids, data.passages, IndexSettings(),
            lambda path: Scatter(path, width), texts=data.save(folder / f"texts{version}"),
        ).pair  # fmt: skip
        present = made.current()
        made.cutover(pair, None if present is None else present.name, "the test says so")
    made.rollback("the second one comes later")
    return made


async def ask(
    port: int,
    clients: int,
    requests: int,
    path: str = "/search",
    until: float = 1e9,
    load: Load | None = None,
) -> Load:
    """Ask ``requests`` times in all, each client when its last question is answered.

    Args:
        port: of the server, on the loopback device.
        clients: connections at once.
        requests: of all of them together.
        path: ``/search`` or ``/embed``.
        until: seconds after which no more is asked.
        load: filled in, for those who watch meanwhile.
    """
    load, start = Load() if load is None else load, time.perf_counter()
    bodies = [
        json.dumps(
            {"query": text, "k": 10} if path == "/search" else {"texts": [text], "kind": "query"}
        ).encode()
        for text in texts_of_queries()
    ]

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(number, requests, clients):
            if time.perf_counter() - start > until:
                break
            body, asked = bodies[turn % len(bodies)], time.perf_counter()
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            told = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer = await reader.readexactly(int(told.split(b"content-length: ")[1].split(b"\r")[0]))
            load.latencies.append(time.perf_counter() - asked)
            load.statuses[int(told[9:12])] += 1
            if told[9:12] == b"200":
                load.pairs[answer.split(b'"version":"')[1].split(b'"')[0].decode()] += 1
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    load.seconds = time.perf_counter() - start
    return load


def say(line: str) -> None:
    """Show a measurement; `pytest -s` shows it."""
    sys.stdout.write(f"{line}\n")


def texts_of_queries() -> list[str]:
    return [" ".join(words) for words in np.random.default_rng(7).choice(WORDS, (500, 8)).tolist()]


def resident(process: int) -> float:
    """Memory of a process, MiB."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def test_together_three_times_as_many_as_one_by_one(store: LiveStore, tmp_path: Path) -> None:
    with serving(store.folder, tmp_path / "log") as (_, port):
        for path in ("/search", "/embed"):
            asyncio.run(ask(port, CLIENTS, 200, path))  # warm
            # In turns, so that a busy machine slows both.
            found = [
                (asyncio.run(ask(port, 1, 100, path)), asyncio.run(ask(port, CLIENTS, 800, path)))
                for _ in range(3)
            ]
            for alone, together in found:
                say(f"\n{path} one by one: {alone.words()}\n{path} {CLIENTS} clients: {together.words()}")
            assert all(set(load.statuses) == {200} for pair in found for load in pair)
            gain = float(np.median([together.rate / alone.rate for alone, together in found]))
            say(f"{path}: {gain:.1f} times as many")
            assert gain >= 3


def test_saturation_gives_nothing_but_429(store: LiveStore, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("limits: {texts: 64}\nqueue: {requests: 40, texts: 64}\n")
    with serving(store.folder, tmp_path / "log", "--config", str(config)) as (_, port):
        load = asyncio.run(ask(port, 200, 4000, until=120))
        calm = asyncio.run(ask(port, 4, 40))
    say(f"\n200 clients, room for 40: {load.words()}")
    assert set(load.statuses) == {200, 429}
    assert set(calm.statuses) == {200}


async def watched(load: Load, process: int, switch: Callable[[], object]) -> list[float]:
    """Switch when half of the answers are there; memory before it, and when the new pair has settled."""
    found = []
    for at in (MANY // 2, MANY // 2 + SETTLED):
        while load.statuses.total() < at:
            await asyncio.sleep(0.05)
        found.append(resident(process))
        if at == MANY // 2:
            await asyncio.to_thread(switch)
    return found


def test_memory_is_flat_over_many_requests_with_a_switch_in_the_middle(
    store: LiveStore, tmp_path: Path
) -> None:
    first, second = store.generations()[1], store.generations()[0]
    assert store.current() == first

    async def asking(process: int, port: int) -> tuple[Load, list[float]]:
        load = Load()
        asked = asyncio.create_task(ask(port, CLIENTS, MANY, until=2400, load=load))
        watching = asyncio.create_task(
            watched(load, process, lambda: store.rollback("to the second", second.name))
        )
        await asked
        watching.cancel("the machine was too slow for so many within the bound")
        return load, await watching

    with serving(store.folder, tmp_path / "log") as (process, port):
        asyncio.run(ask(port, CLIENTS, SETTLED))
        before = resident(process.pid)
        load, (middle, settled) = asyncio.run(asking(process.pid, port))
        after = resident(process.pid)
    say(
        f"\n{load.words()}, {dict(load.pairs)}; resident: {before:.0f} MiB, {middle:.0f} before the switch, "
        f"{settled:.0f} after it, {after:.0f} at the end"
    )
    assert load.statuses == {200: MANY}
    assert set(load.pairs) == {"1", "2"}
    for start, end in ((before, middle), (settled, after)):
        assert end < start + 32  # MiB; a leak of 1 kB a request would be 50
