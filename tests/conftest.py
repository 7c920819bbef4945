"""Fixtures that several rooms share: a tiny collection on disk, written anew for every test."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

# Before anything imports ZenML or MLflow: no test may read or change the state of whoever runs it.
_STATE = Path(tempfile.mkdtemp(prefix="llara-tests-"))
os.environ.update(
    LLARA_LOCAL=str(_STATE),
    ZENML_CONFIG_PATH=str(_STATE / "zenml"),
    ZENML_ANALYTICS_OPT_IN="false",
    MLFLOW_TRACKING_URI=f"sqlite:///{_STATE / 'mlflow.db'}",
)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before anything imports torch: workers that all take every core slow each other down.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # ZenML takes the folder of the main script for the root of our code; a worker has no such script.
    os.environ.setdefault("ZENML_CUSTOM_SOURCE_ROOT", str(Path(__file__).resolve().parents[1]))

# The same examples in every run: a test that fails tells of a change. Looking for new ones is another job:
# HYPOTHESIS_PROFILE=explore pytest tests/data
with suppress(ImportError):  # a machine that only runs the tests marked gpu may lack it
    import hypothesis

    # A machine that stands still for a moment makes an example late, or its making slow, and nothing wrong.
    patient = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
    hypothesis.settings.register_profile("same", derandomize=True, **patient)
    hypothesis.settings.register_profile("explore", derandomize=False, max_examples=2000, **patient)
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

TOPICS = {
    "volcano": "lava flows down the slope after the eruption and cools into dark basalt rock",
    "orchestra": "the violins tune before the conductor lifts the baton for the first movement",
    "bakery": "fresh bread rises overnight and bakes on hot stone until the crust turns brown",
    "glacier": "ice creeps along the valley and grinds boulders into fine grey powder",
    "harbour": "cranes unload containers while tugboats pull the tanker to its berth",
    "beehive": "workers carry nectar home and fan it with their wings until honey thickens",
    "comet": "a tail of dust and gas points away from the sun as the nucleus warms",
    "loom": "the shuttle carries weft threads through the warp and cloth grows row by row",
}


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_qrels(path: Path, rows: Sequence[tuple[str, str, int]]) -> Path:
    """Write judgements with BEIR's header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_tiny_beir(folder: Path) -> Path:
    """A BEIR folder of 24 documents, 8 training and 8 test queries; three documents a topic."""
    corpus, queries, train, test = [], [], [], []
    for topic, sentence in TOPICS.items():
        words = sentence.split()
        for part in range(3):
            text = (
                f"Part {part} about a {topic}. {' '.join(words[part:])}. {' '.join(words[: 8 + part])} again."
            )
            corpus.append({"_id": f"{topic}-{part}", "title": topic.title(), "text": text})
        queries.append({"_id": f"train-{topic}", "text": f"what is a {topic} {words[2]} {words[-1]}"})
        queries.append({"_id": f"test-{topic}", "text": f"{words[1]} {words[4]} of the {topic}"})
        train.append((f"train-{topic}", f"{topic}-0", 1))
        test.extend([(f"test-{topic}", f"{topic}-1", 2), (f"test-{topic}", f"{topic}-2", 1)])
    write_jsonl(folder / "corpus.jsonl", corpus)
    write_jsonl(folder / "queries.jsonl", queries)
    write_qrels(folder / "qrels" / "train.tsv", train)
    write_qrels(folder / "qrels" / "test.tsv", test)
    return folder


@pytest.fixture
def beir_folder(tmp_path: Path) -> Path:
    """A fresh copy of the tiny collection, to use or to spoil."""
    return write_tiny_beir(tmp_path / "tiny")


SETTINGS = """
enable_cache: true
parameters:
  seed: 5
  model:
    from_scratch: {vocabulary_size: 400, hidden_size: 32, intermediate_size: 64, layers: 1, heads: 2}
    template: slots
    query_length: 16
    passage_length: 32
  adapt: {steps: 3, batch_size: 8, text_length: 32}
  mine: {negatives: 2, bm25_depth: 10, dense_depth: 10}
  finetune: {steps: 3, batch_size: 4, temperature: 0.05, hard_negatives: 1, lora: null}
"""


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny collection, its settings, and what every stage makes of it."""
    from llara_core.cli.app import run

    folder = tmp_path_factory.mktemp("work")
    write_tiny_beir(folder / "tiny")
    (folder / "c.yaml").write_text(SETTINGS)
    shared = ["--data", f"{folder}/tiny", "-c", f"{folder}/c.yaml"]
    assert run(["prepare", *shared, "-o", f"{folder}/base"]) == 0
    assert run(["adapt", *shared, "--base", f"{folder}/base", "-o", f"{folder}/adapted"]) == 0
    assert run(["mine", *shared, "--model", f"{folder}/adapted", "-o", f"{folder}/negatives.jsonl"]) == 0
    finetune = ["finetune", *shared, "--model", f"{folder}/adapted", "-o", f"{folder}/finetuned"]
    assert run([*finetune, "--negatives", f"{folder}/negatives.jsonl"]) == 0
    return folder


def _seed() -> None:
    """Random numbers that a test draws without a seed of its own are the same in every run, and alone."""
    random.seed(0)
    for name in ("numpy.random", "torch"):
        module = sys.modules.get(name)
        if module is not None:  # importing them for a test that needs neither would only take time
            getattr(module, "seed" if name == "numpy.random" else "manual_seed")(0)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """A model that a fixture makes does not depend on which test asked for it first."""
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """As above, for what the test itself draws."""
    _seed()


@pytest.fixture(autouse=True)
def _no_log_is_left() -> Iterator[None]:
    """What a command of one test logs to is not what the next one writes into: by then it may be closed."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in root.handlers[:]:
        # Those of pytest are of classes of their own.
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)


def pytest_unconfigure() -> None:
    """Remove the state of this test run."""
    shutil.rmtree(_STATE, ignore_errors=True)
