"""What a corpus of any size takes: vectors, indexes, devices, hours, cost, and what breaks first.

Arithmetic only: nothing is run, and nothing is downloaded. Sizes follow from the formats that this library
writes; speeds from figures that are given: a device's peak and the share of it that is reached
(``training.plan_gpus``), and rates that were measured (``Rates``, written by ``benchmarks/scale.py``).

Source: issue 8, point 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llara_core.errors import ConfigError
from llara_core.retrieval.hashes import HASH_BYTES
from llara_core.retrieval.index_rules import choose
from llara_core.retrieval.vectors import BLOCK
from llara_core.training.plan_gpus import Device

__all__ = ["Corpus", "Encoding", "Index", "Rates", "encodings", "first_limits", "indexes", "sizes"]

_HOUR = 3600.0
_ROW_NUMBER = 8  # bytes of a row's number in a plan, an index and a rehearsal of duplicates
_SORT_COPIES = 5  # arrays of eight bytes a passage that finding equal texts holds at once (vector_rows)


@dataclass(frozen=True)
class Corpus:
    """What is encoded, and by what.

    Args:
        passages: N.
        mean_tokens: of a passage, its prompt and slots included.
        dimension: D, of a vector.
        dtype_bytes: of a vector's number on disk: 4 or 2.
        flops_per_token: of one forward pass, without attention between tokens.
        flops_per_pair: of attention, for every pair of tokens of a passage.
        weight_bytes: of the model as it is loaded.
    """

    passages: int
    mean_tokens: float
    dimension: int
    dtype_bytes: int
    flops_per_token: float
    flops_per_pair: float
    weight_bytes: float

    @property
    def flops(self) -> float:
        """Of encoding all of it once, were every passage of the mean length."""
        pairs = self.mean_tokens**2
        return self.passages * (self.mean_tokens * self.flops_per_token + pairs * self.flops_per_pair)


@dataclass(frozen=True)
class Rates:
    """Measured on one thread of one machine; what a plan carries over to another is an assumption.

    Args:
        machine: where they were measured.
        hash_passages: passages a second that the plan of the shards hashes.
        hash_bytes: bytes of text a second of the same.
        merge_bytes: bytes of vectors a second that the merge writes.
        flat_bytes: bytes of vectors a second that exact search of one query reads.
        pq_codes: bytes of codes a second that IVF-PQ compares with one query.
        findings_bytes: bytes that mining keeps of a query.
    """

    machine: str
    hash_passages: float
    hash_bytes: float
    merge_bytes: float
    flat_bytes: float
    pq_codes: float
    findings_bytes: float


@dataclass(frozen=True)
class Encoding:
    """Encoding on one kind of device.

    Args:
        device: its name.
        passages_per_second: of one.
        device_hours: of all of it.
        hours: with ``devices`` of them.
        devices: how many.
        cost: in the currency of the price; None without one.
        fits: whether the model's weights do.
    """

    device: str
    passages_per_second: float
    device_hours: float
    hours: float
    devices: int
    cost: float | None
    fits: bool


@dataclass(frozen=True)
class Index:
    """An index of one kind.

    Args:
        kind: ``flat``, ``ivfpq`` or ``hnsw``.
        parameters: by the rules of ``retrieval.index_rules``.
        memory: bytes that search holds.
        disk: bytes beside the vectors.
        query_seconds: of one query on one thread, by the measured rates; None where none was measured.
    """

    kind: str
    parameters: Mapping[str, int]
    memory: float
    disk: float
    query_seconds: float | None


def sizes(corpus: Corpus) -> dict[str, float]:
    """Bytes by what takes them: ``vectors``, ``hashes``, ``plan`` (rows of the shards), ``plan_memory``."""
    return {
        "vectors": float(corpus.passages * corpus.dimension * corpus.dtype_bytes),
        "hashes": float(corpus.passages * HASH_BYTES),
        "plan": float(corpus.passages * _ROW_NUMBER),
        "plan_memory": float(corpus.passages * (HASH_BYTES + _SORT_COPIES * _ROW_NUMBER)),
    }


def encodings(
    corpus: Corpus, devices: Sequence[Device], count: int, prices: Mapping[str, float] | None = None
) -> list[Encoding]:
    """How long the devices take, each kind by itself.

    Args:
        corpus: what is encoded, in bfloat16 where the device has it.
        devices: kinds.
        count: how many work at once, a shard each; a kind cannot use more than there are blocks.
        prices: of one device for an hour, by its name.

    Raises:
        ConfigError: fewer than one device.
    """
    if count < 1:
        raise ConfigError(f"count: got {count}; at least one device is needed")
    used = min(count, -(-corpus.passages // BLOCK))
    made = []
    for device in devices:
        speed = device.peak(bfloat16=True) * device.utilisation
        seconds = corpus.flops / speed
        price = (prices or {}).get(device.name)
        made.append(
            Encoding(
                device.name,
                corpus.passages / seconds,
                seconds / _HOUR,
                seconds / _HOUR / used,
                used,
                None if price is None else price * seconds / _HOUR,
                corpus.weight_bytes < device.usable,
            )
        )
    return made


def indexes(corpus: Corpus, rates: Rates | None = None) -> list[Index]:
    """A flat index, IVF-PQ and HNSW over the vectors, by the rules that ``llara index`` goes by."""
    made = []
    for kind in ("flat", "ivfpq", "hnsw"):
        chosen, told = choose(kind, corpus.passages, corpus.dimension)
        memory, seconds = _index_cost(corpus, chosen, told, rates)
        on_disk = 0.0 if chosen == "flat" else memory
        made.append(Index(chosen, told, memory, on_disk, seconds))
    return made


def first_limits(corpus: Corpus, memory: float, disk: float) -> list[tuple[str, float]]:
    """Passages at which each part outgrows a machine, the first one first.

    Args:
        corpus: what is encoded; its number of passages does not matter.
        memory: bytes of the machine.
        disk: bytes of its disk.
    """
    width = corpus.dimension * corpus.dtype_bytes
    one = Corpus(**{**asdict(corpus), "passages": 10**8})  # by the rules' parameters for a large corpus
    per_passage = {index.kind: index.memory / one.passages for index in indexes(one)}
    limits = {
        "flat search with all vectors in memory": memory / width,
        "HNSW in memory": memory / per_passage["hnsw"],
        "merging all vectors on one disk (shards and whole together)": disk / (2 * width),
        "IVF-PQ codes in memory": memory / per_passage["ivfpq"],
        "planning the shards in memory": memory / (HASH_BYTES + _SORT_COPIES * _ROW_NUMBER),
    }
    return sorted(limits.items(), key=lambda item: item[1])


def _index_cost(
    corpus: Corpus, kind: str, told: Mapping[str, int], rates: Rates | None
) -> tuple[float, float | None]:
    """Bytes in memory, and seconds of a query."""
    vectors = float(corpus.passages * corpus.dimension * corpus.dtype_bytes)
    if kind == "flat":
        return vectors, None if rates is None else vectors / rates.flat_bytes
    if kind == "hnsw":
        return corpus.passages * (4.0 * corpus.dimension + 8.0 * told["m"]), None
    code = told["m"] * told["nbits"] / 8
    centroids = told["nlist"] * corpus.dimension * 4.0
    scanned = corpus.passages * told["nprobe"] / told["nlist"] * code
    seconds = None
    if rates is not None:  # the lists are chosen by comparing the query with every centroid
        seconds = scanned / rates.pq_codes + centroids / rates.flat_bytes
    return corpus.passages * (code + _ROW_NUMBER) + centroids, seconds


def as_plain(values: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows of a plan, JSON-able."""
    return [asdict(value) for value in values]
