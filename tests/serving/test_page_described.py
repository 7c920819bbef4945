"""The routes behind the search page do what the description says: fuzzed from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from llara_core.operations.live import LiveStore
from tests.serving.page_stories import application, notes, serve_notes
from tests.serving.test_described import fuzz

PATHS = [("GET", "/systems"), ("GET", "/examples"), ("GET", "/passage"), ("POST", "/compare")]


@pytest.fixture
def app(work: Path, tmp_path: Path) -> Iterator[FastAPI]:
    store = LiveStore(tmp_path / "live")
    serve_notes(store, work / "finetuned", "1", notes(), tmp_path / "notes")
    with application(store, tmp_path / "cache") as made:
        yield made


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_what_the_description_allows_and_what_it_does_not(app: FastAPI, method: str, path: str) -> None:
    fuzz(app, method, path, examples=15)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_the_same_for_longer(app: FastAPI, method: str, path: str) -> None:
    fuzz(app, method, path, examples=1500)
