"""Which version may serve, against a real MLflow registry in a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llara_core.errors import ConfigError
from steps import registry
from steps.servable import servable

NAME = "llara-retriever"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import mlflow

    folder = tmp_path_factory.mktemp("servable")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    client.create_registered_model("empty")
    client.create_registered_model(NAME)
    (folder / "source").mkdir()
    for number, promoted in (("1", "true"), ("2", "true"), ("3", "true"), ("4", "false")):
        tags = {"fingerprint": f"f{number}", "promoted": promoted}
        client.create_model_version(NAME, (folder / "source").as_uri(), tags=tags)
    yield client
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(("taken_back", "number"), [([], "3"), (["3"], "2"), (["3", "2"], "1"), (["2"], "3")])
def test_the_champion_or_else_what_was_not_taken_back(
    client: Any, taken_back: list[str], number: str
) -> None:
    client.set_registered_model_alias(NAME, "champion", "3")
    client.set_registered_model_alias(NAME, "previous", "2")
    for one in taken_back:
        client.set_model_version_tag(NAME, one, registry.ROLLED_BACK, "it was slow")
    try:
        assert str(servable(NAME).version) == number
    finally:
        for one in taken_back:
            client.delete_model_version_tag(NAME, one, registry.ROLLED_BACK)


def test_with_nothing_left_it_says_what_to_do(client: Any) -> None:
    with pytest.raises(ConfigError, match="there is no champion to index with; train one first"):
        servable("empty")
    client.set_registered_model_alias(NAME, "champion", "3")
    for one in ("1", "2", "3"):
        client.set_model_version_tag(NAME, one, registry.ROLLED_BACK, "it was slow")
    try:
        with pytest.raises(ConfigError, match=r"every promoted version \(1, 2, 3\) was rolled back"):
            servable(NAME)
    finally:
        for one in ("1", "2", "3"):
            client.delete_model_version_tag(NAME, one, registry.ROLLED_BACK)


def test_a_move_that_was_cut_off_is_finished_first(client: Any) -> None:
    client.set_registered_model_alias(NAME, "champion", "2")
    client.set_registered_model_tag(NAME, registry._MOVING, '{"to": "3", "from": "2"}')
    assert str(servable(NAME).version) == "3"
    assert str(registry.version_of(NAME, "previous").version) == "2"
