from __future__ import annotations

from pathlib import Path

import pytest

from llara_core.config import AdaptationSettings, TrainingSettings
from llara_core.errors import ConfigError
from llara_core.evaluation_settings import EvaluationSettings
from llara_core.indexing_settings import IndexingSettings
from llara_core.operations_settings import OperationsSettings
from llara_core.retraining_settings import RetrainingSettings
from llara_core.serving_settings import ServingSettings
from llara_core.settings import load_yaml
from llara_core.sharded_settings import ShardedSettings
from pipelines import run_configuration

STEPS = ("ingest", "adapt")
REPOSITORY = Path(__file__).resolve().parents[2]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("enable_cash: true", "unknown key 'enable_cash'; did you mean 'enable_cache'"),
        ("steps: {adpat: {enable_cache: false}}", "unknown step 'adpat'; did you mean 'adapt'"),
        ("steps: {adapt: {enable_cash: false}}", "steps.adapt: unknown key 'enable_cash'"),
        ("steps: {adapt: {parameters: {steps: 3}}}", "stand under the top-level"),
        ("steps: [adapt]", "steps: expected a mapping"),
        ("parameters: {adapt: {stepz: 3}}", "parameters.adapt.stepz: unknown setting; did you mean 'steps'"),
        ("parameters: {adapt: {steps: -3}}", "parameters.adapt.steps: got -3"),
        ("enable_cache: {a: 1}", "enable_cache: got"),
        ("parameters: [", "not valid YAML"),
    ],
)
def test_what_zenml_would_ignore_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run_configuration.check(write(tmp_path, text), STEPS, TrainingSettings)
    assert complaint in str(refused.value)


def test_settings_are_returned(tmp_path: Path) -> None:
    path = write(tmp_path, "run_name: mine\nsteps: {adapt: {enable_cache: false}}\nparameters: {seed: 3}")
    assert run_configuration.check(path, STEPS, TrainingSettings).seed == 3


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_configurations_are_valid(path: Path) -> None:
    from pipelines import adaptation, evaluation, indexing, retraining, sharded, training

    if path.stem == "operations":
        OperationsSettings.load(path)  # of every pipeline: no run configuration
    elif path.stem == "serving":
        ServingSettings.parse(load_yaml(path), str(path))  # of `llara serve`
    elif path.stem == "indexing":
        run_configuration.check(path, indexing.STEPS, IndexingSettings)
    elif path.stem == "retraining":
        run_configuration.check(path, retraining.STEPS, RetrainingSettings)
    elif path.stem == "sharded":
        run_configuration.check(path, sharded.STEPS, ShardedSettings)
    elif path.stem == "adaptation":
        run_configuration.check(path, adaptation.STEPS, AdaptationSettings)
    elif path.stem == "evaluation":
        run_configuration.check(path, evaluation.step_names, EvaluationSettings)
    else:
        run_configuration.check(path, training.step_names, TrainingSettings)


def test_steps_that_depend_on_the_settings_are_known_by_them(tmp_path: Path) -> None:
    from pipelines.training import step_names

    later = "steps: {mine_round_2: {enable_cache: false}}\nparameters: {mine: {rounds: %d}}"
    run_configuration.check(write(tmp_path, later % 2), step_names, TrainingSettings)
    with pytest.raises(ConfigError, match="unknown step 'mine_round_2'"):
        run_configuration.check(write(tmp_path, later % 1), step_names, TrainingSettings)


def test_an_uncached_run_says_so_whatever_the_file_says(tmp_path):
    given = tmp_path / "run.yaml"
    given.write_text("enable_cache: true\nparameters: {seed: 3}\nsteps: {adapt: {enable_cache: true}}\n")
    with run_configuration.for_this_run(given, no_cache=True) as file:
        assert load_yaml(file) == {
            "enable_cache": False, "parameters": {"seed": 3}, "steps": {"adapt": {"enable_cache": False}},
        }  # fmt: skip
    assert not file.exists()
    with run_configuration.for_this_run(given, no_cache=False) as file:
        assert file == given
