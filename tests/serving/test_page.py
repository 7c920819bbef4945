"""The search page in a real browser, served by a real server on the loopback device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from llara_core.operations.live import LiveStore
from tests.serving.browser import chromium
from tests.serving.page_stories import application, running, three_generations

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

ATTACKS = {
    "x/<img src=x onerror=alert(1)>": (
        '<img src=x onerror="window.hacked=1">',
        "lava <script>window.hacked=2</script><svg onload=hacked=3>",
    ),
    "javascript:window.hacked=4//": (
        "javascript:window.hacked=5",
        "lava [link](javascript:hacked=6) \u202edesrever",
    ),
    "a/b \"'&?#%/..": (
        "\u202eelttit",
        "lava </mark></li></script><iframe srcdoc='<script>top.hacked=7</script>'>",
    ),
    "long": ("Long", "lava " + "words and words " * 70_000),
    "null": (None, "lava without a title {{constructor.constructor('hacked=8')()}} ${window.hacked=9}"),
}
JUDGED = "how do bees make honey"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def store(work: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LiveStore, list[str]]:
    return three_generations(tmp_path_factory.mktemp("store"), work, ATTACKS)


@pytest.fixture(scope="module")
def address(store: tuple[LiveStore, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with application(store[0], tmp_path_factory.mktemp("cache")) as app, running(app) as address:
        yield address


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A tab that fails the test on any error of a script, breach of policy, or request to elsewhere."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    made = context.new_page()
    trouble: list[str] = []
    made.on("pageerror", lambda error: trouble.append(str(error)))
    made.on("console", lambda message: trouble.append(message.text) if "Policy" in message.text else None)
    made.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    made.on("request", lambda one: None if one.url.startswith(address) else trouble.append(one.url))
    yield made
    context.close()
    assert not trouble


def _open(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#first option", state="attached")


def _search(page: Page, query: str) -> None:
    page.fill("#query", query)
    page.press("#query", "Enter")
    _settled(page)


def _settled(page: Page) -> None:
    page.wait_for_selector(".column")
    page.wait_for_selector(".column[aria-busy=true]", state="detached")


def _focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent"))


def _answering(status: int, body: str) -> Callable[[Route], None]:
    """Stands between page and service; status 0: there is no service."""
    return lambda route: route.fulfill(status=status, body=body) if status else route.abort()


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
    _settled(page)
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
    _open(page, address)
    page.uncheck("#lexical")
    page.select_option("#second", store[1][0])  # of another corpus, without texts
    _search(page, "lava & <b>")
    assert parse_qs(urlsplit(page.url).query) == {"q": ["lava & <b>"], "s": ["champion", store[1][0]]}
    assert "carries no texts" in page.locator(".column").nth(1).inner_text()
    page.check("#lexical")
    _settled(page)
    page.fill("#query", "honey")
    page.press("#query", "Enter")
    page.wait_for_function("() => location.search.includes('honey')")
    _settled(page)
    page.go_back()
    page.wait_for_function("() => document.querySelector('#query').value.startsWith('lava')")
    _settled(page)
    assert page.locator(".column").count() == 3
    page.go_back()
    page.wait_for_function("() => !document.querySelector('#lexical').checked")
    shared = page.context.new_page()
    shared.goto(page.url)
    _settled(shared)
    assert shared.input_value("#query") == "lava & <b>"
    assert shared.input_value("#second") == store[1][0]
    assert shared.locator(".column").count() == 2


def test_hostile_texts_are_only_ever_shown(page: Page, address: str) -> None:
    _open(page, address)
    _search(page, "<img src=x onerror=hacked=10> lava javascript")
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
    _open(page, address)
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
    _search(page, JUDGED)
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


def test_trouble_is_told_in_words_and_tried_again(page: Page, address: str) -> None:
    answers = [
        (429, '{"error": {"message": "16 comparisons wait already"}}', "The service is busy: 16 comparisons"),
        (503, '{"error": {"message": "it is being shut down"}}', "The service is not ready: it is being"),
        (502, "<html>proxy</html>", "The service failed: answer 502."),
        (0, "", "The service cannot be reached."),
    ]
    _open(page, address)
    for status, body, words in answers:
        page.route("**/compare", _answering(status, body), times=1)
        page.fill("#query", "honey")
        page.press("#query", "Enter")
        page.wait_for_selector("#trouble:not([hidden])")
        assert words in page.inner_text("#trouble p")
        page.get_by_role("button", name="Try again").click()
        _settled(page)
        assert page.locator(".result").count()
        assert page.is_hidden("#trouble")
        _open(page, address)


def test_a_key_is_asked_for(browser: Browser, store: tuple[LiveStore, list[str]], tmp_path: Path) -> None:
    with application(store[0], tmp_path, keys=("secret",)) as app, running(app) as address:
        page = browser.new_page()
        page.goto(f"{address}?q=honey&s=champion")
        page.wait_for_selector("#key:not([hidden])")
        page.fill("#secret", "wrong")
        page.press("#secret", "Enter")
        page.wait_for_selector("#key:not([hidden])")
        page.fill("#secret", "secret")
        page.press("#secret", "Enter")
        _settled(page)
        assert page.locator(".result").count()
        assert page.is_hidden("#key")
        page.close()
