from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import write_tiny_beir

TOOL = Path(__file__).resolve().parents[2] / "tools" / "walk.py"


def walk(folder: Path, steps: list[dict[str, object]]) -> subprocess.CompletedProcess[str]:
    (folder / "walk.yaml").write_text(yaml.safe_dump({"title": "A walk", "intro": "Words.", "steps": steps}))
    command = [sys.executable, TOOL, "--config", folder / "walk.yaml", "--work", folder / "work"]
    return subprocess.run(
        [*command, "--page", folder / "page.md"], capture_output=True, text=True, check=False
    )


def test_the_page_holds_what_was_printed(tmp_path: Path) -> None:
    write_tiny_beir(tmp_path / "work")
    done = walk(tmp_path, [{"title": "One", "run": "true"}])
    assert done.returncode == 2  # the folder of an earlier walk is not used again
    (tmp_path / "work").rename(tmp_path / "data")
    done = walk(
        tmp_path,
        [
            {
                "title": "One",
                "say": "First.",
                "run": f"cp -r {tmp_path}/data $WALK/data; echo at $LLARA_LOCAL",
            },
            {"title": "Two", "change": {"corpus": "data/corpus.jsonl", "documents": 10}},
            {"run": "grep -c Revised $WALK/data/corpus.jsonl", "see": ["^10$"]},
            {"run": "exit 3", "code": 3},
        ],
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.md").read_text()
    assert "at $WALK/local" in page
    assert "$ grep -c Revised $WALK/data/corpus.jsonl\n10\n" in page
    rows = [json.loads(line) for line in (tmp_path / "work/data/corpus.jsonl").read_text().splitlines()]
    assert len(rows) == 24
    assert sum("Revised" in row["text"] for row in rows) == 10


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"run": "exit 1"}, "exit code 1, expected 0"),
        ({"run": "echo refused", "see": ["promoted"]}, "'promoted' is not to be seen"),
        ({"runs": "echo"}, "unknown keys"),
    ],
)
def test_a_walk_that_goes_wrong_writes_no_page(tmp_path: Path, step: dict[str, object], words: str) -> None:
    done = walk(tmp_path, [step])
    assert done.returncode == 1
    assert words in done.stderr
    assert not (tmp_path / "page.md").exists()
