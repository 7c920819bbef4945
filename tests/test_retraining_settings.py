"""What a tick is told, and the training that it makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llara_core.config import TrainingSettings
from llara_core.errors import ConfigError
from llara_core.retraining_settings import RetrainingSettings
from llara_core.settings import load_yaml

ROOT = Path(__file__).resolve().parents[1]
TRAINING: dict[str, Any] = {
    "enable_cache": True,
    "parameters": {
        "model": {"from_scratch": {"layers": 1}, "query_length": 16},
        "adapt": {"steps": 40, "batch_size": 8},
    },
}


@pytest.fixture
def training(tmp_path: Path) -> Path:
    file = tmp_path / "training.yaml"
    file.write_text(yaml.safe_dump(TRAINING))
    return file


def test_the_published_file_is_complete() -> None:
    settings = RetrainingSettings.parse(
        load_yaml(ROOT / "configs/retraining.yaml")["parameters"], "parameters"
    )
    assert settings == RetrainingSettings()
    assert settings.indexing_values(ROOT) == load_yaml(ROOT / "configs/indexing.yaml")
    assert settings.trained(ROOT).registry.model_name == "llara-retriever"


def test_an_indexing_of_another_model_is_refused(training: Path, tmp_path: Path) -> None:
    other = {"parameters": {**TRAINING["parameters"], "registry": {"model_name": "other"}}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    file = tmp_path / "indexing.yaml"
    file.write_text(yaml.safe_dump({"parameters": {"training": str(tmp_path / "other.yaml")}}))
    settings = RetrainingSettings(training=str(training), indexing=str(file))
    with pytest.raises(ConfigError, match="serves the registered model 'other', the training makes 'llara-"):
        settings.indexing_values(ROOT)


def test_from_base_the_file_runs_as_it_is(training: Path) -> None:
    settings = RetrainingSettings(training=str(training), from_champion={"adapt": {"steps": 5}})
    values = settings.training_values(ROOT)
    assert settings.planned(values, "models:/m/3") == TRAINING


def test_from_the_champion(training: Path) -> None:
    settings = RetrainingSettings(
        training=str(training), start="champion", from_champion={"adapt": {"steps": 5}}
    )
    values = settings.training_values(ROOT)
    planned = settings.planned(values, "models:/m/3")
    told = TrainingSettings.parse(planned["parameters"], "")
    assert (told.model.base, told.model.from_scratch) == ("models:/m/3", None)
    assert (told.adapt.steps, told.adapt.batch_size, told.model.query_length) == (5, 8, 16)
    assert planned["enable_cache"] is True
    assert values == TRAINING  # what was given has not changed
    assert settings.planned(values, None) == TRAINING  # the first time there is none


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"trianing": "x"}, "did you mean 'training'"),
        ({"documents": {"train_above": 2}}, "documents.train_above"),
        ({"queries": {"level": 0.001, "permutations": 99}}, "cannot reach level"),
        ({"judged": {"source": "x"}}, "split must say"),
        ({"start": "nowhere"}, "start"),
    ],
)
def test_unusable(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RetrainingSettings.parse(given, "parameters")


def test_a_misspelt_change_is_told_before_it_is_needed(training: Path) -> None:
    settings = RetrainingSettings(
        training=str(training), start="champion", from_champion={"adapt": {"stpes": 5}}
    )
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        settings.training_values(ROOT)


def test_no_such_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration"):
        RetrainingSettings(training="configs/none.yaml").training_values(tmp_path)


def test_null_says_something_in_two_places() -> None:
    given = {"training": None, "indexing": None, "documents": None, "maximum_age_days": None}
    settings = RetrainingSettings.of_parameters(given)
    assert settings == RetrainingSettings(indexing=None, maximum_age_days=None)
