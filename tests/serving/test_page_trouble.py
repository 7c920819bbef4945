"""The search page where all is not well: slow or failing answers, impatient readers, a missing key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from llara_core.operations.live import LiveStore
from tests.serving.browser import answering, opened, searched, settled
from tests.serving.page_stories import application, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


def test_trouble_is_told_in_words_and_tried_again(page: Page, address: str) -> None:
    answers = [
        (429, '{"error": {"message": "16 comparisons wait already"}}', "The service is busy: 16 comparisons"),
        (503, '{"error": {"message": "it is being shut down"}}', "The service is not ready: it is being"),
        (502, "<html>proxy</html>", "The service failed: answer 502."),
        (0, "", "The service cannot be reached."),
    ]
    opened(page, address)
    for status, body, words in answers:
        page.route("**/compare", answering(status, body), times=1)
        page.fill("#query", "honey")
        page.press("#query", "Enter")
        page.wait_for_selector("#trouble:not([hidden])")
        assert words in page.inner_text("#trouble p")
        page.get_by_role("button", name="Try again").click()
        settled(page)
        assert page.locator(".result").count()
        assert page.is_hidden("#trouble")
        opened(page, address)


def _held(page: Page, path: str) -> list[Route]:
    """The first request to a path, which waits until the test lets it go on."""
    held: list[Route] = []
    page.route(path, lambda route: route.continue_() if held else held.append(route))
    return held


def _let_go(page: Page, held: list[Route]) -> None:
    while not held:  # the browser tells of it a little after it has loaded the page
        page.wait_for_timeout(10)
    held[0].continue_()


def _comparisons(page: Page) -> list[dict[str, Any]]:
    """What the page has asked to be searched, as it goes on."""
    asked: list[dict[str, Any]] = []
    page.on("request", lambda one: asked.append(one.post_data_json) if one.url.endswith("/compare") else None)
    return asked


def test_a_search_before_the_page_is_ready_is_done_once_with_all_systems(
    page: Page, address: str, store: tuple[LiveStore, list[str]]
) -> None:
    held, asked = _held(page, "**/systems"), _comparisons(page)
    page.goto(address)
    page.fill("#query", "honey")
    page.press("#query", "Enter")
    assert page.inner_text("#status") == "Searching …"
    assert not asked
    _let_go(page, held)
    settled(page)
    assert page.input_value("#query") == "honey"
    assert parse_qs(urlsplit(page.url).query)["q"] == ["honey"]
    assert asked[0] == {"query": "honey", "systems": ["champion", store[1][1], "bm25"]}
    assert [one for one in asked if "champion" in one["systems"]] == asked[:1]


def test_what_is_half_typed_when_the_page_is_ready_is_kept_and_not_searched(page: Page, address: str) -> None:
    held, asked = _held(page, "**/systems"), _comparisons(page)
    page.goto(address)
    page.fill("#query", "hon")
    _let_go(page, held)
    page.wait_for_selector("#examples button")
    assert page.input_value("#query") == "hon"
    assert not asked


def test_examples_that_come_late_neither_hold_up_nor_repeat_a_search(page: Page, address: str) -> None:
    held, asked = _held(page, "**/examples"), _comparisons(page)
    opened(page, address)
    page.route("**/compare", answering(502, ""), times=1)
    page.fill("#query", "honey")
    page.press("#query", "Enter")
    page.wait_for_selector("#trouble:not([hidden])")
    _let_go(page, held)
    page.wait_for_load_state("networkidle")
    assert page.is_visible("#trouble")
    assert page.is_hidden("#start")
    assert len(asked) == 1
    page.fill("#query", "")
    page.press("#query", "Enter")
    page.wait_for_selector("#examples button")  # asked for again, now that they are wanted
    assert page.is_hidden("#trouble")


def test_trouble_with_the_examples_is_told_and_tried_again(page: Page, address: str) -> None:
    page.route("**/examples", answering(429, '{"error": {"message": "many wait"}}'), times=1)
    page.goto(address)
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble p") == "The service is busy: many wait."
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#examples button")
    assert page.is_hidden("#trouble")


def test_without_a_query_nothing_of_the_search_before_is_left(page: Page, address: str) -> None:
    opened(page, address)
    searched(page, "honey")
    page.go_back()
    page.wait_for_selector("#examples button")
    assert page.locator(".column").count() == 0
    assert page.is_hidden("#tabs")
    page.go_forward()
    settled(page)
    assert page.locator(".result").count()
    assert page.is_hidden("#start")


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
        settled(page)
        assert page.locator(".result").count()
        assert page.is_hidden("#key")
        page.close()
