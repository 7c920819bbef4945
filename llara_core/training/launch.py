"""A stage in as many processes as wanted: in this one, or in those that ``accelerate launch`` starts.

Several machines differ from one in ``Place`` alone: each runs this with its own number, and they meet at the
address of the first (``nodes``).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llara_core.environment import of_children, usable_cpus
from llara_core.errors import ConfigError
from llara_core.launch_settings import LaunchSettings
from llara_core.settings import configuration, load_yaml
from llara_core.training.distributed import PATIENCE
from llara_core.training.launch_watch import watch
from llara_core.training.launched import REQUEST
from llara_core.training.stage_request import StageRequest

if TYPE_CHECKING:
    from llara_core.training.trainer import OnLog

_CONFIG = "accelerate.yaml"
# Every process the whole model. `MULTI_GPU` is torchrun, on a CPU too: there accelerate would want MPI.
_REPLICAS = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "mixed_precision": "no"}


@dataclass(frozen=True)
class Place:
    """Which machine of how many this is.

    Args:
        number: of this machine, from 0.
        machines: how many there are.
        address: of the first one.
        port: on which the first one is waiting; 0: any free one, which only one machine can use.
    """

    number: int = 0
    machines: int = 1
    address: str = "127.0.0.1"
    port: int = 0


def launch(
    request: StageRequest,
    run: Callable[[StageRequest, OnLog | None], Path],
    settings: LaunchSettings,
    on_log: OnLog | None = None,
    place: Place = Place(),
) -> Path:
    """Run a stage in ``settings.processes`` processes of this machine; in this one alone if that is 1.

    The result is that of one process, up to the rounding of sums in another order. Ended in any way, this
    process takes its children with it; their checkpoints stay, and the same call goes on from them. A
    child's error is raised here as if it had happened here, its log lines and its curve come as they are
    written.

    Args:
        request: what to do.
        run: does it in this process, e.g. ``stage_adapt.run``.
        settings: how many processes, and how they share the model.
        on_log: called with the step and the logged values; on the first machine only.
        place: which machine this is.

    Returns:
        ``request.output``.

    Raises:
        ConfigError: more processes than GPUs; a file for accelerate that cannot be used.
        TrainingError: a process was killed, or did not find the others in time.
        LlaraError: whatever the stage raises.
    """
    processes = processes_of(settings)
    if processes * place.machines == 1 and settings.accelerate is None:
        return run(request, on_log)
    # On this machine's own disk: locks of network file systems are not to be trusted with ending processes.
    with tempfile.TemporaryDirectory(prefix="llara-launch-") as name:
        folder = Path(name)
        request.write(folder / REQUEST)
        config = accelerate_config(settings, processes, place)
        (folder / _CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
        patience = settings.patience_minutes * 60
        environment = {**of_children(), PATIENCE: str(patience)}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cpus() // processes)))
        watch(_command(folder, patience), folder, environment, on_log, request.stage)
    return request.output


def processes_of(settings: LaunchSettings) -> int:
    """How many processes train on this machine.

    Raises:
        ConfigError: more than there are GPUs, on a machine that has some and was not told to use its CPU.
    """
    from llara_core.training.distributed import use_cpu

    gpus = 0
    if not use_cpu():
        import torch

        gpus = torch.cuda.device_count()
    if settings.processes == "auto":
        return max(1, gpus)
    if gpus and settings.processes > gpus:
        raise ConfigError(
            f"launch.processes: got {settings.processes}, and this machine shows {gpus} GPUs; give as many "
            "as it has, or `auto`. In a pod the limit of nvidia.com/gpu decides how many are visible"
        )
    return settings.processes


def accelerate_config(settings: LaunchSettings, processes: int, place: Place) -> dict[str, Any]:
    """What ``accelerate launch`` is told, and nothing from a user's own default file.

    Args:
        settings: whose ``accelerate`` file says how the model is shared.
        processes: of this machine.
        place: which machine this is.

    Raises:
        ConfigError: the file is missing or is no YAML.
    """
    shared = dict(_REPLICAS)
    if settings.accelerate is not None:
        shared = load_yaml(Path(settings.accelerate).expanduser())
    if processes * place.machines == 1 and shared.get("distributed_type") == "MULTI_GPU":
        shared["distributed_type"] = "NO"  # accelerate refuses one process of several
    return {
        **shared,
        "num_machines": place.machines,
        "num_processes": processes * place.machines,
        "machine_rank": place.number,
        "main_process_ip": place.address,
        "main_process_port": place.port,
        "rdzv_backend": "static",  # ranks are given, not found: the first machine writes the result
    }


def _command(folder: Path, patience: float) -> list[str]:
    return [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(folder / _CONFIG),
        "--rdzv_conf", f"timeout={max(1, round(patience))}",
        "-m", "llara_core.training.launched", str(folder),
    ]  # fmt: skip


def accelerate_file(name: str | None, root: Path) -> str | None:
    """``launch.accelerate`` as a path: from the working folder, else from the checkout ``root``."""
    return None if name is None else str(configuration(name, root))
