"""Plain text: a document a file (``.txt``, ``.md``), or JSON lines of unlabelled text.

Documents are called by their place below the source: ``AA/wiki_00:12``, ``notes/lava.txt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from llara_core.data.format_base import Format, Request, tree
from llara_core.data.format_tables import placed
from llara_core.data.format_wikipedia import is_extracted
from llara_core.data.places import (
    LONGEST,
    Damaged,
    as_text,
    bare_name,
    name_of,
    open_place,
    read_json_lines,
    shown,
)
from llara_core.data.raw import KEPT_BYTES, Fault, Raw, Source, SourceFile
from llara_core.data.records import PLACE, document_entry
from llara_core.errors import DataError

PLAIN, LINES = (".txt", ".md"), (".jsonl",)  # one document a file; one document a line
_EXPECTED = (
    "expected .txt or .md (one document a file), .jsonl (a document a line, under 'text' and perhaps "
    "'title') or WikiExtractor's --json output (AA/wiki_00), each plain or .gz"
)


def open_text(request: Request) -> Source:
    """Every file of text below a place, in the order of the paths.

    Raises:
        DataError: there is no such place, or none that holds text.
    """
    files = text_places(request.place)
    opened = []
    for relative, file in files.items():
        plain = text_kind(file) == "plain"
        read = (
            partial(_whole, file, relative)
            if plain
            else partial(placed, partial(read_json_lines, file), relative)
        )
        opened.append(SourceFile("corpus", file, read, document_entry))
    name = request.name or name_of(request.place).split(".")[0] or "text"
    return Source(name, "text", opened, {"place": str(shown(request.place)), "files": len(files)})


def text_places(place: str) -> dict[str, str]:
    """Path below the place → place of the files that hold text, ordered by path; hidden ones are not read.

    Raises:
        DataError: there is no such place, or none that holds text.
    """
    try:
        found = tree(place) or {name_of(place): as_text(place)}
    except DataError as error:
        if error.rule != "file_exists":
            raise
        raise DataError(
            "no such file or folder; name the text to adapt on", file=shown(place), rule="file_exists"
        ) from None
    files = {relative: file for relative, file in found.items() if text_kind(file)}
    if not files:
        raise DataError(f"no text here; {_EXPECTED}", file=shown(place), rule="file_exists")
    return dict(sorted(files.items(), key=lambda item: item[0].split("/")))


def text_kind(file: str) -> str:
    """``lines``, ``plain``, or nothing for a file that is not read."""
    bare = bare_name(file)
    if bare.endswith(LINES) or is_extracted(file):
        return "lines"
    return "plain" if bare.endswith(PLAIN) else ""


def _whole(file: str, relative: str) -> Iterator[Raw]:
    """One row: the whole file."""
    data = b""
    fault = None
    try:
        with open_place(file) as stream:
            while len(data) <= LONGEST and (block := stream.read1(1 << 20)):
                data += block
    except Damaged as error:
        fault = Fault("readable", f"cannot be read: {error}")
    if len(data) > LONGEST:
        fault = Fault("row_length", f"the file has more than {LONGEST:,} bytes; cut it into documents")
    record = None
    if fault is None:
        try:
            # A file name is no title: `page_0012` would be taught to the model as a word of the text.
            record = {"text": data.decode("utf-8-sig"), PLACE: relative}
        except UnicodeDecodeError as error:
            wrong = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
            fault = Fault("valid_utf8", f"not valid UTF-8 ({wrong}); convert the file")
    yield Raw(1, record, data[:KEPT_BYTES], fault, len(data), 0)


TEXT = Format(
    name="text",
    files="*.txt, *.md, *.jsonl, AA/wiki_00 …, one file or a folder and what lies below it",
    row='a file is a document; in .jsonl {"title": "Lava", "text": "…"}',
    recognised="by the suffix .txt or .md",
    becomes="documents without ids of their own: text to adapt on",
    open=open_text,
)
