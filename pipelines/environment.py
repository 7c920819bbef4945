"""Where this checkout keeps its state, told to ZenML and MLflow through environment variables.

Everything a run makes lies under ``.local/`` of the checkout, so that nothing of the user's global
state changes; a variable that the user has set already wins. ``apply`` must run before ``zenml``
is imported, because ZenML reads its configuration folder once; the checkout's own ``.venv`` gets
the same values through ``write_files``, so that plain ``zenml`` and ``mlflow`` commands agree.
"""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PTH_NAME = "llara_checkout.pth"


def local_folder() -> Path:
    """The folder of everything that runs make: ``$LLARA_LOCAL``, or ``.local`` in the checkout."""
    return Path(os.environ.get("LLARA_LOCAL") or REPOSITORY / ".local").expanduser().resolve()


def variables(local: Path | None = None) -> dict[str, str]:
    """Environment variables of a run on this checkout, name to value.

    Args:
        local: folder of the state; None: ``local_folder()``.
    """
    local = local or local_folder()
    return {
        "LLARA_LOCAL": str(local),
        # ZenML's own state: stacks, runs, artifact records.
        "ZENML_CONFIG_PATH": str(local / "zenml"),
        # Steps are found relative to the checkout without the `.zen` folder that `zenml init` writes.
        "ZENML_CUSTOM_SOURCE_ROOT": str(REPOSITORY),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_AUTO_OPEN_DASHBOARD": "false",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{local / 'mlflow' / 'mlflow.db'}",
        # Read when a run starts, which the tracker of the stack does before our code is called.
        "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true",
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "5",
        "GIT_PYTHON_REFRESH": "quiet",
        # Batches are tokenised by several threads; left unset, every fork afterwards prints a warning.
        "TOKENIZERS_PARALLELISM": "true",
        # Threads that wait by spinning make a step several times slower when the cores are shared.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def apply() -> None:
    """Set what the user has not set; makes the local folder.

    Raises:
        PermissionError: the local folder cannot be made.
    """
    for name, value in variables().items():
        os.environ.setdefault(name, value)
    for folder in (local_folder(), Path(os.environ["ZENML_CONFIG_PATH"])):
        folder.mkdir(parents=True, exist_ok=True)


def write_files() -> list[Path]:
    """Write the variables where other processes find them; returns the files.

    1. ``.local/env``, to be sourced by a shell: ``source .local/env``.
    2. A ``.pth`` line in the checkout's own ``.venv`` (never in another environment), so that
       ``.venv/bin/zenml`` and ``.venv/bin/mlflow`` see the same state without sourcing anything.
    """
    shell = local_folder() / "env"
    lines = [
        f'export {name}="${{{name}:-{_in_double_quotes(value)}}}"' for name, value in variables().items()
    ]
    lines.append(f'export PATH={shlex.quote(str(Path(sys.prefix) / "bin"))}:"$PATH"')
    _write(shell, "\n".join(lines) + "\n")
    written = [shell]
    usual = (REPOSITORY / ".local").resolve()
    if Path(sys.prefix).resolve() == (REPOSITORY / ".venv").resolve() and local_folder() == usual:
        pth = Path(sysconfig.get_paths()["purelib"]) / PTH_NAME
        # A process that is told another folder keeps out of this one altogether.
        _write(
            pth,
            f"import os; os.environ.get('LLARA_LOCAL', {str(usual)!r}) == {str(usual)!r} and "
            f"[os.environ.setdefault(k, v) for k, v in {variables()!r}.items()]\n",
        )
        written.append(pth)
    return written


def _in_double_quotes(value: str) -> str:
    for character in '\\"$`}':
        value = value.replace(character, "\\" + character)
    return value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
