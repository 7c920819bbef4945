"""The sharded pipeline as the launcher knows it: its steps, where they run, what it tells at the end."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from pipelines import __main__ as launcher
from pipelines import sharded, sharded_outcome


def test_all_but_the_counting_steps_ask_for_a_pod_of_their_own() -> None:
    from zenml.enums import StepRuntime

    steps, pipeline = launcher._pipeline("sharded")
    runtimes = {one.name: one.configuration.runtime for one in pipeline.depends_on}
    assert set(runtimes) == set(steps) == set(sharded.STEPS)
    assert {name for name, one in runtimes.items() if one != StepRuntime.ISOLATED} == {
        "shard_numbers", "part_numbers"
    }  # fmt: skip


def step(**outputs: str) -> Any:
    made = {name: [SimpleNamespace(version=4, uri=uri)] for name, uri in outputs.items()}
    return SimpleNamespace(outputs=made)


def told(steps: dict[str, Any]) -> str:
    sink = io.StringIO()
    sharded_outcome.show(SimpleNamespace(steps=steps), Console(file=sink, width=132))
    return sink.getvalue()


def test_the_end_says_what_was_made_of_how_many_parts() -> None:
    shards = {
        name: step(vector_shard="s3://a") for name in ("encode_shard", "encode_shard_2", "encode_shard_3")
    }
    merged = {"merge_vectors": step(corpus_vectors="s3://b/[x]")}
    said = told(
        {**shards, **merged, "map:mine_shard:0": step(), "merge_negatives": step(hard_negatives="s3://c")}
    )
    assert "corpus_vectors, version 4, of 3 shards: s3://b/[x]" in said
    assert "hard_negatives, version 4, of 1 part: s3://c" in said


def test_of_what_was_not_mined_nothing_is_said() -> None:
    assert "hard_negatives" not in told({"merge_vectors": step(corpus_vectors="s3://b")})
