"""A plan for a corpus of any size as Markdown, which reads as well on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llara_core.operations.scale import (
    Corpus,
    Encoding,
    Index,
    Rates,
    encodings,
    first_limits,
    indexes,
    sizes,
)
from llara_core.retrieval.vectors import BLOCK
from llara_core.training.plan_gpus import Device

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def scale_text(
    corpus: Corpus,
    devices: Sequence[Device],
    count: int,
    prices: Mapping[str, float],
    rates: Rates | None,
    machine: tuple[float, float],
) -> str:
    """The plan as tables.

    Args:
        corpus: what is encoded, and by what.
        devices: kinds of device.
        count: how many of a kind work at once.
        prices: of one for an hour, by name.
        rates: measured; None: no times but those of encoding.
        machine: bytes of memory and of disk of the machine that plans, merges and searches.
    """
    head = (
        f"{corpus.passages:,} passages of {corpus.mean_tokens:g} tokens; vectors of {corpus.dimension} "
        f"dimensions, {corpus.dtype_bytes} bytes each; {-(-corpus.passages // BLOCK):,} blocks of {BLOCK:,}."
    )
    parts = [head, _encoding(encodings(corpus, devices, count, prices), devices)]
    parts += [_sizes(corpus, rates), _indexes(indexes(corpus, rates)), _limits(corpus, machine)]
    return "\n\n".join(parts)


def size_text(size: float) -> str:
    """Bytes for people: ``819 GB``."""
    power = 0
    while size >= 999.5 and power < len(_UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.3g} {_UNITS[power]}"


def duration_text(seconds: float) -> str:
    """Seconds for people: ``12 ms``, ``40 s``, ``2.5 h``, ``3.1 days``."""
    for most, unit, name in (
        (1.0, 1e-3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 60.0, "min"),
        (172_800.0, 3600.0, "h"),
    ):
        if seconds < most:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86_400:.3g} days"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _encoding(made: Sequence[Encoding], devices: Sequence[Device]) -> str:
    shares = {device.name: f"{device.utilisation:.0%}" for device in devices}
    header = ["device", "share of peak", "passages/s of one", "device hours", "devices", "time", "cost"]
    rows = [
        [
            one.device, shares[one.device], f"{one.passages_per_second:,.0f}",
            f"{one.device_hours:,.0f}", f"{one.devices:,}", duration_text(one.hours * 3600),
            "-" if one.cost is None else f"{one.cost:,.0f}",
        ]
        if one.fits
        else [one.device, "the model does not fit", *["-"] * 5]
        for one in made
    ]  # fmt: skip
    return table(header, rows)


def _sizes(corpus: Corpus, rates: Rates | None) -> str:
    found = sizes(corpus)
    rows = [
        ["vectors on disk", size_text(found["vectors"])],
        ["hashes", size_text(found["hashes"])],
        ["plan of the shards", size_text(found["plan"])],
        ["memory of the step that plans", size_text(found["plan_memory"])],
    ]
    if rates is not None:
        rows += [
            ["time to plan, one thread", duration_text(corpus.passages / rates.hash_passages)],
            ["time to merge, one thread", duration_text(found["vectors"] / rates.merge_bytes)],
            ["mining, kept of a million queries", size_text(rates.findings_bytes * 1e6)],
        ]
    return table(["what", "takes"], rows)


def _indexes(made: Sequence[Index]) -> str:
    header = ["index", "parameters", "memory", "disk beside the vectors", "a query, one thread"]
    rows = []
    for one in made:
        told = ", ".join(f"{name} {value}" for name, value in one.parameters.items()) or "-"
        seconds = "-" if one.query_seconds is None else duration_text(one.query_seconds)
        rows.append([one.kind, told, size_text(one.memory), size_text(one.disk), seconds])
    return table(header, rows)


def _limits(corpus: Corpus, machine: tuple[float, float]) -> str:
    title = f"passages on {size_text(machine[0])} of memory and {size_text(machine[1])} of disk"
    rows = [[what, f"{passages:,.0f}"] for what, passages in first_limits(corpus, *machine)]
    return table(["what breaks", title], rows)
