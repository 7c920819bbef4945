"""What a production set-up has beside the cluster, on loopback: a ZenML server, an S3 store, MLflow.

Each is a process that ends with the test, however it ends; each must answer within a bounded time.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240.0  # seconds until a service answers; the ZenML server makes its tables first, about 40 s here
REGION = "us-east-1"
_SAID = 4000  # characters of a log that are shown


@dataclass(frozen=True)
class Store:
    """An S3 store and its keys."""

    url: str
    key: str
    secret: str

    def environment(self) -> dict[str, str]:
        """Where every AWS client looks for it."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
        }  # fmt: skip


def plain_environment() -> dict[str, str]:
    """This machine's environment without anybody's state of ZenML, MLflow, AWS, Kubernetes or of ours."""
    dropped = ("ZENML_", "MLFLOW_", "LLARA_", "AWS_", "HF_", "KUBE", "PYTEST_", "COVERAGE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """A port of loopback that nobody listens on at present."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def started(
    name: str, words: Sequence[str], environment: Mapping[str, str], folder: Path, ready: str
) -> Iterator[None]:
    """Run ``python -m WORDS`` until the block ends; enters when an address answers.

    Raises:
        AssertionError: it ended, or did not answer in time; shows the end of its log.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, env={"LLARA_LOCAL": str(folder), **environment},
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(ready):
            said = log.read_text(errors="replace")[-_SAID:]
            assert process.poll() is None, f"{name} ended with {process.returncode}: {said}"
            assert time.monotonic() < until, (
                f"{name} did not answer at {ready} within {PATIENCE:.0f} s: {said}"
            )
            time.sleep(0.3)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # it speaks
    except (OSError, TimeoutError):
        return False


def client(store: Store) -> Any:
    """A client of the store."""
    import boto3

    return boto3.client(
        "s3", endpoint_url=store.url, aws_access_key_id=store.key, aws_secret_access_key=store.secret,
        region_name=REGION,
    )  # fmt: skip


@contextmanager
def s3(folder: Path, buckets: Sequence[str] = ("llara",)) -> Iterator[Store]:
    """An S3 store with empty buckets."""
    port = free_port()
    store = Store(f"http://127.0.0.1:{port}", "test-key", "planted-s3-secret")
    words = ["moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with started("s3", words, plain_environment(), folder, f"{store.url}/moto-api/"):
        for bucket in buckets:
            client(store).create_bucket(Bucket=bucket)
        yield store


@contextmanager
def mlflow_server(folder: Path, store: Store, bucket: str = "llara") -> Iterator[str]:
    """An MLflow server whose files go to S3 through it; gives its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = [
        "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"s3://{bucket}/mlflow",
    ]  # fmt: skip
    environment = {**plain_environment(), **store.environment(), "MLFLOW_S3_ENDPOINT_URL": store.url}
    with started("mlflow", words, environment, folder, f"{address}/health"):
        yield address


@contextmanager
def zenml_server(folder: Path, password: str) -> Iterator[str]:
    """A ZenML server on SQLite, whose user ``default`` has a password; gives its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = plain_environment() | {
        "ZENML_SERVER": "true", "ZENML_CONFIG_PATH": str(folder / "zenml-config"), "ZENML_STORE_TYPE": "sql",
        "ZENML_LOCAL_STORES_PATH": str(folder / "zenml-stores"), "ZENML_STORE_URL": f"sqlite:///{folder}/zenml.db",
        "ZENML_SERVER_AUTO_ACTIVATE": "true", "ZENML_SERVER_DEPLOYMENT_TYPE": "other",
        "ZENML_DEFAULT_USER_NAME": "default", "ZENML_DEFAULT_USER_PASSWORD": password,
        "ZENML_ANALYTICS_OPT_IN": "false",
    }  # fmt: skip
    words = ["uvicorn", "zenml.zen_server.zen_server_api:app", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--log-level", "warning"]
    with started("zenml", words, environment, folder, f"{address}/health"):
        yield address
