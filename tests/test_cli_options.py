"""What ``--set`` changes when no configuration is given, or one without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from llara_core.cli.options import read_settings
from llara_core.config import FromScratchSettings
from llara_core.errors import ConfigError


@pytest.mark.parametrize("text", [None, "parameters: {seed: 3}\n"], ids=["no file", "no model in it"])
def test_an_override_changes_the_default_model(tmp_path: Path, text: str | None) -> None:
    config = None
    if text is not None:
        config = tmp_path / "run.yaml"
        config.write_text(text)
    model = read_settings(config, ["model.template=llama2vec", "model.query_length=20"]).model
    assert (model.template, model.query_length, model.base) == ("llama2vec", 20, None)
    assert model.from_scratch == FromScratchSettings()
    assert read_settings(config, ["model.base=some/model"]).model.from_scratch is None
    assert read_settings(config, ["model.from_scratch.layers=5"]).model.from_scratch == FromScratchSettings(
        layers=5
    )


def test_a_file_that_names_a_model_must_name_its_base(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("parameters: {model: {query_length: 20}}\n")
    with pytest.raises(ConfigError, match="exactly one of base"):
        read_settings(config, ["model.template=llama2vec"])
