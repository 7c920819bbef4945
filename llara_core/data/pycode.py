"""The built-in collection `pycode`: find the function that a docstring's first sentence describes.

Its text is the Python source of installed packages, so a demo needs no download. A query is the summary
sentence of a function's docstring, its one relevant passage is that function's source without the docstring,
and the functions around it in the module are its neighbours (what EBAR predicts).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import multiprocessing
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from llara_core.config import PycodeSettings
from llara_core.data.pycode_source import ParsedFunction, parse_module, words
from llara_core.data.shingles import SeenTexts, shingles
from llara_core.errors import DataError

_FORMAT = 1  # raise it whenever the same packages would give other rows
_FILES_PER_ROUND, _FILES_PER_TASK = 512, 32
# Tests repeat what they test, vendored copies repeat other packages, and generated code repeats itself.
_EXCLUDED = re.compile(
    r"(?:^|/)(?:tests?|testing|testdata|_?vendor(?:ed)?|_?externals?|third_party|extern|bundled|examples?"
    r"|benchmarks?|migrations|generated|protos?|node_modules|site-packages|\.\.)/"
    r"|(?:^|/)(?:test_[^/]*|[^/]*_test|conftest|[^/]*_pb2(?:_grpc)?|setup)\.py$"
)

Rows = list[ParsedFunction]


@dataclass(frozen=True)
class PycodeTables:
    """The collection as Arrow tables.

    Attributes:
        corpus: `_id, title, text` strings, `group` string (module), `position` int32 (order in the module).
        queries: `_id, text` of all splits.
        qrels: split → `query_id, corpus_id, score` (int32, always 1).
        report: counts of what was read, dropped by reason, and kept.
    """

    corpus: pa.Table
    queries: pa.Table
    qrels: dict[str, pa.Table]
    report: dict[str, int]


def pycode_tables(
    settings: PycodeSettings, progress: Callable[[int, int], None] | None = None, workers: int = 1
) -> PycodeTables:
    """Build the collection, the same for the same packages, Python version and settings.

    1. Order the modules by a hash, and parse them in rounds of 512 until enough functions are kept.
    2. In each round drop functions by length, then those whose source or query repeats one kept before.
    3. Keep whole modules until `max_functions`; split the functions by hash.

    Args:
        settings: packages, sizes, thresholds.
        progress: called with (functions kept, functions wanted) after every round.
        workers: processes that parse; the result does not depend on it.

    Raises:
        DataError: a package is not installed, or too few functions remain for the splits.
    """
    report: Counter[str] = Counter()
    drop_repeats = _Repeats(settings, report)
    rows: Rows = []
    with _mapper(workers) as mapped:
        files = _source_files(settings)
        for start in range(0, len(files), _FILES_PER_ROUND):
            parsed = mapped(parse_module, *zip(*files[start : start + _FILES_PER_ROUND], strict=True))
            rows += drop_repeats(_of_fair_length(_counted(parsed, report), settings, report))
            if progress:
                progress(min(len(rows), settings.max_functions), settings.max_functions)
            if len(rows) >= settings.max_functions:
                break
    rows = _whole_modules(rows, settings.max_functions)
    report["functions"], report["modules"] = len(rows), len({row.module for row in rows})
    return _tables(rows, settings, report)


def pycode_fingerprint(settings: PycodeSettings) -> str:
    """Return a SHA-256 that changes whenever the tables could: packages' versions, Python, settings, code.

    Raises:
        DataError: a package is not installed.
    """
    versions = [(name, _distribution(name).version) for name in _packages(settings)]
    python = platform.python_version()  # `ast` accepts other syntax in other versions
    facts = [_FORMAT, versions, python, settings.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _packages(settings: PycodeSettings) -> list[str]:
    """Return the names of the distributions to read, sorted, each once."""
    return sorted(set(settings.packages))


def _distribution(name: str) -> importlib.metadata.Distribution:
    """Return the installed distribution of that name."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"pycode: package {name!r} is not installed; install it or take it off `packages`"
        ) from None


def _source_files(settings: PycodeSettings) -> list[tuple[Path, str]]:
    """Return (absolute path, path relative to site-packages) of the packages' modules in hash order."""
    found: dict[str, Path] = {}
    for distribution in map(_distribution, _packages(settings)):
        for file in distribution.files or ():
            relative = file.as_posix()
            if file.suffix == ".py" and not _EXCLUDED.search(relative):
                found.setdefault(relative, Path(str(distribution.locate_file(file))))
    ranked = sorted(found, key=lambda relative: _hash(settings, "module", relative))
    return [(found[relative], relative) for relative in ranked]


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[Rows | None]]]:
    """Give a `map` that keeps the order, here or over `workers` processes."""
    if workers == 1:
        yield map
        return
    # "spawn": a fork of a process that runs torch's threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=_FILES_PER_TASK)


def _counted(parsed: Iterable[Rows | None], report: Counter[str]) -> Rows:
    """Return the functions of all files in order, counting files read and files skipped."""
    rows: Rows = []
    for functions in parsed:
        report["files"] += 1
        report["files_unparsable"] += functions is None
        rows += functions or ()
    return rows


def _of_fair_length(rows: Rows, settings: PycodeSettings, report: Counter[str]) -> Rows:
    """Return the rows whose query and source keep to the settings' lengths."""
    kept = []
    for row in rows:
        if not settings.min_query_words <= len(words(row.summary)) <= settings.max_query_words:
            report["dropped_query_length"] += 1
        elif len(row.source) > settings.max_code_chars or len(words(row.source)) < settings.min_code_words:
            report["dropped_code_length"] += 1
        else:
            kept.append(row)
    return kept


class _Repeats:
    """Drops rows that repeat an earlier row's source, then those that repeat an earlier row's query.

    A repeat would be a second right answer that the judgements do not know, or a test query seen in training.
    """

    def __init__(self, settings: PycodeSettings, report: Counter[str]) -> None:
        """Start with nothing seen; `report` takes the counts."""
        self.report = report
        self.sources = SeenTexts(settings.duplicate_threshold)
        self.queries = SeenTexts(settings.query_duplicate_threshold)

    def __call__(self, rows: Rows) -> Rows:
        """Return the rows that repeat nothing kept before."""
        rows = self._kept(rows, self.sources, "code", [shingles(words(row.source), 3) for row in rows])
        return self._kept(rows, self.queries, "query", [shingles(words(row.summary), 1) for row in rows])

    def _kept(self, rows: Rows, seen: SeenTexts, what: str, texts: list[frozenset[int]]) -> Rows:
        """Return the rows whose text is new, counting the others."""
        marks = seen.repeats(texts)
        self.report[f"dropped_repeated_{what}"] += int(marks.sum())
        return [row for row, repeats in zip(rows, marks, strict=True) if not repeats]


def _hash(settings: PycodeSettings, what: str, text: str) -> str:
    """Return the place of `text` in a drawing named `what`."""
    return hashlib.sha256(f"{settings.seed}\t{what}\t{text}".encode()).hexdigest()


def _whole_modules(rows: Rows, most: int) -> Rows:
    """Return at most `most` rows, of whole modules only, in the order of module and position."""
    chosen: Rows = []
    for _, module in groupby(rows, key=lambda row: row.module):
        functions = list(module)
        if len(chosen) + len(functions) <= most:
            chosen += functions
    return sorted(chosen, key=lambda row: (row.module, row.position))


def _tables(rows: Rows, settings: PycodeSettings, report: Counter[str]) -> PycodeTables:
    """Return the rows as Arrow tables, split by the rank of each id's hash."""
    held_out = settings.test_queries + settings.dev_queries
    if len(rows) <= held_out:
        raise DataError(f"pycode: {len(rows)} functions are too few for {held_out} test and dev queries")
    ids = [f"{row.module}:{row.name}" for row in rows]
    ranked = sorted(ids, key=lambda name: _hash(settings, "split", name))
    cuts = {
        "train": (held_out, None),
        "dev": (settings.test_queries, held_out),
        "test": (0, settings.test_queries),
    }
    qrels = {split: _judgements(sorted(ranked[slice(*cut)])) for split, cut in cuts.items()}
    report |= Counter({f"{split}_queries": table.num_rows for split, table in qrels.items()})
    corpus = {"_id": ids, "title": [row.name for row in rows], "text": [row.source for row in rows]}
    places = {
        "group": [row.module for row in rows],
        "position": pa.array([row.position for row in rows], pa.int32()),
    }
    queries = {"_id": [_query_id(name) for name in ids], "text": [row.summary for row in rows]}
    return PycodeTables(pa.table(corpus | places), pa.table(queries), qrels, dict(report))


def _query_id(function: str) -> str:
    """Return the query's id; never the passage's own, which evaluators may exclude as a self-match."""
    return f"q:{function}"


def _judgements(ids: list[str]) -> pa.Table:
    """Return qrels saying that each function answers its own query, grade 1."""
    grades = pa.array([1] * len(ids), pa.int32())
    return pa.table({"query_id": [_query_id(name) for name in ids], "corpus_id": ids, "score": grades})
