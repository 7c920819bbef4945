"""Commands take a model from the registry as they take a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from llara_core.cli.app import run
from llara_core.cli.models import local, name_of
from llara_core.model import registries
from llara_core.model.bundle import read_bundle
from tests.conftest import write_tiny_beir
from tests.registered_champion import NAME, Champion, champion, tracking

MLFLOW = EntryPoint("mlflow", "llara_mlflow.registry:fetch", registries.GROUP)
ALIAS, NUMBER = f"models:/{NAME}@champion", f"models:/{NAME}/1"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Champion]:
    monkeypatch.setattr(registries, "entry_points", lambda group: EntryPoints([MLFLOW]))
    monkeypatch.setenv("LLARA_CACHE", str(tmp_path / "cache"))
    made = champion()
    with tracking(made.uri):
        yield made


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_beir(tmp_path / "tiny")


@pytest.mark.parametrize("reference", [ALIAS, NUMBER])
def test_a_reference_becomes_a_folder(registry: Champion, reference: str) -> None:
    fingerprint = read_bundle(registry.base).fingerprint
    assert read_bundle(Path(local(reference))).fingerprint == fingerprint
    found = local(Path(reference))
    assert isinstance(found, Path)
    assert read_bundle(found).fingerprint == fingerprint


def test_whatever_else_stays_as_it_is() -> None:
    assert local(None) is None
    assert (local("bm25"), local("~/models")) == ("bm25", "~/models")
    assert local(Path("models")) == Path("models")


def test_names(tmp_path: Path) -> None:
    names = ["bm25", ALIAS, NUMBER, f"{tmp_path}/adapted/"]
    assert [name_of(name) for name in names] == [
        "bm25", "llara-retriever-champion", "llara-retriever-1", "adapted",
    ]  # fmt: skip


def test_search_encode_and_index(
    registry: Champion, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for model in (ALIAS, registry.base):
        assert run(["search", "honey", "--model", str(model), "--data", str(tiny), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] != []
    assert run(["encode", "--model", NUMBER, "--data", str(tiny), "-o", f"{tmp_path}/vectors"]) == 0
    assert run(["encode", "--model", str(registry.base), "--data", str(tiny), "-o", f"{tmp_path}/same"]) == 0
    assert (tmp_path / "vectors/vectors.npy").read_bytes() == (tmp_path / "same/vectors.npy").read_bytes()
    assert run(["index", "build", "--model", ALIAS, "--data", str(tiny), "-o", f"{tmp_path}/index"]) == 0
    index = ["--index", f"{tmp_path}/index"]
    assert run(["search", "honey", "--model", str(registry.base), *index]) == 0


def test_evaluate_is_named_by_the_reference(
    registry: Champion, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--results", str(tmp_path / "results")]
    assert run(["evaluate", "--model", NUMBER, "--data", str(tiny), *results]) == 0
    assert f"tiny/test {NUMBER}: ndcg_at_10 " in capsys.readouterr().out
    assert {one.name for one in (tmp_path / "results" / "tiny").iterdir()} == {"llara-retriever-1"}


def test_export_and_mine(registry: Champion, tiny: Path, tmp_path: Path) -> None:
    assert run(["export", ALIAS, "--to", "merged", "-o", f"{tmp_path}/merged"]) == 0
    assert (tmp_path / "merged" / "export.json").is_file()
    assert run(["mine", "--model", ALIAS, "--data", str(tiny), "-o", f"{tmp_path}/n.jsonl"]) == 0


@pytest.mark.parametrize(
    ("reference", "code", "words"),
    [
        ("models:/llara-retriever", 2, "expected models:/NAME@ALIAS or models:/NAME/NUMBER"),
        ("models:/llara-retriever@winner", 2, "has no such alias; aliases: @"),
        ("models:/llara-retriever/9", 2, "has no such version"),
        ("models:/llara-retreiver@champion", 2, "did you mean 'llara-retriever'"),
    ],
)
@pytest.mark.parametrize("command", ["export", "serve", "search"])
def test_what_is_not_there_is_told(
    registry: Champion,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    reference: str,
    code: int,
    words: str,
) -> None:
    arguments = {
        "export": ["export", reference, "--to", "merged", "-o", f"{tmp_path}/out"],
        "serve": ["serve", "--model", reference, "--port", "0"],
        "search": ["search", "honey", "--model", reference],
    }
    assert run(arguments[command]) == code
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
