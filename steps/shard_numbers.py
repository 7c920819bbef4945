"""Number the shards: what ``.map()`` runs one step for each of must be the output of a step."""

from __future__ import annotations

from typing import Annotated

from zenml import step

from steps.caching import policy
from steps.folder_reader import FolderReader


@step(cache_policy=policy(__file__))
def shard_numbers(plan: FolderReader) -> Annotated[list[int], "shards"]:
    """0, 1, … for every shard of an encoding plan."""
    return list(range(int(plan.facts["shards"])))


@step(cache_policy=policy(__file__))
def part_numbers(count: int) -> Annotated[list[int], "parts"]:
    """0, 1, … for every part of the queries."""
    return list(range(count))
