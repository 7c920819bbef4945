"""What a person tells of a cluster: ``deploy/kubernetes.env``, checked, and parted into open and secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llara_core.errors import ConfigError
from llara_core.settings import holds_secret, nearest

EXAMPLE = "deploy/kubernetes.env.example"
OPEN = (
    "ZENML_STORE_URL", "LLARA_KUBE_CONTEXT", "LLARA_KUBE_NAMESPACE", "LLARA_REGISTRY", "LLARA_IMAGE",
    "LLARA_IMAGE_BUILDER", "LLARA_ARTIFACTS", "LLARA_S3_ENDPOINT", "LLARA_S3_REGION", "MLFLOW_TRACKING_URI",
    "LLARA_COLLECTION",
)  # fmt: skip
SECRET = (
    "ZENML_STORE_API_KEY", "LLARA_S3_KEY", "LLARA_S3_SECRET", "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "HF_TOKEN",
)  # fmt: skip
_PAIRS = (("LLARA_S3_KEY", "LLARA_S3_SECRET"), ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"))
_BUILDERS = ("kaniko", "local")


@dataclass(frozen=True)
class ClusterValues:
    """The values of a cluster.

    Args:
        open: what may stand in stacks and files, name to value; none is empty.
        secret: what may not; those that are empty in the file are left out.
    """

    open: Mapping[str, str]
    secret: Mapping[str, str]

    def __repr__(self) -> str:
        """Without the secrets: a traceback or a log line must not hold them."""
        return f"ClusterValues(open={dict(self.open)!r}, secret={sorted(self.secret)})"


def read(path: Path) -> ClusterValues:
    """Read an environment file.

    Args:
        path: lines of ``NAME=VALUE``; nothing in them is expanded.

    Raises:
        ConfigError: the file is missing, a name is unknown or has no value, or an address holds a password.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; copy {EXAMPLE} there and fill it in")
    values = _lines(path)
    for name in values:
        if name not in OPEN + SECRET:
            raise ConfigError(f"{path}: unknown name {name!r}{nearest(name, sorted(OPEN + SECRET))}")
    if missing := [name for name in OPEN if not values.get(name)]:
        raise ConfigError(f"{path}: {', '.join(missing)}: no value; {EXAMPLE} says what each means")
    secret = {name: values[name] for name in SECRET if values.get(name)}
    for pair in _PAIRS:
        if len(secret.keys() & set(pair)) == 1:
            raise ConfigError(f"{path}: {' and '.join(pair)} go together; got one of them")
    for name in OPEN:
        if holds_secret(values[name]):
            raise ConfigError(
                f"{path}: {name}: holds a password or token; it has a line of its own, see {EXAMPLE}"
            )
    if values["LLARA_IMAGE_BUILDER"] not in _BUILDERS:
        raise ConfigError(
            f"{path}: LLARA_IMAGE_BUILDER: got {values['LLARA_IMAGE_BUILDER']!r}, expected one of "
            f"{', '.join(_BUILDERS)}"
        )
    return ClusterValues({name: values[name] for name in OPEN}, secret)


def _lines(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"{path}:{number}: expected NAME=VALUE")
        if name in found:
            raise ConfigError(f"{path}:{number}: {name} stands there twice")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[name] = value[1:-1] if quoted else value
    return found
