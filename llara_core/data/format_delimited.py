"""CSV and TSV: what spreadsheets and databases write, down to quoted line breaks.

The delimiter and the header are detected; a table without header is read by ``columns`` with numbers
(``{id: 1, text: 3}``). Rows are numbered by the line they begin in. A quote that is never closed would
swallow the rest of the file: only its line is given up then, and reading goes on with the next.
Source: RFC 4180; deviations: any line end, any of four delimiters, and a byte order mark is left out.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from llara_core.data.format_base import Format, Request
from llara_core.data.format_tables import ALIASES, Table, open_tables
from llara_core.data.places import LONGEST, Damaged, open_place, shown
from llara_core.data.raw import KEPT_BYTES, Fault, Raw, Source
from llara_core.errors import DataError

_DELIMITERS = (",", "\t", ";", "|")
_SAMPLED = 20  # rows by which the delimiter is told
_BLOCK = 1 << 18  # bytes
# Names that tell a header beside those of our own columns.
_HEADER = frozenset(
    [name for names in ALIASES.values() for name in names]
    + ["anchor", "positive", "negative", "answer", "pos", "neg", "input", "output_predict", "label", "url"]
)


class _Line:
    """One physical line of a file, with its line feed."""

    __slots__ = ("data", "number", "offset", "size")

    def __init__(self, number: int, data: bytes, size: int, offset: int) -> None:
        self.number, self.data, self.size, self.offset = number, data, size, offset


def open_csv(request: Request) -> Source:
    """A CSV file or a folder of shards.

    Raises:
        DataError: there is no such file, it is empty, or a column is missing.
    """
    return open_tables(request, "csv", ("csv", "tsv"))


def open_tsv(request: Request) -> Source:
    """A TSV file or a folder of shards; raises as ``open_csv``."""
    return open_tables(request, "tsv", ("tsv", "csv"))


def open_delimited(file: str, kind: str, columns: Mapping[str, str]) -> Table:
    """A CSV or TSV file as a table.

    Args:
        file: its place.
        kind: ``csv`` or ``tsv``; where several delimiters fit, it decides.
        columns: ours → the file's names, or, for a table without header, the columns' numbers from 1.

    Raises:
        DataError: it cannot be opened, or is empty, or has no header and no numbers name its columns.
    """
    delimiter = _delimiter(file, "\t" if kind == "tsv" else ",")
    first = next(iter(_cells(file, delimiter)), None)
    if first is None:
        return Table(file, (), partial(_records, file, delimiter, (), False))
    cells = [cell.strip() for cell in first[1] or []]
    header = _is_header(cells, columns)
    if not header and not _numbered(columns, len(cells)):
        raise DataError(
            f"no header: the first row is {', '.join(cells)[:200]!r}. Add a first row with names (id, text, "
            "title), or give the columns' names or numbers by collection.columns, e.g. {id: 1, text: 2}",
            file=shown(file),
            row=first[0][0].number,
            rule="columns",
        )
    fields = tuple(cells) if header else tuple(str(number + 1) for number in range(len(cells)))
    twice = next((name for name in fields if fields.count(name) > 1 and name), None)
    if twice is not None and twice in (*columns.values(), *_HEADER):
        raise DataError(
            f"two columns are called {twice!r}; rename one", file=shown(file), row=1, rule="columns"
        )
    return Table(file, fields, partial(_records, file, delimiter, fields, header))


def _records(file: str, delimiter: str, fields: Sequence[str], header: bool) -> Iterator[Raw]:
    skip = header
    for lines, cells, broken in _cells(file, delimiter):
        if skip:
            skip = False
            continue
        fault = broken if cells is None else _wrong(cells, fields)
        record = None if cells is None or fault is not None else dict(zip(fields, cells, strict=True))
        raw = b"".join(line.data for line in lines).rstrip(b"\r\n")[:KEPT_BYTES]
        size = sum(line.size for line in lines)
        yield Raw(lines[0].number, record, raw, fault, size, lines[0].offset)


def _wrong(cells: Sequence[str], fields: Sequence[str]) -> Fault | None:
    if len(cells) != len(fields):
        return Fault("columns", f"expected {len(fields)} cells, as the first row has, got {len(cells)}")
    for cell in cells:
        if not cell.isascii():
            try:
                cell.encode("utf-8")
            except UnicodeEncodeError as error:  # bytes that are no UTF-8 came as half surrogates
                byte = ord(error.object[error.start]) - 0xDC00
                return Fault("valid_utf8", f"not valid UTF-8 (byte 0x{byte & 0xFF:02x})")
    return None


def _cells(file: str, delimiter: str) -> Iterator[tuple[list[_Line], list[str] | None, Fault | None]]:
    """Rows as the physical lines that they stand on and their cells, or why they have none."""
    # The limit is the whole process's; it is only ever raised, and longer rows are refused below.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    source = _lines(file)
    again: deque[_Line] = deque()
    taken: list[_Line] = []
    broken: list[Fault] = []

    def feed() -> Iterator[str]:
        size = 0
        while (line := again.popleft() if again else next(source, None)) is not None:
            if isinstance(line, Fault):
                broken.append(line)
                return
            size = line.size if not taken else size + line.size
            taken.append(line)
            if size > LONGEST:
                raise csv.Error(f"the row has more than {LONGEST:,} bytes")
            yield line.data.decode("utf-8", "surrogateescape")

    while True:
        reader = csv.reader(feed(), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                if cells and any(cells):
                    yield taken, cells, None
                taken = []
        except csv.Error as error:
            bad, rest = taken[0], taken[1:]
            taken = []
            again.extendleft(reversed(rest))
            rule = "row_length" if "bytes" in str(error) and not rest else "csv_quotes"
            yield [bad], None, Fault(rule, f"malformed row: {error}; is a quote open or not doubled?")
            continue
        if broken:
            number = taken[0].number if taken else -1
            last = taken or [_Line(max(number, 1), b"", 0, -1)]
            yield last, None, broken[0]
        return


def _lines(file: str) -> Iterator[_Line | Fault]:
    r"""Physical lines, which only ``\n`` ends; blank ones too, since a quoted cell may hold them."""
    number = offset = 0
    with open_place(file) as stream:
        rest = b""
        while True:
            try:
                block = stream.read1(_BLOCK)
            except Damaged as error:
                yield Fault("readable", f"cannot be read after row {number}: {error}")
                return
            if not offset and (rest + block).startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(
                    "not valid UTF-8: it is UTF-16, as spreadsheets save Unicode text; save it as CSV UTF-8",
                    file=shown(file),
                    row=1,
                    rule="valid_utf8",
                )
            if not number and not offset and (rest + block)[:3] == b"\xef\xbb\xbf":
                block, offset = (rest + block)[3:], 3
                rest = b""
            lines = (rest + block).split(b"\n") if b"\n" in block or not block else [rest + block]
            rest = lines.pop()
            for line in lines:
                number += 1
                yield _Line(number, line + b"\n", len(line) + 1, offset)
                offset += len(line) + 1
            if not block:
                break
            if len(rest) > LONGEST:  # no line of text: give up what follows up to the next line feed
                number, offset, rest = yield from _skipped(stream, number + 1, offset, rest)
        if rest:
            yield _Line(number + 1, rest, len(rest), offset)


def _skipped(
    stream: io.BufferedReader, number: int, offset: int, rest: bytes
) -> Generator[_Line, None, tuple[int, int, bytes]]:
    """The beginning of a line that is too long; gives back where reading goes on."""
    size = len(rest)
    kept = rest[:KEPT_BYTES]
    after = b""
    while block := stream.read1(_BLOCK):
        end = block.find(b"\n")
        if end >= 0:
            size, after = size + end + 1, block[end + 1 :]
            break
        size += len(block)
    yield _Line(number, kept + b"\n", size, offset)
    return number, offset + size, after


def _delimiter(file: str, usual: str) -> str:
    """The delimiter by which the first rows have the same number of cells, and the most."""
    best, most = usual, 1
    for delimiter in (usual, *(one for one in _DELIMITERS if one != usual)):
        rows = [cells for _, cells, _ in islice(_cells(file, delimiter), _SAMPLED) if cells]
        sizes = {len(cells) for cells in rows}
        if rows and len(sizes) == 1 and (size := sizes.pop()) > most:
            best, most = delimiter, size
            if delimiter == usual:
                break
        elif rows and delimiter == usual and len(rows[0]) > 1:
            break  # ragged rows under a header that the usual delimiter cuts: rows to be told, not another
    return best


def _is_header(cells: Sequence[str], columns: Mapping[str, str]) -> bool:
    return any(cell.lower() in _HEADER or cell in columns.values() for cell in cells if not cell.isdigit())


def _numbered(columns: Mapping[str, str], width: int) -> bool:
    return bool(columns) and all(one.isdigit() and 1 <= int(one) <= width for one in columns.values())


CSV = Format(
    name="csv",
    files="*.csv, one file or a folder of shards; or corpus, queries and qrels/<split>",
    row='id,title,text ⏎ 7,Lava,"Molten rock, ""hot"""',
    recognised="by the suffix .csv; comma, tab, semicolon or bar; a header, or numbers in columns",
    becomes="a document a row, as for jsonl; columns: {id: doc_no, text: body} for other names",
    open=open_csv,
)
TSV = Format(
    name="tsv",
    files="*.tsv, as csv",
    row="id⇥title⇥text ⏎ 7⇥Lava⇥Molten rock",
    recognised="by the suffix .tsv, where the names are not MS MARCO's or BEIR's",
    becomes="as csv",
    open=open_tsv,
)
