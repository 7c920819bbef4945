"""The live store: which pair of model and index serves, how it is replaced, and how it is taken back.

    store = LiveStore(Path("live/llara-retriever"))
    retriever, index = store.open()          # what serves

The pointer is the truth; the alias ``champion`` of a registry follows it. A process that is killed anywhere
leaves the old pair or the new one, whole. Source: issue 6, point 4.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llara_core.errors import DataError, InputError
from llara_core.operations.live_pair import FACTS, LiveError, Pair
from llara_core.operations.live_pointer import (
    CUTOVER,
    POINTER,
    ROLLBACK,
    Owed,
    Pointer,
    now,
    read_pointer,
    write_pointer,
)
from llara_core.operations.lock import Held, take

if TYPE_CHECKING:
    from llara_core.model.retriever import Retriever
    from llara_core.retrieval.index import Index

__all__ = ["LiveError", "LiveStore", "Pair"]

logger = logging.getLogger(__name__)
# Held for the moment of a change, so that a rollback never waits for an indexing.
_POINTER_LOCK = ".pointer.lock"
_PATIENCE = 30.0  # seconds
_PAUSE = 0.05  # seconds


class LiveStore:
    """A folder of generations and the pointer to the one that serves.

    Reading needs no lock and no write permission.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made by the first indexing."""
        self.folder = folder.expanduser()

    def pointer(self) -> Pointer:
        """What serves, what served before, and the history.

        Raises:
            LiveError: the pointer is damaged.
        """
        return read_pointer(self.folder)

    def current(self) -> Pair | None:
        """The pair that serves; None: none yet."""
        return self.pointer().current

    def previous(self) -> Pair | None:
        """The pair that a rollback would bring back."""
        return self.pointer().previous

    def generations(self) -> list[Pair]:
        """Every whole pair of the store, newest first."""
        found = []
        for file in self.folder.glob(f"[!.]*/{FACTS}"):
            with suppress(DataError):
                found.append(Pair.read(file.parent))
        return sorted(found, key=lambda pair: (pair.created, pair.name), reverse=True)

    def open(self, device: str | None = None) -> tuple[Retriever, Index]:
        """Model and index of the pair that serves.

        Args:
            device: of the model; None: the best there is.

        Raises:
            LiveError: nothing serves yet, or the pointer is damaged.
            DataError, ModelError: the pair is damaged; `llara rollback` brings back the one before.
        """
        while True:
            pair = self.current()
            if pair is None:
                raise LiveError(f"{self.folder}: nothing is live yet; run `python -m pipelines indexing`")
            try:
                return pair.open(device)
            except InputError:
                if self.current() == pair:
                    raise
                # Two cutovers while we were reading: the pair was removed. What serves now is another.

    def cutover(self, pair: Pair, expected: str | None, reason: str, *, again: bool = False) -> Pointer:
        """Let a pair serve: one rename.

        Args:
            pair: a generation of this store.
            expected: the generation that served when `pair` was judged; None: none did.
            reason: for the history.
            again: also if it was rolled back before.

        Returns:
            The new pointer, or the present one if the pair serves already.

        Raises:
            LiveError: another serves by now than was expected, the pair was rolled back, or an earlier
                rollback is not settled with the registry.
            DataError: the pair is not whole, or the folder cannot be written.
        """
        Pair.read(pair.folder)
        with self._changing("cutover"):
            old = self.pointer()
            if old.current is not None and old.current.name == pair.name:
                return old
            present = None if old.current is None else old.current.name
            if present != expected:
                raise LiveError(
                    f"{self.folder}: {present or 'nothing'} serves, {expected or 'nothing'} did when "
                    f"{pair.name} was judged; run the indexing again"
                )
            if old.owed is not None:
                raise LiveError(
                    f"{self.folder}: a rollback is not finished in the registry; run `llara rollback` first"
                )
            why = self._taken_back(old, pair)
            if why is not None and not again:
                raise LiveError(f"{pair.name} was rolled back ({why}), so it does not serve again by itself")
            new = Pointer(
                current=pair,
                previous=old.current,
                taken_back={key: one for key, one in old.taken_back.items() if key != pair.name},
                history=old.noting(CUTOVER, pair, reason),
            )
            write_pointer(self.folder, new)
            return new

    def target(self, to: str | None = None) -> Pair:
        """The pair that a rollback would bring back.

        Args:
            to: a generation; None: the one before.

        Raises:
            LiveError: there is none; says what there is.
        """
        if to is not None:
            found = next((pair for pair in self.generations() if pair.name == to), None)
            if found is None:
                raise LiveError(f"{self.folder}: no whole generation is called {to!r}; {self._names()}")
            return found
        pointer = self.pointer()
        if pointer.current is None:
            raise LiveError(f"{self.folder}: nothing is live, so there is nothing to roll back")
        if pointer.previous is None:
            last = pointer.history[-1] if pointer.history else {}
            why = (
                f"it was brought back by a rollback already ({last['at']}: {last['reason']})"
                if last.get("action") == ROLLBACK
                else "it is the first"
            )
            raise LiveError(
                f"{self.folder}: there is no pair before {pointer.current.name}: {why}. To go to another: "
                f"llara rollback --to GENERATION; {self._names()}"
            )
        return pointer.previous

    def rollback(self, reason: str, to: str | None = None) -> Pointer:
        """Let the pair before serve again, model and index together; one rename.

        What the registry has to be told stands in the new pointer's ``owed`` until ``settled`` is called.
        There is no pair before it afterwards: rolling back twice never goes further.

        Args:
            reason: for the history and the mark of the version that is left.
            to: another generation than the one before; a damaged pointer is then replaced too.

        Raises:
            LiveError: there is nothing to go back to, or the pair to go back to serves already.
            DataError: that pair is not whole, or the folder cannot be written.
        """
        with self._changing("rollback"):
            try:
                old = self.pointer()
            except LiveError as error:
                if to is None:
                    raise
                kept = (self.folder / POINTER).rename(self.folder / f"{POINTER}.damaged-{now()}")
                logger.warning("%s; it is kept as %s", error, kept.name)
                old = Pointer()
            pair = Pair.read(self.target(to).folder)
            left = old.current
            if left is not None and left.name == pair.name:
                raise LiveError(f"{self.folder}: {pair.name} serves already")
            moment = now()
            taken = {key: one for key, one in old.taken_back.items() if key != pair.name}
            if left is not None:
                taken[left.name] = f"{moment}: {reason}"
            owed = None
            if left is None or left.version != pair.version:
                owed = Owed(pair.version, None if left is None else left.version, reason, moment)
            history = old.noting(ROLLBACK, pair, reason)
            new = Pointer(current=pair, owed=owed, taken_back=taken, history=history)
            write_pointer(self.folder, new)
            return new

    def settled(self, owed: Owed) -> None:
        """Say that the registry has been told; safe to repeat.

        Args:
            owed: what it was told; a rollback that came in between is not settled by it.
        """
        with self._changing("settling"):
            pointer = self.pointer()
            if pointer.owed == owed:
                write_pointer(self.folder, replace(pointer, owed=None))

    def _taken_back(self, pointer: Pointer, pair: Pair) -> str | None:
        """Why a pair, or one that differs from it in its judgements alone, was rolled back."""
        for name, why in pointer.taken_back.items():
            if name == pair.name:
                return why
            with suppress(DataError):  # it has been tidied away
                if Pair.read(self.folder / name).answers_as(pair):
                    return why
        return None

    def _names(self) -> str:
        names = [pair.name for pair in self.generations()]
        return f"there are: {', '.join(names)}" if names else "there are none"

    @contextmanager
    def _changing(self, doing: str) -> Iterator[None]:
        """Hold the pointer for a moment.

        Raises:
            LiveError: somebody else has held it for half a minute.
        """
        deadline = time.monotonic() + _PATIENCE
        file = self.folder / _POINTER_LOCK
        while not isinstance(held := take(file, doing), Held):
            if time.monotonic() > deadline:
                raise LiveError(f"{file}: held by {held.words()} for {_PATIENCE:.0f} s; is it stopped?")
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            held.release()
