"""The page of a comparison: one file, every number in it, hostile text harmless; and its figures as PNG."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llara_core.errors import DataError, MissingDependencyError
from llara_core.evaluation import side_by_side_text as text
from llara_core.evaluation.report_text import number, signed
from llara_core.evaluation.side_by_side import compare_systems
from llara_core.evaluation.side_by_side_charts import COLOURS, colours_of, file_names
from llara_core.evaluation.side_by_side_page import render, write_figures, write_page
from tests.evaluation.test_report import ATTACK, Page, figures_of
from tests.oracles.saved_results import result
from tests.oracles.tiny_collection import collection

QUERIES = 60


def make_record(names: tuple[str, ...] = ("bm25", "new", "third"), texts: bool = True) -> dict[str, Any]:
    """Two collections of 60 queries, half of them questions, with texts for the first."""
    rng = np.random.default_rng(0)
    results = {}
    for place in ("here", "there"):
        base = rng.random(QUERIES) * 0.8
        shifts = dict(zip(names, (0.0, 0.15, 0.0), strict=False))
        results[place] = [
            result(
                name,
                np.clip(base + shift + rng.normal(0, 0.1, QUERIES) * (name != names[0]), 0, 1),
                place,
                found=[[f"d{query}", "d1"] for query in range(QUERIES)],
            )
            for name, shift in shifts.items()
        ]
    queries = {
        f"q{query}": f"what is thing {query}" if query % 2 else f"thing number {query} of the great list here"
        for query in range(QUERIES)
    }
    here = collection(
        {f"d{query}": f"the thing {query}" for query in range(QUERIES)},
        queries,
        {"test": {f"q{query}": {f"d{query}": 2} for query in range(QUERIES)}},
        "here",
    )
    return compare_systems(results, {"here": here} if texts else None)


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return make_record()


@pytest.fixture(scope="module")
def html(record: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_page(record, tmp_path_factory.mktemp("page") / "new" / "page.html")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_is_one_file_and_loads_nothing(html: str, page: Page) -> None:
    assert not [tag for tag, attributes in page.tags if tag == "link" or "src" in attributes]
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert links and all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= {attributes.get("id") for _, attributes in page.tags}
    assert len(re.findall(r"plotly\.js v\d", html)) == 1
    own = html.replace(next(script for _, script in page.scripts if len(script) > 1_000_000), "")
    assert "http://" not in own and "https://" not in own
    assert "width=device-width" in html and "prefers-color-scheme: dark" in html


def test_every_number_is_on_the_page(record: dict[str, Any], page: Page) -> None:
    for entry in record["collections"]:
        for one in entry["systems"].values():
            assert f"{number(one['mean'])} {text.interval(one['interval'])}".replace("\xa0", " ") in page.text
        for pair in entry["pairs"]:
            row = " ".join(
                [entry["name"], pair["system"], "bm25", signed(pair["difference"]),
                 text.interval(pair["interval"]), text.probability(pair["p_value"]),
                 text.probability(pair["p_holm"])]
            ).replace("\xa0", " ")  # fmt: skip
            assert row in page.text
            assert f"{pair['wins']} / {pair['ties']} / {pair['losses']}" in page.text
            assert f"{pair['wins']} better {pair['ties']} equal {pair['losses']} worse" in page.text
        for group in (*entry["by_length"], *entry["by_type"]):
            assert (
                f"{group['name']} {group['queries']} {number(group['systems']['bm25']['mean'])}" in page.text
            )
    for pair in record["average"]["pairs"]:
        assert f"average {pair['system']} bm25 {signed(pair['difference'])}" in page.text


def test_every_figure_has_its_place_and_its_table(record: dict[str, Any], page: Page) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    figures = figures_of(page)
    assert set(figures) == {"means", "differences", "curve-0", "curve-1", "length-0", "type-0"}
    places = [attributes.get("id") for _, attributes in page.tags]
    for name, figure in figures.items():
        go.Figure(data=figure["data"], layout=figure["layout"])  # raises on any key plotly does not know
        assert f"chart-{name}" in places
    # One table under each: a row of heads, and cells that say on a phone what they are.
    tables = [a for tag, a in page.tags if tag == "table" and a.get("class") == "numbers"]
    assert len(tables) == len(figures)
    cells = [a for tag, a in page.tags if tag == "td" and "data-label" in a]
    assert cells and all(cell["data-label"] for cell in cells)
    shown = figures["means"]["data"][0]
    assert shown["x"] == [
        one["systems"]["bm25"]["mean"] for one in [*record["collections"], record["average"]]
    ]
    pair = record["collections"][0]["pairs"][0]
    drawn = figures["differences"]["data"][0]
    assert drawn["x"][0] == pair["difference"]
    assert drawn["x"][0] + drawn["error_x"]["array"][0] == pytest.approx(pair["interval"][1])
    curve = figures["curve-0"]["data"][0]["y"]
    assert curve == sorted(curve, reverse=True) and sum(curve) / QUERIES == pytest.approx(pair["difference"])


def test_open_points_are_those_that_may_be_chance(record: dict[str, Any], page: Page) -> None:
    drawn = {trace["name"]: trace["marker"]["symbol"] for trace in figures_of(page)["differences"]["data"]
             if "error_x" in trace}  # fmt: skip
    assert drawn == {"new": ["circle"] * 3, "third": ["circle-open"] * 3}


def test_claims_only_where_significant_after_holm(record: dict[str, Any], page: Page) -> None:
    claims = {claim["text"]: claim["tone"] for claim in text.claims(record)}
    assert len(claims) == 6
    for words, tone in claims.items():
        if words.startswith("new "):
            assert tone == "good" and "new is better than bm25 on " in words
            assert "p\xa0<\xa00.001 after Holm" in words
        else:
            assert tone == "even" and words.startswith("No difference shown between third and bm25")
        assert " ".join(words.replace("\xa0", " ").split()) in page.text
    assert "average of 2 collections" in next(iter(claims)), "the averages come first"


def test_a_worse_system_and_one_that_holm_saves_from_a_claim() -> None:
    pair = {"system": "a", "baseline": "b", "difference": -0.05, "interval": [-0.08, -0.01], "p_value": 0.03,
            "p_holm": 0.03, "wins": 1, "losses": 9, "ties": 0, "queries_needed": 8}  # fmt: skip
    entry = {"name": "x", "queries": 10, "pairs": [pair]}
    made = {"metric": "ndcg_at_10", "collections": [entry], "average": None}
    (claim,) = text.claims(made)
    assert claim["text"].replace("\xa0", " ") == (
        "a is worse than b on x: \N{MINUS SIGN}0.050 nDCG@10 "
        "[\N{MINUS SIGN}0.080, \N{MINUS SIGN}0.010], p = 0.030."
    )
    entry["pairs"] = [
        pair | {"p_holm": 0.06},
        pair | {"p_holm": 0.9, "p_value": 0.8, "queries_needed": 4_000},
    ]
    saved, unseen = (claim["text"].replace("\xa0", " ") for claim in text.claims(made))
    assert saved.startswith("No difference shown") and "(p = 0.030 before it, but 2 comparisons" in saved
    assert unseen.endswith("to see such a difference takes about 4,000 queries, there are 10.")


def test_moved_queries_show_passages_of_both(record: dict[str, Any], page: Page) -> None:
    entry = record["collections"][0]
    moved = next(one for one in entry["moved"] if one["system"] == "new")
    for query in moved["up"]:
        assert (
            f"{query['text']} {signed(query['difference'])} new {number(query['scores']['new'])}" in page.text
        )
    assert "new found 1. d" in page.text and "relevant, grade 2 score 1.000" in page.text
    assert "new: rank 1, bm25: rank 1" in page.text
    assert "first relevant passage at rank 1" in page.text


def test_without_texts_ids_are_shown_and_no_groups() -> None:
    page = Page(render(make_record(texts=False)))
    assert not [name for name in figures_of(page) if name.startswith(("length", "type"))]
    assert re.search(r"\bq\d+ \+0\.\d{3} new", page.text)


def test_many_claims_are_folded() -> None:
    rng = np.random.default_rng(0)
    many = {
        f"set{place}": [result("a", rng.random(5), f"set{place}"), result("b", rng.random(5), f"set{place}")]
        for place in range(12)
    }
    html = render(compare_systems(many))
    assert "5 more" in Page(html).text  # 12 collections and the average; 8 are shown


def test_hostile_names_and_texts_stay_text() -> None:
    record = make_record((ATTACK, "new"))
    for entry in record["collections"]:
        entry |= {"name": ATTACK, "split": ATTACK, "protocol": {ATTACK: ATTACK}}
        entry["query_texts"] = [ATTACK] * QUERIES
        for moved in entry["moved"]:
            for query in moved["up"] + moved["down"]:
                query |= {"text": ATTACK, "query_id": ATTACK}
                for item in [hit for found in query["found"].values() for hit in found] + query["relevant"]:
                    item |= {"id": ATTACK, "title": ATTACK, "snippet": ATTACK}
    record["notes"] = [ATTACK]
    html = render(record)
    hostile, harmless = Page(html), Page(render(make_record()))
    assert len(hostile.scripts) == 3, "the data, plotly and the page's own script"
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in harmless.tags}
    assert hostile.text.count(ATTACK) > 50
    names = json.dumps([figure["data"] for figure in figures_of(hostile).values()])
    assert "<script" not in names and "<img" not in names


def test_colours_differ_and_known_systems_keep_theirs() -> None:
    names = ["bm25", "finetuned", *(f"x{place}" for place in range(5))]
    chosen = colours_of(names)
    assert len(set(chosen.values())) == len(names)
    assert (chosen["bm25"], chosen["finetuned"]) == (COLOURS["bm25"], COLOURS["finetuned"])


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    for wrong in ({}, {"kind": "side_by_side", "schema": 2}):
        with pytest.raises(DataError, match="not a comparison that this version can show"):
            write_page(wrong, tmp_path / "page.html")
        with pytest.raises(DataError, match="not a comparison that this version can show"):
            write_figures(wrong, tmp_path / "png")
    assert not list(tmp_path.iterdir())


def test_file_names_are_plain_and_differ() -> None:
    record = {"collections": [{"name": name} for name in ("a/b", "a_b", "../..", "set 1")]}
    names = file_names(record)
    assert len(set(names.values())) == len(names) == 14
    assert all(re.fullmatch(r"[\w.-]+", name) and not name.startswith(".") for name in names.values())
    assert names["curve-0"] == "a_b-curve" and names["type-3"] == "set_1-by-type"


def test_figures_as_png(record: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("kaleido", reason="kaleido is not installed (extra: figures)")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))):
        pytest.skip("no Chrome or Chromium here")
    files = write_figures(record, tmp_path / "png")
    names = ["means", "differences", "here-curve", "here-by-length", "here-by-type", "there-curve"]
    assert [path.name for path in files] == [f"{name}.png" for name in names]
    for path in files:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(data[16:20], "big") == 1720
        assert len(data) > 10_000, "an empty picture is smaller"


def test_png_without_kaleido_says_what_to_install(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(MissingDependencyError, match=r"llara\[figures\]"):
        write_figures(record, tmp_path / "png")
    assert not list(tmp_path.iterdir())


def test_png_without_a_browser_says_what_to_install(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("kaleido", reason="kaleido is not installed (extra: figures)")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-such-browser"))
    with pytest.raises(MissingDependencyError, match="BROWSER_PATH"):
        write_figures(record, tmp_path / "png")
