"""One pod of several that train together: ``python -m llara_core.training.nodes NAME``.

The command of a ZenML command step. The Kubernetes step operator runs it in ``pod_count`` pods of an Indexed
Job and tells each where the first one is; here that becomes the rendezvous of ``accelerate launch``. What to
do lies on a volume (``node_request``). A pod whose partners do not come, or go, ends with a message.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from llara_core.errors import ConfigError, LlaraError, TrainingError
from llara_core.training.launch import Place
from llara_core.training.launched import STAGES
from llara_core.training.node_request import NodeRequest, folder_of

logger = logging.getLogger("llara_core.training.nodes")  # not `__main__`, whose words nobody would see

# Set by ZenML's Kubernetes step operator, the last one by Kubernetes.
COUNT, ADDRESS, PORT, INDEX = (
    "ZENML_KUBERNETES_POD_COUNT", "ZENML_KUBERNETES_MAIN_ADDRESS", "ZENML_KUBERNETES_MAIN_PORT",
    "JOB_COMPLETION_INDEX",
)  # fmt: skip
_TERMINATION_MESSAGE = Path("/dev/termination-log")  # what `kubectl describe pod` shows of a container's end
_LOOK = 1.0  # seconds between two looks for an address


def main(words: Sequence[str]) -> int:
    """Do this pod's part of the named request; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger("llara_core").setLevel(logging.INFO)
    try:
        if len(words) != 1:
            raise ConfigError(f"expected the name of a request, got {list(words)}")
        train(words[0], place_of(os.environ))
    except LlaraError as error:
        text = f"llara: {error}"
        sys.stderr.write(f"{text}\n")
        with suppress(OSError):
            _TERMINATION_MESSAGE.write_text(text[:4000], encoding="utf-8")  # Kubernetes keeps 4,096 bytes
        return error.exit_code
    return 0


def train(name: str, place: Place) -> None:
    """Train by the request of a name, unless its result stands already.

    Args:
        name: of the request.
        place: which pod of how many this is.

    Raises:
        LlaraError: whatever went wrong, here or in another pod.
    """
    request = NodeRequest.read(folder_of(name))
    if request.is_done():
        logger.info("%s: the result of this request stands already; nothing to do", request.facts["stage"])
        return
    patience = request.settings.patience_minutes * 60
    _wait_for_address(place, patience)
    logger.info("%s: pod %d of %d", request.facts["stage"], place.number, place.machines)
    request.train(importlib.import_module(STAGES[request.facts["stage"]]).run, place)


def place_of(environment: Mapping[str, str]) -> Place:
    """Which pod of how many this is, as ZenML and Kubernetes say.

    Raises:
        ConfigError: a variable is missing or is no number: the command does not run as a command step.
    """
    missing = [name for name in (COUNT, ADDRESS, PORT, INDEX) if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not set; this command is run by a command step on ZenML's Kubernetes step "
            "operator, with a pod_count of 2 or more"
        )
    numbers = {}
    for name in (COUNT, PORT, INDEX):
        if not environment[name].isdecimal():
            raise ConfigError(f"{name}: expected a number, got {environment[name]!r}")
        numbers[name] = int(environment[name])
    if numbers[INDEX] >= numbers[COUNT]:
        raise ConfigError(f"{INDEX} is {numbers[INDEX]} of {numbers[COUNT]} pods; they count from 0")
    return Place(numbers[INDEX], numbers[COUNT], environment[ADDRESS], numbers[PORT])


def _wait_for_address(place: Place, patience: float) -> None:
    """Wait until the first pod's name resolves: it does once that pod has been scheduled."""
    until, told = time.monotonic() + patience, False
    while True:
        try:
            socket.getaddrinfo(place.address, place.port)
        except OSError as error:
            if time.monotonic() > until:
                raise TrainingError(
                    f"pod {place.number} waited {patience / 60:g} minutes for the first pod "
                    f"(launch.patience_minutes), and {place.address} does not resolve ({error}); was that "
                    "pod scheduled? `kubectl describe job` tells, and whether GPUs or quota are short"
                ) from None
            if not told:
                logger.info("waiting for the first pod at %s", place.address)
                told = True
            time.sleep(min(_LOOK, patience))
        else:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
