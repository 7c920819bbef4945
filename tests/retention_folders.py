"""What runs leave below the local state, made old by hand, for tests of ``llara gc``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from llara_core.operations.retention import DAY, Use
from llara_core.operations.retention_files import local_items
from llara_core.operations_settings import RetentionSettings

NOW = 1_800_000_000.0
EAGER = RetentionSettings(minimum_age_days=1, runs=1, versions=1, generations=0, vectors_days=1)
MODEL = "fingerprint of the champion"
CHAMPION = hashlib.sha256(MODEL.encode()).hexdigest()[:20]


def folder(place: Path, days: float = 100, content: bytes = b"x" * 5000) -> Path:
    """A folder with one file, both of an age in days."""
    place.mkdir(parents=True)
    (place / "file.bin").write_bytes(content)
    return aged(place, days)


def aged(place: Path, days: float) -> Path:
    moment = NOW - days * DAY
    for one in (*place.rglob("*"), place):
        os.utime(one, (moment, moment), follow_symlinks=False)
    return place


def reasons(
    local: Path, use: Use | None = None, settings: RetentionSettings = EAGER
) -> dict[str, str | None]:
    return {item.name: item.keep for item in local_items(local, settings, use or Use(), NOW)}


def vectors(local: Path, model: str = "a" * 20, days: float = 100) -> Path:
    """Vectors of a model."""
    return folder(local / "vectors" / f"{model}-{'b' * 20}-float32", days)
