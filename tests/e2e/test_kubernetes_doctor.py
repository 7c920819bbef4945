"""`llara doctor --stack` with all that it asks: a ZenML server, S3 and MLflow on loopback, and a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("kubernetes_validate")
pytest.importorskip("moto")
pytest.importorskip("zenml")

from tests.kube.production import NAMESPACE, ROOT, STACK, Production, production
from tests.pipelines.test_kubernetes_doctor import apply, label_the_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with production(tmp_path_factory.mktemp("production")) as made:
        yield made


def doctor(prod: Production) -> dict[str, str]:
    """What is wrong: the line of each problem by its name."""
    command = [sys.executable, "-m", "llara_core.cli", "doctor", "--stack", STACK]
    done = subprocess.run(
        command, cwd=ROOT, env=prod.environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in done.stderr
    for planted in (prod.api_key, prod.store.secret, "planted-mlflow-token"):
        assert planted not in done.stdout + done.stderr
    lines = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("PROBLEM")]
    assert done.returncode == int(bool(lines)), done.stdout
    return {line.split("  ")[0].strip(): line for line in lines}


def test_an_empty_cluster_then_a_whole_one(prod: Production) -> None:
    found = doctor(prod)
    assert {"namespace", "volume", "priority", "gpu"} <= found.keys()
    assert f"'{NAMESPACE}' does not exist" in found["namespace"]
    apply(prod.cluster)
    label_the_nodes(prod.cluster)
    found = doctor(prod)
    assert found.keys() == {
        "registry"
    }  # there is none; ZenML, its secrets, S3, MLflow and the cluster are well
    assert "registry.example.com" in found["registry"]


def test_a_lost_secret_is_named_and_comes_back(prod: Production) -> None:
    program = "from zenml.client import Client; Client().delete_secret('llara-s3'); print('true')"
    assert prod.ask(program) is True
    found = doctor(prod)
    assert "llara-s3 does not exist" in found["secret"]
    prod.run("pipelines.kubernetes_stack", "--env", str(prod.values), seconds=180)
    assert "secret" not in doctor(prod)
