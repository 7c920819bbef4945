"""No pickle is read or written anywhere, no step's result is stored as one, no secret stands in settings."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llara_core.config import CollectionSettings, TrainingSettings
from llara_core.errors import ConfigError
from llara_core.settings import holds_secret

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path
    for folder in ("llara_core", "steps", "pipelines", "benchmarks", "tools")
    for path in (ROOT / folder).rglob("*.py")
)
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
CALLS = {
    "torch.load", "torch.save", "pandas.read_pickle", "pd.read_pickle", "numpy.fromregex", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "eval", "exec",
}  # fmt: skip
NUMPY = {"np.load": "allow_pickle", "numpy.load": "allow_pickle", "np.save": "allow_pickle"}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def findings(tree: ast.AST) -> Iterator[str]:
    """What a syntax tree does that it should not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"imports {one.name}" for one in node.names if one.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield f"imports {node.module}"
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            said = {one.arg: getattr(one.value, "value", None) for one in node.keywords}
            if name in CALLS:
                yield f"calls {name}"
            if name in NUMPY and said.get(NUMPY[name]) is not False:
                yield f"calls {name} without allow_pickle=False"
            if said.get("allow_pickle") or said.get("weights_only") is False:
                yield f"calls {name} so that pickles are read"
            if said.get("trust_remote_code") is True:
                yield f"calls {name} with trust_remote_code=True"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import pickle", "imports pickle"),
        ("from cloudpickle import loads", "imports cloudpickle"),
        ("import torch\ntorch.load('x')", "calls torch.load"),
        ("import numpy as np\nnp.load('x')", "calls np.load without allow_pickle=False"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "calls np.load so that pickles are read"),
        ("f(trust_remote_code=True)", "calls f with trust_remote_code=True"),
        ("import yaml\nyaml.load(x)", "calls yaml.load"),
    ],
)
def test_the_scan_finds_what_it_looks_for(code: str, words: str) -> None:
    assert words in list(findings(ast.parse(code)))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_reads_or_writes_pickles(path: Path) -> None:
    assert list(findings(ast.parse(path.read_text(encoding="utf-8")))) == []


def steps() -> dict[str, Any]:
    """Every step of ours by name."""
    from zenml.steps import BaseStep

    found = {}
    for path in sorted((ROOT / "steps").glob("*.py")):
        module = importlib.import_module(f"steps.{path.stem}")
        found |= {
            f"{path.stem}.{name}": one for name, one in vars(module).items() if isinstance(one, BaseStep)
        }
    return found


def test_no_step_hands_on_a_pickle() -> None:
    """ZenML falls back on cloudpickle, silently, for every type that it does not know."""
    from zenml.materializers.cloudpickle_materializer import CloudpickleMaterializer
    from zenml.materializers.materializer_registry import materializer_registry

    importlib.import_module("steps.materializers")
    found = steps()
    assert len(found) > 30
    for name, one in found.items():
        for output, annotation in one.entrypoint_definition.outputs.items():
            told = one.configuration.outputs.get(output)
            chosen = None if told is None else told.materializer_source
            if chosen:
                assert not any("pickle" in str(source).lower() for source in chosen), name
                continue
            kind = annotation.resolved_annotation
            kind = inspect.getattr_static(kind, "__origin__", kind)
            assert kind is not Any, f"{name}: output {output} has no type"
            assert materializer_registry[kind] is not CloudpickleMaterializer, f"{name}: {output} is {kind}"


@pytest.mark.parametrize(
    "source",
    [
        "https://user:hunter2@data.example.org/corpus.zip",
        "s3://key:secret@bucket/corpus",
        "https://data.example.org/corpus.zip?X-Amz-Signature=abc",
        "https://data.example.org/corpus.zip?a=1&access_token=abc",
        "https://data.example.org/corpus.zip?sig=abc",
        "https://user:${DATA_PASSWORD}@data.example.org/corpus.zip",  # ZenML would fill it in and store it
        "https://data.example.org/corpus.zip?token=${abc}",
    ],
)
def test_a_secret_in_the_settings_is_refused_and_not_repeated(source: str) -> None:
    with pytest.raises(
        ConfigError, match=r"source: holds a password or token.*without braces, \$VARIABLE"
    ) as told:
        TrainingSettings.parse({"collection": {"source": source}}, "parameters")
    assert source.split("@", maxsplit=1)[0] not in str(told.value)
    assert "abc" not in str(told.value)


@pytest.mark.parametrize(
    "source",
    [
        "https://user:$DATA_PASSWORD@data.example.org/corpus.zip",
        "https://data.example.org/corpus.zip?token=$DATA_TOKEN",
        "${DATA}/corpus",
        "https://data.example.org:8443/corpus.zip?part=3",
        "s3://bucket/corpus@2024:v1/x",
        "data/keys=1/a:b@c",
        "hf:owner/name",
    ],
)
def test_names_of_variables_and_harmless_addresses_pass(source: str) -> None:
    assert CollectionSettings(source=source).source == source


def test_a_password_in_the_tracking_address_does_not_get_into_a_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pipelines.stacks import LOCAL_STACK, STACK_FOLDER, read_stack

    values = {"LLARA_LOCAL": str(tmp_path), "MLFLOW_TRACKING_URI": "https://me:hunter2@mlflow.example.org"}
    with pytest.raises(
        ConfigError, match=r"tracking_uri: holds a password.*MLFLOW_TRACKING_PASSWORD"
    ) as told:
        read_stack(STACK_FOLDER / f"{LOCAL_STACK}.yaml", values)
    assert "hunter2" not in str(told.value)
    values["MLFLOW_TRACKING_URI"] = "https://me:{{mlflow.password}}@mlflow.example.org"
    assert read_stack(STACK_FOLDER / f"{LOCAL_STACK}.yaml", values)["stack_name"] == LOCAL_STACK


def test_committed_configurations_and_stacks_hold_no_secret() -> None:
    files = [*ROOT.glob("configs/**/*.yaml"), *ROOT.glob(".zenml/**/*.yaml")]
    assert len(files) > 5
    assert [path.name for path in files if holds_secret(path.read_text(encoding="utf-8"))] == []
