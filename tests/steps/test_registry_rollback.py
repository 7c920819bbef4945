"""A rollback in a real MLflow registry, in a database of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest

from llara_core.errors import ConfigError
from steps import registry
from steps.registry_rollback import roll_back
from tests.registry_kills import cut_off

NAME = "llara-retriever"


@pytest.fixture
def client(tmp_path: Path) -> Any:
    """Three versions: 3 is champion, 2 the one before."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    client.create_registered_model(NAME)
    for number in (1, 2, 3):
        client.create_model_version(NAME, str(tmp_path), tags={"fingerprint": f"f{number}"})
    client.set_registered_model_alias(NAME, "champion", "3")
    client.set_registered_model_alias(NAME, "previous", "2")
    yield client
    mlflow.set_tracking_uri(before)


def aliases(client: Any) -> dict[str, str]:
    return {alias: str(number) for alias, number in client.get_registered_model(NAME).aliases.items()}


def marks(client: Any) -> dict[str, str]:
    found = client.search_model_versions(f"name = '{NAME}'")
    return {one.version: one.tags[registry.ROLLED_BACK] for one in found if registry.ROLLED_BACK in one.tags}


def test_the_champion_before_is_champion_again(client: Any) -> None:
    done = roll_back(NAME, "slow answers")
    assert (done.left, done.back, done.finished) == ("3", "2", False)
    assert aliases(client) == {"champion": "2", "previous": "2"}
    assert list(map(str, marks(client))) == ["3"]
    assert "slow answers" in (registry.rolled_back(NAME, "3", "f3") or "")  # the gate does not bring it back
    assert "the same model" in (registry.rolled_back(NAME, "9", "f3") or "")
    assert registry.rolled_back(NAME, "2", "f2") is None


def test_twice_does_not_go_back_further(client: Any) -> None:
    roll_back(NAME, "why")
    with pytest.raises(ConfigError, match="version 2 is both champion and previous"):
        roll_back(NAME, "why")
    assert aliases(client) == {"champion": "2", "previous": "2"}


def test_a_dry_run_changes_nothing(client: Any) -> None:
    done = roll_back(NAME, "why", dry_run=True)
    assert (done.left, done.back) == ("3", "2")
    assert aliases(client) == {"champion": "3", "previous": "2"}
    assert marks(client) == {}


def test_after_the_next_promotion_there_is_a_way_back_again(client: Any) -> None:
    roll_back(NAME, "why")
    registry.move_champion(NAME, "1", "2")
    assert roll_back(NAME, "why").back == "2"


def test_nothing_to_go_back_to(client: Any) -> None:
    client.set_model_version_tag(NAME, "2", registry.ROLLED_BACK, "bad")
    with pytest.raises(ConfigError, match=r"2, cannot serve again: it was rolled back \(bad\)"):
        roll_back(NAME, "why")
    client.delete_registered_model_alias(NAME, "previous")
    with pytest.raises(ConfigError, match="version 3 is the first champion"):
        roll_back(NAME, "why")
    client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(ConfigError, match="nothing to roll back"):
        roll_back(NAME, "why")
    assert set(map(str, marks(client))) == {"2"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kill", range(4))
def test_killed_at_any_write_the_same_call_finishes(
    client: Any, monkeypatch: pytest.MonkeyPatch, kill: int, after: bool
) -> None:
    cut_off(monkeypatch, lambda: roll_back(NAME, "why"), kill, after)
    assert aliases(client)["champion"] in {"2", "3"}
    if (kill, after) == (3, True):  # nothing was missing
        with pytest.raises(ConfigError, match="both champion and previous"):
            roll_back(NAME, "why")
    else:
        assert (roll_back(NAME, "why").left, roll_back_is_made(client)) == ("3", True)


def roll_back_is_made(client: Any) -> bool:
    tags = client.get_registered_model(NAME).tags
    return aliases(client)["champion"] == "2" and set(map(str, marks(client))) == {"3"} and not tags
