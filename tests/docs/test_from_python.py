"""The guide's Python, block after block as a reader would type it, with a tiny registered champion."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llara_core.model import registries
from tests.conftest import write_tiny_beir
from tests.registered_champion import champion, tracking

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guides" / "from-python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow would like a type hint on predict


def test_the_guide_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_beir(tmp_path / "data" / "my-corpus")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        registries,
        "entry_points",
        lambda group: EntryPoints([EntryPoint("mlflow", "llara_mlflow.registry:fetch", group)]),
    )
    names: dict[str, Any] = {}
    blocks = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))
    assert len(blocks) > 10
    with tracking(champion().uri):
        for number, block in enumerate(blocks):
            exec(compile(block, f"{GUIDE.name}, block {number + 1}", "exec"), names)
    said = capsys.readouterr().out
    assert "models:/llara-retriever/1 (champion)" in said
    assert "24 passages of 32 dimensions" in said
    assert re.search(r"my-corpus +bm25", said) and "volcano-" in said
    np.testing.assert_allclose(names["wide"], names["half"], atol=1e-3)
    assert len(names["small"]) == 24
