"""What every HTML page of ours shares: one file that loads nothing and runs no script but our own.

Styles, script and plotly are inlined once. Pages show text of the corpus, which may be hostile, so every
value is escaped, charts travel as data (``application/json``), and a content security policy lets only
our own two scripts run, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llara_core.evaluation.report_charts import Figure
from llara_core.files import new_file

TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    template: str, figures: Mapping[str, Figure], filters: Mapping[str, Callable[..., Any]], **values: Any
) -> str:
    """Fill a template and return the page, complete in one string.

    Args:
        template: its name in ``templates/``; the parts that pages share are in ``parts.html.j2``.
        figures: by the id of the element that shows them, ``chart-<id>``; drawn by ``report.js``.
        filters: what the template calls to show numbers and names.
        values: what else the template names. A name that it misses is an error, not an empty place.
    """
    from plotly.offline import get_plotlyjs  # slow to import, and only this function needs it

    scripts = {"plotly": get_plotlyjs(), "page": _read("report.js")}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    page = environment.get_template(template).render(
        figures=finite(figures),
        charts=figures,
        styles=Markup(_read("report.css")),  # noqa: S704 - our own file
        scripts={name: Markup(script) for name, script in scripts.items()},  # noqa: S704 - not user text
        script_hashes=Markup(" ".join(_csp_hash(script) for script in scripts.values())),  # noqa: S704
        **values,
    )
    return page.lstrip()  # the macros above the page leave empty lines


def save_page(page: str, path: Path) -> Path:
    """Write a page and return its path; an older one is replaced whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    # A corpus may hold lone surrogates, which UTF-8 cannot carry: they are shown as "?".
    with new_file(path) as partial:
        partial.write_bytes(page.encode("utf-8", errors="replace"))
    return path


def finite(value: Any) -> Any:
    """The same data with what JSON cannot say (NaN, infinity) as null; plotly leaves a gap there."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
