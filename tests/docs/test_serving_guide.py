"""The guide's requests, word for word, and that its tables leave nothing out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from llara_core.serving.schemas import GET_ERRORS, POST_ERRORS, errors
from tests.serving.service_stories import client_of, notes_store, service_of

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")


def asked(client: TestClient, words: list[str], key: str) -> int:
    """Send what a curl command would send; returns the status."""
    headers, body, path = {}, None, ""
    rest = iter(words[1:])
    for word in rest:
        if word == "-H":
            name, _, value = next(rest).partition(":")
            headers[name] = value.strip().replace("$LLARA_KEYS", key)
        elif word == "-d":
            body = next(rest)
        elif word.startswith("localhost:8000"):
            path = word.removeprefix("localhost:8000")
        else:
            assert word == "-s", word
    answer = client.request("GET" if body is None else "POST", path, headers=headers, content=body)
    return int(answer.status_code)


def test_the_requests_of_the_guide_work_as_they_stand(work: Path, tmp_path: Path) -> None:
    lines = [line for line in GUIDE.splitlines() if line.startswith("curl ")]
    key = "a key that is long enough"
    service = service_of(notes_store(tmp_path, work / "finetuned"))
    with client_of(service, keys=(key,)) as client:
        for line in lines:
            words = shlex.split(line, comments=True)
            if not any("Bearer" in word for word in words):
                words += ["-H", f"X-API-Key: {key}"]
            assert asked(client, words, key) == 200, line
        page = client.get("/metrics", headers={"X-API-Key": key}).text
        paths = client.get("/openapi.json", headers={"X-API-Key": key}).json()["paths"]
    assert len(lines) == 9
    for path in paths:
        assert f" {path}`" in GUIDE, path
    for name in set(re.findall(r"^# TYPE (llara_\w+)", page, re.MULTILINE)):
        if not name.endswith("_created"):
            assert f"`{name}`" in GUIDE, name


@pytest.mark.parametrize("status", sorted({*POST_ERRORS, *GET_ERRORS, *errors(409)} - {500}))  # type: ignore[type-var]
def test_every_refusal_is_explained(status: int) -> None:
    assert f"\n| {status} | " in GUIDE
