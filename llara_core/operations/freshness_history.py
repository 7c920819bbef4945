"""The history of ticks: one JSON object a line, only ever appended to.

A tick has up to two lines: what was decided, and how it ended. ``read`` puts them together.
Source: issue 6, point 2.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llara_core.files import unwritable

logger = logging.getLogger(__name__)

FOLDER = "ticks"


def file_of(local: Path, model: str) -> Path:
    """The history of one registered model below the local state."""
    return local / FOLDER / f"{quote(model, safe=' ')}.jsonl"


def append(file: Path, record: Mapping[str, Any]) -> None:
    """Append one record, whole or not at all for readers, and on the disk when this returns.

    The line goes out in one write to a file that is opened for appending, so lines of two processes do not
    mix. What a crash has torn off before gets a line of its own, which ``read`` leaves out.

    Args:
        file: made where it is missing.
        record: plain values; ``tick`` names the tick.

    Raises:
        DataError: the file cannot be written.
    """
    line = json.dumps(dict(record), ensure_ascii=False, sort_keys=True, allow_nan=False).encode() + b"\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            end = os.fstat(handle).st_size
            torn = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
            os.write(handle, b"\n" + line if torn else line)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise unwritable(file, error) from None


def read(file: Path) -> list[dict[str, Any]]:
    """All ticks, oldest first, each with what was decided and how it ended; [] where there is no file.

    Lines that are no record (torn by a crash) are left out, with one warning.
    """
    ticks: dict[str, dict[str, Any]] = {}
    broken = 0
    if not file.is_file():
        return []
    for line in file.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name = str(record["tick"])
        except (ValueError, KeyError, TypeError):
            broken += 1
            continue
        ticks[name] = {**ticks.get(name, {}), **record}
    if broken:
        logger.warning("%s: %d lines are no record (cut off by a crash?) and were left out", file, broken)
    return list(ticks.values())


def unfinished(ticks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest tick that decided to do something, if it never said how that ended; None otherwise.

    Ticks that only skipped do not count: they have nothing to finish, nor do they finish anything.
    """
    acting = [one for one in ticks if one.get("action") in ("train", "refresh")]
    if not acting or (acting[-1].get("outcome") or {}).get("state") in ("done", "superseded", "left"):
        return None
    return acting[-1]
