"""Plots as PNG files for papers, drawn by plotly's own renderer (kaleido) in an unseen browser."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llara_core.errors import LlaraError, MissingDependencyError
from llara_core.evaluation.pages import finite
from llara_core.evaluation.report_charts import Figure
from llara_core.files import new_file

WIDTH, SCALE = 860, 2  # pixels, and how many of the file's make one of them: 1720 wide
_TALLER = 1.15  # than on the page, for the larger letters
_LETTERS = 15  # pixels
_SECONDS = 90  # for one figure; the first also starts the browser

_INK, _LINE = "#1a1f29", "#dcdfe4"


def write_png(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Draw figures in light colours; returns the files, ``<folder>/<name>.png``, in order.

    Args:
        figures: file name without ending → figure, as ``report_charts`` gives them.
        folder: made where it is missing; files of the same names are replaced.

    Raises:
        MissingDependencyError: kaleido, or a browser for it, is not installed.
        LlaraError: the browser could not draw.
        DataError: a file cannot be written.

    Needs kaleido and Chrome or Chromium; nothing is fetched from the network.
    """
    try:
        import kaleido  # noqa: F401 - only to tell early that it is missing
    except ImportError as error:
        raise MissingDependencyError(
            f"figures as PNG need kaleido ({error}); install it with: pip install 'llara[figures]'"
        ) from None
    # A thread of its own: the caller may run in an event loop already, as notebooks do.
    with ThreadPoolExecutor(1) as thread:
        images = thread.submit(asyncio.run, _draw(figures)).result()
    paths = []
    for name, image in images.items():
        path = folder / f"{name}.png"
        with new_file(path) as partial:
            partial.write_bytes(image)
        paths.append(path)
    return paths


async def _draw(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    import kaleido
    from choreographer.errors import ChromeNotFoundError

    logging.getLogger("kaleido").setLevel(logging.WARNING)
    logging.getLogger("choreographer").setLevel(logging.WARNING)
    images = {}
    try:
        # MathJax would come from the network, and no label of ours has a formula.
        async with kaleido.Kaleido(mathjax=False, timeout=_SECONDS) as browser:
            for name, figure in figures.items():
                size = {"width": WIDTH, "height": round(_TALLER * figure["height"]), "scale": SCALE}
                images[name] = await browser.calc_fig(finite(_for_paper(figure)), {"format": "png", **size})
    except ChromeNotFoundError:
        raise MissingDependencyError(
            "figures as PNG need Chrome or Chromium, and none was found; install one (e.g. apt install "
            "chromium, or run kaleido_get_chrome), or name it in the environment variable BROWSER_PATH"
        ) from None
    except (OSError, RuntimeError, ValueError, asyncio.TimeoutError) as error:
        raise LlaraError(
            f"the browser did not draw the figures ({type(error).__name__}: {error}); try it by hand "
            "(chromium --headless --version), or name another in BROWSER_PATH"
        ) from error
    return images


def _for_paper(figure: Figure) -> dict[str, Any]:
    """The figure with what the page's script would add: fonts, axes and the ink of whiskers."""

    def with_title(own: dict[str, Any]) -> dict[str, Any]:
        return (
            {"title": {**own["title"], "font": {"size": _LETTERS}, "standoff": 12}} if "title" in own else {}
        )

    axis = {"gridcolor": _LINE, "zerolinecolor": "#8d95a3", "linecolor": _LINE, "automargin": True}
    layout = figure["layout"]
    data = [
        {**trace, **({"error_x": {**trace["error_x"], "color": _INK}} if "error_x" in trace else {})}
        for trace in figure["data"]
    ]
    return {
        "data": data,
        "layout": {
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "font": {"family": "Helvetica, Arial, DejaVu Sans, sans-serif", "size": _LETTERS, "color": _INK},
            "margin": {"l": 16, "r": 20, "t": 24, "b": 16},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
            **layout,
            **{
                name: {**axis, **layout.get(name, {}), **with_title(layout.get(name, {}))}
                for name in ("xaxis", "yaxis")
            },
        },
    }
