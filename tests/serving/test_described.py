"""The service does what its own description says: fuzzed from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from llara_core.operations.live import LiveStore
from tests.serving.page_stories import application, notes, serve_notes

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
]
PATHS = [
    ("POST", "/embed"), ("POST", "/search"), ("POST", "/v1/embeddings"), ("GET", "/v1/models"),
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"),
    # what the search page asks
    ("GET", "/systems"), ("GET", "/examples"), ("GET", "/passage"), ("POST", "/compare"),
]  # fmt: skip


@pytest.fixture(scope="module")
def store(work: Path, tmp_path_factory: pytest.TempPathFactory) -> LiveStore:
    folder = tmp_path_factory.mktemp("described")
    made = LiveStore(folder / "live")
    serve_notes(made, work / "finetuned", "1", notes(), folder / "notes")
    return made


@pytest.fixture
def app(store: LiveStore, tmp_path: Path) -> Iterator[FastAPI]:
    """An application of its own for every test: the fuzzer starts and ends it."""
    with application(store, tmp_path / "cache") as made:
        yield made


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_what_the_description_allows_and_what_it_does_not(app: FastAPI, method: str, path: str) -> None:
    fuzz(app, method, path, examples=15)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_the_same_for_longer(app: FastAPI, method: str, path: str) -> None:
    fuzz(app, method, path, examples=1500)


def fuzz(app: FastAPI, method: str, path: str, examples: int) -> None:
    """Ask one operation as often as said, with what is right and what is wrong; the same every time."""
    schema = openapi.from_asgi("/openapi.json", app)
    operation = schema[path][method]
    strategy = operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(
        generation_mode=GenerationMode.NEGATIVE
    )

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    ask()
