"""A Kubernetes cluster for tests: an API server on loopback that keeps, checks and records, and runs Jobs.

It knows what ZenML's orchestrator and step operator and our own checks ask of a cluster, and nothing else: no
scheduler, no kubelet, no admission but the schemas, no watch. ``with Cluster(folder) as cluster`` gives one;
``KUBECONFIG=cluster.kubeconfig`` makes any client talk to it.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.kube import manifests
from tests.kube.faults import Faults
from tests.kube.jobs import Instant, Jobs, Runner
from tests.kube.objects import KINDS, ApiError, Asked, Object, Objects, asked
from tests.kube.processes import Processes
from tests.kube.recording import Recorder, Request
from tests.kube.tls import certificate

PERSON = "person"  # whoever has the kubeconfig
CONTEXT = "llara-test"
GPU_NODE: Object = {
    "metadata": {
        "name": "gpu-0",
        "labels": {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    },
    "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
    "status": {
        "allocatable": {"cpu": "96", "memory": "1000Gi", "ephemeral-storage": "900Gi", "nvidia.com/gpu": "8"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
CPU_NODE: Object = {
    "metadata": {"name": "cpu-0", "labels": {}},
    "status": {
        "allocatable": {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "200Gi"},
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}


class Cluster:
    """The cluster; its parts may be looked at and changed while it works.

    Args:
        folder: everything it writes.
        processes: run pods as processes; by default they succeed at once.
        only: with processes, which pods; the others succeed at once.
        environment: with processes, what their image brings along.
        strict: refuse manifests that break the schema of a current version, as the server would.
    """

    def __init__(
        self,
        folder: Path,
        processes: bool = False,
        only: Callable[[Object], bool] = lambda pod: True,
        environment: Mapping[str, str] | None = None,
        strict: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.strict = folder, strict
        self.objects, self.faults, self.recorder = Objects(), Faults(), Recorder(folder)
        # What a user may do, as (API group, resource, verb); one who is not named may do everything.
        self.grants: dict[str, Collection[tuple[str, str, str]]] = {}
        self._tokens = {secrets.token_hex(16): PERSON}
        self._token_lock = threading.Lock()
        self.certificate, self._tls = certificate(folder)
        server = _Server(("127.0.0.1", 0), _handler(self))
        server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._server, self.port = server, int(server.server_port)
        brought = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}
        brought |= environment or {}
        runner: Runner = Instant()
        if processes:
            runner = Processes(folder, self.objects, self.account, brought, only)
        self.jobs = Jobs(self.objects, self.faults, runner)
        self.kubeconfig = self._write_kubeconfig()
        for node in (GPU_NODE, CPU_NODE):
            self.objects.create("nodes", None, node)
        self.objects.create("storageclasses", None, {"metadata": {"name": "standard"}, "provisioner": "test"})

    @property
    def url(self) -> str:
        """Address of the API server."""
        return f"https://127.0.0.1:{self.port}"

    def __enter__(self) -> Cluster:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.jobs.close()
        self._server.shutdown()
        self._server.server_close()
        self.recorder.write_permissions()

    def account(self, name: str) -> Path:
        """Folder with the token and certificate of a service account, as pods find it mounted."""
        with self._token_lock:
            folder = self.folder / "accounts" / name
            if not folder.exists():
                folder.mkdir(parents=True)
                token = secrets.token_hex(16)
                self._tokens[token] = name
                (folder / "token").write_text(token)
                (folder / "ca.crt").write_bytes(self.certificate.read_bytes())
            return folder

    def fire(self, cron_job: str, namespace: str) -> Object:
        """Make the Job of a CronJob now, as ``kubectl create job --from=cronjob/NAME`` does."""
        cron = self.objects.get("cronjobs", namespace, cron_job)
        template = cron["spec"]["jobTemplate"]
        metadata = {
            key: dict(template.get("metadata", {}).get(key) or {}) for key in ("labels", "annotations")
        }
        owner = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "name": cron_job,
            "uid": cron["metadata"]["uid"],
        }
        job = {
            "metadata": {
                **metadata,
                "name": f"{cron_job[:45]}-{secrets.token_hex(3)}",
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
        }
        made = self.objects.create("jobs", namespace, job)
        self.jobs.start(made)
        return made

    def log(self, pod: str) -> str:
        """What a pod has printed so far."""
        file = self.folder / "logs" / f"{pod}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def user(self, header: str | None) -> str:
        """Whose token it is; `ApiError` 401 for nobody's."""
        token = (header or "").split(" ")[-1]
        if (user := self._tokens.get(token)) is None:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return user

    def may(self, user: str, permission: tuple[str, str, str]) -> bool:
        """Whether a user may do something."""
        return user not in self.grants or permission in self.grants[user]

    def answer(self, user: str, what: Asked, query: Mapping[str, str], body: Any) -> Any:
        """Do what is asked; the object to answer with, or bytes for a log."""
        lost = self.faults.of_request(what, body)
        try:
            return self._do(user, what, query, body)
        finally:
            time.sleep(lost)

    def _do(self, user: str, what: Asked, query: Mapping[str, str], body: Any) -> Any:
        if what.resource == "selfsubjectaccessreviews":
            return self._review(user, body)
        if not self.may(user, what.permission):
            raise _forbidden(user, *what.permission)
        if what.verb == "list":
            chosen = query.get("labelSelector", ""), query.get("fieldSelector", "")
            items = self.objects.list(what.resource, what.namespace, *chosen)
            return {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}
        if what.verb == "create":
            return self._create(what, body)
        return self._one(what, body)

    def _one(self, what: Asked, body: Any) -> Any:
        assert what.name is not None
        key = (what.resource, what.namespace, what.name)
        if what.subresource == "log":
            self.objects.get(*key)
            return self.log(what.name).encode()
        if what.verb == "get":
            return self.objects.get(*key)
        if what.verb != "delete":
            return self.objects.patch(*key, body)
        gone = self.objects.delete(*key)
        if what.resource == "jobs":
            self.jobs.stop(gone)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _create(self, what: Asked, body: Object) -> Object:
        if self.strict:
            api_version, kind = KINDS[what.resource]
            if wrong := manifests.complaints({**body, "apiVersion": api_version, "kind": kind}):
                raise ApiError(422, "Invalid", "; ".join(wrong))
        made = self.objects.create(what.resource, what.namespace, manifests.defaulted(body))
        if what.resource == "jobs":
            self.jobs.start(made)
        return made

    def _review(self, user: str, body: Object) -> Object:
        wanted = body["spec"]["resourceAttributes"]
        resource = wanted["resource"] + (f"/{wanted['subresource']}" if wanted.get("subresource") else "")
        allowed = self.may(user, (wanted.get("group") or "", resource, wanted["verb"]))
        return {**body, "status": {"allowed": allowed}}

    def _write_kubeconfig(self) -> Path:
        token = next(iter(self._tokens))
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        told = {
            "apiVersion": "v1", "kind": "Config", "current-context": CONTEXT,
            "clusters": [{"name": CONTEXT, "cluster": cluster}],
            "users": [{"name": CONTEXT, "user": {"token": token}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        }  # fmt: skip
        file = self.folder / "kubeconfig"
        file.write_text(yaml.safe_dump(told), encoding="utf-8")
        file.chmod(0o600)
        return file


def _forbidden(user: str, group: str, resource: str, verb: str) -> ApiError:
    words = f'User "{user}" cannot {verb} resource "{resource}" in API group "{group}"'
    return ApiError(403, "Forbidden", f"{resource} is forbidden: {words}")


def _version() -> Object:
    newest = manifests.versions()[0]
    return {"major": "1", "minor": newest.split(".")[1], "gitVersion": f"v{newest}.0"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that waits for a planted delay shall not hold up the end

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news; the tests plant some."""


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            return None

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query, body = dict(parse_qsl(address.query)), json.loads(raw) if raw else None
            user, what, status, answer = "nobody", None, 200, None
            try:
                user = cluster.user(self.headers.get("Authorization"))
                if address.path.rstrip("/") == "/version":
                    answer = _version()
                else:
                    what = asked(self.command, address.path)
                    answer = cluster.answer(user, what, query, body)
                    status = 201 if what.verb == "create" else 200
            except ApiError as error:
                status, answer = error.status, error.body()
            cluster.recorder.add(
                Request(
                    cluster.recorder.elapsed(), self.command, address.path, query, body, user, status, what
                )
            )
            self.reply(status, answer)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def reply(self, status: int, answer: Any) -> None:
            plain = isinstance(answer, bytes)
            content = answer if plain else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if plain else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler
