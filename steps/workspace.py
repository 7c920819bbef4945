"""Where a step writes before its artifact is stored, and where people find the pages of a run."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path

REPORT_PAGE, DATA_DOCS_PAGE = "latest.html", "data_docs.html"  # of the run that was shown last
DATA_REPORT_PAGE = "data_report.html"  # of the data that were ingested last
EVALUATION_PAGE = "evaluation.html"  # of the evaluation that was published last


def new_folder(name: str) -> Path:
    """A path for a folder that does not exist yet, on the file system of the local state.

    There, storing the folder in a local artifact store is a rename; without ``$LLARA_LOCAL`` (in a
    container) it lies in the system's temporary folder.
    """
    local = os.environ.get("LLARA_LOCAL")
    base = Path(local) / "work" if local else Path(tempfile.gettempdir())
    base.mkdir(parents=True, exist_ok=True)
    return base / f"{name}-{uuid.uuid4().hex[:12]}"


def reports_folder() -> Path | None:
    """``$LLARA_LOCAL/reports``, or None where no local state is kept (in a container)."""
    local = os.environ.get("LLARA_LOCAL")
    return Path(local) / "reports" if local else None


def audit_page_of(step_name: str) -> str:
    """File of the mining audit of one round: ``mining_audit.html``, ``mining_audit_round_2.html`` …."""
    return f"mining_{step_name}.html"


def publish_report(page: str, collection: str, comparison: str) -> Path | None:
    """Put the report where people look: ``latest.html``, and ``<collection>.html`` beside its figures.

    Args:
        page: the HTML page.
        collection: its name.
        comparison: the figures as JSON, for ``benchmarks/results_table.py``.

    Returns:
        The path of ``<collection>.html``, or None in a container.
    """
    publish_page(page, REPORT_PAGE)
    publish_page(comparison, f"{collection}.json")
    return publish_page(page, f"{collection}.html")


def publish_page(page: str, file: str) -> Path | None:
    """Put a text file where people look for it; returns its path, or None in a container."""
    folder = reports_folder()
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{file}.partial"
    partial.write_text(page, encoding="utf-8")
    return partial.replace(folder / file)


def vectors_folder() -> Path | None:
    """Corpus vectors that steps share, and go on with when they are run again.

    ``$LLARA_VECTORS`` (in a container: on a volume that outlives it), else ``$LLARA_LOCAL/vectors``; None
    where neither is set: vectors are then in memory only.
    """
    chosen, local = os.environ.get("LLARA_VECTORS"), os.environ.get("LLARA_LOCAL")
    if chosen:
        return Path(chosen)
    return Path(local) / "vectors" if local else None
