"""The registered model through MLflow: its scoring app in this process, and ``predict`` from threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llara_core.model.retriever import Retriever
from tests.registered_champion import NAME, champion, tracking

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow would like a type hint on predict
SERVED = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"
ROWS = [
    {"text": "open a file"},
    {"text": "return the sum", "kind": "passage", "title": "of two numbers"},
    {"text": "", "kind": "query"},
    {"text": "nul \0 byte", "kind": "passage"},
]


@pytest.fixture(scope="module")
def model() -> Any:
    import mlflow

    with tracking(champion().uri):
        return mlflow.pyfunc.load_model(f"models:/{NAME}@champion")


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    return Retriever.from_pretrained(champion().base, "cpu")


@pytest.fixture(scope="module")
def server(model: Any) -> Iterator[Any]:
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    before = os.environ.get(SERVED)
    yield TestClient(scoring_server.init(model))
    os.environ.pop(SERVED) if before is None else os.environ.update({SERVED: before})


def post(server: Any, body: object, kind: str = "application/json") -> Any:
    content = body if isinstance(body, str) else json.dumps(body)
    return server.post("/invocations", content=content, headers={"content-type": kind})


def vectors(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["predictions"], np.float32)


def test_queries_and_passages_get_the_retrievers_vectors(server: Any, retriever: Retriever) -> None:
    found = vectors(post(server, {"dataframe_records": ROWS}))
    queries = retriever.encode_queries([ROWS[0]["text"], ROWS[2]["text"]])
    np.testing.assert_array_equal(found[[0, 2]], queries)  # JSON carries float32 whole
    np.testing.assert_array_equal(found[[1, 3]], retriever.encode_passages([ROWS[1], ROWS[3]]))
    csv = vectors(post(server, "text,kind,title\nopen a file,,\n", "text/csv"))
    np.testing.assert_allclose(csv[0], queries[0], atol=1e-6)
    columns = vectors(post(server, {"inputs": {"text": ["open a file"], "kind": ["query"]}}))
    np.testing.assert_allclose(columns[0], queries[0], atol=1e-6)


def test_the_input_example_is_one_that_the_model_takes(model: Any, retriever: Retriever) -> None:
    example = model.input_example
    assert list(example.columns) == ["text", "kind", "title"]
    found = model.predict(example)
    assert found.shape == (2, retriever.dimension) and found.dtype == np.float32
    rows = example.to_dict("records")
    np.testing.assert_array_equal(found[:1], retriever.encode_queries([rows[0]["text"]]))
    np.testing.assert_array_equal(found[1:], retriever.encode_passages([rows[1]]))
    schema = model.metadata.get_output_schema()
    assert schema.inputs[0].shape == (-1, retriever.dimension)


def records(*rows: object) -> dict[str, object]:
    return {"dataframe_records": list(rows)}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (records({"text": "a"}, {"text": "a", "kind": "doc"}), "row 1 .*kind 'doc'; expected one of query"),
        (records({"text": "a", "kind": 3}), "row 0 .*kind '3'"),
        (records({"txt": "a"}), "missing inputs .*text"),
        (records({"text": 1}), "row 0 .*text is '1'; expected a string"),
        (records({"text": None}), "text is 'None'"),
        (records({"text": ["a", "b"]}), "expected a string"),
        (records({"text": "a", "title": "t"}), "only passages have titles"),
        (records({"text": "a", "kind": "passage", "title": 7}), "title is '7'; expected a string"),
        (records(), "missing inputs"),
        ({"inputs": []}, "missing inputs"),
        ({"inputs": ["a"], "instances": ["a"]}, "exactly one of the input fields"),
        ({"inputs": {"text": ["a"] * 2049}}, "2049 texts; a request may hold 2048"),
        (records({"text": "a" * 100_001}), "100001 characters; expected at most 100000"),
        ('{"dataframe_records": [{"text": "\\ud800"}]}', "surrogates not allowed"),
        ('{"dataframe_records": [{"text": NaN}]}', "text is 'nan'"),
        ("{", "valid JSON"),
        ("[1]", "Received a list"),
    ],
)
def test_what_cannot_be_encoded_is_a_400_with_its_reason(server: Any, body: object, reason: str) -> None:
    import re

    answer = post(server, body)
    assert answer.status_code == 400
    assert re.search(reason, answer.json()["message"].replace("\n", " ")), answer.text
    assert "stack_trace" not in answer.json()  # MLflow adds one to errors that nobody foresaw


def test_no_rows_are_no_vectors(server: Any) -> None:
    assert post(server, {"inputs": {"text": []}}).json() == {"predictions": []}


def test_limits_are_those_of_a_server_and_can_be_set(
    model: Any, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from mlflow.exceptions import MlflowException

    with tracking(champion().uri):
        small = mlflow.pyfunc.load_model(f"models:/{NAME}@champion", model_config={"max_texts": 2})
    three = pd.DataFrame({"text": ["a", "b", "c"]})
    monkeypatch.delenv(SERVED, raising=False)
    assert small.predict(three).shape == (3, retriever.dimension)
    monkeypatch.setenv(SERVED, "true")
    with pytest.raises(MlflowException, match="3 texts; a request may hold 2"):
        small.predict(three)
    assert model.predict(three).shape == (3, retriever.dimension)


def test_threads_may_predict_at_once(model: Any) -> None:
    frames = [pd.DataFrame({"text": [f"text {number}", "open a file"]}) for number in range(8)]
    alone = [model.predict(frame) for frame in frames]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for found, wanted in zip(pool.map(model.predict, frames), alone, strict=True):
                np.testing.assert_array_equal(found, wanted)


# Every distribution that the model's requirements bring, and no other: what a serving environment holds.
LEAN = """
import re, sys
from importlib.metadata import packages_distributions, requires

def wanted(names):
    waiting, found = list(names), set()
    while waiting:
        name = re.sub("[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            found.add(name)
            lines = requires(name) if name in present else None
            lines = [one for one in lines or () if "extra ==" not in one]
            waiting += [re.match("[A-Za-z0-9._-]+", line)[0] for line in lines]
    return found

owners = {package: {re.sub("[-_.]+", "-", one).lower() for one in names}
          for package, names in packages_distributions().items()}
present = set().union(*owners.values())
keep = wanted(re.match("[A-Za-z0-9._-]+", line)[0] for line in open(sys.argv[1] + "/requirements.txt") if line.strip())
assert "zenml" in present and "zenml" not in keep and "torch" in keep
lean = {package for package, names in owners.items() if not names & keep and package.isidentifier()}
sys.modules.update(dict.fromkeys(lean - {"llara_core"}))
sys.meta_path[:] = [one for one in sys.meta_path if "__editable__" not in repr(one)]
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
import llara_core
assert llara_core.__file__.startswith(sys.argv[1]), llara_core.__file__
assert not {"zenml", "steps", "great_expectations"} & {name.split(".")[0] for name, one in sys.modules.items() if one}
print(model.predict(pandas.DataFrame({"text": ["a"], "kind": ["passage"], "title": ["b"]})).shape)
"""  # noqa: E501


def test_the_model_needs_its_requirements_and_nothing_else(tmp_path: Path) -> None:
    import mlflow

    with tracking(champion().uri):
        folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}/1", dst_path=str(tmp_path))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LEAN, str(Path(folder))],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 32)"
