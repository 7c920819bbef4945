"""Settings: closed to unknown keys, frozen, and with messages that name place, value and nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from llara_core.config import AdaptationSettings, CollectionSettings, ModelSettings, TrainingSettings
from llara_core.errors import ConfigError
from llara_core.evaluation_settings import EvaluationSettings
from llara_core.indexing_settings import IndexingSettings
from llara_core.retraining_settings import RetrainingSettings
from llara_core.settings import load_yaml, nearest
from llara_core.sharded_settings import ShardedSettings

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"adapt": {"stepz": 3}}, "parameters.adapt.stepz: unknown setting; did you mean 'steps'?"),
        ({"adpat": {}}, "parameters.adpat: unknown setting; did you mean 'adapt'?"),
        (
            {"adapt": {"lora": {"rnak": 3}}},
            "parameters.adapt.lora.rnak: unknown setting; did you mean 'rank'?",
        ),
        ({"evaluate": {"bm25": {"k2": 1}}}, "evaluate.bm25.k2: unknown setting; known: b, k1, "),
        ({"seed": "many"}, "parameters.seed: got 'many'; input should be a valid integer"),
        ({"finetune": {"steps": 0}}, "parameters.finetune.steps: got 0; input should be greater than 0"),
        ({"adapt": {"steps": 2.5}}, "parameters.adapt.steps: got 2.5; input should be a valid integer"),
        ({"adapt": None}, "parameters.adapt: got None"),
        ({"evaluate": {"depth": 50}}, "parameters.evaluate.depth: got 50"),
        ({"mine": {"positive_margin": 1.5}}, "parameters.mine.positive_margin: got 1.5"),
        ({"adapt": {"schedule": "lineal"}}, "parameters.adapt.schedule: got 'lineal'"),
        ({"model": {}}, "give exactly one of base (a folder or id) and from_scratch"),
        ({"model": {"base": "x", "from_scratch": {}}}, "give exactly one of base"),
        ([], "parameters: expected a mapping of settings, got []"),
    ],
)
def test_bad_settings_are_explained(values, said):
    with pytest.raises(ConfigError) as caught:
        TrainingSettings.parse(values, "parameters")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unlike_any_known_key_lists_them():
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"


def test_defaults_and_built_settings_pass():
    settings = TrainingSettings.parse(None, "parameters")
    assert settings == TrainingSettings() and TrainingSettings.parse(settings, "x") is settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 3


def test_settings_survive_yaml():
    settings = TrainingSettings(seed=3, model=ModelSettings(base="folder"))
    text = yaml.safe_dump(settings.model_dump(mode="json"))
    assert TrainingSettings.parse(yaml.safe_load(text), "") == settings


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_committed_configuration_is_valid(path):
    values = load_yaml(path).get("parameters") or {}
    kinds = {
        "text": AdaptationSettings, "collections": EvaluationSettings, "canary": IndexingSettings,
        "training": RetrainingSettings, "shards": ShardedSettings,
    }  # fmt: skip
    kind = next((kinds[key] for key in kinds if key in values), TrainingSettings)
    kind.parse(values, "parameters")


def test_configurations_were_found():
    assert {path.name for path in CONFIGS} >= {"demo.yaml", "scifact.yaml"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such configuration file"),
        (b"a: [1", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"- a\n- b\n", "expected a mapping at the top, got list"),
        (b"", "expected a mapping at the top, got NoneType"),
    ],
)
def test_unreadable_yaml(tmp_path, content, said):
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value)


def test_collection_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("LLARA_TEST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CollectionSettings(source="${LLARA_TEST_DATA}/x").folder == tmp_path / "data" / "x"
    assert CollectionSettings(source="~/x").folder == tmp_path / "x"
    assert CollectionSettings().folder is None
    monkeypatch.delenv("LLARA_TEST_DATA")
    with pytest.raises(ConfigError, match="LLARA_TEST_DATA"):
        _ = CollectionSettings(source="${LLARA_TEST_DATA}/x").folder


def test_an_empty_variable_is_as_good_as_none(monkeypatch):
    monkeypatch.setenv("LLARA_TEST_DATA", "")
    with pytest.raises(ConfigError, match="environment variable that is not set"):
        _ = CollectionSettings(source="${LLARA_TEST_DATA}").folder
