"""Rows that were put aside while reading fails: they outlive the step, so that a person can mend them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llara_core.data.ingest import IngestStopped

logger = logging.getLogger(__name__)


@contextmanager
def kept_quarantine(folder: Path, name: str) -> Iterator[None]:
    """Where a collection is refused, move its quarantine to ``$LLARA_LOCAL/quarantine/<name>``.

    Args:
        folder: that is read into; what is left of it is removed.
        name: of the collection.

    Raises:
        IngestStopped: the same as in the block, with the place where the rows lie now.
    """
    try:
        yield
    except IngestStopped as error:
        local = os.environ.get("LLARA_LOCAL")
        if not local:  # in a container, where nobody looks
            raise
        place = Path(local) / "quarantine" / name.replace("/", "_")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for part in error.folder.iterdir():
            shutil.move(part, place / part.name)
        shutil.rmtree(error.folder, ignore_errors=True)
        logger.error("`llara data repair %s -o rows.jsonl` writes the rows that were put aside", place)
        raise IngestStopped(error.stops, place, error.counts) from None
