"""A headless Chromium for tests of pages, where there is one, and what a reader does in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
]  # fmt: skip
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; skips the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: dev)")
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("no Chrome or Chromium here")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def opened(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#first option", state="attached")


def searched(page: Page, query: str) -> None:
    page.fill("#query", query)
    page.press("#query", "Enter")
    settled(page)


def settled(page: Page) -> None:
    page.wait_for_selector(".column")
    page.wait_for_selector(".column[aria-busy=true]", state="detached")


def answering(status: int, body: str) -> Callable[[Route], None]:
    """Stands between page and service; status 0: there is no service."""
    return lambda route: route.fulfill(status=status, body=body) if status else route.abort()
