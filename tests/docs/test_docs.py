"""What the documentation tells people to type exists: commands, options, settings, files, anchors."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from llara_core.config import AdaptationSettings, TrainingSettings
from llara_core.evaluation_settings import EvaluationSettings
from llara_core.indexing_settings import IndexingSettings
from llara_core.retraining_settings import RetrainingSettings
from llara_core.schedule_settings import ScheduleSettings
from llara_core.sharded_settings import ShardedSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def command_lines(page: Path) -> list[list[str]]:
    """Words of every shell command: lines of bash blocks, and code spans within the prose."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:make|llara|\.venv/bin/\S+) [^`]+)`", BLOCK.sub("", text))
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pages
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))
    for words in command_lines(page):
        if words[0] == "make":
            named = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(named) <= targets, f"{page.name}: {shlex.join(words)}"


@pages
def test_llara_commands_and_options_exist(page: Path) -> None:
    typer_main = pytest.importorskip("typer.main")
    from llara_core.cli.app import app

    root = typer_main.get_command(app)
    for words in command_lines(page):
        if Path(words[0]).name != "llara" or {"COMMAND", "…"} & set(words):
            continue
        group, rest = root, words[1:]
        while rest and hasattr(group, "commands"):
            if not rest[0].startswith("-"):
                assert rest[0] in group.commands, f"{page.name}: {shlex.join(words)}"
                group = group.commands[rest[0]]
            rest = rest[1:]
        known = {name for parameter in (*group.params, *root.params) for name in parameter.opts} | {"--help"}
        given = {word.split("=")[0] for word in rest if word.startswith("-")}
        assert given <= known, f"{page.name}: {shlex.join(words)}"


@pages
def test_files_in_commands_exist(page: Path) -> None:
    made_by_the_reader = re.compile(r"my-|data/|models/|vectors|\.local|scores\.json|bm25\.json|path/to")
    for words in command_lines(page):
        for word in words:
            if re.match(r"^(configs|tests|benchmarks)/\S+$", word) and not made_by_the_reader.search(word):
                assert (ROOT / word).exists(), f"{page.name}: {shlex.join(words)}"


@pages
def test_settings_in_examples_are_accepted(page: Path) -> None:
    for block in blocks(page, "yaml"):
        values: dict[str, Any] = yaml.safe_load(block)
        if "cron" in values:
            ScheduleSettings.parse(values, page.name)
            continue
        assert "parameters" in values, f"{page.name}: settings stand under parameters"
        assert set(values) <= {"parameters", "enable_cache"}, f"{page.name}: {set(values)}"
        model = values["parameters"].get("model")
        if isinstance(model, dict) and "base" not in model:
            model.setdefault("from_scratch", {})  # an excerpt: the rest comes from the copied demo
        kinds: dict[str, Any] = {
            "text": AdaptationSettings, "collections": EvaluationSettings, "canary": IndexingSettings,
            "training": RetrainingSettings, "shards": ShardedSettings,
        }  # fmt: skip
        kind = next((kinds[key] for key in kinds if key in values["parameters"]), TrainingSettings)
        kind.parse(values["parameters"], page.name)


@pages
def test_settings_named_in_prose_exist(page: Path) -> None:
    """Code spans like ``model.query_length`` name a field of the settings."""
    stages = "|".join(TrainingSettings.model_fields)
    for name in re.findall(rf"`((?:{stages})(?:\.[a-z0-9_]+)+)`", page.read_text(encoding="utf-8")):
        kind: Any = TrainingSettings
        for part in name.split("."):
            assert part in kind.model_fields, f"{page.name}: {name}"
            annotation = kind.model_fields[part].annotation
            inner = [one for one in (annotation, *getattr(annotation, "__args__", ()))
                     if hasattr(one, "model_fields")]  # fmt: skip
            kind = inner[0] if inner else annotation


def test_every_command_of_the_command_line_is_in_the_changelog() -> None:
    typer_main = pytest.importorskip("typer.main")
    from llara_core.cli.app import app

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [name for name in typer_main.get_command(app).commands if f"`{name}`" not in text] == []
