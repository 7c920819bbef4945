"""The command tree, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from llara_core import __version__
from llara_core.cli import (
    compare,
    data_checks,
    encode,
    evaluate,
    export,
    gc,
    index,
    live,
    plan,
    rollback,
    scale,
    schedule,
    search,
    selftest,
    serve,
    stages,
    ticks,
    tools,
    verify,
)
from llara_core.errors import ConfigError, LlaraError
from llara_core.operations import logs

_INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="llara",
    help="Turn a decoder-only language model into a dense retriever, and judge it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    stages.prepare,
    stages.adapt,
    stages.mine,
    stages.finetune,
    evaluate.evaluate,
    compare.compare,
    encode.encode,
    search.search,
    export.export,
    tools.doctor,
    selftest.selftest,
    plan.plan,
    scale.scale,
    gc.gc,
    ticks.ticks,
    live.live,
    verify.verify,
    rollback.rollback,
    serve.serve,
)
for command in COMMANDS:
    app.command()(command)
collection_app = typer.Typer(help="Write a built-in collection as a BEIR folder.", rich_markup_mode=None)
collection_app.command("pycode")(tools.write_pycode)
app.add_typer(collection_app, name="collection", no_args_is_help=True)
app.add_typer(data_checks.data_app, name="data", no_args_is_help=True)
app.add_typer(index.index_app, name="index", no_args_is_help=True)
app.add_typer(schedule.schedule_app, name="schedule", no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llara {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    log_format: Annotated[
        str | None, typer.Option("--log-format", help="text, or json: an object a line, on stderr.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Turn a decoder-only language model into a dense retriever, and judge it."""


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: what stands after ``llara``. ``--debug`` and ``--log-format`` may stand anywhere before
            ``--``.

    Returns:
        0: all went well; 1: it failed or was interrupted; 2: wrong usage or bad input.
    """
    words, rest = _before_dashes(arguments)
    debug = "--debug" in words
    _log_to_stderr(debug)
    try:
        words = _choose_format(words)
    except LlaraError as error:
        return _report(str(error), error.exit_code, debug)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # they fill a log file with one line
    try:
        return _invoke([word for word in words if word != "--debug"] + rest)
    except LlaraError as error:
        return _report(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        return _report("interrupted; nothing half-written was kept", 1, debug)
    except BrokenPipeError:
        # The reader (head, less) has enough: no error, but nothing more can be written either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        hint = "" if debug else "; run again with --debug for the traceback"
        return _report(f"{type(error).__name__}: {error}{hint}", 1, debug)


def _log_to_stderr(debug: bool) -> None:
    """Show what the library says; of others only warnings, whatever level they gave themselves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s" if debug else "%(message)s"))
    if not debug:
        handler.addFilter(
            lambda record: record.levelno >= logging.WARNING or record.name.startswith("llara_core")
        )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("llara_core").setLevel(logging.DEBUG if debug else logging.INFO)
    # Imported by peft wherever it is installed, it regrets a kernel for CPUs that nobody asked for.
    logging.getLogger("bitsandbytes.backends").setLevel(logging.ERROR)


def _choose_format(words: list[str]) -> list[str]:
    """Set up the format of the log; returns the words without the option that chose it."""
    kept, given = [], None
    waiting = iter(words)
    for word in waiting:
        name, has_value, value = word.partition("=")
        if name != "--log-format":
            kept.append(word)
            continue
        given = value if has_value else next(waiting, None)
        if not given:
            raise ConfigError(f"--log-format: expected one of {', '.join(logs.FORMATS)}")
    chosen = logs.chosen_format(given)
    if given is not None or chosen == "json":
        os.environ[logs.FORMAT] = chosen  # llara_core.progress and processes that we start go by it
    if chosen == "json":
        logs.use_json()
    return kept


def _invoke(arguments: Sequence[str]) -> int:
    try:
        app(arguments, prog_name="llara")
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            raise KeyboardInterrupt from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _report(message: str, exit_code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if os.environ.get(logs.FORMAT) == "json":
        logging.getLogger("llara_core.cli").error(message)
    else:
        typer.echo(f"llara: {message}", err=True)
    return exit_code


def _before_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end:]
