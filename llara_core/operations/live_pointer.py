"""The pointer of a live store: one small file that says which pair serves, replaced in one step.

Whoever reads it sees the old one or the new one, whole, also after a power cut. Source: issue 6, point 4.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from llara_core.files import unwritable
from llara_core.operations.live_pair import LiveError, Pair

POINTER = "live.json"
FORMAT = 1
CUTOVER, ROLLBACK = "cutover", "rollback"
_REMEMBERED = 200  # changes that the history keeps


@dataclass(frozen=True)
class Owed:
    """What the model registry does not know yet of a rollback that has happened here.

    Args:
        champion: version that is to be champion.
        left: version that was taken back and is to be marked; None: nobody knows what served.
        reason: for the mark.
        at: when; ISO 8601, UTC.
    """

    champion: str
    left: str | None
    reason: str
    at: str


@dataclass(frozen=True)
class Pointer:
    """What serves, what served before, and how it came to be.

    Args:
        current: the pair that serves; None: none yet.
        previous: the pair that a rollback brings back; None: there is none.
        owed: see ``Owed``; None: registry and pointer agree.
        taken_back: generation to the reason why it was rolled back.
        history: changes, oldest first: ``at``, ``action``, ``from``, ``to``, ``reason``.
    """

    current: Pair | None = None
    previous: Pair | None = None
    owed: Owed | None = None
    taken_back: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()

    def noting(self, action: str, to: Pair, reason: str) -> tuple[Mapping[str, Any], ...]:
        """The history with one more change."""
        event = {
            "at": now(),
            "action": action,
            "from": None if self.current is None else self.current.name,
            "to": to.name,
            "reason": reason,
        }
        return (*self.history, event)[-_REMEMBERED:]


def read_pointer(store: Path) -> Pointer:
    """The pointer of a store; an empty one where nothing has served yet.

    Raises:
        LiveError: it is there and cannot be read; names the way out.
    """
    file = store / POINTER
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Pointer()
    except OSError as error:
        raise LiveError(f"{file}: cannot be read ({error.strerror}); mend its permissions") from None
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise LiveError(f"{file}: format {values['format']}, this version reads {FORMAT}; upgrade llara")
        told = {key: values[key] for key in ("current", "previous")}
        pairs = {key: None if one is None else Pair.of(store, one) for key, one in told.items()}
        owed = values["owed"]
        return Pointer(
            **pairs,
            owed=None if owed is None else Owed(**owed),
            taken_back=dict(values["taken_back"]),
            history=tuple(values["history"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LiveError(
            f"{file}: is damaged ({error!r}). The pairs themselves lie beside it: `llara live` lists them, "
            "and `llara rollback --to GENERATION` writes a new pointer to one"
        ) from None


def write_pointer(store: Path, pointer: Pointer) -> None:
    """Replace the pointer in one step that a power cut cannot halve.

    Raises:
        DataError: the folder cannot be written; the old pointer stays.
    """
    values = {
        "format": FORMAT,
        "current": None if pointer.current is None else pointer.current.to_dict(),
        "previous": None if pointer.previous is None else pointer.previous.to_dict(),
        "owed": None if pointer.owed is None else vars(pointer.owed),
        "taken_back": dict(pointer.taken_back),
        "history": [dict(event) for event in pointer.history],
    }
    partial = (
        store / f".{POINTER}.partial"
    )  # one writer at a time, by the lock: a killed one's is overwritten
    try:
        store.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            json.dump(values, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(store / POINTER)
        sync_folder(store)
    except OSError as error:
        raise unwritable(store / POINTER, error) from None
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder survive a power cut, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse to sync a folder, and need not
        pass
    finally:
        os.close(handle)


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
