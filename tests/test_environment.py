"""What is recorded with a run."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess

import pytest

from llara_core import environment


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_state_tells_commit_and_dirt(tmp_path):
    assert environment.git_state(tmp_path) is None
    git(tmp_path, "init", "-b", "trunk")
    assert environment.git_state(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "one")
    state = environment.git_state(tmp_path)
    assert state is not None and len(state["commit"]) == 40
    assert (state["branch"], state["dirty"]) == ("trunk", False)
    (tmp_path / "untracked").write_text("x")
    assert environment.git_state(tmp_path)["dirty"] is False
    (tmp_path / "a").write_text("2")
    assert environment.git_state(tmp_path)["dirty"] is True


def test_description_is_json_and_has_the_versions(tmp_path):
    found = json.loads(json.dumps(environment.describe(tmp_path)))
    assert found["python"] == platform.python_version()
    assert found["git"] is None and found["cpus"] >= 1
    assert found["packages"]["torch"] == environment.version("torch")
    assert "" not in found["packages"].values()
    assert environment.version("no-such-package") is None
