"""The page must stand alone, be safe to open, and be as small as what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llara_core.data.formats import read_beir
from steps.expectations import Lengths, judge

VOID = {"meta", "br", "img", "link", "input", "hr", "col", "source", "area", "base", "wbr"}


class Reading(HTMLParser):
    """Tags left open, and every address in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def page(beir_folder: Path) -> str:
    with (beir_folder / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        text = "\\u0001\\u202e " + "endless " * 10_000
        corpus.write(f'{{"_id": "<script>x</script>", "title": "", "text": "{text}"}}\n')
    return judge(read_beir(beir_folder), lengths=Lengths(8, 4)).page


def test_nothing_is_fetched_and_no_script_runs(page: str) -> None:
    read = Reading()
    read.feed(page)
    assert read.open == []
    assert all(address.startswith("#suite-") for address in read.addresses)
    assert not read.tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    assert "default-src 'none'" in page
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    assert styles and "url(" not in styles and "@import" not in styles


def test_it_has_every_suite_with_version_and_rows_and_fits_a_phone(page: str) -> None:
    assert 'name="viewport" content="width=device-width' in page
    for name in ("corpus", "queries", "qrels", "splits", "training_pairs"):
        assert f"<h2>{name} " in page
    assert "25 rows, 15 expectations" in page and "suite version" in page
    assert page.count("<details") == 7  # corpus, queries, two splits with their qrels, pairs
    assert "values must be ids of the table" in page and "values must stand once" in page


def test_long_and_hostile_values_are_cut_and_made_visible(page: str) -> None:
    assert "endless " * 100 not in page
    assert "\\u0001" in page and "\\u202e" in page
    assert "\u202e" not in page.split("</table>", 1)[1]
    assert len(page) < 300_000


def test_it_does_not_scroll_sideways_on_a_phone(page: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    # A page may run no script, so this copy of it is let run the one that measures.
    probe = "<script>document.title=document.documentElement.scrollWidth+'/'+innerWidth</script></body>"
    loose = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    framed = tmp_path / "page.html"
    framed.write_text(loose.replace("</body>", probe), encoding="utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    shown = subprocess.run(
        [*command, "--window-size=500,900", "--dump-dom", framed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"<title>(\d+)/(\d+)</title>", shown.stdout)
    assert found is not None
    assert int(found[1]) <= int(found[2])
