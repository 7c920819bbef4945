"""A live store of three generations with readable texts, and the service that shows them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import uvicorn
from fastapi import FastAPI

from llara_core.data.collection import CORPUS_SCHEMA, Collection
from llara_core.model.retriever import Retriever
from llara_core.operations.live import LiveStore
from llara_core.operations.live_staging import stage
from llara_core.retrieval.index import IndexSettings
from llara_core.search_page_settings import SearchPageSettings
from llara_core.serving.app import create_app
from llara_core.serving.champion import Champion, StoreSource
from llara_core.serving.page_routes import SearchPage
from llara_core.serving.served import open_pair
from llara_core.serving.service import Service
from llara_core.serving.systems import Systems
from llara_core.serving_settings import ServingSettings, SwitchSettings
from tests.oracles.tiny_collection import collection

NOTES = {
    "volcano/lava": ("Lava", "Lava flows down the slope after an eruption and cools into dark basalt."),
    "volcano/ash": ("Ash", "Ash from an erupting volcano drifts for days and dims the sun."),
    "bees/honey": ("How bees make honey", "Workers carry nectar home and fan it until honey thickens."),
    "bees/dance": ("The dance of bees", "A bee tells the others by a dance where nectar is to be found."),
    "bread/dough": ("Sourdough", "Dough rises overnight; a hot stone turns the crust brown."),
    "glacier": ("Glaciers", "Ice creeps along the valley and grinds boulders into fine grey powder."),
    "harbour": (None, "Cranes unload containers while tugboats pull a tanker to its berth."),
    "comet": ("Comets", "A tail of dust and gas points away from the sun as the nucleus warms."),
    "loom": ("The loom", "The shuttle carries the weft through the warp, and cloth grows row by row."),
    "tides": ("Tides", "The moon pulls the sea towards it, and the earth turns beneath the bulge."),
    "orchestra": ("Orchestra", "The violins tune before the conductor lifts the baton."),
    "compass": ("The compass", "A needle of iron turns until it points to the magnetic north."),
}
ATTACKS = {
    "x/<img src=x onerror=alert(1)>": (
        '<img src=x onerror="window.hacked=1">',
        "lava <script>window.hacked=2</script><svg onload=hacked=3>",
    ),
    "javascript:window.hacked=4//": (
        "javascript:window.hacked=5",
        "lava [link](javascript:hacked=6) \u202edesrever",
    ),
    "a/b \"'&?#%/..": (
        "\u202eelttit",
        "lava </mark></li></script><iframe srcdoc='<script>top.hacked=7</script>'>",
    ),
    "long": ("Long", "lava " + "words and words " * 70_000),
    "null": (None, "lava without a title {{constructor.constructor('hacked=8')()}} ${window.hacked=9}"),
}
QUERIES = {
    "q1": "how do bees make honey",
    "q2": "what becomes of cooling lava",
    "q3": "why is the sea rising",
}
QRELS = {
    "test": {
        "q1": {"bees/honey": 2, "bees/dance": 1, "bread/dough": 0},
        "q2": {"volcano/lava": 1},
        "q3": {"tides": 1},
    }
}


def notes(more: dict[str, tuple[str | None, str]] | None = None, name: str = "notes") -> Collection:
    """The notes above and more, as a collection with judged queries."""
    made = collection({"x": ""}, QUERIES, QRELS, name)
    rows = [
        {"_id": key, "title": title, "text": text, "group": None, "position": None, "line": line}
        for line, (key, (title, text)) in enumerate((NOTES | (more or {})).items(), start=1)
    ]
    return Collection(made.name, pa.Table.from_pylist(rows, CORPUS_SCHEMA), made.queries, made.qrels)


def serve_notes(store: LiveStore, bundle: Path, version: str, texts: Collection, saved: Path | None) -> str:
    """Make a generation of the notes and let it serve; returns its name.

    Args:
        store: where.
        bundle: the model.
        version: its number.
        texts: the notes.
        saved: where to save them for the generation to hold; None: it holds ids only, as old ones do.
    """
    folder = None if saved is None else texts.save(saved)
    made = stage(
        store, bundle, version, texts.corpus_ids, texts.passages, IndexSettings(kind="flat"),
        lambda path: Retriever.from_pretrained(path, "cpu"), texts=folder,
    )  # fmt: skip
    present = store.current()
    store.cutover(made.pair, None if present is None else present.name, "the test says so")
    return made.pair.name


def three_generations(
    folder: Path, work: Path, more: dict[str, tuple[str | None, str]] | None = None
) -> tuple[LiveStore, list[str]]:
    """Version 1 without texts and of another corpus, 2 that served before, and 3 that serves."""
    store = LiveStore(folder / "live")
    names = [
        serve_notes(store, work / "base", "1", notes(name="notes"), None),
        serve_notes(store, work / "adapted", "2", notes(more), folder / "two"),
        serve_notes(store, work / "finetuned", "3", notes(more), folder / "three"),
    ]
    return store, names


def page_of(store: LiveStore, cache: Path, champion: Champion, **settings: object) -> SearchPage:
    """A search page over a store."""
    told = SearchPageSettings.model_validate(settings)
    systems = Systems(lambda: champion.current, store, cache, told, lambda pair: open_pair(pair, "cpu"))
    return SearchPage(systems, told)


@contextmanager
def application(
    store: LiveStore, cache: Path, *, keys: tuple[str, ...] = (), **settings: object
) -> Iterator[FastAPI]:
    """The whole service over a store; the page is closed at the end."""
    champion = Champion(StoreSource(store, "cpu"), SwitchSettings(poll_seconds=0.05))
    champion.look()
    page = page_of(store, cache, champion, **settings)
    service = Service(champion, ServingSettings())
    try:
        yield create_app(service, keys=keys, more=[page.router], open_paths=page.open_paths)
    finally:
        page.close()


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """A server on the loopback device; gives its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(30)
