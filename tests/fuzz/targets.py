"""What is fuzzed: bytes → every parser of ours, none of which may raise anything but a named error."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from llara_core.data.formats import FORMATS, open_place_as_source
from llara_core.data.passages import split_passages
from llara_core.data.places import read_json_lines, read_lines
from llara_core.data.raw import Raw, RowError
from llara_core.errors import LlaraError

SEPARATOR = b"\x00\x00"  # between the files of a folder, in the bytes that are fuzzed
_ROW = json.dumps({"_id": "a", "id": "a", "title": "t", "text": "some words", "url": "u"}).encode() + b"\n"
_QUERY = b'{"_id": "q", "text": "words"}\n'
_QRELS = b"query-id\tcorpus-id\tscore\nq\ta\t1\n"

# Format → the files that its bytes are written to, and one example of each; not hub, which asks a server.
FILES: dict[str, dict[str, bytes]] = {
    "beir": {"corpus.jsonl": _ROW, "queries.jsonl": _QUERY, "qrels/test.tsv": _QRELS},
    "jsonl": {"a.jsonl": _ROW},
    "csv": {"a.csv": b'id,title,text\na,t,"some, ""words"""\n'},
    "tsv": {"a.tsv": b"id\ttitle\ttext\na\tt\tsome words\n"},
    "parquet": {"a.parquet": b"PAR1PAR1"},
    "wikipedia": {"AA/wiki_00": _ROW},
    "text": {"a.txt": b"Some text.\n"},
    "msmarco": {
        "collection.tsv": b"0\tsome words\n",
        "queries.train.tsv": b"7\twords\n",
        "qrels.train.tsv": b"7\t0\t0\t1\n",
    },
    "flag_embedding": {"a.jsonl": b'{"query": "q", "pos": ["a"], "neg": ["b", "c"]}\n'},
    "flag_embedding_rows": {"a.jsonl": b'{"input": "a", "output_summarize": "b", "output_predict": "c"}\n'},
    "tevatron": {"a.jsonl": b'{"query_id": "1", "query": "q", '
                             b'"positive_passages": [{"docid": "a", "title": "", "text": "t"}],'
        b' "negative_passages": []}\n'},
    "sentence_transformers": {"a.jsonl": b'{"anchor": "q", "positive": "a", "negative": "b"}\n'},
    "saved": {"collection.json": b"{}", "corpus.arrow": b"ARROW1", "queries.arrow": b"ARROW1"},
}  # fmt: skip


def read_source(place: Path, format: str) -> int:
    """Read every row of a place and convert it; returns how many. What each row must hold is asserted."""
    try:
        source = open_place_as_source(place, format=format)
        return sum(
            1 for file in source.files for row in checked(file.read()) if converts(file.convert, row) or True
        )
    except LlaraError:
        return 0


def checked(rows: Iterator[Raw]) -> Iterator[Raw]:
    """The rows: each is parsed or has a fault, and their numbers ascend."""
    before = 0
    for row in rows:
        assert (row.record is None) == (row.fault is not None), row
        assert row.number >= before, (before, row)
        before = row.number
        yield row


def converts(convert: Callable[..., object], row: Raw) -> bool:
    """Whether a parsed row is one; the only error allowed is a row's."""
    if row.record is None:
        return False
    try:
        convert(row.record)
    except RowError as error:
        assert error.rule and str(error)
        return False
    return True


def write(folder: Path, format: str, data: bytes) -> Path:
    """Lay the bytes out as a place of the format; returns the place."""
    names = list(FILES[format])
    parts = data.split(SEPARATOR, len(names) - 1)
    for name, part in zip(names, parts + [parts[-1]] * (len(names) - len(parts)), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(part)
    return folder if len(names) > 1 or "/" in names[0] else folder / names[0]


def read_format(format: str) -> Callable[[Path, bytes], int]:
    """The target that takes bytes for a place of a format."""
    return lambda folder, data: read_source(write(folder, format, data), format)


def read_packed(suffix: str) -> Callable[[Path, bytes], int]:
    """The target that takes bytes for a packed file of JSON lines."""

    def target(folder: Path, data: bytes) -> int:
        file = folder / f"a.jsonl{suffix}"
        file.write_bytes(data)
        try:
            return sum(1 for _ in checked(read_json_lines(file)))
        except LlaraError:
            return 0

    return target


def read_every_line(folder: Path, data: bytes) -> int:
    """Lines as they stand: no byte is lost, whatever they are."""
    file = folder / "a.txt"
    file.write_bytes(data)
    try:
        rows = list(read_lines(file))
    except LlaraError:
        return 0
    kept = b"".join(row.raw for row in rows)
    bare = data.removeprefix(b"\xef\xbb\xbf")
    assert b"".join(kept.split()) == b"".join(bare.split())
    return len(rows)


def read_zip(folder: Path, data: bytes) -> int:
    """A zip: listed, and its members read as JSON lines; nothing is written beside it."""
    file = folder / "a.zip"
    file.write_bytes(data)
    return read_source(file, "beir") + read_packed("")(folder, data)


def cut_passages(_folder: Path, data: bytes) -> int:
    """Text → passages that hold all of it."""
    text = data.decode("utf-8", "surrogateescape")
    passages = split_passages(text, tokens=8 + len(data) % 40, repeat_headers=False)
    assert "".join("".join(one.text for one in passages).split()) == "".join(text.split())
    return len(passages)


TARGETS: dict[str, Callable[[Path, bytes], int]] = {
    **{name: read_format(name) for name in FILES},
    **{f"json{suffix}": read_packed(suffix) for suffix in ("", ".gz", ".zst", ".xz")},
    "lines": read_every_line,
    "zip": read_zip,
    "passages": cut_passages,
}


def seeds(target: str, folder: Path) -> None:
    """Write the inputs that fuzzing a target starts from: examples, and what was committed as findings."""
    import gzip
    import io
    import lzma

    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    made = [SEPARATOR.join(FILES[target].values())] if target in FILES else [_ROW * 2]
    pack: dict[str, Callable[[bytes], bytes]] = {
        "json.gz": gzip.compress, "json.xz": lzma.compress, "json.zst": zstandard.ZstdCompressor().compress,
    }  # fmt: skip
    made = [pack[target](one) for one in made] if target in pack else made
    if target == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": ["a"], "title": ["t"], "text": ["some words"]}), sink)
        made.append(sink.getvalue())
    if target == "zip":
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            for name, part in FILES["beir"].items():
                archive.writestr(name, part)
        made.append(sink.getvalue())
    made += [file.read_bytes() for file in sorted((Path(__file__).parent / "seeds").glob(f"{target}-*"))]
    for number, one in enumerate(made):
        (folder / str(number)).write_bytes(one)


assert set(FILES) == set(FORMATS) - {"hub"}, "a new format needs a target"
