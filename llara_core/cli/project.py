"""Commands that need ZenML or MLflow: run as a module of the project, whose checkout must be found first.

``llara_core`` knows neither, and a machine that only serves has no ``pipelines/``. So these commands are
declared here and done there: ``python -m pipelines.<x>`` in the project's root (issue 6, points 2 to 6).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from llara_core.errors import ConfigError

PROJECT = "LLARA_PROJECT"  # environment variable: the root, where neither option nor folder tells it
_MARKS = ("pipelines", ".zenml")  # folders by which a root is known


def find_project(project: Path | None = None) -> Path:
    """Root of the project: what is given, ``$LLARA_PROJECT``, or the nearest folder upwards from here.

    Args:
        project: what ``--project`` said.

    Raises:
        ConfigError: there is none, or the given folder is not one.
    """
    given = project or (Path(os.environ[PROJECT]) if os.environ.get(PROJECT) else None)
    if given is not None:
        root = given.expanduser().absolute()
        if not _is_project(root):
            source = "--project" if project is not None else f"${PROJECT}"
            raise ConfigError(f"{source}: {root} is no checkout of llara: it has no pipelines/ and .zenml/")
        return root
    here = Path.cwd()
    for folder in (here, *here.parents):
        if _is_project(folder):
            return folder
    raise ConfigError(
        f"this command works in a checkout of llara (a folder with pipelines/ and .zenml/), and neither "
        f"{here} nor a folder above it is one; change into it, give --project, or set ${PROJECT}"
    )


def run_module(module: str, arguments: Sequence[str], project: Path | None = None) -> int:
    """Run ``python -m module arguments`` in the project's root, with this process's terminal.

    Args:
        module: for example ``pipelines.schedules``.
        arguments: its arguments; paths in them must be absolute, since the folder changes.
        project: the root; None: ``find_project``.

    Returns:
        its exit code; 128 + the signal's number if a signal ended it.

    Raises:
        ConfigError: no project is found.
        KeyboardInterrupt: Ctrl-C was pressed; the module was told and has ended.
    """
    root = find_project(project)
    environment = dict(os.environ)
    # The modules of the checkout come first; the folder of the caller is not theirs.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), environment.get("PYTHONPATH"))))
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=root, env=environment)  # noqa: S603
    previous = _pass_on_termination(process)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # The terminal has sent Ctrl-C to both; the module tidies up, and we wait for it.
        process.wait()
        raise
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    return code if code >= 0 else 128 - code


def _pass_on_termination(process: subprocess.Popen[bytes]) -> signal._HANDLER:
    """Hand SIGTERM to the module; returns the handler of before, None outside the main thread."""
    try:
        return signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    except ValueError:  # only the main thread may
        return None


def _is_project(folder: Path) -> bool:
    return all((folder / mark).is_dir() for mark in _MARKS)
