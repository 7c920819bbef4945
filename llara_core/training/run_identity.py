"""What a run is: everything its result depends on, so that it goes on from its own checkpoints only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from llara_core import __version__
from llara_core.data.collection import Collection
from llara_core.model.bundle import Bundle
from llara_core.settings import Settings
from llara_core.training.distributed import launched_processes, world_size

# Settings that say when to write, never what.
_ABOUT_WRITING = frozenset({"log_every", "checkpoint_every", "keep_checkpoints"})


def run_identity(
    stage: str, settings: Settings, seed: int, base: Bundle, data: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that the result of a stage depends on, but for the machine and the libraries it runs on.

    Args:
        stage: ``adapt`` or ``finetune``.
        settings: of the stage; what only says when to log and save is left out.
        seed: of the stage.
        base: the bundle to start from.
        data: names of what is trained on to hashes of their content.
    """
    return {
        "llara_core": __version__,
        "stage": stage,
        "settings": settings.model_dump(mode="json", exclude=set(_ABOUT_WRITING)),
        "seed": seed,
        "base": {
            "fingerprint": base.fingerprint,
            "query_length": base.query_length,
            "passage_length": base.passage_length,
            "attention": base.attention,
            "dtype": base.dtype,
        },
        "data": dict(data),
        # Another number sums in another order: the same up to rounding only.
        "processes": max(world_size(), launched_processes()),
    }


def identity_hash(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """``settings.learning_rate: now 0.001, then 0.01`` for every value in which two identities differ."""
    one, other = dict(_flat(mine)), dict(_flat(theirs))
    return [
        f"{key}: now {_shown(one.get(key))}, then {_shown(other.get(key))}"
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key)
    ]


def read_identity(path: Path) -> dict[str, Any]:
    """The identity in a file; empty if it was cut off while it was written."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def collection_hashes(collection: Collection) -> dict[str, str]:
    """Hashes of a collection's content, and of the order of its rows, which the plan of a stage goes by."""
    tables = [
        collection.corpus.select(["_id"]),
        collection.queries.select(["_id"]),
        *(collection.qrels[split].select(["query_id", "corpus_id"]) for split in sorted(collection.qrels)),
    ]
    order = hashlib.sha256("".join(table_hash(table) for table in tables).encode())
    return {"collection": collection.content_hash, "order_of_rows": order.hexdigest()}


def table_hash(table: pa.Table) -> str:
    """SHA-256 over names, types and values of a table, however its columns are cut into chunks.

    Args:
        table: columns of text, numbers or anything that is JSON-able.
    """
    digest = hashlib.sha256(str(table.num_rows).encode())
    for name in table.column_names:
        column = table[name]
        digest.update(json.dumps([name, str(column.type)]).encode())
        # Two sums, because the bytes of all texts alone do not say where one ends.
        values, lengths = hashlib.sha256(), hashlib.sha256()
        for chunk in column.chunks:
            for text in _as_texts(chunk):
                values.update(text)
                lengths.update(len(text).to_bytes(8, "little"))
        digest.update(values.digest() + lengths.digest())
    return digest.hexdigest()


def _as_texts(chunk: pa.Array) -> Iterator[bytes]:
    for value in chunk.to_pylist():
        # A text that looks like JSON must not equal the value it spells, so texts have a prefix.
        yield b"t" + value.encode() if isinstance(value, str) else json.dumps(value, default=str).encode()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    """A value for people: of a hash its beginning, which is enough to see that it is another."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
