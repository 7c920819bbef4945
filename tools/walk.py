"""`make walk`: do what a user would, command by command, and write down what really came out.

A walk is a YAML file: words, commands, edits of documents, and what must be seen for the walk to go on. Every
command runs in this checkout with a local state of the walk's own, so nothing of the user's changes. The page
is written only when every expectation has been met.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LONGEST = 60  # lines of one command's output on the page; what is left out is counted


class WalkError(Exception):
    """A step did not show what the walk is about."""


def main() -> int:
    """Walk, and write the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "walk" / "demo.yaml")
    parser.add_argument("--work", type=Path, default=ROOT / ".local" / "walk", help="state of the walk")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "guides" / "fresh-walk.md")
    options = parser.parse_args()
    walk = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    work = options.work.resolve()
    if work.exists() and any(work.iterdir()):
        sys.stderr.write(f"walk: {work} holds an earlier walk; remove it, or name another with --work\n")
        return 2
    work.mkdir(parents=True, exist_ok=True)
    try:
        parts = [_step(step, work) for step in walk["steps"]]
    except WalkError as error:
        sys.stderr.write(f"walk: {error}\n")
        return 1
    head = f"# {walk['title']}\n\n{walk['intro'].strip()}\n"
    options.page.write_text("\n".join([head, *parts]), encoding="utf-8")
    sys.stdout.write(f"walk: written: {options.page}\n")
    return 0


def _step(step: dict[str, Any], work: Path) -> str:
    """Do one step; returns its part of the page."""
    unknown = set(step) - {"title", "say", "file", "content", "change", "run", "code", "see", "last"}
    if unknown:
        raise WalkError(f"step {step.get('title')!r}: unknown keys {sorted(unknown)}")
    lines = [f"## {step['title']}\n"] if "title" in step else []
    lines += [step["say"].strip() + "\n"] if "say" in step else []
    if "file" in step:
        target = work / step["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_filled(step["content"], work), encoding="utf-8")
        lines.append(f"`{step['file']}`:\n\n```yaml\n{step['content'].strip()}\n```\n")
    if "change" in step:
        changed = change_documents(work / step["change"]["corpus"], step["change"]["documents"])
        lines.append(f"Changed: {', '.join(f'`{name}`' for name in changed)}.\n")
    if "run" in step:
        lines.append(_run(step, work))
    return "\n".join(lines)


def _run(step: dict[str, Any], work: Path) -> str:
    sys.stderr.write(f"walk: {step['run']}\n")
    done = subprocess.run(  # noqa: S602 - the walk's own commands, as a user types them
        _filled(step["run"], work), shell=True, cwd=ROOT, env=_environment(work), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
    )  # fmt: skip
    output = _tidy(done.stdout, work)
    wanted = step.get("code", 0)
    if done.returncode != wanted:
        raise WalkError(f"{step['run']}: exit code {done.returncode}, expected {wanted}:\n{output}")
    for words in step.get("see", []):
        if not re.search(words, output):
            raise WalkError(f"{step['run']}: {words!r} is not to be seen in:\n{output}")
    shown = _cut(output) if "last" not in step else _end(output, step["last"])
    return f"```console\n$ {step['run']}\n{shown}\n```\n"


def change_documents(corpus: Path, count: int) -> list[str]:
    """Rewrite evenly spread documents of a BEIR corpus; returns their ids.

    Args:
        corpus: ``corpus.jsonl``.
        count: how many.

    Raises:
        WalkError: there are fewer.
    """
    rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    if len(rows) < count:
        raise WalkError(f"{corpus}: {len(rows)} documents, {count} are to be changed")
    chosen = [number * len(rows) // count for number in range(count)]
    for number in chosen:
        rows[number]["text"] += " Revised: this paragraph was added after the first training."
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [str(rows[number]["_id"]) for number in chosen]


def _environment(work: Path) -> dict[str, str]:
    # And what `make walk ARGS=…` would hand on to every make below it.
    dropped = ("LLARA_", "ZENML_", "MLFLOW_", "MAKE", "MFLAGS", "ARGS", "CONFIG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return {**kept, "LLARA_LOCAL": str(work / "local"), "PATH": path, "WALK": str(work), "NO_COLOR": "1"}


def _filled(text: str, work: Path) -> str:
    return string.Template(text).safe_substitute(WALK=str(work))


def _tidy(output: str, work: Path) -> str:
    """No colours, no progress bars that overwrite themselves, no paths of this machine."""
    plain = _COLOURS.sub("", output)
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in plain.splitlines()]
    text = "\n".join(lines).strip("\n")
    for place, name in ((work, "$WALK"), (ROOT, "$PWD"), (Path.home(), "~")):
        text = re.sub(rf"{re.escape(str(place))}(?=[/\s:'\")]|$)", name, text, flags=re.MULTILINE)
    return text


def _end(output: str, count: int) -> str:
    lines = output.splitlines()
    left_out = len(lines) - count
    return "\n".join([f"… {left_out} lines …", *lines[-count:]] if left_out > 0 else lines)


def _cut(output: str) -> str:
    lines = output.splitlines()
    if len(lines) <= _LONGEST:
        return output
    half = _LONGEST // 2
    return "\n".join([*lines[:half], f"… {len(lines) - _LONGEST} lines …", *lines[-half:]])


if __name__ == "__main__":
    sys.exit(main())
