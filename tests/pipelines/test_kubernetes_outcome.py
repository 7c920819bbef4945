"""How a run on a cluster ended, as the launcher tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("kubernetes_validate")

from kubernetes import config

from llara_core.errors import ConfigError
from pipelines.kubernetes_outcome import ClusterRunError, watched
from tests.kube.cluster import CONTEXT, Cluster

RUN = SimpleNamespace(id="r", status="failed", name="training-1")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster on which the active stack runs; its newest run is `RUN`."""
    import zenml.client

    with Cluster(tmp_path / "cluster") as made:
        api = config.new_client_from_config(config_file=str(made.kubeconfig), context=CONTEXT)
        use(monkeypatch, "kubernetes", api)
        client = zenml.client.Client()
        monkeypatch.setattr(
            client, "list_pipeline_runs", lambda **_: SimpleNamespace(items=[RUN]), raising=False
        )
        yield made


def use(monkeypatch: pytest.MonkeyPatch, flavor: str, api: Any = None) -> None:
    """Make a stack the active one whose orchestrator has that flavor."""
    import zenml.client

    orchestrator = SimpleNamespace(
        flavor=flavor, get_kube_client=lambda: api, config=SimpleNamespace(kubernetes_namespace="n")
    )
    made = SimpleNamespace(active_stack=SimpleNamespace(orchestrator=orchestrator))
    monkeypatch.setattr(zenml.client, "Client", lambda: made)


def failed_step(cluster: Cluster) -> None:
    labels = {"run_id": "r", "step_name": "adapt"}
    condition = {"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}
    told = {"metadata": {"name": "j", "labels": labels}, "spec": {}, "status": {"conditions": [condition]}}
    cluster.objects.create("jobs", "n", told)


def broken() -> Any:
    raise RuntimeError("Job `n:o` failed: Detected container in state ErrImagePull\nmore")


def test_a_run_that_failed_is_told_with_its_causes(cluster: Cluster) -> None:
    failed_step(cluster)
    with pytest.raises(ClusterRunError) as told:
        watched("training", lambda: RUN)
    lines = str(told.value).splitlines()
    assert lines[0] == "training failed:"
    assert lines[1].strip() == "step adapt: its Job failed: Job has reached the specified backoff limit"
    assert "the same command goes on" in lines[2]


def test_where_the_cluster_has_forgotten_the_logs_are_named(cluster: Cluster) -> None:
    with pytest.raises(ClusterRunError, match="training failed; logs: kubectl logs -l run_id=r"):
        watched("training", lambda: RUN)


def test_what_zenml_raises_becomes_one_line(cluster: Cluster) -> None:
    with pytest.raises(ClusterRunError, match="RuntimeError: Job `n:o` failed: Detected container in state"):
        watched("training", broken)


def test_a_cluster_that_does_not_answer_hides_nothing(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.grants["person"] = ()
    with pytest.raises(ClusterRunError, match="training failed; logs"):
        watched("training", lambda: RUN)
    assert "could not be asked why" in caplog.text


def test_errors_of_ours_and_runs_that_are_well_pass(cluster: Cluster) -> None:
    def refuse() -> Any:
        raise ConfigError("collection: unknown")

    with pytest.raises(ConfigError):
        watched("training", refuse)
    well = SimpleNamespace(id="r", status="completed")
    assert watched("training", lambda: well) is well


def test_other_orchestrators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "local")
    with pytest.raises(RuntimeError):
        watched("training", broken)
