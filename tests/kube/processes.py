"""Runs pods as processes of this machine, with the environment, secrets and volumes of their manifests.

A process gets nothing else of this machine's environment than where programs lie: what a pod needs and its
manifest forgets is missing here too. Volumes are folders; since a process has no mounts of its own, values of
its environment that begin with a mount's path are told the folder's instead.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.kube.faults import PodFault, container_status
from tests.kube.jobs import Instant
from tests.kube.names import Names
from tests.kube.objects import ApiError, Object, Objects

ROOT = Path(__file__).resolve().parents[2]
_POD = Path(__file__).with_name("pod")  # its `sitecustomize` makes a process look like a container
_LOOK = 0.1  # seconds between two looks at a process
_GRACE = 20  # seconds between SIGTERM and SIGKILL, unless the pod says less


class Processes:
    """Runs a pod's command.

    Args:
        folder: of the cluster; gets ``pods/<name>/`` (HOME), ``logs/<name>.log``, ``volumes/<claim>/``.
        objects: of the cluster, for the secrets that pods name.
        account: folder with the token and certificate of a service account.
        environment: more variables, for what an image would bring along.
        only: which pods; the others succeed at once.
    """

    def __init__(
        self,
        folder: Path,
        objects: Objects,
        account: Callable[[str], Path],
        environment: Mapping[str, str],
        only: Callable[[Object], bool] = lambda pod: True,
    ) -> None:
        self._folder, self._objects, self._account = folder, objects, account
        self._environment, self._only, self._names = environment, only, Names(objects)
        for name in ("logs", "pods", "volumes"):
            (folder / name).mkdir(exist_ok=True)

    def run(self, pod: Object, fault: PodFault | None, stop: threading.Event) -> Object | None:
        """Run the pod's first container until it ends, is stopped, or a fault strikes."""
        at_once = fault is not None and not fault.after and fault.said is None and fault.found is None
        if at_once or not self._only(pod):
            return Instant().run(pod, fault, stop)
        container, name = pod["spec"]["containers"][0], pod["metadata"]["name"]
        home, log = self._folder / "pods" / name, self._folder / "logs" / f"{name}.log"
        home.mkdir()
        try:
            environment = self._variables(pod, container, home)
        except ApiError as error:
            waiting = {"reason": "CreateContainerConfigError", "message": str(error)}
            return {"phase": "Failed", "containerStatuses": [container_status({"waiting": waiting})]}
        command = [*(container.get("command") or ()), *(container.get("args") or ())]
        if command[0] == "python":
            command[0] = sys.executable
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            struck = self._wait(process, fault, log, stop)
        finally:
            grace = pod["spec"].get("terminationGracePeriodSeconds", _GRACE)
            _end(process, 0 if fault is not None else min(grace, _GRACE))
        if struck and fault is not None:
            return fault.status
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
        phase = "Failed" if code else "Succeeded"
        return {"phase": phase, "containerStatuses": [container_status(state, container["image"])]}

    def _wait(
        self, process: subprocess.Popen[bytes], fault: PodFault | None, log: Path, stop: threading.Event
    ) -> bool:
        """Wait for the end; whether the fault struck before it."""
        due: float | None = None
        while process.poll() is None:
            if fault is not None and due is None and self._ripe(fault, log):
                due = time.monotonic() + fault.after
            if due is not None and time.monotonic() >= due:
                return True
            if stop.wait(_LOOK):
                return False
        return False

    def _ripe(self, fault: PodFault, log: Path) -> bool:
        if fault.said is not None and fault.said not in log.read_text(errors="replace"):
            return False
        return fault.found is None or any(self._folder.glob(fault.found))

    def _variables(self, pod: Object, container: Object, home: Path) -> dict[str, str]:
        namespace, spec = pod["metadata"]["namespace"], pod["spec"]
        told: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            if (named := source.get("secretRef")) is not None:
                told |= self._secret(namespace, named["name"])
        for one in container.get("env") or ():
            told[one["name"]] = self._value(one, pod)
        told = self._names.resolved(pod, told)
        mounts = _mounts(pod, container, self._folder, home)
        values = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home),
            "TMPDIR": str(mounts.get("/tmp", home)),
            "HOSTNAME": spec.get("hostname") or pod["metadata"]["name"],
        }  # fmt: skip
        if spec.get("automountServiceAccountToken", True):
            values["POD_SERVICE_ACCOUNT"] = str(self._account(spec.get("serviceAccountName") or "default"))
        values |= {**self._environment, **{name: _in_folder(one, mounts) for name, one in told.items()}}
        values.setdefault("LLARA_LOCAL", os.devnull)
        return {**values, "PYTHONPATH": f"{_POD}{os.pathsep}{values['PYTHONPATH']}"}

    def _value(self, one: Object, pod: Object) -> str:
        if "valueFrom" not in one:
            return str(one.get("value") or "")
        source = one["valueFrom"]
        if (named := source.get("secretKeyRef")) is not None:
            return self._secret(pod["metadata"]["namespace"], named["name"])[named["key"]]
        value: Any = pod
        for part in source["fieldRef"]["fieldPath"].split("."):
            value = value[part]
        return str(value)

    def _secret(self, namespace: str, name: str) -> dict[str, str]:
        data = self._objects.get("secrets", namespace, name).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


def _mounts(pod: Object, container: Object, folder: Path, home: Path) -> dict[str, Path]:
    """Path of each mount -> the folder that stands for its volume."""
    volumes = {one["name"]: one for one in pod["spec"].get("volumes") or ()}
    found = {}
    for mount in container.get("volumeMounts") or ():
        claim = volumes[mount["name"]].get("persistentVolumeClaim")
        place = folder / "volumes" / claim["claimName"] if claim else home / "volumes" / mount["name"]
        place.mkdir(parents=True, exist_ok=True)
        found[mount["mountPath"].rstrip("/")] = place
    return found


def _in_folder(value: str, mounts: Mapping[str, Path]) -> str:
    for path in sorted(mounts, key=len, reverse=True):
        if value == path or value.startswith(f"{path}/"):
            return f"{mounts[path]}{value.removeprefix(path)}"
    return value


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End what is left of the process and all that it started, in sessions of their own too."""
    below: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None and grace:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for one in below:
        with suppress(psutil.NoSuchProcess):
            one.kill()  # knows a process that has got the number of an ended one
    process.wait()
