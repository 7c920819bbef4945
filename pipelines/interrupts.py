"""Ctrl-C and SIGTERM end a run, wherever they find it.

Python runs the handler of a signal wherever the main thread happens to be, and what the handler raises goes
on from there. Within a finaliser, or a callback of a library that lets nothing out, it is lost, and the work
goes on as if nobody had asked. And while a step runs the handler is ZenML's, which asks its store what has
become of the run: if the thread was interrupted while it held a lock that the store needs, both wait for
ever.

So a thread looks on. Python writes each signal to a socket before any handler runs
(``signal.set_wakeup_fd``); the thread reads it, asks again when the work goes on, and at last ends the
process. What was finished is kept, and the next start closes the run (``pipelines.orphans``), as after a
kill.
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from typing_extensions import Self

from llara_core.operations import logs

# A run that ends tidily takes some five seconds, of a busy machine three times that.
_AGAIN = (20.0, 40.0)
_LAST = 80.0
_watching = False  # whether this process, and none that it was forked from, has a thread that looks on


class Heeded:
    """A context within which no SIGINT and no SIGTERM is lost; for the main thread.

    Without a signal it changes nothing. After one, the process ends with 1 when ``last`` has passed, also if
    it has left the context by then: threads and exit handlers of libraries can hold it up as well. Work that
    ends well in spite of the signal is not cut off.

    Args:
        again: seconds after a signal, at which it is sent again while the work goes on.
        last: seconds after a signal, at which the process is ended by force.
    """

    def __init__(self, again: Sequence[float] = _AGAIN, last: float = _LAST) -> None:
        self._again, self._last = again, last
        self._left, self._done = threading.Event(), threading.Event()
        self._previous = -1

    def __enter__(self) -> Self:
        """Begin to look on.

        Raises:
            ValueError: this is not the main thread, the only one that signals interrupt.
        """
        global _watching  # noqa: PLW0603 - a process has one main thread, and one place to write signals to
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)  # as Python demands of what its handler writes to
        self._previous = signal.set_wakeup_fd(self._inner.fileno(), warn_on_full_buffer=False)
        _watching = True
        threading.Thread(target=self._look_on, name="interrupts", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop asking; after work that ended well, stop looking on."""
        self._left.set()
        if kind is None:
            self._done.set()
        _not_watching(self._previous)
        self._inner.close()  # of which the thread hears, if no signal has come

    def _look_on(self) -> None:
        with self._outer:  # open to the end, since Python complains of a signal that it cannot write
            heard = self._heard()
            if heard is not None:
                self._see_to_it(heard, time.monotonic())

    def _see_to_it(self, heard: signal.Signals, since: float) -> None:
        asked, before, due = since, 0.0, since + self._last
        for seconds in self._again:
            # From the last interrupt on: when the machine stood still, two at once would count as one.
            if self._left.wait(asked + seconds - before - time.monotonic()):
                break
            asked, before = time.monotonic(), seconds
            due = max(due, asked + self._last - seconds)
            _say(f"still at work {seconds:.0f} s after {heard.name}; interrupting again", "WARNING")
            _interrupt(heard)
        if not self._done.wait(due - time.monotonic()):
            self._cut_off(heard)

    def _heard(self) -> signal.Signals | None:
        """The first signal that ends a process; None: the context was left."""
        while (found := self._outer.recv(1)) != b"":
            if found[0] in (signal.SIGINT, signal.SIGTERM):
                return signal.Signals(found[0])
        return None

    def _cut_off(self, heard: signal.Signals) -> None:
        # Where each thread stands is all that anybody can find out about it later.
        faulthandler.dump_traceback(file=2, all_threads=True)
        _say(
            "interrupted; the process was held up where the lines above say, and was ended by force "
            f"{self._last:.0f} s after {heard.name}. The next start closes the run; the same command goes on "
            "where it was",
            "ERROR",
        )
        os._exit(1)


def _not_watching(previous: int = -1) -> None:
    global _watching  # noqa: PLW0603
    if _watching:
        _watching = False
        signal.set_wakeup_fd(previous)


# A forked child has the same socket: a signal to it, as pools end their workers, is not one to this process.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_not_watching)


def _say(message: str, level: str) -> None:
    # Past sys.stderr, for whose lock the thread that is held up may wait.
    logs.say(f"llara: {message}", level, stream=logs.RawStderr())


def _interrupt(number: signal.Signals) -> None:
    """Send the main thread a signal, also out of a lock that it waits for."""
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, number)
    else:  # Windows
        _thread.interrupt_main(number)
