"""The data report: what it tells, that hostile rows are harmless, and that it is one file."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.profile import drift, profile
from llara_core.data.quarantine import SCHEMA
from llara_core.data.quarantine_facts import quarantine_facts
from llara_core.errors import DataError
from llara_core.evaluation.data_page import render_data_page, write_data_page
from llara_core.evaluation.data_page_text import percent
from llara_core.evaluation.report_text import MISSING

EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> "
    "\u202egnp\u202c \x00 \x1b[31m \u2028 {{ 7*7 }} </style>"
)


def collection(name: str = "pets", count: int = 60, evil: bool = False) -> Collection:
    texts = [f"number {row} " + "word " * (row % 17) for row in range(count)]
    if evil:
        texts[0] = EVIL.replace("\x00", " ")
    none = [None] * count
    columns = [[str(row) for row in range(count)], [""] * count, texts, none, none, list(range(count))]
    queries = pa.table([["q0"], ["which number"], [1]], schema=QUERIES_SCHEMA)
    qrels = {"test": pa.table([["q0"], ["0"], [1], [2]], schema=QRELS_SCHEMA)}
    return Collection(name, pa.table(columns, schema=CORPUS_SCHEMA), queries, qrels)


def quarantine(
    rows: int = 7, rule: str = "valid_json", file: str = "corpus.jsonl", raw: bytes = b"{"
) -> pa.Table:
    entries = [
        (file, row, rule, f"broken <b>here</b> {row}", "quarantine", raw, len(raw), 0, "corpus", None)
        for row in range(1, rows + 1)
    ]
    entries.append((file, 99, "mojibake", "Ã©", "flag", b"", 5, 0, "corpus", '{"text": "caf\\u00c3"}'))
    return pa.table([list(column) for column in zip(*entries, strict=True)], schema=SCHEMA)


def facts(**more: Any) -> dict[str, Any]:
    one = {"read": 67, "accepted": 60, "quarantined": 7, "flagged": 1}
    now = profile(collection())
    return {
        "profile": now,
        "counts": {**one, "files": {"corpus.jsonl": one}, "roles": {}, "rules": {}},
        "quarantine": quarantine(),
        "duplicates": {
            "passages": 60, "clusters": 1, "repeats": 2, "exact_repeats": 1, "near_repeats": 1, "removed": 0,
            "sizes": {"3": 1}, "settings": {},
            "examples": [{"size": 3, "kind": "near", "passages": [{"id": "a", "text": "one"}]}],
        },
        "leaks": {
            "split": "test", "train_split": "train", "action": "mark", "evaluation_queries": 300,
            "leaking_queries": 90, "relevant_documents": 10, "relevant_documents_trained_on": 4,
            "kinds": {
                "query_verbatim": {
                    "what": "stands word for word", "queries": 90, "share": 0.3, "places": 1,
                    "examples": [
                        {"query_id": "q", "query": "who", "where": "t", "text": "who", "likeness": 1.0}
                    ],
                }
            },
        },
        "drift": drift(profile(collection(count=40)), now),
        **more,
    }  # fmt: skip


class Reader(HTMLParser):
    """Text outside scripts and styles, and every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.text = re.sub(r"\s+", " ", reader.text)
    return reader


def test_it_tells_what_came_in_and_what_did_not() -> None:
    text = read(render_data_page(facts())).text
    assert "10.4% of the rows of pets were put aside" in text
    assert "67 rows read, 60 accepted, 7 put aside; 1 more were marked." in text
    assert "60 documents, 1 query, 1 judgement in 1 split." in text
    assert "90 of the 300 test queries leak into training" in text
    assert "2 of 60 documents repeat another (3.3%)" in text
    assert "33.3%" in text  # 20 of 60 documents are new
    assert "broken <b>here</b> 1" in text and "broken <b>here</b> 5" in text and "here</b> 6" not in text


@pytest.mark.parametrize("part", ["profile", "counts", "quarantine", "duplicates", "leaks", "drift"])
def test_every_part_is_optional(part: str) -> None:
    without = facts()
    del without[part]
    assert "not known here" in read(render_data_page(without)).text
    alone = render_data_page({part: facts()[part]})
    assert "not known here" in read(alone).text
    assert render_data_page({part: None}) == render_data_page({})


def test_clean_data_is_called_clean() -> None:
    one = {"read": 60, "accepted": 60, "quarantined": 0, "flagged": 0}
    clean = facts(counts={**one, "files": {"c": one}}, quarantine=SCHEMA.empty_table())
    text = read(render_data_page(clean)).text
    assert "Every row of pets was accepted" in text
    assert "No row broke any rule." in text


def test_hostile_text_is_harmless_everywhere() -> None:
    broken = quarantine(1, EVIL, EVIL, EVIL.encode() + b"\xff")
    counts = facts()["counts"]
    counts["files"] = {EVIL: counts["files"]["corpus.jsonl"]}
    evil = facts(
        quarantine=broken, counts=counts, profile=profile(collection(EVIL, evil=True)),
        duplicates={**facts()["duplicates"], "examples": [
            {"size": 2, "kind": EVIL, "passages": [{"id": EVIL, "text": EVIL}]}]},
        drift=drift(profile(collection("old")), profile(collection(EVIL, evil=True))),
    )  # fmt: skip
    evil["leaks"]["kinds"] = {EVIL: {**evil["leaks"]["kinds"]["query_verbatim"], "what": EVIL, "examples": [
        {"query_id": EVIL, "query": EVIL, "where": EVIL, "text": EVIL, "likeness": 1.0}]}}  # fmt: skip
    page = render_data_page(evil)
    found, plain = read(page), read(render_data_page(facts()))
    assert sum(tag == "script" for tag, _ in found.tags) == sum(tag == "script" for tag, _ in plain.tags) == 3
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert not set(found.text) & set("\u202e\u202c\x00\x1b\u2028")
    assert "{{ 7*7 }}" in found.text
    assert r"\u202e" in found.text and r"\x00" in found.text and r"\xff" in found.text
    assert found.text.count("<script>alert(1)</script>") >= 8
    data = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    labels = json.dumps(json.loads(data[1]))  # plotly reads HTML in labels: there it must be escaped twice
    assert "&lt;script&gt;alert" in labels
    assert "<script" not in labels and "<img" not in labels


def test_it_loads_nothing_and_is_written_whole(tmp_path: Path) -> None:
    page = write_data_page(facts(), tmp_path / "new" / "data.html").read_text(encoding="utf-8")
    reader = read(page)
    for tag, attributes in reader.tags:
        assert not (attributes.get("src") or (tag == "link")), (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(
        one["content"] for _, one in reader.tags if one.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in str(policy)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.html"]


def test_a_lone_surrogate_does_not_stop_the_page(tmp_path: Path) -> None:
    duplicates = {**facts()["duplicates"], "examples": [
        {"size": 2, "kind": "near", "passages": [{"id": "a", "text": "broken \ud800 text"}]}]}  # fmt: skip
    page = write_data_page(facts(duplicates=duplicates), tmp_path / "p.html").read_text(encoding="utf-8")
    assert r"broken \ud800 text" in page


def test_another_versions_profile_is_refused() -> None:
    with pytest.raises(DataError, match="schema 9"):
        render_data_page({"profile": {"schema": 9}})


def test_quarantine_facts_count_by_rule_and_show_few() -> None:
    table = pa.concat_tables([quarantine(4, "a"), quarantine(9, "b", raw=b"x" * 1000)])
    found = quarantine_facts(table, examples=3)
    assert found["rows"] == 15
    assert {rule: one["actions"] for rule, one in found["rules"].items()} == {
        "b": {"quarantine": 9}, "a": {"quarantine": 4}, "mojibake": {"flag": 2},
    }  # fmt: skip
    assert [one["row"] for one in found["rules"]["b"]["examples"]] == [1, 2, 3]
    assert found["rules"]["b"]["examples"][0]["cut"] and not found["rules"]["a"]["examples"][0]["cut"]
    assert found["rules"]["mojibake"]["examples"][0]["raw"] == '{"text": "caf\\u00c3"}'
    assert quarantine_facts(SCHEMA.empty_table())["rules"] == {}


def test_percent_never_rounds_to_none_or_all() -> None:
    shares = [0, 0.0001, 0.034, 0.99999, 1, None]
    assert list(map(percent, shares)) == ["0%", "under 0.1%", "3.4%", "over 99.9%", "100%", MISSING]
