"""The sharded pipeline: a corpus encoded and negatives mined in parts, one pod a part. Wiring only."""

from __future__ import annotations

from typing import Any

from zenml import pipeline, unmapped
from zenml.enums import ExecutionMode, StepRuntime
from zenml.steps import BaseStep

from llara_core.evaluation_settings import JudgedModel
from llara_core.sharded_settings import ShardedSettings
from pipelines.checked import checked
from pipelines.options import readable_errors
from steps.encode_shard import encode_shard
from steps.hooks import HOOKS
from steps.identify_collection import identify_collection
from steps.identify_system import identify_system
from steps.ingest import ingest
from steps.merge_negatives import merge_negatives
from steps.merge_vectors import merge_vectors
from steps.mine_shard import mine_shard
from steps.plan_encoding import plan_encoding
from steps.shard_numbers import part_numbers, shard_numbers

STEPS = (
    "identify_collection", "ingest", "identify_system", "plan_encoding", "shard_numbers", "encode_shard",
    "merge_vectors", "part_numbers", "mine_shard", "merge_negatives",
)  # fmt: skip


def _apart(one: BaseStep) -> BaseStep:
    """The step in a pod of its own: else it would be a thread of the orchestrator's pod, which is small.

    A local orchestrator runs all of them as threads of its process.
    """
    return one.with_options(runtime=StepRuntime.ISOLATED)


_identify_collection, _ingest, _identify_system = map(_apart, (identify_collection, ingest, identify_system))
_plan_encoding, _encode_shard, _merge_vectors = map(_apart, (plan_encoding, encode_shard, merge_vectors))
_mine_shard, _merge_negatives = map(_apart, (mine_shard, merge_negatives))
# Named here, a step takes its settings (pods, GPUs, retries) from the YAML, and all of its shards have them.
# ZenML lays them over what `with_options` says in the pipeline.
_KNOWN = [
    _identify_collection, _ingest, _identify_system, _plan_encoding, _encode_shard, _merge_vectors,
    _mine_shard, _merge_negatives, shard_numbers, part_numbers,
]  # fmt: skip


@checked(STEPS, ShardedSettings)
@pipeline(dynamic=True, name="sharded", depends_on=_KNOWN, execution_mode=ExecutionMode.FAIL_FAST, **HOOKS)
@readable_errors
def sharded_pipeline(
    seed: int = 0,
    collection: dict[str, Any] | None = None,
    model: str | None = None,
    vectors: str | None = None,
    shards: dict[str, Any] | None = None,
    mine: dict[str, Any] | None = None,
    bm25: dict[str, Any] | None = None,
) -> None:
    """Read, plan, encode in shards, merge; mine in parts, merge.

    The parameters are the fields of ``llara_core.sharded_settings.ShardedSettings``, as plain values.

    Raises:
        ConfigError: a setting is unknown or out of range; names the nearest known one.
    """
    given = dict(locals())
    told = ShardedSettings.parse({key: value for key, value in given.items() if value is not None}, "")
    fingerprint = _identify_collection(settings=told.collection)
    data = _ingest(source_fingerprint=fingerprint, settings=told.collection.reading)
    system = _identify_system(model=JudgedModel(model=told.model))
    plan = _plan_encoding(collection=data, system=system, shards=told.shards.encoding, dtype=told.vectors)
    whole = {"plan": unmapped(plan), "collection": unmapped(data), "system": unmapped(system)}
    encoded = _encode_shard.map(number=shard_numbers(plan=plan), **whole)
    merged = _merge_vectors(plan=plan, shards=encoded, system=system)
    if told.shards.mining:
        parts = part_numbers(count=told.shards.mining)
        mining = {"settings": told.mine, "seed": told.seed}
        found = _mine_shard.map(
            number=parts, parts=unmapped(told.shards.mining), collection=unmapped(data),
            vectors=unmapped(merged), system=unmapped(system), bm25=unmapped(told.bm25),
            **{key: unmapped(value) for key, value in mining.items()},
        )  # fmt: skip
        _merge_negatives(collection=data, parts=found, system=system, **mining)
