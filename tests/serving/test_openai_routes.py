"""/v1: what a client of OpenAI's sends and reads."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from llara_core.serving.schemas import OpenAIModels, OpenAIResponse
from llara_core.serving.service import Service
from tests.serving.service_stories import client_of, notes_store, service_of


@pytest.fixture(scope="module")
def service(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    return service_of(notes_store(tmp_path_factory.mktemp("openai"), work / "finetuned"))


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with client_of(service) as made:
        yield made


def embed(client: TestClient, **body: Any) -> Any:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    OpenAIResponse.model_validate_json(answer.content)
    return answer.json()


def test_numbers_and_base64_are_the_same_vectors(client: TestClient) -> None:
    numbers = embed(client, input=["lava", "honey"], model="any")
    packed = embed(client, input=["lava", "honey"], model="any", encoding_format="base64", user="somebody")
    for one, other in zip(numbers["data"], packed["data"], strict=True):
        raw = base64.b64decode(other["embedding"])
        np.testing.assert_array_equal(np.frombuffer(raw, "<f4"), np.array(one["embedding"], np.float32))
    assert [one["index"] for one in numbers["data"]] == [0, 1]


def test_kind_and_tokens_are_true(client: TestClient, service: Service) -> None:
    served = service.champion.current
    assert served is not None
    told = {
        "query": [{"input": "lava"}, {"input": "lava", "input_type": "query", "model": "m:passage"}],
        "passage": [{"input": ["lava"], "input_type": "passage"}, {"input": "lava", "model": "m:passage"}],
    }
    for kind, bodies in told.items():
        encode = served.retriever.encode_queries if kind == "query" else served.retriever.encode_passages
        (ids,) = served.retriever.encoder.encode_batch(["lava"], kind)  # type: ignore[arg-type]
        for body in bodies:
            answer = embed(client, **body)
            vector = np.array(answer["data"][0]["embedding"], np.float32)
            np.testing.assert_array_equal(vector, encode(["lava"])[0])
            assert answer["usage"] == {"prompt_tokens": len(ids), "total_tokens": len(ids)}


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"input": [1, 2, 3]}, "tokens_refused", "only the service knows"),
        ({"input": [[1], [2]]}, "tokens_refused", "only the service knows"),
        ({"input": []}, "no_texts", "at least one text"),
        ({"input": ["a", None]}, "no_texts", "at least one text"),
        ({"input": {"a": 1}}, "no_texts", "at least one text"),
        ({"input": "a", "encoding_format": "int8"}, "literal_error", "encoding_format"),
        ({"input": "a", "dimensions": 7}, "dimensions", "cannot be shortened"),
        ({}, "missing", "input: "),
    ],
)
def test_what_cannot_be_encoded_is_refused_in_openais_shape(
    client: TestClient, body: dict[str, Any], code: str, words: str
) -> None:
    answer = client.post("/v1/embeddings", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (422, "invalid_request_error", code)
    assert words in error["message"]


def test_the_list_of_models_holds_what_serves(client: TestClient, service: Service) -> None:
    told = OpenAIModels.model_validate_json(client.get("/v1/models").content)
    served = service.champion.current
    assert served is not None
    (one,) = told.data
    assert (one.id, one.fingerprint) == (served.name, served.fingerprint)
    assert one.created > 1_700_000_000
