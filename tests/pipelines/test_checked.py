"""Whoever hands a run configuration to a pipeline: mistakes that ZenML would read past stop it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from zenml.pipelines.dynamic.pipeline_definition import DynamicPipeline
from zenml.pipelines.pipeline_definition import Pipeline

from llara_core.settings import load_yaml
from pipelines import __main__ as launcher

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(launcher._COMMANDS)
FIRST_STEP = {"training": "adapt", "sharded": "encode_shard"}


def pipeline(name: str) -> Any:
    return getattr(import_module(f"pipelines.{name}"), f"{name}_pipeline")


def written(folder: Path, name: str, **changes: Any) -> str:
    """The pipeline's own configuration with changes, as a file."""
    path = folder / "run.yaml"
    default = ROOT / "configs" / f"{launcher._COMMANDS[name][0]}.yaml"
    path.write_text(yaml.safe_dump({**load_yaml(default), **changes}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_pipeline_takes_its_own_configuration(name: str, tmp_path: Path) -> None:
    taken = pipeline(name).with_options(config_path=written(tmp_path, name))
    assert isinstance(taken, Pipeline)
    assert isinstance(taken, DynamicPipeline) is (name == "sharded")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("copies", [0, 2])
def test_every_pipeline_refuses_what_zenml_would_drop(name: str, copies: int, tmp_path: Path) -> None:
    told = pipeline(name)
    for _ in range(copies):
        told = told.copy()
    with pytest.raises(click.ClickException, match="unknown key 'enable_cach'") as found:
        told.with_options(config_path=written(tmp_path, name, enable_cach=False))
    assert found.value.exit_code == 2


@pytest.mark.parametrize("name", sorted(FIRST_STEP))
def test_a_gpu_that_zenml_would_ignore_is_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("kubernetes")
    settings = {"orchestrator.kubernetes": {"synchronous": True}, "resources": {"gpu_count": 1}}
    path = written(tmp_path, name, steps={FIRST_STEP[name]: {"settings": settings}})
    with pytest.raises(click.ClickException, match="gpu_count"):
        pipeline(name).with_options(config_path=path)


def test_the_command_of_zenml_says_it_in_a_line(tmp_path: Path) -> None:
    from click.testing import CliRunner
    from zenml.cli.cli import cli

    path = written(tmp_path, "training", settings={"orchestrator.kubernetes": {"pod_setings": {}}})
    source = "pipelines.training.training_pipeline"
    told = CliRunner().invoke(cli, ["pipeline", "run", source, "-c", path])
    assert told.exit_code == 2, told.output
    assert "pod_setings" in told.output
    assert "Traceback" not in told.output
