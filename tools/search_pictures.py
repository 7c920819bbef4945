"""Pictures of the search page for the documentation, taken from a service that runs.

    llara serve &
    python tools/search_pictures.py --address http://127.0.0.1:8080/ --output docs/images

Writes ``search.png`` (1200 pixels, light), ``search-passage.png`` (1200, dark, a passage open) and
``search-phone.png`` (390, light). Needs the extra ``dev`` and Chromium.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
]
_WAIT = 120_000  # milliseconds: a version may have to be opened and BM25 to be built


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="http://127.0.0.1:8080/", help="of the page")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder of the pictures")
    parser.add_argument("--query", help="what to search for; default: the first example of the page")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        parser.error("needs Chromium or Chrome on the PATH")
    options.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=_FLAGS)
        page = _shown(browser, options.address, options.query, 1200, 900, "light")
        page.screenshot(path=options.output / "search.png")
        page = _shown(browser, options.address, options.query, 1200, 800, "dark")
        page.locator(".column").last.locator(".open").first.click()
        page.wait_for_selector("dialog[open] #passage-text bdi")
        page.screenshot(path=options.output / "search-passage.png")
        page = _shown(browser, options.address, options.query, 390, 844, "light")
        page.screenshot(path=options.output / "search-phone.png")
        browser.close()


def _shown(browser: Browser, address: str, query: str | None, width: int, height: int, scheme: str) -> Page:
    """A page with results, all systems open."""
    viewport = {"width": width, "height": height}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    context.set_default_timeout(_WAIT)
    page = context.new_page()
    page.goto(address)
    if query is None:
        page.locator("#examples button").first.click()
    else:
        page.wait_for_selector("#first option", state="attached")
        page.fill("#query", query)
        page.press("#query", "Enter")
    page.wait_for_selector(".column", state="attached")
    page.wait_for_selector(".column[aria-busy=true]", state="detached")
    return page


if __name__ == "__main__":
    main()
