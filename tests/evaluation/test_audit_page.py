"""The audit page: complete in one file, true to its figures, and deaf to hostile text."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from llara_core.config import MineSettings
from llara_core.errors import DataError
from llara_core.evaluation.audit_page import headline, render_audit, write_audit_page
from llara_core.retrieval.mining import mine
from tests.evaluation.test_report import ATTACK, Page, figures_of
from tests.oracles.fake_encoder import FakeEncoder
from tests.oracles.tiny_collection import collection
from tests.retrieval.test_mining_choices import spacious


@pytest.fixture(scope="module")
def audit() -> dict[str, Any]:
    settings = MineSettings(
        negatives=4, random_depth=5, shares={"bm25": 0.5, "dense": 0.3, "random": 0.2}, near_duplicate=0.4
    )
    made: dict[str, Any] = mine(spacious(40), FakeEncoder(64), settings).audit
    return json.loads(json.dumps(made))


@pytest.fixture(scope="module")
def page(audit: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = write_audit_page(audit, tmp_path_factory.mktemp("audit") / "new" / "audit.html")
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_one_file_and_loads_nothing(page: Page) -> None:
    assert not [tag for tag, attributes in page.tags if tag == "link" or "src" in attributes]
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert links and all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= {attributes.get("id") for _, attributes in page.tags}
    assert any(a.get("name") == "viewport" for tag, a in page.tags if tag == "meta")


def test_figures_are_valid_true_and_in_their_place(page: Page, audit: dict[str, Any]) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    figures = figures_of(page)
    assert set(figures) == {"scores", "margins", "ranks-bm25", "ranks-dense", "ranks-random", "excluded"}
    places = {attributes.get("id") for _, attributes in page.tags}
    for name, figure in figures.items():
        go.Figure(data=figure["data"], layout=figure["layout"])  # raises on any key plotly does not know
        assert f"chart-{name}" in places
    names = [trace["name"] for trace in figures["scores"]["data"]]
    assert names == ["best positive", "negatives: BM25", "negatives: the model's search", "negatives: random"]
    for trace in figures["scores"]["data"]:
        assert sum(trace["y"]) == pytest.approx(1)
    assert sum(figures["ranks-bm25"]["data"][0]["y"]) == sum(audit["ranks"]["bm25"]["counts"])


def test_the_text_tells_the_main_figures(page: Page, audit: dict[str, Any]) -> None:
    suspected = audit["suspected"]
    assert f"{suspected['share']:.1%}" in page.text
    assert f"{audit['stats']['negatives']:,} negatives for 40 queries" in page.text
    assert f"scores too near the positive {audit['stats']['excluded']['margin']:,}" in page.text
    assert len([tag for tag, a in page.tags if tag == "details" and a.get("class") == "query"]) == 20
    assert audit["examples"][0]["query"] in page.text
    assert "near_duplicate: 0.4" in page.text


@pytest.mark.parametrize(("share", "word"), [(0.0, "Few"), (0.1, "Some"), (0.5, "Many")])
def test_the_title_says_how_bad_it_is(audit: dict[str, Any], share: float, word: str) -> None:
    changed = {**audit, "suspected": {**audit["suspected"], "share": share}}
    assert headline(changed)["title"].startswith(word)


def test_hostile_text_stays_text(audit: dict[str, Any]) -> None:
    hostile = copy.deepcopy(audit)
    hostile["facts"] |= {"collection": ATTACK, "split": ATTACK}
    for example in hostile["examples"]:
        example |= {"query": ATTACK, "query_id": ATTACK, "suspicions": [ATTACK]}
        for side in ("positive", "negative"):
            example[side] |= {"id": ATTACK, "title": ATTACK, "snippet": ATTACK}
        example["negative"]["source"] = ATTACK
    shown, harmless = Page(render_audit(hostile)), Page(render_audit(audit))
    assert len(shown.scripts) == len(harmless.scripts)
    assert not [tag for tag, attributes in shown.tags if tag == "img" or "onerror" in attributes]


def test_a_run_without_negatives_has_a_page_too() -> None:
    tiny = collection({"a": "red"}, {"q": "red"}, {"train": {"q": {"a": 1}}})
    shown = Page(render_audit(mine(tiny, FakeEncoder(), MineSettings()).audit))
    assert "No hard negatives in tiny" in shown.text and figures_of(shown) == {}


def test_another_schema_is_refused() -> None:
    with pytest.raises(DataError, match=re.escape("schema 7, expected 1")):
        render_audit({"schema": 7})
