"""What became of a run that a cluster carries out: ZenML ends one whose steps failed without an error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from llara_core.errors import LlaraError
from pipelines import kubernetes_causes

logger = logging.getLogger(__name__)

_FLAVOR = "kubernetes"
_AGAIN = "the same command goes on where this one stopped: finished steps come from the cache"


class ClusterRunError(LlaraError):
    """A run on Kubernetes failed; the message names the causes that the cluster tells."""


def watched(kind: str, start: Callable[[], Any]) -> Any:
    """Start a run and see how it ended; on another orchestrator than Kubernetes just start it.

    Args:
        kind: name of the pipeline.
        start: starts the run, and waits for it where its settings say ``synchronous: true``.

    Returns:
        the run; of one that nobody waited for, as it is now.

    Raises:
        ClusterRunError: it failed.
    """
    from zenml.client import Client

    orchestrator = Client().active_stack.orchestrator
    if orchestrator.flavor != _FLAVOR:
        return start()
    try:
        run = start()
    except LlaraError:
        raise
    except Exception as error:
        # Of the orchestrator's own pod, or of the API server: the run may be there or not.
        raise ClusterRunError(_words(orchestrator, _newest(kind), _first_line(error))) from error
    if str(run.status) == "failed":
        raise ClusterRunError(_words(orchestrator, run, f"{kind} failed"))
    return run


def _newest(kind: str) -> Any | None:
    from zenml.client import Client

    found = Client().list_pipeline_runs(pipeline=kind, sort_by="desc:created", size=1, hydrate=True).items
    return found[0] if found else None


def _words(orchestrator: Any, run: Any | None, said: str) -> str:
    causes = [] if run is None else _causes(orchestrator, run)
    if causes:
        return "\n  ".join([f"{said}:", *(str(one) for one in causes), _AGAIN])
    name = "" if run is None else f"; logs: kubectl logs -l run_id={run.id} --tail=-1, or the ZenML dashboard"
    return f"{said}{name}; {_AGAIN}"


def _causes(orchestrator: Any, run: Any) -> list[kubernetes_causes.Cause]:
    """What the cluster tells; nothing where it cannot be asked, since the run's own failure matters more."""
    from kubernetes.client import ApiException, BatchV1Api, CoreV1Api
    from urllib3.exceptions import HTTPError

    namespace = orchestrator.config.kubernetes_namespace
    try:
        client = orchestrator.get_kube_client()
        return kubernetes_causes.of_run(CoreV1Api(client), BatchV1Api(client), namespace, str(run.id))
    except (ApiException, HTTPError) as error:
        logger.warning("The cluster could not be asked why (%s).", _first_line(error))
        return []


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
