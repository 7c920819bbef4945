"""The pictures of docs/guides/search-page.md, taken of a small service.

LLARA_PICTURES=docs/images .venv/bin/python -m pytest -m slow tests/serving/test_page_pictures.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.browser import chromium
from tests.serving.page_stories import application, running, three_generations

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("search.png", "search-passage.png", "search-phone.png")


@pytest.mark.slow
def test_pictures_of_the_page(work: Path, tmp_path: Path) -> None:
    with chromium():
        pass  # skips where there is none
    store, _ = three_generations(tmp_path, work)
    folder = Path(os.environ.get("LLARA_PICTURES", str(tmp_path / "pictures"))).resolve()
    with application(store, tmp_path / "cache") as app, running(app) as address:
        command = [sys.executable, str(ROOT / "tools" / "search_pictures.py"), "--address", address]
        subprocess.run(
            [*command, "--output", str(folder), "--query", "how do bees make honey"],
            check=True, timeout=300,
        )  # fmt: skip
    for name in NAMES:
        assert 20_000 < (folder / name).stat().st_size < 250_000, name
