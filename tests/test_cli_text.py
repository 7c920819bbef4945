"""``llara adapt`` on a folder of text, and what it says to references into a model registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llara_core.cli.app import run
from tests.conftest import TOPICS

SETTINGS = """
parameters:
  model:
    from_scratch: {vocabulary_size: 200, hidden_size: 16, intermediate_size: 32, layers: 1, heads: 2}
    template: slots
    query_length: 8
    passage_length: 16
  adapt: {steps: 2, batch_size: 4, text_length: 16, log_every: 1}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for topic, sentence in TOPICS.items():
        (tmp_path / "texts" / f"{topic}.txt").write_text(f"{sentence}. {sentence}, once more.")
    (tmp_path / "c.yaml").write_text(SETTINGS)
    return tmp_path


def test_a_folder_of_text_is_enough(place: Path) -> None:
    assert run(["adapt", "--text", f"{place}/texts", "-c", f"{place}/c.yaml", "-o", f"{place}/out"]) == 0
    card = json.loads((place / "out" / "llara.json").read_text())
    assert list(card["data_hashes"]) == ["texts"]
    assert [stage["name"] for stage in card["history"]] == ["prepare", "adapt"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--text", "{place}/texts", "--data", "pycode"], "--text and --data are both given"),
        (["--text", "{place}/nowhere"], "no such file or folder"),
        (["--text", ""], "--text is empty (a variable that is not set?)"),
        (
            ["--text", "{place}/texts", "--base", "models:/llara-adapted@champion"],
            "stands in an MLflow registry, which only the pipelines can ask",
        ),
    ],
)
def test_what_cannot_be_used_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    given = [word.format(place=place) for word in arguments]
    assert run(["adapt", *given, "-c", f"{place}/c.yaml", "-o", f"{place}/out"]) == 2
    assert complaint in capsys.readouterr().err
    assert not (place / "out").exists()
