"""BM25 over the passages that the champion searches, made in the background by a process of its own.

Cutting a million passages into words is minutes of Python. In a thread it would slow every search meanwhile;
a process at low priority leaves them alone.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from llara_core.config import Bm25Settings
from llara_core.data.collection import FACTS, Collection
from llara_core.errors import DataError, LlaraError
from llara_core.files import new_folder
from llara_core.retrieval.bm25 import Bm25
from llara_core.serving.corpus import Corpus
from llara_core.serving.served import Served
from llara_core.serving.waiting import Lexical, Waiting

logger = logging.getLogger(__name__)
_SOON = 1.0  # seconds: a page asks again after that
_LATER = 60.0  # seconds after which what failed is tried again
_TOLD = 300  # characters of a failed process's last words
# Passages up to which a thread does it: a second of Python, no more than a process takes to start.
_SMALL = 5_000
_POLITE = 10  # added to the child's niceness: it takes what others leave


class LexicalIndexes:
    """The BM25 index of the corpus that is searched now; at most one is held, and one made at a time.

    Args:
        settings: weights and how text is cut.
        cache: folder that keeps indexes, so that the next start is quick.
    """

    def __init__(self, settings: Bm25Settings, cache: Path) -> None:
        self._settings, self._cache = settings, cache
        self._lock = threading.Lock()
        self._maker = ThreadPoolExecutor(1, "llara-bm25")
        self._child: subprocess.Popen[str] | None = None
        self._content, self._state = "", Waiting("closed", "not asked for yet", _SOON)
        self._found: Lexical | None = None
        self._closed = False

    def of(self, served: Served) -> Lexical | Waiting:
        """The index of what the pair searches, or why there is none yet; never waits.

        Args:
            served: the pair, with its texts.
        """
        if served.corpus is None or served.index is None:
            return Waiting("absent", "The pair carries no texts; run the indexing again to search words.")
        content = str(served.index.fingerprint["corpus"])
        with self._lock:
            if self._content == content:
                if self._found is not None:
                    return self._found
                if not self._state.over():
                    return self._state
            self._content, self._found = content, None
            words = f"BM25 is being built over {len(served.corpus):,} passages; this is done once."
            self._state = Waiting("opening", words, _SOON)
            if not self._closed:
                self._maker.submit(self._make, content, served.corpus)
            return self._state

    def close(self) -> None:
        """End what is being made."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.terminate()
        self._maker.shutdown(wait=True, cancel_futures=True)

    def _make(self, content: str, corpus: Corpus) -> None:
        try:
            if len(corpus) > _SMALL:
                self._run(content, corpus)
            made = Bm25.cached(corpus.passages, self._settings, self._cache, content=content)
        except Exception as error:  # whatever it is: nobody may wait for ever
            if self._closed:
                return
            logger.warning("BM25 could not be built: %s", error, exc_info=not isinstance(error, LlaraError))
            with self._lock:
                if self._content == content:
                    self._state = Waiting.failed(f"BM25 could not be built: {error}", _LATER)
            return
        with self._lock:
            if self._content == content:
                self._found = Lexical(made, corpus)

    def _run(self, content: str, corpus: Corpus) -> None:
        """Let another process put the index into the cache."""
        saved = corpus.folder
        if saved is None:  # read from somebody's files: handed over as Arrow
            saved = self._cache / f".corpus-{content[:20]}"
            with new_folder(saved, replace=(FACTS,)) as made:
                corpus.collection.save(made)
        try:
            self._spawn([str(saved), str(self._cache), content, self._settings.model_dump_json()])
        finally:
            if saved != corpus.folder:
                shutil.rmtree(saved, ignore_errors=True)

    def _spawn(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "llara_core.serving.lexical", *arguments]
        with self._lock:
            if self._closed:
                return
            # A session of its own: Ctrl-C at the terminal is for the service, which then ends its child.
            self._child = subprocess.Popen(  # noqa: S603 - ourselves
                command,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        _, told = self._child.communicate()
        if self._child.returncode:
            last = told.strip()[-_TOLD:] or f"exit {self._child.returncode}"
            raise DataError(f"the process that builds it has ended: {last}", file=self._cache)


def build(collection: Path, cache: Path, content: str, settings: Bm25Settings) -> None:
    """Put the index of a saved collection into a cache; what the other process does.

    Raises:
        DataError: the collection cannot be read or the cache not be written.
    """
    with suppress(OSError):  # a system that forbids it runs us at the usual priority
        os.nice(_POLITE)
    Bm25.cached(Collection.load(collection).passages, settings, cache, content=content)


if __name__ == "__main__":
    try:
        build(
            Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Bm25Settings.model_validate_json(sys.argv[4])
        )
    except LlaraError as error:
        sys.exit(str(error))
