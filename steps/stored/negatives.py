"""Hard negatives as artifacts: the table and, beside it, the audit of how they were mined."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from llara_core.errors import DataError
from steps.materializers import FolderArtifact
from steps.stored.table import write_table
from steps.workspace import new_folder

if TYPE_CHECKING:  # reading an audit needs nothing of mining, and shall not be cached on it
    from llara_core.retrieval.mining import Mined

AUDIT = "audit.json"


def store_negatives(mined: Mined) -> FolderArtifact:
    """Table and audit as one artifact, which ``open_table`` reads too.

    Its hash is the table's alone: what an audit says more does not make a model train again.
    """
    folder = new_folder("negatives")
    table = write_table(mined.table, folder)
    (folder / AUDIT).write_text(json.dumps(mined.audit, allow_nan=False), encoding="utf-8")
    content = hashlib.sha256(table.read_bytes()).hexdigest()
    return FolderArtifact.of(folder, content, {"rows": mined.table.num_rows, "note": mined.stats["note"]})


def open_audit(artifact: FolderArtifact) -> dict[str, Any]:
    """The audit of an artifact of hard negatives.

    Raises:
        DataError: the artifact has none.
    """
    if AUDIT not in artifact.files:
        raise DataError(f"no {AUDIT} beside the negatives; run the mining step again", file=artifact.path)
    audit: dict[str, Any] = json.loads((artifact.path / AUDIT).read_text(encoding="utf-8"))
    return audit
