"""The committed configuration of the sharded pipeline is one that it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llara_core.errors import ConfigError
from llara_core.settings import load_yaml
from llara_core.sharded_settings import ShardedSettings

FILE = Path(__file__).resolve().parents[1] / "configs" / "sharded.yaml"


def test_the_committed_file() -> None:
    told = ShardedSettings.parse(load_yaml(FILE)["parameters"], "parameters")
    assert (told.shards.encoding, told.shards.mining) == (3, 2)


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"shards\.encodings: unknown setting; did you mean 'encoding'\?"):
        ShardedSettings.parse({"shards": {"encodings": 4}}, "")
