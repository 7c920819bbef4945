"""The guide to exports: its Python runs as it stands, and its table names every target."""

from __future__ import annotations

from pathlib import Path

import pytest

from llara_core.model.export import TARGETS, export_bundle
from tests.docs.test_docs import ROOT, blocks
from tests.model.conftest import collection, settings
from tests.model.exports import without_llara

GUIDE = ROOT / "docs" / "guides" / "export.md"


def test_every_target_is_in_the_table() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert [target for target in TARGETS if f"| `{target}` |" not in text] == []


@pytest.mark.slow
def test_the_guide_s_python_runs(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from llara_core.model.prepare import prepare_base

    base = prepare_base(settings(template="slots"), collection(), tmp_path / "base", seed=0)
    export_bundle(base, "sentence-transformers", tmp_path / "models" / "for-st")
    (code,) = blocks(GUIDE, "python")
    assert "tensor([[" in without_llara(code, folder=tmp_path)
