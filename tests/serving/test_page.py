"""The search page in a real browser, served by a real server on the loopback device."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from llara_core.operations.live import LiveStore
from tests.serving.browser import opened, searched, settled
from tests.serving.page_stories import ATTACKS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

JUDGED = "how do bees make honey"


def _focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent"))


def _axe(page: Page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    # Its script is put into the page by the debugger, which no policy of the page can forbid.
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_reader_s_way(page: Page, address: str, store: tuple[LiveStore, list[str]]) -> None:
    """From an example to side by side, to a passage and back, by keyboard alone."""
    page.goto(address)
    page.wait_for_selector("#examples button")
    assert page.evaluate("document.activeElement.id") == "query"
    page.get_by_role("button", name=JUDGED).click()
    settled(page)
    columns = page.locator(".column")
    assert [columns.nth(place).locator("h2").inner_text() for place in range(3)] == [
        "Champion · version 3", columns.nth(1).locator("h2").inner_text(), "BM25",
    ]  # fmt: skip
    assert columns.nth(1).get_attribute("data-system") == store[1][1]
    lexical = columns.nth(2)
    assert lexical.locator("mark").all_inner_texts()[:4] == ["How", "bees", "make", "honey"]
    assert lexical.locator(".result").first.locator(".chip").inner_text() == "answer · grade 2"
    assert "nDCG@10 1.00" in lexical.inner_text()
    assert re.search(r"encode [\d.]+ ms · search [\d.]+ ms", columns.nth(0).inner_text())
    assert "a judged query with 2 known answers" in page.inner_text("#status")

    page.press("#query", "ArrowDown")
    first = _focused(page)
    assert first == page.locator(".column >> nth=0 >> .open").first.inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert _focused(page) == "How bees make honey"
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] #passage-text bdi")
    assert page.inner_text("#passage-text").startswith("Workers carry nectar home")
    assert "bees/honey" in page.inner_text("#passage-facts")
    assert page.locator("dialog mark").all_inner_texts() == ["How", "bees", "make", "honey", "honey"]
    page.keyboard.press("/")  # not while a passage is open
    page.keyboard.press("Escape")
    assert not page.locator("dialog[open]").count()
    assert _focused(page) == "How bees make honey"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"


def test_the_address_says_what_is_shown(page: Page, address: str, store: tuple[LiveStore, list[str]]) -> None:
    opened(page, address)
    page.uncheck("#lexical")
    page.select_option("#second", store[1][0])  # of another corpus, without texts
    searched(page, "lava & <b>")
    assert parse_qs(urlsplit(page.url).query) == {"q": ["lava & <b>"], "s": ["champion", store[1][0]]}
    assert "carries no texts" in page.locator(".column").nth(1).inner_text()
    page.check("#lexical")
    settled(page)
    page.fill("#query", "honey")
    page.press("#query", "Enter")
    page.wait_for_function("() => location.search.includes('honey')")
    settled(page)
    page.go_back()
    page.wait_for_function("() => document.querySelector('#query').value.startsWith('lava')")
    settled(page)
    assert page.locator(".column").count() == 3
    page.go_back()
    page.wait_for_function("() => !document.querySelector('#lexical').checked")
    shared = page.context.new_page()
    shared.goto(page.url)
    settled(shared)
    assert shared.input_value("#query") == "lava & <b>"
    assert shared.input_value("#second") == store[1][0]
    assert shared.locator(".column").count() == 2


def test_hostile_texts_are_only_ever_shown(page: Page, address: str) -> None:
    opened(page, address)
    searched(page, "<img src=x onerror=hacked=10> lava javascript")
    listed = page.locator(".column[data-system=bm25]")
    assert listed.locator(".result").count() >= len(ATTACKS)
    assert '<img src=x onerror="window.hacked=1">' in listed.inner_text()
    for document, (title, text) in ATTACKS.items():
        shown = listed.locator(".open").filter(has_text=title or document).first
        shown.click()
        page.wait_for_selector("dialog[open] #passage-text bdi")
        assert page.evaluate("document.querySelector('#passage-text').textContent") == text
        page.keyboard.press("Escape")
    assert not page.evaluate("document.querySelectorAll('img, iframe, svg, main script, main a').length")
    assert page.evaluate("typeof window.hacked") == "undefined"


def test_even_injected_markup_runs_nothing(browser: Browser, address: str) -> None:
    """What the policy does if a text ever became markup: nothing runs, and nothing becomes markup."""
    context = browser.new_context()
    page = context.new_page()
    opened(page, address)
    refused = """() => { try { document.body.innerHTML = '<img src=x onerror=hacked=1>'; return false; }
                         catch (error) { return error instanceof TypeError; } }"""
    assert page.evaluate(refused)
    page.evaluate("""() => {
        const image = document.createElement('img');
        try { image.setAttribute('onerror', 'window.hacked = 1'); } catch { /* refused already here */ }
        image.src = 'data:,x';
        document.body.append(image);
        const link = document.createElement('a');
        link.href = 'javascript:window.hacked=2';
        document.body.append(link);
        link.click();
        const script = document.createElement('script');
        try { script.textContent = 'window.hacked = 3'; } catch { /* refused already here */ }
        document.body.append(script);
    }""")
    page.wait_for_timeout(300)
    assert page.evaluate("typeof window.hacked") == "undefined"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier(page: Page, address: str, scheme: Any) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed (extra: dev)")
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(address)
    page.wait_for_selector("#examples button")
    _axe(page)
    searched(page, JUDGED)
    _axe(page)
    page.locator(".open").first.click()
    page.wait_for_selector("dialog[open] #passage-text bdi")
    _axe(page)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    _axe(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".column:visible").count() == 1
    page.get_by_role("button", name="BM25", exact=True).click()
    assert page.locator(".column:visible").get_attribute("data-system") == "bm25"
    assert page.locator(".column:visible .result").first.inner_text().startswith("1")
