"""The built-in collections by name: text that every installation has, so that nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from llara_core.config import PycodeSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.pycode import pycode_fingerprint, pycode_tables
from llara_core.errors import ConfigError

BUILT_IN = ("pycode",)


def build_collection(
    name: str,
    settings: PycodeSettings,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> Collection:
    """Return the built-in collection of that name.

    Args:
        name: one of `BUILT_IN`.
        settings: what it is made of.
        progress: called with (functions kept, functions wanted) now and then.
        workers: processes that parse; the result does not depend on it.

    Raises:
        ConfigError: no built-in collection has that name.
        DataError: a package is not installed, or too few functions remain.
    """
    _check(name)
    tables = pycode_tables(settings, progress, workers)
    return Collection(
        name=name,
        corpus=_conforming(tables.corpus, CORPUS_SCHEMA),
        queries=_conforming(tables.queries, QUERIES_SCHEMA),
        qrels={split: _conforming(table, QRELS_SCHEMA) for split, table in tables.qrels.items()},
        report=tables.report,
    )


def collection_fingerprint(name: str, settings: PycodeSettings) -> str:
    """Return a SHA-256 that changes whenever `build_collection` could return something else.

    Raises:
        ConfigError: no built-in collection has that name.
        DataError: a package is not installed.
    """
    _check(name)
    return pycode_fingerprint(settings)


def _check(name: str) -> None:
    """Refuse a name that is not built in."""
    if name not in BUILT_IN:
        raise ConfigError(f"no built-in collection is called {name!r} (there is: {', '.join(BUILT_IN)})")


def _conforming(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table under the collection's schema; row numbers stand in for lines of a file."""
    lines = pa.array(range(1, table.num_rows + 1), pa.int32())
    return table.append_column("line", lines).select(schema.names).cast(schema)
