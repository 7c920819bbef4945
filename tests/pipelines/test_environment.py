from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from llara_core.errors import ConfigError
from pipelines import environment
from pipelines.stacks import STACK_FOLDER, read_stack


def test_state_lies_under_the_local_folder(tmp_path: Path) -> None:
    values = environment.variables(tmp_path)
    assert values["ZENML_CONFIG_PATH"] == str(tmp_path / "zenml")
    assert values["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert values["ZENML_ANALYTICS_OPT_IN"] == "false"


def test_the_users_own_values_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in environment.variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLARA_LOCAL", str(tmp_path / "local"))
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "theirs"))
    environment.apply()
    assert os.environ["ZENML_CONFIG_PATH"] == str(tmp_path / "theirs")
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("local/mlflow/mlflow.db")
    assert (tmp_path / "local").is_dir()


def test_the_shell_file_survives_odd_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    local = tmp_path / 'a "b" $HOME `c` }d'
    monkeypatch.setenv("LLARA_LOCAL", str(local))
    files = environment.write_files()
    # Another folder than the checkout's own must not reach the environment that others use.
    assert files == [local / "env"]
    shown = subprocess.run(
        ["bash", "-c", '. "$1"; printf %s "$ZENML_CONFIG_PATH"', "bash", str(files[0])],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert shown.stdout == str(local / "zenml")


def test_a_stack_file_is_filled_in() -> None:
    stack = read_stack(
        STACK_FOLDER / "llara-local.yaml", {"LLARA_LOCAL": "/x", "MLFLOW_TRACKING_URI": "sqlite:////x/m.db"}
    )
    assert stack["stack_name"] == "llara-local"
    assert stack["components"]["artifact_store"][0]["configuration"] == {"path": "/x/artifacts"}


def test_a_stack_file_with_an_unset_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is not set"):
        read_stack(STACK_FOLDER / "llara-local.yaml", {"LLARA_LOCAL": "/x"})


def test_an_unknown_stack_file_names_the_known() -> None:
    with pytest.raises(ConfigError, match="llara-local"):
        read_stack(STACK_FOLDER / "nowhere.yaml", {})
