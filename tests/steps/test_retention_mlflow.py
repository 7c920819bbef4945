"""What gc may delete of a real MLflow registry, in a database of the test's own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from llara_core.operations.retention import Item
from llara_core.operations.retention_use import References
from llara_core.operations_settings import RetentionSettings
from steps import retention_mlflow
from steps.retention_mlflow import LOGGED, Registry
from tests.registered import register_all

EAGER = RetentionSettings(minimum_age_days=0, runs=1, versions=1, generations=0, vectors_days=0)
LATER = time.time() + 43_200  # half a day: later than the slowest test run, and not a day old yet


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow

    folder = tmp_path_factory.mktemp("registry")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    client.create_experiment("llara", artifact_location=(folder / "artifacts").as_uri())
    register_all(client, "llara")
    yield client
    mlflow.set_tracking_uri(before)


@pytest.fixture
def registry(client: Any) -> Registry:
    """With version 3 live, and version 4 in a schedule."""
    referred = References(versions={"llara-retriever/4"}, aliases={"llara-adapted@champion", "gone@champion"})
    return Registry(client, "llara", {"llara-retriever/3": "the live pointer names it"}, referred)


def going(items: list[Item]) -> set[str]:
    return {item.name for item in items if item.keep is None}


def test_versions_that_somebody_needs_stay(registry: Registry) -> None:
    reasons = {item.name: item.keep for item in registry.version_items(EAGER, LATER)}
    assert reasons == {
        "llara-adapted/1": "llara-retriever/5 was made from it",
        "llara-adapted/2": None,
        "llara-adapted/3": "alias champion",
        "llara-retriever/1": "alias previous",
        "llara-retriever/2": "alias champion",
        "llara-retriever/3": "the live pointer names it",
        "llara-retriever/4": "a schedule uses it",
        "llara-retriever/5": "alias challenger",
        "llara-retriever/6": None,
        "llara-retriever/7": None,
        "llara-retriever/8": "among the newest 1",
    }


def test_numbers_and_ages_of_the_settings_keep(registry: Registry) -> None:
    three = EAGER.model_copy(update={"versions": 3})
    assert going(registry.version_items(three, LATER)) == set()
    assert going(registry.version_items(EAGER.model_copy(update={"minimum_age_days": 1}), LATER)) == set()


def test_logged_models_stay_with_their_versions_and_while_something_runs(registry: Registry) -> None:
    versions = going(registry.version_items(EAGER, LATER))
    logged = registry.logged_items(versions, EAGER, None, LATER)
    assert len(logged) == 12
    assert len(going(logged)) == len(versions) + 1  # and the one that nobody registered
    assert all(item.size >= 20_000 for item in logged if item.keep)
    assert going(registry.logged_items(versions, EAGER, "training-3 is under way", LATER)) == set()


def test_runs_stay_with_their_versions_and_while_their_pipeline_runs(registry: Registry) -> None:
    versions = going(registry.version_items(EAGER, LATER))
    runs = registry.run_items(versions, EAGER, (), LATER)
    assert going(runs) == {one.replace("/", "-") for one in versions}
    busy = registry.run_items(versions, EAGER, ("llara-retriever-6",), LATER)
    assert "llara-retriever-6" not in going(busy)  # MLflow calls it finished between two steps
    assert registry.kept_run_names(runs)["llara-retriever-4"] == "llara-retriever/4 was made by it"


def test_only_needed_models_lend_their_fingerprints(registry: Registry) -> None:
    found = registry.fingerprints()
    assert "llara-retriever-2" in found
    assert "llara-retriever-7" not in found


def test_an_alias_set_after_the_list_saves_a_version(client: Any, registry: Registry) -> None:
    item = next(one for one in registry.version_items(EAGER, LATER) if one.name == "llara-retriever/6")
    assert item.keep is None
    client.set_registered_model_alias("llara-retriever", "canary", "6")
    try:
        assert retention_mlflow.delete_version(client, item) == "alias canary"
    finally:
        client.delete_registered_model_alias("llara-retriever", "canary")
    assert client.get_model_version("llara-retriever", "6")


def test_a_logged_model_of_a_version_is_never_deleted(client: Any) -> None:
    for name, number in (("llara-retriever", "2"), ("llara-adapted", "1")):
        model = client.get_model_version(name, number).tags["logged_model"]
        item = Item(LOGGED, model, 0, 0.0, key=model)
        assert retention_mlflow.delete_logged(client, item) == f"{name}/{number} is made of it"
        assert client.list_logged_model_artifacts(model)


def test_a_run_under_way_is_never_deleted(client: Any) -> None:
    run = client.create_run(client.get_experiment_by_name("llara").experiment_id, run_name="now")
    item = Item(retention_mlflow.RUN, "now", 0, 0.0, key=run.info.run_id)
    assert retention_mlflow.delete_run(client, item) == "it is running"
    client.set_terminated(run.info.run_id)
    assert retention_mlflow.delete_run(client, item) is None


def test_what_is_deleted_is_gone_with_its_files(client: Any) -> None:
    run = client.create_run(client.get_experiment_by_name("llara").experiment_id, run_name="old")
    client.log_text(run.info.run_id, "words", "page.html")
    place = retention_mlflow.local_path(run.info.artifact_uri)
    client.set_terminated(run.info.run_id)
    assert place is not None
    assert (place / "page.html").exists()
    item = Item(retention_mlflow.RUN, "old", 0, 0.0, path=place, key=run.info.run_id)
    for _ in range(2):  # the second finds nothing, and says nothing
        assert retention_mlflow.delete_run(client, item) is None
        assert not place.exists()


@pytest.mark.parametrize("step", ["marked", "files gone"])
def test_a_deletion_that_was_interrupted_is_finished_by_the_next(
    client: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run = client.create_run(client.get_experiment_by_name("llara").experiment_id, run_name=f"half {step}")
    client.log_text(run.info.run_id, "words", "page.html")
    client.set_terminated(run.info.run_id)
    item = Item(retention_mlflow.RUN, "half", 0, 0.0, key=run.info.run_id)
    store = client._tracking_client.store

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        target, name = (retention_mlflow, "_files") if step == "marked" else (type(store), "_hard_delete_run")
        patch.setattr(target, name, killed)
        with pytest.raises(KeyboardInterrupt):
            retention_mlflow.delete_run(client, item)
    left = [one for one in registry.run_items(set(), EAGER, (), LATER) if one.name == f"half {step}"]
    assert [one.keep for one in left] == [None]
    assert retention_mlflow.delete_run(client, left[0]) is None
    assert not [one for one in registry.run_items(set(), EAGER, (), LATER) if one.name == f"half {step}"]


def test_what_a_person_deleted_is_left_alone(client: Any, registry: Registry) -> None:
    run = client.create_run(client.get_experiment_by_name("llara").experiment_id, run_name="by hand")
    client.set_terminated(run.info.run_id)
    client.delete_run(run.info.run_id)
    assert not [one for one in registry.run_items(set(), EAGER, (), LATER) if one.name == "by hand"]
    client.restore_run(run.info.run_id)


def test_no_experiment_and_no_models_is_nothing_to_do(client: Any) -> None:
    empty = Registry(client, "no such experiment", {}, References())
    assert empty.run_items(set(), EAGER, (), LATER) == []
    assert empty.logged_items(set(), EAGER, None, LATER) == []


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b%20c", Path("/a/b c")),
        ("/a/b", Path("/a/b")),
        ("s3://bucket/a", None),
        ("mlflow-artifacts:/1/a", None),
    ],
)
def test_only_local_places_are_looked_at(uri: str, path: Path | None) -> None:
    assert retention_mlflow.local_path(uri) == path
