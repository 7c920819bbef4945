"""From an environment file to secrets and a stack, with planted secrets that must stand nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llara_core.errors import ConfigError
from pipelines import environment, kubernetes_stack, kubernetes_values, stacks

pytest.importorskip("kubernetes")

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / kubernetes_values.EXAMPLE
PLANTED = {
    name: f"planted-{name.lower()}" for name in kubernetes_values.SECRET if "TRACKING_TOKEN" not in name
}


def filled(tmp_path: Path, replaced: dict[str, str]) -> Path:
    """The example with values put in."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    names = {line.partition("=")[0] for line in lines}
    kept = [
        f"{name}={replaced[name]}" if (name := line.partition("=")[0]) in replaced else line for line in lines
    ]
    kept += [f"{name}={value}" for name, value in replaced.items() if name not in names]
    path = tmp_path / "kubernetes.env"
    path.write_text("\n".join(kept), encoding="utf-8")
    return path


def test_the_example_names_every_value_and_can_be_read() -> None:
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert {line.partition("=")[0] for line in lines} == {*kubernetes_values.OPEN, *kubernetes_values.SECRET}
    assert kubernetes_values.read(EXAMPLE).secret == {}


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"LLARA_IMGE": "x"}, "unknown name 'LLARA_IMGE'; did you mean 'LLARA_IMAGE'"),
        ({"LLARA_REGISTRY": ""}, "LLARA_REGISTRY: no value"),
        ({"LLARA_S3_KEY": "a"}, "LLARA_S3_KEY and LLARA_S3_SECRET go together"),
        ({"MLFLOW_TRACKING_URI": "https://me:word@mlflow"}, "MLFLOW_TRACKING_URI: holds a password"),
        ({"LLARA_IMAGE_BUILDER": "docker"}, "got 'docker', expected one of kaniko, local"),
        ({"LLARA_KUBE_CONTEXT": "a\nLLARA_KUBE_CONTEXT=b"}, "LLARA_KUBE_CONTEXT stands there twice"),
        ({"LLARA_KUBE_CONTEXT": "a\nnothing"}, "expected NAME=VALUE"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(tmp_path: Path, replaced: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as told:
        kubernetes_values.read(filled(tmp_path, replaced))
    assert said in str(told.value)
    assert "word@" not in str(told.value)


def test_a_missing_file_names_the_example(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"copy deploy/kubernetes\.env\.example"):
        kubernetes_values.read(tmp_path / "none.env")


@pytest.mark.slow  # ZenML makes its database first
def test_secrets_stand_in_zenml_secrets_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from zenml.client import Client

    told = kubernetes_values.read(filled(tmp_path, PLANTED))
    for name, value in told.open.items():
        if name != "ZENML_STORE_URL":  # the state of the tests is a file
            monkeypatch.setenv(name, value)
    with caplog.at_level("INFO"):
        first, second = kubernetes_stack.set_up(told), kubernetes_stack.set_up(told)
        shell = kubernetes_stack.write_shell_file(told)
    assert all(one.endswith(("made", "changed", "is up to date")) for one in first)
    assert all(one.endswith("is up to date") for one in second)
    client = Client()
    held = {
        one.name: client.get_secret(one.name).secret_values for one in client.list_secrets(size=100).items
    }
    values = {value for secret in held.values() for value in secret.values()}
    assert set(PLANTED.values()) <= values
    stack = client.get_stack("llara-kubernetes")
    kept = [one.configuration for members in stack.components.values() for one in members]
    assert len(kept) == 7
    assert "{{llara-s3.key}}" in json.dumps(kept)
    out = capfd.readouterr()
    for text in (json.dumps(kept), shell.read_text(), caplog.text, out.out, out.err, repr(told), *first):
        assert "planted-" not in text
    assert "export LLARA_KUBE_NAMESPACE=llara\n" in shell.read_text()
    assert shell.parent == environment.local_folder()


def test_without_keys_and_with_docker_the_stack_says_so(tmp_path: Path) -> None:
    stack = kubernetes_stack.described(
        kubernetes_values.read(filled(tmp_path, {"LLARA_IMAGE_BUILDER": "local"}))
    )
    [store] = stack["components"]["artifact_store"]
    assert store["configuration"].keys() == {"path", "client_kwargs"}
    [builder] = stack["components"]["image_builder"]
    assert (builder["flavor"], builder["configuration"]) == ("local", {})


def test_every_secret_of_a_profile_is_made(tmp_path: Path) -> None:
    from llara_core.settings import load_yaml

    made = kubernetes_stack.wanted_secrets(kubernetes_values.read(EXAMPLE))
    for path in (REPOSITORY / "configs" / "kubernetes").glob("*.yaml"):
        assert set(load_yaml(path)["secrets"]) <= made.keys()


def test_an_unregistered_stack_names_the_command() -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ConfigError, match="make stack-kubernetes"):
        patch.setattr("zenml.client.Client.list_stacks", lambda *_, **__: type("Page", (), {"items": []}))
        stacks.stack_id("llara-kubernetes")
