from __future__ import annotations

import json
from pathlib import Path

import pytest

from llara_core.cli.app import run
from llara_core.operations.live import LiveStore
from tests.operations.live_stories import other_bundle, serve


@pytest.fixture
def local(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 2 serves, version 1 did."""
    store = tmp_path / "local" / "live" / "llara-retriever"
    serve(store, work / "finetuned", "1")
    serve(store, other_bundle(work / "finetuned", tmp_path / "two"), "2")
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path / "local"))
    return tmp_path / "local"


def test_what_serves_and_what_a_rollback_would_bring(local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["live"]) == 0
    page = capsys.readouterr().out.splitlines()
    assert page[0] == "llara-retriever: version 2, 12 documents"
    assert "before: version 1, 12 documents   (llara rollback)" in page
    assert page[-2].endswith("  serves")
    assert page[-1].endswith("  before")


def test_an_unfinished_rollback_is_told(local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LiveStore(local / "live" / "llara-retriever").rollback("empty answers")
    assert run(["live", "--local", str(local)]) == 0
    page = capsys.readouterr().out
    assert "NOT FINISHED: the registry does not know that version 1 serves again" in page
    assert "before: none; there is nothing to roll back to" in page
    assert "rolled back (" in page


def test_as_json(local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["live", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["current"]["version"], values["previous"]["version"]) == ("2", "1")
    assert len(values["generations"]) == len(values["history"]) == 2


def test_nothing_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["live", "--live", str(tmp_path / "store"), "--verify"]) == 0
    assert "nothing is live below" in capsys.readouterr().out


def test_damage_is_told_with_the_way_out(local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (local / "live" / "llara-retriever" / "live.json").write_text("{", encoding="utf-8")
    assert run(["live"]) == 1
    printed = capsys.readouterr()
    assert "rollback --to GENERATION" in printed.err
    assert printed.out.count("  made ") == 2


def test_verify_compares_every_byte(local: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    current = LiveStore(local / "live" / "llara-retriever").current()
    assert current is not None
    weights = next(current.model.glob("*.safetensors"))
    values = bytearray(weights.read_bytes())
    values[-1] ^= 1
    weights.write_bytes(bytes(values))
    assert run(["live", "--verify"]) == 2
    assert "has SHA-256" in capsys.readouterr().err
