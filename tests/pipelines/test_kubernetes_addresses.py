"""Services that answer, refuse, stay silent or are not there: each is told in seconds, without secrets."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable

import pytest

from llara_core.doctor import Check
from pipelines import kubernetes_addresses


class _Service:
    """A server on loopback that answers everything with one status, or never."""

    def __init__(self, status: int | None) -> None:
        outer = self
        self.asked: list[tuple[str, str | None]] = []
        self._over = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                if status is None:
                    outer._over.wait(60)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> _Service:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


def test_services_that_answer_are_well() -> None:
    with _Service(200) as service:
        assert kubernetes_addresses.zenml_server(service.url).ok
        told = {"tracking_username": "me", "tracking_password": "planted"}
        assert kubernetes_addresses.mlflow(service.url, told).ok
        assert kubernetes_addresses.registry(f"{service.url}/team").ok
        paths = [path.partition("?")[0] for path, _ in service.asked]
        assert paths == ["/health", "/api/2.0/mlflow/experiments/search", "/v2/"]
        assert service.asked[1][1] is not None
    with _Service(401) as service:
        assert kubernetes_addresses.registry(service.url).ok  # it asks who we are
        refused = kubernetes_addresses.mlflow(service.url, {"tracking_token": "planted"})
        assert not refused.ok
        assert "make stack-kubernetes" in refused.advice
        assert service.asked[1][1] == "Bearer planted"


@pytest.mark.parametrize("ask", [kubernetes_addresses.zenml_server, kubernetes_addresses.registry])
def test_a_service_that_is_away_or_silent_is_told(
    ask: Callable[[str], Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    with _Service(200) as service:
        gone = service.url
    assert not ask(gone).ok
    monkeypatch.setattr(kubernetes_addresses, "TIMEOUT", (0.2, 0.2))
    with _Service(None) as silent:
        check = ask(silent.url)
    assert "ReadTimeout" in check.found
    assert not kubernetes_addresses.zenml_server("sqlite:////x.db").ok


def test_passwords_in_addresses_are_not_shown() -> None:
    check = kubernetes_addresses.mlflow("http://me:planted@127.0.0.1:1", {})
    assert not check.ok
    assert "planted" not in f"{check.found}{check.advice}"


def test_a_bucket_is_opened_with_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("moto.server")
    monkeypatch.setattr(kubernetes_addresses, "TIMEOUT", (10, 30))
    store = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    store.start()
    try:
        from botocore.session import Session

        host, port = store.get_host_and_port()
        arguments = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
        told = {"client_kwargs": arguments, "key": "a", "secret": "planted"}
        missing = kubernetes_addresses.bucket("s3://llara/zenml", told)
        assert (missing.ok, missing.advice) == (False, "make the bucket 'llara'")
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        Session().create_client("s3", **arguments, **keys).create_bucket(Bucket="llara")
        assert kubernetes_addresses.bucket("s3://llara/zenml", told).ok
    finally:
        store.stop()
    away = kubernetes_addresses.bucket("s3://llara/zenml", told)
    assert not away.ok
    assert "planted" not in f"{away.found}{away.advice}"
