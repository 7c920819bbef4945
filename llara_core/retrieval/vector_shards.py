"""A corpus encoded in shards, by whoever is free, and put together with the bytes of one process.

A shard is a run of whole blocks of the texts that are encoded (``vectors``), so its batches, and with them
its bytes, are those that one process would have made. ``plan_shards`` decides, ``encode_shard`` does one of
them and needs its own texts alone, ``merge_shards`` gives the folder that ``vectors.stored_vectors`` would
have written: same name, same files, same bytes.

Source: issue 8, point 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llara_core.errors import ConfigError, DataError
from llara_core.model.encoded import Tally
from llara_core.progress import track
from llara_core.retrieval.vector_rows import first_rows
from llara_core.retrieval.vector_store import (
    HASHES,
    VECTORS,
    Dtype,
    Hashes,
    Key,
    Partial,
    open_vectors,
    read_manifest,
    workplace,
)
from llara_core.retrieval.vectors import BLOCK, CorpusVectors, Encoder, stored_vectors

Rows = NDArray[np.int64]


def plan_shards(hashes: Hashes, shards: int, block: int = BLOCK) -> list[Rows]:
    """The rows that each shard encodes, as even as whole blocks allow; no shard is empty.

    Args:
        hashes: uint8 [N, 16], of the passages in their order; of equal texts the first alone is encoded.
        shards: how many are wanted; fewer where there are fewer blocks.
        block: passages a block.

    Returns:
        Ascending rows of each shard.

    Raises:
        ConfigError: fewer than one shard.
        DataError: there is no passage.
    """
    if shards < 1:
        raise ConfigError(f"shards: got {shards}; at least 1 is needed")
    if not len(hashes):
        raise DataError("the corpus has no passage, so there is nothing to encode")
    rows = np.flatnonzero(first_rows(hashes) == np.arange(len(hashes)))
    blocks = -(-len(rows) // block)
    count = min(shards, blocks)
    ends = [blocks * number // count * block for number in range(count + 1)]
    return [rows[start:end] for start, end in pairwise(ends)]


def encode_shard(
    encoder: Encoder,
    texts: Sequence[str],
    cache: Path,
    *,
    dtype: Dtype = "float32",
    block: int = BLOCK,
) -> CorpusVectors:
    """Vectors of one shard; run again after a kill, it goes on at the block where it was.

    Args:
        encoder: the model.
        texts: of the shard's rows, in their order.
        cache: a folder for the shards of this corpus alone: vectors of other corpora would be copied from it,
            and a copy may differ from an encoding by the rounding of another batch.
        dtype: of the numbers kept.
        block: passages a block, as planned.

    Raises:
        ModelError: the encoder gives vectors of another shape, or that are not finite.
        DataError: the folder cannot be written.
    """
    return stored_vectors(encoder, texts, cache, dtype=dtype, block=block)


def merge_shards(
    key: Key, plan: Sequence[Rows], shards: Sequence[Path], cache: Path, block: int = BLOCK
) -> Path:
    """Put the shards of a plan together; the memory that it takes does not grow with the corpus' vectors.

    Args:
        key: of the whole: encoder, dimension, dtype, hashes of all passages.
        plan: rows of each shard.
        shards: folder of each shard's vectors, in the plan's order.
        cache: where the whole is written, as a folder that ``vectors.stored_vectors`` finds.
        block: passages a block, as planned.

    Returns:
        The folder of the whole.

    Raises:
        DataError: a shard is missing, or is of other passages, another model or another dtype; names it.
    """
    if len(plan) != len(shards):
        raise DataError(f"the plan has {len(plan)} shards, and {len(shards)} were given")
    target = cache / key.name
    with workplace(cache, key.name) as folder:
        if open_vectors(target, key) is not None:
            return target
        partial, encoded = Partial(folder), Tally()
        partial.create(key, np.concatenate(plan), block)
        pairs = list(zip(plan, shards, strict=True))
        for number, (rows, shard) in enumerate(track(pairs, "merge vectors", unit="shards")):
            encoded.add(_copy(partial, key, number, rows, shard, block))
        first = first_rows(key.hashes)
        again = np.flatnonzero(first != np.arange(len(first)))
        whole = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        for start in range(0, len(again), block):
            some = again[start : start + block]
            partial.write(some, np.array(whole[first[some]]))
        del whole
        blocks = -(-sum(map(len, plan)) // block)
        partial.manifest |= {"done": [*range(blocks)], "encoded": asdict(encoded), "copied": 0}
        partial.save()
        partial.finish(target)
    return target


def _copy(partial: Partial, key: Key, number: int, rows: Rows, shard: Path, block: int) -> Tally:
    """Copy a shard's vectors to their rows; returns what encoding them took."""
    part = Key(key.fingerprint, key.dimension, key.dtype, key.hashes[rows])
    vectors = open_vectors(shard, part)
    if vectors is None:
        raise DataError(
            f"shard {number} of {len(rows)} passages is missing, damaged or of another model or corpus (a "
            f"warning says which); {VECTORS} and {HASHES} are expected there. Encode this shard again",
            file=shard,
        )
    for start in range(0, len(rows), block):
        partial.write(rows[start : start + block], np.array(vectors[start : start + block]))
    return Tally(**read_manifest(shard)["encoded"])
