"""The tick in the launcher: its configuration is checked before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llara_core.errors import ConfigError
from llara_core.indexing_settings import IndexingSettings
from llara_core.operations.alerts import WEBHOOK
from llara_core.retraining_settings import RetrainingSettings
from pipelines import __main__ as launcher
from pipelines import run_configuration
from tests.operations_webhook import Webhook


def write(folder: Path, **parameters: object) -> Path:
    file = folder / "retraining.yaml"
    file.write_text(yaml.safe_dump({"parameters": parameters}), encoding="utf-8")
    return file


def test_the_published_configuration_is_accepted() -> None:
    steps, pipeline = launcher._pipeline("retraining")
    assert pipeline.name == "retraining"
    file = Path(launcher.__file__).parents[1] / "configs" / "retraining.yaml"
    assert run_configuration.check(file, steps, RetrainingSettings) == RetrainingSettings()


def test_the_published_configuration_of_the_live_index_is_accepted() -> None:
    steps, pipeline = launcher._pipeline("indexing")
    assert pipeline.name == "indexing"
    file = Path(launcher.__file__).parents[1] / "configs" / "indexing.yaml"
    assert run_configuration.check(file, steps, IndexingSettings) == IndexingSettings()


def test_an_unknown_pipeline_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no pipeline is called 'retrainign'"):
        launcher._pipeline("retrainign")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"trainign": "configs/tiny.yaml"}, "did you mean 'training'"),
        ({"training": "configs/nowhere.yaml"}, "no such configuration file"),
        ({"training": "configs/tiny.yaml", "indexing": None}, "LLARA_TINY"),
        ({"indexing": "configs/nowhere.yaml"}, "no such configuration file"),
        ({"indexing": "configs/evaluation.yaml"}, "unknown setting; known: again, canary"),
    ],
)
def test_what_is_wrong_is_told_before_zenml_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, object], words: str
) -> None:
    monkeypatch.delenv("LLARA_TINY", raising=False)
    with pytest.raises(ConfigError, match=words):
        launcher._check("retraining", write(tmp_path, **parameters))


def test_a_tick_that_cannot_begin_wakes_somebody(tmp_path: Path) -> None:
    webhook = Webhook()
    dropped = ("ZENML_", "MLFLOW_", "LLARA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    file = write(tmp_path, training=str(tmp_path / "gone.yaml"))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", "retraining", "-c", str(file)],
            cwd=Path(launcher.__file__).parents[1],
            env={**kept, "LLARA_LOCAL": str(tmp_path / "local"), WEBHOOK: webhook.address},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        webhook.close()
    assert done.returncode == 2
    assert "gone.yaml: no such configuration file" in done.stderr
    (alarm,) = webhook.bodies
    assert (alarm["kind"], alarm["severity"]) == ("tick failed", "critical")


def test_variables_of_the_trainings_file_are_filled_in_when_the_tick_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipelines.retraining import filled

    monkeypatch.setenv("LLARA_COLLECTION", "s3://llara/data/tiny")
    monkeypatch.delenv("LLARA_IMAGE", raising=False)
    values = {"parameters": {"collection": {"source": "${LLARA_COLLECTION}", "url": "http://u:$SECRET@h"}}}
    # `$SECRET` is for the step that reads the data, and shall not stand in the record of a run.
    read = {"source": "s3://llara/data/tiny", "url": "http://u:$SECRET@h"}
    assert filled(values) == {"parameters": {"collection": read}}
    assert filled(None) is None
    with pytest.raises(ConfigError, match=r"'LLARA_IMAGE'.*Export it first"):
        filled({"settings": {"docker": {"parent_image": "${LLARA_IMAGE}"}}})
