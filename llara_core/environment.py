"""What a run is recorded with: versions, code, machine; enough to say why two runs differ."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9._-]+")
# Not among the library's own requirements, but they decide what a run gives when they are there.
_OPTIONAL = ("faiss-cpu", "faiss-gpu", "zenml", "mlflow", "great-expectations", "datasets")
_GIT_TIMEOUT = 20.0  # seconds; a status over a network file system can hang


def describe(repository: Path | None = None) -> dict[str, Any]:
    """Everything that a run's record says about where it ran; JSON-able.

    Args:
        repository: the checkout; None: the one that holds this package, if any.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": usable_cpus(),
        "threads": threads(),
        "gpus": gpus(),
        "packages": packages(),
        "git": git_state(repository or Path(__file__).resolve().parent.parent),
    }


def of_children() -> dict[str, str]:
    """This process's environment for processes that run a module of this package, installed or not."""
    root = str(Path(__file__).resolve().parent.parent)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def packages() -> dict[str, str]:
    """Versions of the installed packages that the library names, in alphabetical order."""
    names = {"llara", *_OPTIONAL}
    try:
        requirements = importlib.metadata.requires("llara") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        requirements = ["numpy", "pyarrow", "torch", "transformers", "tokenizers", "peft", "accelerate"]
    for requirement in requirements:
        match = _REQUIREMENT_NAME.match(requirement)
        if match and "extra ==" not in requirement:
            names.add(match.group())
    found = {name: version(name) for name in names}
    return {name: found[name] or "" for name in sorted(found, key=str.lower) if found[name]}


def version(package: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state(repository: Path) -> dict[str, Any] | None:
    """Commit, branch and whether tracked files differ from it; None outside a checkout or without git."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        return None
    commit = _git(repository, "rev-parse", "HEAD")
    if commit is None:
        return None
    status = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": commit,
        "branch": _git(repository, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


def usable_cpus() -> int:
    """Processors that this process may use (containers and ``taskset`` give fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> dict[str, Any]:
    """Threads of torch, and the variables that set them; torch is not imported for it."""
    torch = sys.modules.get("torch")
    return {
        "torch": None if torch is None else int(torch.get_num_threads()),
        **{name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ},
    }


def gpus() -> list[dict[str, Any]]:
    """Name and memory in bytes of every CUDA device that torch sees; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    devices = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [{"name": one.name, "memory": int(one.total_memory)} for one in devices]


def _git(repository: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, and a path that git reads as one argument
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
