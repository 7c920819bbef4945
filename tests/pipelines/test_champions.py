from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from llara_core.config import TrainingSettings
from pipelines import champions


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = (tmp_path / "a state").resolve()
    folder.mkdir()
    monkeypatch.setenv("LLARA_LOCAL", str(folder))
    return folder


def made(folder: Path, word: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "file").write_text(word)
    return folder


def test_the_links_follow_the_champion(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(local.parent)
    collection = made(local / "artifacts" / "data", "data")
    for word in ("first", "second"):
        model = made(local / "artifacts" / word, word)
        command = champions.search_command("llara-retriever", model, collection)
        place = local / "champions" / "llara-retriever"
        assert (place / "model" / "file").read_text() == word
        assert (place / "collection" / "file").read_text() == "data"
        assert sorted(path.name for path in place.iterdir()) == ["collection", "model"]
    assert command is not None
    words = shlex.split(command)
    assert Path(words[0]).name == "llara" and words[1] == "search"
    options = dict(zip(words[2:-1:2], words[3:-1:2], strict=True))
    assert options == {
        "--model": "a state/champions/llara-retriever/model",  # below the working directory: as one types it
        "--data": "a state/champions/llara-retriever/collection",
        "--cache": "a state/vectors",
    }


def test_folders_that_were_only_fetched_are_not_linked(local: Path, tmp_path: Path) -> None:
    inside, outside = made(local / "data", "x"), made(tmp_path / "fetched", "y")
    assert champions.search_command("one", outside, inside) is None
    assert champions.search_command("one", inside, outside) is None
    assert not (local / "champions").exists()


def test_the_usual_champion_is_served_from_the_live_store(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(local.parent)
    root = Path(champions.__file__).parents[1]
    indexing = yaml.safe_load((root / "configs" / "indexing.yaml").read_text())["parameters"]
    values = yaml.safe_load((root / indexing["training"]).read_text())["parameters"]
    training = TrainingSettings.parse(values, "parameters")
    usual = training.registry.model_name, str(training.collection.source)
    words = shlex.split(champions.serve_command(*usual))
    assert Path(words[0]).name == "llara" and words[1:] == ["serve"]
    other = shlex.split(champions.serve_command("llara-retriever", "scifact"))
    assert other[1:] == [
        "serve", "--model", "a state/champions/llara-retriever/model",
        "--data", "a state/champions/llara-retriever/collection",
    ]  # fmt: skip
