from __future__ import annotations

from pathlib import Path

import pytest

from llara_core.config import AdaptationSettings, TrainingSettings
from llara_core.errors import ConfigError, DataError, ModelError
from llara_core.sharded_settings import ShardedSettings
from pipelines import preflight


def settings(source: str = "pycode", base: str | None = None) -> TrainingSettings:
    model = {"model": {"base": base}} if base else {}
    return TrainingSettings.parse({"collection": {"source": source}, **model}, "")


def test_good_input_passes(beir_folder: Path, tmp_path: Path) -> None:
    preflight.check(settings(str(beir_folder)), tmp_path / "local")
    preflight.check(settings(), tmp_path / "local")


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(beir_folder: Path, tmp_path: Path, missing: str) -> None:
    (beir_folder / missing).unlink()
    (beir_folder / "qrels" / "train.tsv").unlink()
    with pytest.raises(DataError, match="qrels" if "qrels" in missing else missing):
        preflight.check(settings(str(beir_folder)), tmp_path / "local")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        preflight.check(settings(str(tmp_path / "nowhere")), tmp_path / "local")


def test_an_unset_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LLARA_NOT_SET"):
        preflight.check(settings("${LLARA_NOT_SET}/data"), tmp_path / "local")


def test_an_unwritable_local_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot write here"):
        preflight.check(settings(), tmp_path / "file")


def test_a_model_folder_must_hold_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        preflight.check(settings(base=str(folder)), tmp_path / "local")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no weights"):
        preflight.check(settings(base=str(folder)), tmp_path / "local")
    (folder / "model.safetensors").write_bytes(b"")
    preflight.check(settings(base=str(folder)), tmp_path / "local")


def test_an_id_is_left_to_the_loader(tmp_path: Path) -> None:
    preflight.check(settings(base="somebody/some-model"), tmp_path / "local")


def test_the_text_of_an_adaptation_is_looked_at(tmp_path: Path) -> None:
    values = {"text": {"source": str(tmp_path / "texts")}}
    with pytest.raises(DataError, match="no such file or folder"):
        preflight.check(AdaptationSettings.parse(values, ""), tmp_path / "local")
    (tmp_path / "texts").mkdir()
    with pytest.raises(DataError, match=r"no text here|is a folder; expected a plain file"):
        preflight.check(AdaptationSettings.parse(values, ""), tmp_path / "local")
    (tmp_path / "texts" / "one.txt").write_text("One.")
    preflight.check(AdaptationSettings.parse(values, ""), tmp_path / "local")
    with pytest.raises(ConfigError, match=r"adapt\.steps: got 0"):
        preflight.check(AdaptationSettings.parse({**values, "adapt": {"steps": 0}}, ""), tmp_path / "local")


def test_a_reference_into_the_registry_is_no_folder(tmp_path: Path) -> None:
    preflight.check(settings(base="models:/llara-adapted@champion"), tmp_path / "local")


def test_what_the_sharded_pipeline_needs_is_looked_for(
    beir_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"collection": {"source": str(beir_folder)}}
    with pytest.raises(ModelError):
        preflight.check(ShardedSettings.parse({**data, "model": str(tmp_path)}, ""), tmp_path / "local")
    champion = ShardedSettings.parse(data, "")
    preflight.check(champion, tmp_path / "local")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(ConfigError, match="models:/llara-retriever@champion: nothing is registered"):
        preflight.check_registry(champion)
    (beir_folder / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"corpus\.jsonl"):
        preflight.check(champion, tmp_path / "local")
