"""The systems that can be compared: the champion, every generation of the live store, and BM25.

Only the champion is open from the start. A generation is opened when it is first asked for, by a thread of
its own, one at a time; whoever asks is told to ask again. The few used last stay open.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from llara_core.errors import LlaraError
from llara_core.operations.live import LiveError, LiveStore, Pair
from llara_core.search_page_settings import SearchPageSettings
from llara_core.serving.lexical import LexicalIndexes
from llara_core.serving.served import Served
from llara_core.serving.waiting import Answering, Dense, State, Waiting

logger = logging.getLogger(__name__)
CHAMPION, BM25 = "champion", "bm25"
_SOON = 1.0  # seconds: a page asks again after that
_LATER = 30.0  # seconds after which a generation that could not be opened is tried again


@dataclass(frozen=True)
class System:
    """A system that can be compared.

    Args:
        id: ``champion``, ``bm25`` or the name of a generation.
        label: for people.
        state: whether it answers at once.
        version: number in the registry; "" where there is none.
        pair: name of the generation; "" for BM25.
        created: when the pair was made, ISO 8601.
        documents: that it searches.
        same_corpus: whether it searches what the champion searches.
        message: what else is to be known, for people.
    """

    id: str
    label: str
    state: State
    version: str = ""
    pair: str = ""
    created: str = ""
    documents: int = 0
    same_corpus: bool = True
    message: str = ""


class Systems:
    """Everything that can be asked, opened when it is needed.

    Threads may share it; nothing here waits for a model to be loaded.

    Args:
        champion: gives what serves now; None: nothing does yet.
        store: the generations; None: there is only the champion.
        cache: folder that keeps BM25's index.
        settings: how much is held open.
        open_pair: opens a generation.
    """

    def __init__(
        self,
        champion: Callable[[], Served | None],
        store: LiveStore | None,
        cache: Path,
        settings: SearchPageSettings,
        open_pair: Callable[[Pair], Served],
    ) -> None:
        self.champion = champion
        self._store, self._settings, self._open_pair = store, settings, open_pair
        self._lexical = LexicalIndexes(settings.bm25, cache)
        self._lock = threading.Lock()
        self._opener = ThreadPoolExecutor(1, "llara-open")
        self._open: OrderedDict[str, Dense] = OrderedDict()
        self._waiting: dict[str, Waiting] = {}

    def find(self, system: str) -> Answering | Waiting | None:
        """A system that answers, the reason why it does not yet, or None: there is no such system."""
        champion = self.champion()
        if champion is None:
            return Waiting("absent", "Nothing is live yet.", _SOON)
        if system in (CHAMPION, champion.name):
            return Dense(champion)
        if system == BM25:
            return self._lexical.of(champion)
        with self._lock:
            if system in self._open:
                self._open.move_to_end(system)
                return self._open[system]
        pair = next((one for one in self._generations() if one.name == system), None)
        return None if pair is None else self._opened(pair)

    def listed(self) -> list[System]:
        """What can be asked: champion, BM25, then the other generations, newest first."""
        champion = self.champion()
        if champion is None:
            return []
        index = champion.index
        content = None if index is None else index.fingerprint["corpus"]
        documents = 0 if index is None else len(index)
        version = f"Champion · version {champion.version}" if champion.version else f"Model {champion.name}"
        found = [
            System(CHAMPION, version, "ready", champion.version, champion.name, champion.created, documents),
            self._listed_lexical(champion, documents),
        ]
        before = self._previous()
        for pair in self._generations():
            if pair.name != champion.name:
                found.append(self._listed_pair(pair, before, content))
        return found

    def close(self) -> None:
        """Let go of everything that is open, and end what is being made."""
        self._lexical.close()
        self._opener.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            self._open.clear()

    def _listed_lexical(self, champion: Served, documents: int) -> System:
        found = self._lexical.of(champion)
        if isinstance(found, Waiting):
            return System(BM25, "BM25", found.state, documents=documents, message=found.message)
        return System(BM25, "BM25", "ready", documents=documents)

    def _listed_pair(self, pair: Pair, before: str, content: str | None) -> System:
        label = f"Version {pair.version} · {pair.created[:10]}"
        same = pair.corpus == content
        words = [] if same else [f"It searches another corpus ({pair.documents:,} documents)."]
        state: State = "closed"
        with self._lock:
            if pair.name in self._open:
                state = "ready"
            elif pair.name in self._waiting:
                state = self._waiting[pair.name].state
                words.append(self._waiting[pair.name].message)
        return System(
            id=pair.name,
            label=f"{label} · before" if pair.name == before else label,
            state=state,
            version=pair.version,
            pair=pair.name,
            created=pair.created,
            documents=pair.documents,
            same_corpus=same,
            message=" ".join(words),
        )

    def _generations(self) -> list[Pair]:
        return [] if self._store is None else self._store.generations()

    def _previous(self) -> str:
        try:
            pair = None if self._store is None else self._store.previous()
        except LiveError:
            return ""  # a damaged pointer is told where it matters; the list only loses a word
        return "" if pair is None else pair.name

    def _opened(self, pair: Pair) -> Answering | Waiting:
        """Have a generation opened; what is said until it is."""
        with self._lock:
            if pair.name in self._open:  # since it was looked for; a second copy would take its memory again
                return self._open[pair.name]
            known = self._waiting.get(pair.name)
            if known is not None and not known.over():
                return known
            busy = sum(one.state == "opening" for one in self._waiting.values())
            if busy > self._settings.open_generations:
                return Waiting("opening", "Other versions are being opened first.", _SOON)
            found = Waiting("opening", f"Version {pair.version} is being opened.", _SOON)
            self._waiting[pair.name] = found
            self._opener.submit(self._load, pair)
            return found

    def _load(self, pair: Pair) -> None:
        self._make_room()
        try:
            served = self._open_pair(pair)
        except Exception as error:  # also what a GPU without memory raises: nobody may wait for ever
            logger.warning("%s cannot be compared: %s", pair.name, error, exc_info=not _ours(error))
            message = f"Version {pair.version} cannot be opened: {error}"
            with self._lock:
                self._waiting[pair.name] = Waiting.failed(message, _LATER)
            return
        with self._lock:
            self._open[pair.name] = Dense(served)
            self._waiting.pop(pair.name, None)

    def _make_room(self) -> None:
        """Let go of what was not used for the longest time, before another takes its memory."""
        with self._lock:
            while len(self._open) >= self._settings.open_generations:
                name, _ = self._open.popitem(last=False)
                logger.info("%s is closed to make room", name)


def _ours(error: Exception) -> bool:
    return isinstance(error, LlaraError | OSError)
