"""The recipes: settings that are accepted, commands that exist, and plans that fit the devices they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from llara_core.cli.options import read_settings
from llara_core.config import TrainingSettings
from llara_core.settings import load_yaml

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "configs" / "recipes").glob("*.yaml"))
recipes = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLARA_MSMARCO", "/nowhere")


def head_commands(path: Path) -> list[list[str]]:
    lines = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    return [shlex.split(line) for line in lines if line.startswith(("llara ", "accelerate "))]


def test_all_recipes_are_there() -> None:
    assert {path.stem for path in RECIPES} == {
        "llama2_7b_paper", "llama3_2_1b", "mistral_7b", "qwen3_0_6b", "qwen3_8b", "smollm2_135m",
    }  # fmt: skip


@recipes
def test_settings_are_accepted_and_published(path: Path) -> None:
    settings: TrainingSettings = read_settings(path, None)
    assert settings.model.template == "llama2vec" and settings.adapt.preset == "released"
    assert settings.adapt.lora is None and settings.adapt.batch_size == 256
    lora = settings.finetune.lora
    assert lora is not None and (lora.rank, lora.alpha, lora.dropout) == (64, 16.0, 0.1)
    assert len(lora.target_modules) == 7
    assert settings.finetune.learning_rate == 3e-4 and settings.finetune.temperature == 0.01
    assert settings.finetune.hard_negatives + settings.finetune.positives == 16
    assert settings.mine.negatives >= settings.finetune.hard_negatives
    assert (settings.model.query_length, settings.model.passage_length) == (64, 160)


def test_the_paper_recipe_is_the_paper() -> None:
    path = ROOT / "configs" / "recipes" / "llama2_7b_paper.yaml"
    adapt = read_settings(path, None).adapt
    assert (adapt.steps, adapt.text_length, adapt.learning_rate) == (10_000, 1_024, 1e-5)
    assert load_yaml(path)["extra"]["expected"] == {
        "msmarco_dev_mrr_at_10": 0.431, "scifact": 0.76, "nfcorpus": 0.37, "fiqa": 0.44, "arguana": 0.48,
        "scidocs": 0.17,
    }  # fmt: skip


@recipes
def test_commands_in_the_head_exist(path: Path) -> None:
    main = pytest.importorskip("typer.main")
    from llara_core.cli.app import app

    root = main.get_command(app)
    seen = set()
    for line in head_commands(path):
        launched = line[0] == "accelerate"
        words = line[line.index("llara_core.cli") :] if launched else line
        if launched:
            assert (ROOT / line[line.index("--config_file") + 1]).is_file()
        command: Any = root.commands[words[1]]
        seen.add(words[1])
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, shlex.join(words)
        assert str(path.relative_to(ROOT)) in words
    assert seen == {"adapt", "mine", "finetune", "plan"}


def named_devices(path: Path) -> tuple[str, int]:
    found = re.search(r"--gpu (\S+) --count (\d+)", path.read_text(encoding="utf-8"))
    assert found is not None
    return found[1], int(found[2])


def plan_of(path: Path) -> Any:
    from llara_core.training.plan import Request, plan_run
    from llara_core.training.plan_gpus import find_device

    name, count = named_devices(path)
    return plan_run(read_settings(path, None), Request(find_device(name), count, search=False))


@pytest.mark.slow
@recipes
def test_recipes_fit_the_devices_they_name(path: Path) -> None:
    plan = plan_of(path)
    assert [stage.name for stage in plan.stages] == ["adapt", "finetune"]
    for stage in plan.stages:
        assert stage.placement.fits, (stage.name, stage.placement.parts)
        assert stage.seconds < 14 * 86_400
