"""A service over a store of notes, for tests that ask it over HTTP without a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from llara_core.operations.live import LiveStore
from llara_core.serving.app import create_app
from llara_core.serving.champion import Champion, StoreSource
from llara_core.serving.service import Service
from llara_core.serving_settings import ServingSettings
from tests.serving.page_stories import notes, serve_notes

QUICK = {"poll_seconds": 0.02, "retry_seconds": 0.02, "retry_most_seconds": 0.1}


def notes_store(folder: Path, bundle: Path) -> LiveStore:
    """A store whose one generation holds the notes and their texts."""
    store = LiveStore(folder / "live")
    serve_notes(store, bundle, "1", notes(), folder / "notes")
    return store


def service_of(store: LiveStore, **settings: Any) -> Service:
    """A service that looks at its store fifty times a second."""
    told = ServingSettings.parse({"switch": QUICK, **settings}, "test")
    return Service(Champion(StoreSource(store, "cpu"), told.switch), told)


@contextmanager
def client_of(service: Service, *, ready: bool = True, **app: Any) -> Iterator[TestClient]:
    """A client of a service that has started; of one that serves, unless told otherwise."""
    with TestClient(create_app(service, **app), raise_server_exceptions=False) as client:
        deadline = time.monotonic() + 60
        while ready and service.champion.current is None:
            assert time.monotonic() < deadline, service.champion.trouble
            time.sleep(0.01)
        yield client


def until(holds: Callable[[], object]) -> None:
    """Wait for something, a minute at most."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
