"""The gain benchmark: real cells on a tiny collection, and statistics against numbers worked out by hand."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from llara_core.errors import DataError
from llara_core.model.bundle import read_bundle
from tests.conftest import TOPICS, write_jsonl, write_tiny_beir

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("gain_cells", "gain_statistics", "gain_page", "adaptation_gain")


@pytest.fixture(scope="module")
def gain() -> Iterator[SimpleNamespace]:
    """The script and its parts, imported as a run of the script imports them."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in NAMES}
        yield SimpleNamespace(**modules)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def study(gain: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("gain")
    articles = [{"title": topic, "text": f"{text}. {text} once more."} for topic, text in TOPICS.items()]
    values = yaml.safe_load((ROOT / "configs" / "tiny.yaml").read_text(encoding="utf-8"))["parameters"]
    values["collection"]["source"] = str(write_tiny_beir(folder / "data"))
    values["adapt"]["minimum_span"] = 4
    values["finetune"]["hard_negatives"] = 0
    cells = folder / "cells"
    cells.mkdir()
    return gain.gain_cells.Study("tiny", values, write_jsonl(folder / "wiki.jsonl", articles), cells)


@pytest.fixture(scope="module")
def workshop(gain: SimpleNamespace, study: Any) -> Iterator[Any]:
    shop = gain.gain_cells.Workshop(study)
    gain.gain_cells.write_facts(shop)
    yield shop
    shop.close()


def test_every_arm_has_weights_that_sum_to_one(gain: SimpleNamespace) -> None:
    for arm in gain.gain_cells.ARMS.values():
        assert arm.ebae + arm.ebar == 1
    assert list(gain.gain_cells.ARMS)[:4] == ["none", "ebae", "ebar", "both"]


def test_a_cell_is_a_pure_function_and_is_kept(gain: SimpleNamespace, study: Any, workshop: Any) -> None:
    none, both = (gain.gain_cells.run_cell(workshop, arm, 0) for arm in ("none", "both"))
    again = gain.gain_cells.run_cell(workshop, "both", 0)
    assert again["scores"] == both["scores"]
    assert [line["loss"] for line in again["curve"]] == [line["loss"] for line in both["curve"]]
    assert none["curve"] == [] and [line["step"] for line in both["curve"]] == [1, 2, 3, 4]
    assert {"ebae", "ebar"} <= set(both["curve"][0])
    assert len(both["scores"]["zero_shot"]) == len(both["query_ids"]) == 8
    assert gain.gain_cells.finished(study.cell_file("both", 0))["scores"] == both["scores"]
    assert gain.gain_cells.finished(study.cell_file("both", 1)) is None
    assert not list(study.folder.glob("*.lock"))


def test_texts_are_what_the_arms_say(gain: SimpleNamespace, study: Any, workshop: Any) -> None:
    own = set(workshop.rows("own", 0)["text"].to_pylist())
    wikipedia = set(workshop.rows("wikipedia", 0)["text"].to_pylist())
    assert own and wikipedia and own.isdisjoint(wikipedia)
    mixed = workshop.rows("mixed", 0)["text"].to_pylist()
    assert {text in own for text in mixed} == {True, False}
    assert sum(text in own for text in mixed) == 4 * 8 // 2  # half of what the steps read


def test_the_key_of_a_cell_follows_settings_and_not_places(gain: SimpleNamespace, study: Any) -> None:
    moved = json.loads(json.dumps(study.parameters))
    moved["collection"]["source"] = "/elsewhere"
    same = gain.gain_cells.Study("tiny", moved, Path("/wiki"), study.folder)
    assert same.cell_file("both", 0) == study.cell_file("both", 0)
    moved["adapt"]["steps"] = 5
    assert same.cell_file("both", 0) != study.cell_file("both", 0)
    assert len({study.cell_file(arm, 0) for arm in gain.gain_cells.ARMS}) == 7


def test_a_cell_that_another_process_works_on_is_left_to_it(gain: SimpleNamespace, study: Any) -> None:
    path = study.cell_file("ebae", 0)
    with gain.gain_cells.taken(path) as first, gain.gain_cells.taken(path) as second:
        assert first and not second
    with gain.gain_cells.taken(path) as third:
        assert third


def test_holm_by_hand(gain: SimpleNamespace) -> None:
    found = gain.gain_statistics.holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert found == pytest.approx({"b": 0.03, "c": 0.06, "a": 0.06})
    assert gain.gain_statistics.holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def made_up(gain: SimpleNamespace, folder: Path, gain_on: str) -> Any:
    """Cells of 60 queries, 30 of them leak-free; ``both`` gains 0.2 on the queries named."""
    values = {"collection": {"source": "x"}, "model": {"from_scratch": {}}}
    study = gain.gain_cells.Study("made-up", values, folder / "wiki", folder)
    noise = np.random.default_rng(0).random(60) * 0.1
    leak_free = np.arange(60) < 30
    better = np.where(leak_free if gain_on == "leak-free" else ~leak_free, 0.2, 0.0)
    shared = {"content_hash": "h", "query_ids": [str(query) for query in range(60)]}
    facts = {"documents": 9, "training_pairs": 8, "own_rows": 7, "bm25": [0.5] * 60}
    facts["subsets"] = {"unseen_documents": leak_free.tolist(), "no_near_duplicate": [True] * 60}
    study.facts_file().write_text(json.dumps({**shared, **facts}))
    for arm in ("none", "ebae", "both"):
        for seed in (0, 1):
            scores = noise + seed * 0.01 + (better if arm == "both" else 0)
            cell = {
                **shared, "scores": {"zero_shot": noise.tolist(), "finetuned": scores.tolist()},
                "cosine": {"zero_shot": 0.1, "finetuned": 0.2}, "seconds": {"adapt": 60.0},
                "environment": {"packages": {"torch": "2"}, "git": None},
            }  # fmt: skip
            study.cell_file(arm, seed).write_text(json.dumps(cell))
    return study


def test_a_gain_is_claimed_on_leak_free_queries_only(gain: SimpleNamespace, tmp_path: Path) -> None:
    arms = ["none", "ebae", "both"]
    for gain_on, claim in (("leak-free", "gain"), ("leaky", "undecided")):
        (tmp_path / gain_on).mkdir()
        found = gain.gain_statistics.summarise(made_up(gain, tmp_path / gain_on, gain_on), arms, [0, 1])
        assert found["claims"] == {
            "zero_shot": {"ebae": "undecided", "both": "undecided"},
            "finetuned": {"ebae": "undecided", "both": claim},
        }
        # Over all queries the gain is the same, and significant: that alone is no claim.
        both = found["subsets"]["all"]["stages"]["finetuned"]["arms"]["both"]
        assert both["versus_none"]["difference"] == pytest.approx(0.1)
        assert both["versus_none"]["p_value"] < 0.001
        assert both["spread"] == pytest.approx(0.01 / np.sqrt(2))
        assert both["versus_none"]["better_seeds"] == 2
        assert list(found["subsets"]) == ["all", "unseen_documents"]  # the other leaves nothing out


def test_the_page_is_written_from_cells_and_keeps_the_notes(gain: SimpleNamespace, tmp_path: Path) -> None:
    study = made_up(gain, tmp_path, "leak-free")
    page = tmp_path / "page.md"
    gain.gain_page.write_results([study], ["none", "ebae", "both"], [0, 1], page)
    text = page.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "| EBAE + EBAR | own corpus | undecided | **gain** |" in text
    assert "+0.100 (p < 0.001) | 2 of 2 |" in text and "| BM25 |" in text
    assert "EBAR added to EBAE" in text and "EBAE added to EBAR" not in text
    assert "pretrained as a language model on the Wikipedia articles: not measured." in text
    page.write_text(page.read_text().replace("<!-- notes -->\n", "<!-- notes -->\nMind this.\n"))
    gain.gain_page.write_results([study], ["none", "both"], [0, 1], page)
    assert "Mind this." in page.read_text() and "EBAE only" not in page.read_text()
    record = json.loads(page.with_suffix(".json").read_text())
    assert record["studies"][0]["claims"]["finetuned"] == {"both": "gain"}


def test_missing_and_foreign_cells_are_refused(gain: SimpleNamespace, tmp_path: Path) -> None:
    study = made_up(gain, tmp_path, "leak-free")
    with pytest.raises(DataError, match="arm ebar, seed 0 is not finished"):
        gain.gain_statistics.summarise(study, ["none", "ebar"], [0])
    with pytest.raises(DataError, match="add it to --arms"):
        gain.gain_statistics.summarise(study, ["both"], [0])
    file = study.cell_file("both", 0)
    file.write_text(file.read_text().replace('"content_hash": "h"', '"content_hash": "other"'))
    with pytest.raises(DataError, match="other text than the rest"):
        gain.gain_statistics.summarise(study, ["none", "both"], [0])


def test_pretraining_is_a_language_model_stage_on_wikipedia(
    gain: SimpleNamespace, study: Any, tmp_path: Path
) -> None:
    wanted = {
        **gain.adaptation_gain.PRETRAINING,
        "steps": 3,
        "batch_size": 4,
        "text_length": 16,
        "log_every": 1,
    }
    wanted["mixed_precision"] = "no"
    pretrained = replace(study, pretraining=wanted, folder=tmp_path)
    assert pretrained.cell_file("both", 0).name != study.cell_file("both", 0).name
    shop = gain.gain_cells.Workshop(pretrained)
    try:
        history = read_bundle(shop.base(0)).history
    finally:
        shop.close()
    assert [stage.name for stage in history] == ["prepare", "adapt"]
    line = history[1].curve[0]
    assert line["loss"] == line["language_model"] and "ebae" not in line


def test_the_large_variant_has_at_least_50_million_parameters(
    gain: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gain.adaptation_gain, "CELLS", tmp_path / "cells")
    options = gain.adaptation_gain._options().parse_args(["--size", "50m", "--data", "/nowhere"])
    for name in ("pycode", "scifact"):
        study = gain.adaptation_gain._study(name, options)
        size = study.settings.model.from_scratch
        heads = (size.key_value_heads or size.heads) / size.heads
        layer = size.hidden_size * (size.hidden_size * (2 + 2 * heads) + 3 * size.intermediate_size)
        assert size.vocabulary_size * size.hidden_size + size.layers * layer > 50e6
        assert study.pretraining["language_model_weight"] == 1
        assert study.pretraining["ebae_weight"] == study.pretraining["ebar_weight"] == 0
