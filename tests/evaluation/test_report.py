"""The report page: complete in one file, true to its data, and deaf to hostile text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llara_core.errors import DataError
from llara_core.evaluation import report, report_text
from tests.oracles.report_record import FACTS, METRICS, make_record

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7*7 }}<!--"


class Page(HTMLParser):
    """What a browser would see: tags, text outside scripts, and each script's content."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.scripts and not self.scripts[-1][1]:
            self.scripts[-1] = (self.scripts[-1][0], data)
        elif self.lasttag != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = report.write_report(
        make_record(), tmp_path_factory.mktemp("report") / "new" / "report.html", FACTS
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def figures_of(page: Page) -> dict[str, Any]:
    (blob,) = [text for attributes, text in page.scripts if attributes.get("type") == "application/json"]
    figures: dict[str, Any] = json.loads(blob)
    return figures


def test_page_is_one_file_and_loads_nothing(html: str, page: Page) -> None:
    assert not [tag for tag, attributes in page.tags if tag == "link" or "src" in attributes]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links and all(str(link).startswith("#") for link in links)
    assert len(re.findall(r"plotly\.js v\d", html)) == 1, "plotly is inlined exactly once"
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert {str(link)[1:] for link in links} <= targets


def test_policy_allows_exactly_the_two_scripts_of_the_page(page: Page) -> None:
    (policy,) = [str(a["content"]) for t, a in page.tags if t == "meta" and "http-equiv" in a]
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    expected = {f"'sha256-{base64.b64encode(hashlib.sha256(c.encode()).digest()).decode()}'" for c in code}
    assert set(re.findall(r"'sha256-[^']+'", policy)) == expected
    assert len(expected) == 2
    assert "default-src 'none'" in policy
    # Browsers hash the text after newlines are normalised, so a carriage return would void the hash.
    assert not any("\r" in script for script in code)


def test_table_holds_every_score_with_interval_and_changes(page: Page) -> None:
    assert "0.630 0.610 to 0.650 BM25 +0.030 p < 0.001 no adaptation +0.060 p < 0.001" in page.text
    assert "0.030 0.010 to 0.050 BM25 \N{MINUS SIGN}0.570 p < 0.001" in page.text
    for name in ("nDCG@10", "MRR@10", "Recall@100", "MAP@100", "BM25", "finetuned without adaptation"):
        assert name in page.text


def test_best_of_each_column_and_only_it_is_bold(html: str) -> None:
    best = re.findall(r'class="mean best">([\d.]+)<', html)
    assert best == ["0.630", "0.650", "0.670", "0.690", "0.630", "0.610"]


def test_facts_settings_and_notes_are_shown(page: Page) -> None:
    for expected in (
        "seed 7", "adapt 3 min 05 s", "mine 4.2 s", "torch 2.13.0", "corpus " + "cd" * 16,
        "temperature: 0.05",
        "dense negatives came from the base model", "content hash " + "ab" * 32, "git commit 0123abc",
    ):  # fmt: skip
        assert expected in page.text


def test_facts_may_come_with_the_comparison() -> None:
    record = make_record() | {"facts": {"seed": 41}}
    assert "seed 41" in Page(report.render_report(record, record["facts"])).text


def test_examples_show_ranks_and_judgements(page: Page) -> None:
    assert page.text.count("first relevant at 2") == 3
    assert page.text.count("no relevant one in the top 10") == 3
    assert "3. tempfile.function_3 score 0.600" in page.text
    assert "tempfile.function_2 relevant found at this rank" in page.text
    assert "tempfile.function_2 relevant not among the results kept" in page.text
    assert len([tag for tag, a in page.tags if tag == "details" and a.get("class") == "query"]) == 6


def test_figures_are_valid_and_each_has_its_place(page: Page) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    figures = figures_of(page)
    expected = {f"bars-{metric}" for metric in METRICS} | {
        "subsets", "loss-adaptation", "loss-finetuning", "length-0", "length-1", "gain-bm25",
        "gain-finetuned_without_adaptation",
    }  # fmt: skip
    assert set(figures) == expected
    places = {attributes.get("id") for _, attributes in page.tags}
    for name, figure in figures.items():
        go.Figure(data=figure["data"], layout=figure["layout"])  # raises on any key plotly does not know
        assert f"chart-{name}" in places
    bars = figures["bars-ndcg_at_10"]["data"][0]
    assert bars["x"] == [0.60, 0.03, 0.18, 0.63, 0.57]
    assert bars["y"][0] == "BM25"
    assert len(figures["subsets"]["data"][0]["x"]) == 2, "a subset without queries is not drawn"


def test_hostile_text_stays_text_everywhere() -> None:
    record = make_record()
    record["collection"] |= {"name": ATTACK, "split": ATTACK}
    record["notes"] = [ATTACK]
    record["length_histograms"][0] |= {"name": ATTACK, "unit": ATTACK}
    record["subsets"][1] |= {"name": ATTACK, "description": ATTACK}
    record["histories"][ATTACK] = [{"step": 1, "loss": 2.0, ATTACK: 1.0}]
    for example in record["best_queries"] + record["worst_queries"]:
        example |= {"text": ATTACK, "query_id": ATTACK}
        for item in example["found"] + example["relevant"]:
            item |= {"id": ATTACK, "title": ATTACK, "snippet": ATTACK}
    facts = {ATTACK: ATTACK, "versions": {ATTACK: ATTACK}, "settings": {ATTACK: ATTACK}}
    html = report.render_report(record, facts)
    hostile, harmless = Page(html), Page(report.render_report(make_record(), FACTS))
    assert len(hostile.scripts) == 3, "the data, plotly and the page's own script"
    assert not [tag for tag, _ in hostile.tags if tag == "img"]
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    assert "<!--" not in html.split('id="figures"')[1].split("</script>")[0]
    assert hostile.text.count(ATTACK) > 30, "shown as text, not dropped, and not read as a template"
    assert {tag for tag, _ in hostile.tags} == {tag for tag, _ in harmless.tags}
    drawn = figures_of(hostile)
    assert all("<script" not in trace["name"] for trace in drawn["loss-finetuning"]["data"])


def test_odd_characters_and_numbers_do_not_break_the_page(tmp_path: Path) -> None:
    record = make_record()
    record["best_queries"][0]["text"] = "lone surrogate \ud800, bell \x07, right-to-left \u202e, line \u2028"
    record["histories"]["adapt"][3]["loss"] = float("nan")
    record["histories"]["finetune"][3]["loss"] = float("inf")
    page = Page(report.write_report(record, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "lone surrogate ?, bell" in page.text
    adapt = figures_of(page)["loss-adaptation"]["data"][0]
    assert adapt["y"][3] is None and adapt["y"][2] is not None


def test_least_record_makes_a_page(tmp_path: Path) -> None:
    record = make_record()
    cell = {"mean": 0.25, "interval": [0.2, 0.3], "versus_bm25": None, "versus_without_adaptation": None}
    least = {key: record[key] for key in ("schema", "collection", "metrics", "query_ids")} | {
        "systems": [{"name": "my_model", "per_query": {}}],
        "subsets": [{"name": "all", "description": "", "queries": 200,
                     "systems": {"my_model": dict.fromkeys(METRICS, cell)}}],
    }  # fmt: skip
    page = Page(report.write_report(least, tmp_path / "least.html").read_text(encoding="utf-8"))
    assert "My model on pycode" in page.text
    assert set(figures_of(page)) == {f"bars-{metric}" for metric in METRICS}
    assert "Leak-free" not in page.text and "Lengths" not in page.text


def test_older_report_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    report.write_report(make_record(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "got schema 2; expected schema 1"),
        ({"subsets": []}, "no judged system"),
        ({"collection": None}, "without collection"),
    ],
)
def test_what_is_no_comparison_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    record = {key: value for key, value in (make_record() | change).items() if value is not None}
    with pytest.raises(DataError, match=message):
        report.write_report(record, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_subsets_without_fewer_queries_are_not_shown_apart() -> None:
    record = make_record()
    record["subsets"][1]["queries"] = record["subsets"][0]["queries"]
    assert [subset["name"] for subset in report_text.narrower(record)] == ["all"]
    page = Page(report.render_report(record, {}))
    assert "All 200 queries of this split are, so it is not shown apart" in page.text
    assert "This split has no such query" in page.text
    assert "subsets" not in figures_of(page)


def test_queries_won_tied_and_lost() -> None:
    record = make_record(queries=4)
    scores = {"finetuned": [1.0, 0.5, 0.0, 0.2], "bm25": [0.5, 0.5, 1.0, 0.1]}
    record["systems"] = [
        {"name": name, "per_query": {"ndcg_at_10": values}} for name, values in scores.items()
    ]
    (count,) = report._wins(record)
    assert count == {"against": "bm25", "won": 2, "tied": 1, "lost": 1}
