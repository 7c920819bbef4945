"""Mining in shards of queries: what each found goes to disk, and all of it together is one run's.

A table of negatives could be put together by itself, its audit could not: it counts over all queries. So a
shard keeps its ``Findings``, numbers alone, and table, stats and audit are made from all of them, the same
bytes as from one run.

Source: issue 8, point 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llara_core.errors import DataError
from llara_core.files import new_file
from llara_core.retrieval.mining_table import Findings, Lines

_LISTS = ("asked", "best", "limit", "positives")  # a part for each block, in the order of the queries
_COUNTS = ("excluded", "overlap", "found")  # added up
_NUMBERS = ("candidates", "short")


def save_findings(findings: Findings, file: Path) -> Path:
    """Write what a shard has found as safetensors; returns the file.

    Raises:
        DataError: it cannot be written.
    """
    values = {name: np.concatenate(getattr(findings, name)) for name in _LISTS if getattr(findings, name)}
    values |= {name: getattr(findings, name) for name in _COUNTS}
    values |= {name: np.array([getattr(findings, name)], np.int64) for name in _NUMBERS}
    values |= {f"lines.{one.name}": getattr(findings.lines, one.name) for one in fields(Lines)}
    with new_file(file) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in values.items()}, temporary)
    return file


def join_findings(files: Sequence[Path]) -> Findings:
    """What all shards have found, as one run would have it.

    Args:
        files: of ``save_findings``, in the order of the shards.

    Raises:
        DataError: a file is missing or damaged.
    """
    whole = Findings()
    for file in files:
        try:
            values = load_file(file)
            for name in _LISTS:
                if name in values:
                    getattr(whole, name).append(values[name])
            for name in _COUNTS:
                setattr(whole, name, getattr(whole, name) + values[name])
            for name in _NUMBERS:
                setattr(whole, name, getattr(whole, name) + int(values[name][0]))
            whole.add_lines(Lines(*(values[f"lines.{one.name}"] for one in fields(Lines))))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(
                f"what a shard has found cannot be read ({type(error).__name__}: {error}); mine it again",
                file=file,
                rule="readable",
            ) from None
    return whole
