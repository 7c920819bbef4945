"""The pair that answers now, and how another takes its place without a request being dropped.

    champion = Champion(watch_store(LiveStore(folder)), settings)
    champion.start()
    served = champion.current     # a request holds this one until it has answered

A thread looks at the pointer of the live store. When it names another pair, that pair is opened and warmed
beside the old one, and takes its place by one assignment. Requests in flight finish on the old pair, which
Python releases with the last of them. Source: issue 7, point 3.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llara_core.errors import LlaraError
from llara_core.operations.live_pointer import POINTER
from llara_core.serving.served import Served, open_pair

if TYPE_CHECKING:
    from llara_core.operations.live import LiveStore
    from llara_core.operations.live_pair import Pair
    from llara_core.serving_settings import SwitchSettings

logger = logging.getLogger(__name__)
Stamp = tuple[int, int, int] | None


class Source(Protocol):
    """Says what is to serve, and opens it."""

    def stamp(self) -> object:
        """Cheap to ask; another value: something may have changed."""

    def name(self) -> str | None:
        """Of what is to serve; None: nothing yet.

        Raises:
            LlaraError: it cannot be told.
        """

    def open(self) -> Served:
        """Open it.

        Raises:
            LlaraError: it cannot be opened.
        """


class StoreSource:
    """What the pointer of a live store names.

    Args:
        store: the live store.
        device: of the models; None: the best there is.
    """

    def __init__(self, store: LiveStore, device: str | None = None) -> None:
        self._store, self._device = store, device
        self._pair: Pair | None = None

    def stamp(self) -> Stamp:
        """Of the pointer's file."""
        try:
            told = (self._store.folder / POINTER).stat()
        except OSError:
            return None
        return told.st_mtime_ns, told.st_ino, told.st_size

    def name(self) -> str | None:
        """Of the generation that the pointer names."""
        self._pair = self._store.current()
        return None if self._pair is None else self._pair.name

    def open(self) -> Served:
        """Open the generation whose name was told last."""
        if self._pair is None:
            raise LlaraError(f"{self._store.folder}: nothing is live")
        return open_pair(self._pair, self._device)


class FixedSource:
    """One model that is opened once: ``llara serve --model``.

    Args:
        name: what it is called before it is opened.
        load: opens it.
    """

    def __init__(self, name: str, load: Callable[[], Served]) -> None:
        self._name, self._load = name, load

    def stamp(self) -> str:
        """Never another."""
        return self._name

    def name(self) -> str:
        """Never another."""
        return self._name

    def open(self) -> Served:
        """Open it."""
        return self._load()


@dataclass
class Counts:
    """What has happened since the start.

    Args:
        switches: from one pair to another.
        failures: pairs that could not be opened.
    """

    switches: int = 0
    failures: int = 0


class Champion:
    """Holds what answers, and looks for what shall.

    Args:
        source: says what shall.
        settings: how often it is asked.
    """

    def __init__(self, source: Source, settings: SwitchSettings) -> None:
        self._source, self._settings = source, settings
        self._current: Served | None = None
        self._opened: weakref.WeakSet[Served] = weakref.WeakSet()
        self._name: str | None = None
        self._seen: object = self  # a stamp that no source gives
        self._retry_at, self._pause = 0.0, settings.retry_seconds
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.counts = Counts()
        self.trouble: str | None = None  # why what shall serve does not, in words

    @property
    def current(self) -> Served | None:
        """What answers now; None: nothing yet."""
        return self._current

    @property
    def opened(self) -> int:
        """Pairs in memory: two during a switch, and until the last request of the old one has its answer."""
        return len(self._opened)

    def start(self) -> None:
        """Open what there is, in the thread that goes on looking."""
        self._thread = threading.Thread(target=self._watch, name="llara-champion", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking; what answers goes on answering."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Take over what the source names, if it is another. Never raises: the old one goes on serving."""
        stamp, now = self._source.stamp(), time.monotonic()
        waiting = self._retry_at > now
        if stamp == self._seen and (self.trouble is None or waiting):
            return
        self._seen = stamp
        try:
            name = self._source.name()
            if name is not None and name != self._name:
                self._take(self._source.open(), name)
        except Exception as error:
            self._failed(error, now)
            return
        self.trouble, self._pause = None, self._settings.retry_seconds

    def _take(self, served: Served, name: str) -> None:
        served.warm()
        old = self._current
        self._opened.add(served)
        self._current, self._name = served, name
        if old is None:
            logger.info("Serving %s (version %s)", served.name, served.version or "unregistered")
        else:
            self.counts.switches += 1
            logger.info("Switched from %s to %s", old.name, served.name)
        del old
        gc.collect()  # modules and their parameters hold each other

    def _failed(self, error: Exception, now: float) -> None:
        self.counts.failures += 1
        self.trouble = str(error) or type(error).__name__
        self._retry_at = now + self._pause
        kept = "nothing serves" if self._current is None else f"{self._current.name} goes on serving"
        logger.error(
            "What shall serve cannot be opened; %s; tried again in %.0f s: %s",
            kept,
            self._pause,
            self.trouble,
        )
        self._pause = min(2 * self._pause, self._settings.retry_most_seconds)

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.look()
            self._ended.wait(self._settings.poll_seconds)
