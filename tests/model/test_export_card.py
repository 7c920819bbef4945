"""The card of an export: hubs can read it, hostile names stay text, nothing is made up."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from llara_core.model.bundle import Stage, read_bundle
from llara_core.model.export import TARGETS
from llara_core.model.export_card import Score, base_licence, export_card

HOSTILE = 'x\n---\nlicense: mit\n---\n<script>alert(1)</script> `| [a](javascript:x) "\u202e'
FACTS: dict[str, Any] = {
    "prompt": {"prefix": [1], "query_suffix": [2], "passage_suffix": [3]},
    "embedding_rows": 9,
    "least_cosine": 1.0,
    "int8_bytes": 3,
}


def score(**changes: Any) -> Score:
    values = {"collection": "tiny", "split": "test", "metric": "ndcg_at_10", "value": 0.5, "low": 0.4}
    return Score(**{**values, "high": 0.6, "queries": 8, "documents": 24, **changes})


@pytest.mark.parametrize("target", TARGETS)
def test_hubs_read_every_card(base: Path, target: str) -> None:
    bundle = replace(read_bundle(base), base_model="acme/tiny-7b", scores={"tiny/base/mrr_at_10": 0.25})
    text = export_card(bundle, target, FACTS, [score(), score(metric="map_at_100", value=0.3)])
    data = ModelCard(text).data  # the hub's own parser
    assert data.license == "unknown" and data.base_model == "acme/tiny-7b"
    assert "arxiv:2312.15503" in data.tags and data.pipeline_tag == "feature-extraction"
    results = {one.metric_type: one for one in data.eval_results}
    assert results["ndcg_at_10"].metric_value == 0.5 and results["ndcg_at_10"].dataset_split == "test"
    assert "0.4000 to 0.6000" in results["ndcg_at_10"].metric_name
    for words in (
        "## Use",
        "## Data",
        "## Scores",
        "0.4000 to 0.6000",
        "not recorded",
        "## Limits",
        "@article",
    ):
        assert words in text, words
    assert bundle.fingerprint in text and "Unknown: check that of acme/tiny-7b" in text


def test_hostile_names_stay_text(base: Path) -> None:
    bundle = read_bundle(base)
    stage = Stage(HOSTILE, {"base": "/home/me/secret/model", "name": f"```\n{HOSTILE}"})
    bundle = replace(
        bundle, base_model=HOSTILE, scores={HOSTILE: 0.1}, history=(stage,), data_hashes={HOSTILE: "ab"}
    )
    text = export_card(bundle, "onnx", {**FACTS, "told": HOSTILE}, [score(collection=HOSTILE, split=HOSTILE)])
    data = ModelCard(text).data
    assert data.license == "unknown"  # not what the name says
    assert data.eval_results is not None and len(data.eval_results) == 1
    body = ModelCard(text).text
    fenced = body.split("```json\n")[1].split("\n```")[0]
    outside = body.replace(fenced, "")
    assert not re.search(r"(?<!\\)(<script|\]\()", outside) and "\u202e" not in text
    assert "/home/me" not in text and '"base": "model"' in text
    assert not any(line.startswith("```") for line in fenced.splitlines())  # all of it is in the block


def test_licence_of_the_base_is_read_and_never_made_up(base: Path, tmp_path: Path) -> None:
    bundle = read_bundle(base)
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n")
    text = export_card(bundle, "merged", FACTS, [], base=str(tmp_path))
    assert ModelCard(text).data.license == "apache-2.0"
    for other in ("# no head", "---\nlicense: [a\n---\n", "---\n- a list\n---\n", "---\nlicense: 3\n---\n"):
        (tmp_path / "README.md").write_text(other)
        assert base_licence(str(tmp_path)) == {}
    assert base_licence("acme/unknown") == {}
    assert "Unknown" in export_card(bundle, "merged", FACTS, [])
