"""References into the model registry, against a real MLflow registry in a database of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llara_core.config import ModelSettings, TrainingSettings
from llara_core.errors import ConfigError
from pipelines import preflight
from steps import registry


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow

    folder = tmp_path_factory.mktemp("registry")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    for name in ("llara-adapted", "other"):
        client.create_registered_model(name)
    for number in ("1", "2"):
        source = folder / number
        source.mkdir()
        client.create_model_version("llara-adapted", source.as_uri(), tags={"fingerprint": f"f{number}"})
    client.set_registered_model_alias("llara-adapted", "champion", "1")
    yield client
    mlflow.set_tracking_uri(before)


def test_an_alias_means_its_version_of_the_moment(client: Any) -> None:
    assert str(registry.find("models:/llara-adapted@champion").version) == "1"
    client.set_registered_model_alias("llara-adapted", "champion", "2")
    found = registry.find("models:/llara-adapted@champion")
    assert (str(found.version), found.tags["fingerprint"]) == ("2", "f2")
    client.set_registered_model_alias("llara-adapted", "champion", "1")
    assert str(registry.find("models:/llara-adapted/2").version) == "2"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("models:/llara-adaptd@champion", ["no model 'llara-adaptd'", "it has: llara-adapted, other"]),
        ("models:/llara-adapted@champ", ["no such alias", "@champion (version 1)", "versions: 1, 2"]),
        ("models:/llara-adapted/3", ["no such version", "versions: 1, 2"]),
        ("models:/other@champion", ["no such alias", "aliases: none; versions: none"]),
        ("models:/llara-adapted", ["expected models:/NAME@ALIAS or models:/NAME/VERSION"]),
        ("models:/llara-adapted/latest", ["expected models:/NAME@ALIAS"]),
    ],
)
def test_what_the_registry_lacks_is_told_with_what_it_has(
    client: Any, reference: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        registry.find(reference)
    for word in words:
        assert word in str(refused.value)


def test_a_registry_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    nowhere = tmp_path / "file"
    nowhere.write_text("no folder")
    mlflow.set_tracking_uri(f"sqlite:///{nowhere / 'mlflow.db'}")
    try:
        with pytest.raises(ConfigError, match="cannot be asked"):
            registry.find("models:/llara-adapted@champion")
    finally:
        mlflow.set_tracking_uri(before)


def with_base(base: str) -> TrainingSettings:
    return TrainingSettings(model=ModelSettings(base=base))


def test_preflight_asks_the_registry_only_for_references(
    client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    preflight.check_registry(with_base("models:/llara-adapted@champion"))
    with pytest.raises(ConfigError, match="no model 'nobody'"):
        preflight.check_registry(with_base("models:/nobody@champion"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'missing.db'}")
    preflight.check_registry(with_base("somebody/some-model"))
    with pytest.raises(ConfigError, match=r"nothing is registered yet .*run the adaptation pipeline first"):
        preflight.check_registry(with_base("models:/llara-adapted@champion"))
    assert not (tmp_path / "missing.db").exists()


TAGS = {"ndcg_at_10": "0.5", "fingerprint": "same", "configuration": "{}", "mlflow_run_id": "one"}


@pytest.fixture
def logged(client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The models that were logged, in place of half a minute each that MLflow takes to pack one."""
    import mlflow

    made: list[str] = []

    def log_model(**_: Any) -> Any:
        made.append(f"{len(made)}")
        source = tmp_path / made[-1]
        source.mkdir()
        return type("Info", (), {"model_uri": source.as_uri()})()

    monkeypatch.setattr(mlflow.pyfunc, "log_model", log_model)
    return made


def test_a_version_appears_with_all_of_its_tags(
    client: Any, logged: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[dict[str, str]] = []
    alias = type(client).set_registered_model_alias

    def look(self: Any, name: str, what: str, number: str) -> None:
        seen.append(dict(client.get_model_version(name, number).tags))
        alias(self, name, what, number)

    monkeypatch.setattr(type(client), "set_registered_model_alias", look)
    assert registry.log_version("whole", tmp_path, 8, TAGS) == "1"
    assert seen == [TAGS]
    assert str(registry.find("models:/whole@challenger").version) == "1"


def test_what_a_killed_run_has_registered_is_taken_over(
    client: Any, logged: list[str], tmp_path: Path
) -> None:
    assert registry.log_version("cut-off", tmp_path, 8, TAGS) == "1"
    client.delete_registered_model_alias("cut-off", "challenger")  # killed before it had one
    assert registry.log_version("cut-off", tmp_path, 8, {**TAGS, "mlflow_run_id": "two"}) == "1"
    assert str(registry.find("models:/cut-off@challenger").version) == "1"
    assert len(logged) == 1
    # Another model, or the same after the gate has judged it, is a version of its own.
    assert registry.log_version("cut-off", tmp_path, 8, {**TAGS, "fingerprint": "other"}) == "2"
    for number in ("1", "2"):
        client.set_model_version_tag("cut-off", number, registry.REASON, "no better")
    assert registry.log_version("cut-off", tmp_path, 8, TAGS) == "3"
