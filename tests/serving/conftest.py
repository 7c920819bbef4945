"""The search page in a real browser, served by a real server on the loopback device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llara_core.operations.live import LiveStore
from tests.serving.browser import chromium
from tests.serving.page_stories import ATTACKS, application, running, three_generations

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


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
