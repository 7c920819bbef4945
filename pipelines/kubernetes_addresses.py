"""Do the services of a stack answer, and do they accept its credentials? Each is asked once, for seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from llara_core.doctor import Check
from pipelines.kubernetes_capacity import TIMEOUT

_MEND = "in deploy/kubernetes.env, then make stack-kubernetes"
_DOOR = "it must be reachable from this machine and from the pods; inside the cluster: kubectl port-forward"


def zenml_server(url: str) -> Check:
    """The ZenML server, which every pod asks what to do."""
    if not url.startswith("http"):
        found = "the ZenML state is a file of this machine, which no pod can reach"
        advice = "deploy a ZenML server and `zenml login` to it (docs/kubernetes.md, step 5)"
        return Check("zenml server", False, found, advice)
    return _asked("zenml server", url, "/health", advice=f"is it running? {_DOOR}")


def mlflow(uri: str, credentials: Mapping[str, str]) -> Check:
    """The MLflow server, and whether it lets us in.

    Args:
        uri: its address.
        credentials: ``tracking_username`` and ``tracking_password``, or ``tracking_token``, or none.
    """
    basic = (credentials.get("tracking_username", ""), credentials.get("tracking_password", ""))
    token = credentials.get("tracking_token")
    return _asked(
        "mlflow", uri, "/api/2.0/mlflow/experiments/search?max_results=1",
        auth=basic if basic[0] else None, headers={"Authorization": f"Bearer {token}"} if token else {},
        advice=f"is it running? {_DOOR}",
        refused=f"it refuses the credentials: mend MLFLOW_TRACKING_… {_MEND}",
    )  # fmt: skip


def registry(uri: str) -> Check:
    """The registry of images; one that asks who we are answers as well, so that 401 is as good as 200."""
    host = uri.removeprefix("https://").removeprefix("http://").partition("/")[0]
    scheme = "http" if uri.startswith("http://") else "https"
    advice = "is LLARA_REGISTRY right? Nodes pull from it, `make image-push` pushes to it"
    return _asked("registry", f"{scheme}://{host}", "/v2/", advice=advice, fine=(200, 401, 403))


def bucket(path: str, configuration: Mapping[str, Any]) -> Check:
    """The bucket of the artifact store, and whether the keys open it.

    Args:
        path: ``s3://bucket/folder``.
        configuration: of the component, its secrets filled in.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.session import Session

    client_arguments = dict(configuration.get("client_kwargs") or {})
    name = urlsplit(path).netloc
    patience = Config(connect_timeout=TIMEOUT[0], read_timeout=TIMEOUT[1], retries={"total_max_attempts": 1})
    keys = {
        "aws_access_key_id": configuration.get("key"),
        "aws_secret_access_key": configuration.get("secret"),
    }
    where = f"{path} at {client_arguments.get('endpoint_url', 'AWS')}"
    try:
        Session().create_client("s3", config=patience, **client_arguments, **keys).head_bucket(Bucket=name)
    except ClientError as error:
        status = str(error.response.get("Error", {}).get("Code", ""))
        advice = {
            "404": f"make the bucket {name!r}",
            "403": f"mend LLARA_S3_KEY and LLARA_S3_SECRET {_MEND}",
        }.get(status, "see the store's log")
        return Check("artifact store", False, f"{where}: {status}", advice)
    except (BotoCoreError, ValueError) as error:
        return Check("artifact store", False, f"{where}: {type(error).__name__}", f"is it running? {_DOOR}")
    return Check("artifact store", True, f"{where} opens")


def _asked(
    name: str,
    url: str,
    path: str,
    advice: str,
    refused: str = "",
    fine: tuple[int, ...] = (200,),
    **request: Any,
) -> Check:
    """One GET; addresses are shown without user and password."""
    import requests

    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    try:
        answer = requests.get(f"{url.rstrip('/')}{path}", timeout=TIMEOUT, allow_redirects=False, **request)
    except (requests.RequestException, UnicodeError) as error:
        return Check(name, False, f"{shown}: {type(error).__name__}", advice)
    if answer.status_code in fine:
        return Check(name, True, f"{shown} answers")
    if answer.status_code in (401, 403) and refused:
        return Check(name, False, f"{shown}: {answer.status_code}", refused)
    return Check(name, False, f"{shown}: {answer.status_code} {answer.reason}", advice)
