"""A rollback of the live pair, with a real MLflow registry that follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from llara_core.errors import ConfigError, LlaraError
from llara_core.operations.live import LiveError, LiveStore
from pipelines import rolling_back
from steps import registry
from steps.live_state import settle, store_of
from tests.operations.live_stories import REVISED, other_bundle, serve, whole
from tests.registry_kills import cut_off

NAME = "llara-retriever"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The alerts."""
    found: list[Any] = []
    monkeypatch.setattr(rolling_back, "alert", found.append)
    return found


@pytest.fixture
def client(tmp_path: Path, told: list[Any]) -> Any:
    """Three versions; 2 is champion, 1 the one before."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    client.create_registered_model(NAME)
    for number in (1, 2, 3):
        client.create_model_version(NAME, str(tmp_path), tags={"fingerprint": f"f{number}"})
    client.set_registered_model_alias(NAME, "champion", "2")
    client.set_registered_model_alias(NAME, "previous", "1")
    yield client
    mlflow.set_tracking_uri(before)


@pytest.fixture
def store(work: Path, client: Any, tmp_path: Path) -> LiveStore:
    """The pair of version 2 serves, that of version 1 did."""
    folder = tmp_path / "store"
    serve(folder, work / "finetuned", "1")
    serve(folder, other_bundle(work / "finetuned", tmp_path / "two"), "2")
    return LiveStore(folder)


def champion(client: Any) -> str:
    return str(client.get_model_version_by_alias(NAME, "champion").version)


def marked(client: Any) -> list[str]:
    found = client.search_model_versions(f"name = '{NAME}'")
    return sorted(str(one.version) for one in found if registry.ROLLED_BACK in one.tags)


def back(store: LiveStore, to: str | None = None, dry_run: bool = False) -> None:
    rolling_back.pair(NAME, "empty answers", to, str(store.folder), dry_run)


def test_model_index_and_alias_go_back_together(
    store: LiveStore, client: Any, told: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    back(store)
    assert whole(store.folder).startswith("v1-")
    assert (champion(client), marked(client)) == ("1", ["2"])
    assert store.pointer().owed is None
    (alarm,) = told
    assert (alarm.kind, alarm.text) == ("rollback", "empty answers")
    printed = capsys.readouterr().out
    assert "version 1 with 12 documents" in printed
    assert "version 1 is champion again, version 2 is marked" in printed


def test_a_dry_run_changes_nothing(
    store: LiveStore, client: Any, told: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    back(store, dry_run=True)
    assert whole(store.folder).startswith("v2-")
    assert (champion(client), marked(client), told) == ("2", [], [])
    assert "would serve in place of version 2" in capsys.readouterr().out


def test_twice_says_what_there_is(store: LiveStore, client: Any) -> None:
    back(store)
    with pytest.raises(rolling_back.NothingToRollBackError, match="by a rollback already"):
        back(store)
    assert (champion(client), marked(client)) == ("1", ["2"])


def test_a_rollback_can_be_taken_back(store: LiveStore, client: Any) -> None:
    left = store.current()
    assert left is not None
    back(store)
    back(store, to=left.name)
    assert whole(store.folder) == left.name
    assert (champion(client), marked(client)) == ("2", ["1"])
    with pytest.raises(rolling_back.NothingToRollBackError, match="no whole generation is called 'v9-'"):
        back(store, to="v9-")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kill", range(4))
def test_killed_at_any_write_the_registry_follows_later(
    store: LiveStore, client: Any, monkeypatch: pytest.MonkeyPatch, kill: int, after: bool
) -> None:
    cut_off(monkeypatch, lambda: back(store), kill, after)
    assert whole(store.folder).startswith("v1-")  # search is right already
    with pytest.raises(LiveError, match="not finished in the registry"):
        pair = next(one for one in store.generations() if one.version == "2")
        current = store.current()
        assert current is not None
        store.cutover(pair, current.name, "a night's indexing")
    back(store)  # the same command; it goes no further back
    assert whole(store.folder).startswith("v1-")
    assert (champion(client), marked(client)) == ("1", ["2"])
    assert store.pointer().owed is None


def test_a_registry_that_does_not_answer_holds_nothing_up(
    store: LiveStore, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise MlflowException("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_model_versions", down)
        with pytest.raises(
            LlaraError, match=r"is back and serves, .*connection refused.*again when it answers"
        ):
            back(store)
    assert whole(store.folder).startswith("v1-")
    assert champion(client) == "2"
    assert settle(store, NAME) == "version 1 is champion again, version 2 is marked"
    assert settle(store, NAME) is None
    assert (champion(client), marked(client)) == ("1", ["2"])


def test_a_version_that_is_gone_from_the_registry(store: LiveStore, client: Any) -> None:
    client.delete_registered_model_alias(NAME, "previous")
    client.delete_model_version(NAME, "1")
    with pytest.raises(ConfigError, match=r"no such version \(it has: 2, 3\).*--to GENERATION"):
        back(store)
    assert whole(store.folder).startswith("v1-")


def test_an_older_corpus_leaves_the_registry_alone(store: LiveStore, client: Any, tmp_path: Path) -> None:
    serve(store.folder, tmp_path / "two", "2", REVISED)
    back(store)
    assert whole(store.folder).startswith("v2-")
    assert (champion(client), marked(client)) == ("2", [])


def test_where_nothing_is_live_the_alias_moves_alone(client: Any, tmp_path: Path) -> None:
    back(LiveStore(tmp_path / "nothing"))
    assert (champion(client), marked(client)) == ("1", ["2"])


def test_the_store_lies_in_the_local_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path))
    assert store_of("m").folder == tmp_path / "live" / "m"
    assert store_of("m", "~/elsewhere").folder == Path.home() / "elsewhere"
