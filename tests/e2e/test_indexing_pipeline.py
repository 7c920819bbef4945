"""The live pair through the real launcher: first pair, refresh, kills at every step, refusal, rollback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from llara_core.operations.live import LiveStore
from tests.conftest import write_tiny_beir
from tests.e2e.retraining_project import PATIENCE, REPOSITORY, Project, kill_all, until
from tests.operations.live_stories import check_whole

pytestmark = pytest.mark.slow
CANARY = {"split": "test", "rounds": 1, "latency_floor": 60.0}  # no decision by time
KILLS = [
    *(
        (step, moment)
        for step in ("choose_pair", "stage_pair", "canary")
        for moment in ("started", "finished")
    ),
    ("cutover", "started"),
]


class Indexed(Project):
    """A project that keeps a live pair."""

    @property
    def store(self) -> LiveStore:
        return LiveStore(self.local / "live" / "llara-retriever")

    def settings(self, **canary: Any) -> Path:
        file = self.root / "indexing.yaml"
        told = {"training": "configs/tiny.yaml", "canary": {**CANARY, **canary}}
        file.write_text(yaml.safe_dump({"parameters": told}), encoding="utf-8")
        return file

    def module(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=REPOSITORY, env=self.environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def done(self, *words: str, code: int = 0) -> str:
        process = self.module(*words)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, output
        return output

    def index(self, **canary: Any) -> str:
        return self.done("pipelines", "indexing", "--config", str(self.settings(**canary)))

    def aliases(self) -> dict[str, str]:
        found: dict[str, str] = self.ask(
            "import json, mlflow\n"
            "aliases = mlflow.MlflowClient().get_registered_model('llara-retriever').aliases\n"
            "print(json.dumps({key: str(value) for key, value in aliases.items()}))"
        )
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """Version 1 is champion, and its pair serves."""
    root = tmp_path_factory.mktemp("indexed")
    write_tiny_beir(root / "data")
    made = Indexed(root)
    refused = made.done("pipelines", "indexing", "--config", str(made.settings()), code=2)
    assert "train one first: make run" in refused
    made.done("pipelines", "training", "--config", "configs/tiny.yaml")
    output = made.index()
    assert "24 encoded" in output
    assert "nothing was live before" in output
    return made


def test_again_nothing_is_done(project: Indexed) -> None:
    before = project.store.pointer()
    assert "serves already: the same model, the same corpus" in project.index()
    assert project.store.pointer() == before


def test_a_tick_after_ten_changed_documents_refreshes(project: Indexed) -> None:
    old = check_whole(project.store)
    project.change(10, "Revised once.")
    output = project.tick(indexing=str(project.settings()), documents={"train_above": 0.5})
    assert "Decided    refresh: index: since the live index was made 0 new, 10 changed" in output
    tick = project.ticks()[-1]
    assert tick["action"] == "refresh"
    assert tick["outcome"]["words"].startswith("version 1 serves with 24 documents (v1-")
    assert check_whole(project.store) != old
    previous = project.store.previous()
    assert previous is not None
    assert previous.name == old
    project.tick(indexing=str(project.settings()), documents={"train_above": 0.5})
    assert project.ticks()[-1]["action"] == "skip"


@pytest.mark.parametrize(("step", "moment"), KILLS)
def test_killed_at_a_step_the_old_pair_serves_and_the_same_command_finishes(
    project: Indexed, step: str, moment: str
) -> None:
    old = check_whole(project.store)
    project.change(3, f"Changed before {step} {moment}.")
    process = project.module("pipelines", "indexing", "--config", str(project.settings()))
    until(process, f"Step `{step}` has {moment}")
    kill_all(process)
    # After the last step's start, the kill may come before or after the one rename.
    served = check_whole(project.store)
    assert served == old or step == "cutover"
    output = project.index()
    assert "24 documents" in output or "serves already" in output
    assert check_whole(project.store) != old
    assert project.aliases()["champion"] == "1"


def test_a_refused_pair_does_not_serve(project: Indexed) -> None:
    old = check_whole(project.store)
    project.change(2, "A change that the canary will not like.")
    output = project.index(queries=8, latency_floor=1e-9, latency_ratio=1e-9)
    assert "alert: [critical] canary refused" in output
    assert "the canary refused" in output
    assert "latency" in output
    assert check_whole(project.store) == old
    assert f"{old} still serves" in output
    assert "found:" in project.index()  # what was made is judged again, not made again
    assert check_whole(project.store) != old


def test_one_command_goes_back_and_the_night_does_not_undo_it(project: Indexed) -> None:
    project.change(1, "So that there is a pair before.")
    project.index()
    previous = project.store.previous()
    assert previous is not None
    project.done("llara_core.cli", "rollback", "--reason", "empty answers")
    assert check_whole(project.store) == previous.name
    assert "so it does not serve again by itself" in project.index()
    assert check_whole(project.store) == previous.name
    project.change(1, "Another corpus.")
    project.index()
    assert check_whole(project.store) != previous.name
