"""What runs will ask of a cluster, read out of a run configuration and its stack."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines import kubernetes_check_pod as pods
from pipelines import kubernetes_levels as levels


@dataclass(frozen=True)
class GpuPod:
    """A pod with GPUs: where it may run, and what it takes.

    Args:
        step: name of the step.
        selectors: labels that its node must have.
        resource: for example ``nvidia.com/gpu``.
        amount: how many, as written.
    """

    step: str
    selectors: tuple[tuple[str, str], ...]
    resource: str
    amount: str

    @property
    def alike(self) -> tuple[object, ...]:
        """What pods have in common that the same nodes can take."""
        return self.selectors, self.resource, self.amount


@dataclass(frozen=True)
class Wanted:
    """What runs will ask of the cluster.

    Args:
        namespace: of the runs.
        service_accounts: under which their pods run.
        claims: names of their persistent volume claims.
        priorities: names of their priority classes.
        gpus: their pods with GPUs.
    """

    namespace: str
    service_accounts: Collection[str] = ()
    claims: Collection[str] = ()
    priorities: Collection[str] = ()
    gpus: Collection[GpuPod] = ()


def wanted_by(values: Iterable[Mapping[str, Any]], namespace: str, service_accounts: Iterable[str]) -> Wanted:
    """What run configurations ask of the cluster.

    Args:
        values: run configurations that have been checked.
        namespace: of the runs.
        service_accounts: those that the stack names.
    """
    claims, priorities, gpus = set(), set(), []
    for name, pod in (pod for one in values for pod in _pods(one)):
        for volume in pod.get("volumes") or []:
            claims.add(levels.mapping(volume.get("persistentVolumeClaim")).get("claimName"))
        priorities.add(levels.mapping(pod.get("additional_pod_spec_args")).get("priority_class_name"))
        selectors = tuple(sorted((pod.get("node_selectors") or {}).items()))
        gpus += [GpuPod(name, selectors, kind, str(amount)) for kind, amount in pods.gpus(pod).items()]
    some = (sorted(filter(None, names)) for names in (claims, priorities))
    return Wanted(namespace, sorted(set(service_accounts)), *some, tuple(dict.fromkeys(gpus)))


def _pods(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names of steps, or empty, and pod settings that stand in a run configuration."""
    run = levels.settings_of(levels.mapping(values.get("settings")), "orchestrator")
    for key in ("pod_settings", "orchestrator_pod_settings"):
        yield "", levels.mapping(run.get(key))
    for name, step in levels.mapping(values.get("steps")).items():
        settings = levels.mapping(levels.mapping(step).get("settings"))
        for kind in ("orchestrator", "step_operator"):
            yield str(name), levels.mapping(levels.settings_of(settings, kind).get("pod_settings"))
