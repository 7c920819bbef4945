"""Is this machine ready? One check a concern, each with what to do when it fails."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from llara_core.environment import usable_cpus, version

_NEEDED = ("torch", "transformers", "tokenizers", "peft", "accelerate", "pyarrow", "numpy", "bm25s")
_PIPELINE = ("zenml", "mlflow", "great-expectations")
_FREE_BYTES = 3 * 10**9  # checkpoints, vectors and the stack's databases of a default run, with room
_FREE_MEMORY = 3 * 10**9  # a default run takes up to 4 GB, of which file cache can be given back


@dataclass(frozen=True)
class Check:
    """What one check found.

    Args:
        name: what was looked at.
        ok: whether it is as it should be.
        found: what was found.
        advice: what to do; empty when all is well.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


def examine(folder: Path | None = None) -> list[Check]:
    """Run every check; none changes anything, needs a network or imports the pipeline's frameworks.

    Args:
        folder: where runs will write; None: the working directory.
    """
    folder = folder or Path.cwd()
    checks: list[Callable[[], Check]] = [
        _python,
        _packages,
        _threads,
        _memory,
        _gpu,
        _faiss,
        _pipeline,
        _stack,
        _tracking,
    ]
    return [*(check() for check in checks), _disk(folder)]


def lines(checks: Sequence[Check]) -> Iterator[str]:
    """What is shown of checks: a line each, and below each problem what to do about it.

    Args:
        checks: what was found.
    """
    width = max(len(check.name) for check in checks)
    for check in checks:
        yield f"{'ok     ' if check.ok else 'PROBLEM'}  {check.name:<{width}}  {check.found}"
        if not check.ok:
            yield f"{'':7}  {'':<{width}}  → {check.advice}"


def verdict(checks: Sequence[Check]) -> str:
    """How many problems there are, in words; empty without any."""
    failed = sum(not check.ok for check in checks)
    return f"{failed} {'problem' if failed == 1 else 'problems'} found" if failed else ""


def _python() -> Check:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return Check("python", sys.version_info >= (3, 10), found, "install Python 3.10 or newer")


def _packages() -> Check:
    missing = [name for name in _NEEDED if version(name) is None]
    if missing:
        return Check(
            "packages", False, f"missing: {', '.join(missing)}", "run `pip install llara` anew, or `make run`"
        )
    return Check("packages", True, ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers")))


def _threads() -> Check:
    cpus, asked = usable_cpus(), os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > cpus:
        found = f"OMP_NUM_THREADS={asked} on {cpus} usable processors"
        return Check(
            "threads", False, found, f"export OMP_NUM_THREADS={cpus}: more threads than that are slower"
        )
    return Check(
        "threads", True, f"{cpus} usable processors" + (f", OMP_NUM_THREADS={asked}" if asked else "")
    )


def _memory() -> Check:
    file = Path("/proc/meminfo")
    if not file.is_file():
        return Check("memory", True, "not told by this system")
    lines = dict(line.split(":", 1) for line in file.read_text(encoding="utf-8").splitlines() if ":" in line)
    free = int(lines.get("MemAvailable", "0 kB").split()[0]) * 1024
    advice = "" if free >= _FREE_MEMORY else "close other programs, or use smaller batches"
    return Check("memory", free >= _FREE_MEMORY, f"{free / 1e9:.1f} GB available", advice)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Check("disk", False, f"{folder} is not writable", "change to a folder that is yours")
    advice = (
        "" if free >= _FREE_BYTES else f"free {(_FREE_BYTES - free) / 1e9:.1f} GB, e.g. with `make clean`"
    )
    return Check("disk", free >= _FREE_BYTES, f"{free / 1e9:.1f} GB free", advice)


def _gpu() -> Check:
    if version("torch") is None:
        return Check("gpu", True, "not looked for without torch")
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check("gpu", True, ", ".join(names))
    if shutil.which("nvidia-smi") is not None and torch.version.cuda is None:
        advice = "install a CUDA build of torch: this machine has an NVIDIA driver"
        return Check("gpu", False, "NVIDIA driver, but torch is a CPU build", advice)
    return Check("gpu", True, "none; the processor is used")


def _faiss() -> Check:
    cpu, gpu = version("faiss-cpu"), version("faiss-gpu")
    if cpu and gpu:
        advice = "keep one: `pip uninstall faiss-cpu faiss-gpu`, then install llara[cpu] or llara[gpu]"
        return Check(
            "faiss", False, f"both faiss-cpu {cpu} and faiss-gpu {gpu}, which overwrite each other", advice
        )
    if not cpu and not gpu:
        return Check("faiss", True, "not installed; search falls back on numpy (llara[cpu] makes it faster)")
    return Check("faiss", True, f"faiss-cpu {cpu}" if cpu else f"faiss-gpu {gpu}")


def _pipeline() -> Check:
    missing = [name for name in _PIPELINE if version(name) is None]
    if len(missing) == len(_PIPELINE):
        return Check("pipeline", True, "not installed; needed only for pipelines (llara[pipeline])")
    if missing:
        return Check(
            "pipeline", False, f"missing: {', '.join(missing)}", "run `pip install 'llara[pipeline]'`"
        )
    return Check("pipeline", True, ", ".join(f"{name} {version(name)}" for name in _PIPELINE))


def _stack() -> Check:
    """Look at the files of the stack rather than at ZenML, whose import takes seconds."""
    if version("zenml") is None:
        return Check("stack", True, "none: the library alone is installed, without the extra `pipeline`")
    url = os.environ.get("ZENML_STORE_URL", "")
    if url.startswith(("http://", "https://")):
        return _reachable("stack", url, "start the ZenML server, or unset ZENML_STORE_URL")
    home = Path(os.environ.get("ZENML_CONFIG_PATH", ".local/zenml"))
    if not home.is_dir():
        return Check("stack", True, f"not set up yet ({home} is missing); `make run` does it")
    return Check("stack", True, f"state in {home}")


def _tracking() -> Check:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        return _reachable("tracking", uri, "start the MLflow server, or unset MLFLOW_TRACKING_URI")
    return Check("tracking", True, f"MLFLOW_TRACKING_URI={uri}" if uri else "local, under .local/")


def _reachable(name: str, url: str, advice: str) -> Check:
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), timeout=3):
            return Check(name, True, f"{parts.scheme}://{parts.hostname}:{port} answers")
    except (OSError, ValueError) as error:
        # Without user and password, which a URL may hold.
        return Check(name, False, f"{parts.scheme}://{parts.hostname} cannot be reached: {error}", advice)
