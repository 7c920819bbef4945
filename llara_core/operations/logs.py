"""Structured logs: one JSON object a line, with the ids of the run and the step it belongs to.

``LLARA_LOG_FORMAT=json`` (or ``llara --log-format json``) turns it on; text is the default. The keys are
``time`` (UTC, ISO 8601, milliseconds), ``level``, ``logger``, ``message``, where known ``run_id``, ``run``,
``step_id`` and ``step``, then what the call gave as ``extra``, and ``exception`` with the traceback.
Source: issue 6, point 6.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TextIO

from llara_core.errors import ConfigError

FORMAT = "LLARA_LOG_FORMAT"  # environment variable; llara_core.progress reads it too
FORMATS = ("text", "json")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_NOTHING: Mapping[str, str] = MappingProxyType({})
_context: ContextVar[Mapping[str, str]] = ContextVar("llara_log_context", default=_NOTHING)
_process: dict[str, str] = {}  # of the whole process: threads that a step starts inherit no context


def chosen_format(given: str | None = None) -> str:
    """``text`` or ``json``: what was given, else ``$LLARA_LOG_FORMAT``, else ``text``.

    Raises:
        ConfigError: it is neither.
    """
    found = given or os.environ.get(FORMAT) or FORMATS[0]
    if found not in FORMATS:
        where = "--log-format" if given else f"${FORMAT}"
        raise ConfigError(f"{where}: got {found!r}; known: {', '.join(FORMATS)}")
    return found


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Every record inside the block, of this thread or task, carries the fields."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def bind(fields: Mapping[str, str]) -> None:
    """Every record of this process carries the fields from now on, in place of those bound before."""
    _process.clear()
    _process.update(fields)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON.

    Args:
        identify: gives the fields of the running step, where somebody knows them; asked for every record.
    """

    def __init__(self, identify: Callable[[], Mapping[str, str]] | None = None) -> None:
        super().__init__()
        self._identify = identify

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        found = self._identify() if self._identify is not None else {}
        line |= {**_process, **found, **_context.get()}
        line |= {
            name: value
            for name, value in vars(record).items()
            if name not in _STANDARD and not name.startswith("_") and name not in line
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        text = json.dumps(line, ensure_ascii=False, default=str)
        # A lone surrogate cannot be written as UTF-8; as an escape it is JSON, and any stream takes it.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def say(
    message: str, level: str = "INFO", logger_name: str = "llara", stream: TextIO | RawStderr | None = None
) -> None:
    """Tell the person at the keyboard on stderr, before or besides logging: plain, or as a record.

    Args:
        message: one or more lines.
        level: of the record.
        logger_name: of the record.
        stream: where it is written; None: ``sys.stderr``.
    """
    if os.environ.get(FORMAT) == "json":
        record = logging.makeLogRecord(
            {"name": logger_name, "levelname": level, "levelno": getattr(logging, level), "msg": message}
        )
        message = JsonFormatter().format(record)
    stream = stream or sys.stderr
    stream.write(f"{message}\n")
    stream.flush()


class RawStderr:
    """Writes lines to the file descriptor of stderr, past whoever has wrapped ``sys.stderr``."""

    def write(self, text: str) -> int:
        """Write the text in one call, so that lines of several processes do not mix."""
        os.write(2, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def use_json(
    identify: Callable[[], Mapping[str, str]] | None = None, stream: TextIO | RawStderr | None = None
) -> int:
    """Make every handler that writes to a terminal or a pipe write JSON; others stay what they are.

    Args:
        identify: see ``JsonFormatter``.
        stream: where they write from now on; None: where they wrote before.

    Returns:
        How many handlers there are.
    """
    formatter = JsonFormatter(identify)
    handlers = {id(one): one for one in logging.getLogger().handlers}
    for known in list(logging.root.manager.loggerDict.values()):
        if isinstance(known, logging.Logger):
            handlers.update({id(one): one for one in known.handlers})
    changed = 0
    for handler in handlers.values():
        # Files belong to whoever opened them, and pytest's capture is a StreamHandler too.
        if not isinstance(handler, logging.StreamHandler) or isinstance(handler, logging.FileHandler):
            continue
        handler.setFormatter(formatter)
        if stream is not None and handler.__class__.__dict__.get("stream") is None:
            handler.stream = (
                stream  # MLflow's handler looks sys.stderr up at every line, and lets nobody set it
            )
        changed += 1
    return changed
