"""``llara export``: messages, exit codes, scores of the card, and what verify says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from llara_core.cli.app import run
from llara_core.cli.export_scores import Measuring
from llara_core.data.formats import open_collection
from llara_core.model.bundle import read_bundle
from llara_core.model.prepare import prepare_base
from tests.conftest import write_tiny_beir
from tests.model.conftest import settings

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    collection = open_collection(str(write_tiny_beir(folder / "tiny")), "tiny")
    prepare_base(settings(template="slots"), collection, folder / "base", seed=0)
    return folder


def export(made: Path, output: Path, *arguments: object) -> int:
    return run(["export", str(made / "base"), "-o", str(output), *map(str, arguments)])


def test_scores_now_and_kept_go_into_the_card(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    judged = [
        "evaluate",
        "--model",
        f"{made}/base",
        "--data",
        f"{made}/tiny",
        "--results",
        f"{tmp_path}/kept",
    ]
    assert run(judged) == 0
    results = ("--results", tmp_path / "kept")
    assert export(made, tmp_path / "out", "--to", "merged", "--data", made / "tiny", *results) == 0
    printed = capsys.readouterr().out
    assert "merged: " in printed and "tiny/test bundle: ndcg_at_10 0." in printed
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    kept, now = record["scores"][:4], record["scores"][4:]
    assert kept == now and kept[0]["low"] <= kept[0]["value"] <= kept[0]["high"] and kept[0]["queries"] == 8
    shown = ModelCard((tmp_path / "out" / "README.md").read_text()).data.eval_results
    assert round(kept[0]["value"], 4) in [one.metric_value for one in shown]
    assert run(["verify", str(tmp_path / "out")]) == 0
    assert "export for merged" in capsys.readouterr().out


def test_another_model_s_results_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert (
        run(["evaluate", "--model", "bm25", "--data", f"{made}/tiny", "--results", f"{tmp_path}/kept"]) == 0
    )
    assert export(made, tmp_path / "out", "--to", "merged", "--results", tmp_path / "kept") == 2
    assert "no result of this model" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_wrong_usage(made: Path, tmp_path: Path, capsys: Captured) -> None:
    assert export(made, tmp_path / "out", "--to", "sentence_transformers") == 2
    assert "did you mean 'sentence-transformers'" in capsys.readouterr().err
    assert export(made, tmp_path / "out", "--to", "merged", "--data", made / "tiny", "--split", "dev") == 2
    assert "dev" in capsys.readouterr().err
    assert export(made, tmp_path / "out", "--to", "adapter") == 2
    assert "--base FOLDER" in capsys.readouterr().err
    assert run(["export", str(tmp_path), "--to", "merged", "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    assert export(made, tmp_path / "out", "--to", "sentence-transformers") == 0
    assert export(made, tmp_path / "out", "--to", "merged") == 2
    assert "--force" in capsys.readouterr().err
    assert export(made, tmp_path / "out", "--to", "merged", "--force") == 0
    assert not (tmp_path / "out" / "modules.json").exists()  # nothing of the earlier one is left


@pytest.mark.slow
def test_eight_bits_are_judged_query_by_query(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("onnxscript")
    assert export(made, tmp_path / "out", "--to", "onnx", "--int8", "--data", made / "tiny") == 0
    assert "int8 minus float32: " in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    change = record["facts"]["int8_change"]
    means = {one["system"]: one["value"] for one in record["scores"] if one["metric"] == "ndcg_at_10"}
    assert change["difference"] == pytest.approx(means["int8"] - means["float32"])
    assert change["low"] <= change["difference"] <= change["high"]
    text = (tmp_path / "out" / "README.md").read_text()
    assert "int8 minus float32" in text and f"{change['difference']:+.4f}".replace("+", "\\+") in text
    collection = open_collection(str(made / "tiny"), "tiny")
    scores, _ = Measuring(collection, "test")(tmp_path / "nothing", read_bundle(made / "base"))
    assert scores[0].value == pytest.approx(means["float32"])  # the graph ranks as the bundle does
