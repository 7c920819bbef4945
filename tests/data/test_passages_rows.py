"""Adaptation rows of large corpora: the same rows, in flat memory."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llara_core.data.collection import CORPUS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.passages import adaptation_rows, held_out_rows
from llara_core.errors import DataError

DOCUMENT = st.tuples(
    st.sampled_from(["a b", "c", "", " ", "d e. f g h"]),
    st.sampled_from([None, "g", "h", "i"]),
    st.sampled_from([None, 0, 1, 2, -1]),
)


def collection_of(documents, chunks=1):
    rows = [
        {"_id": str(i), "title": "", "text": f"{text}{i}" if text.strip() else text, "group": group,
         "position": position, "line": i + 1}
        for i, (text, group, position) in enumerate(documents)
    ]  # fmt: skip
    size = max(1, -(-len(rows) // chunks))
    parts = [
        pa.Table.from_pylist(rows[start : start + size], CORPUS_SCHEMA) for start in range(0, len(rows), size)
    ]
    corpus = pa.concat_tables(parts) if parts else CORPUS_SCHEMA.empty_table()
    return Collection("c", corpus, QUERIES_SCHEMA.empty_table(), {})


def oracle(documents):
    """The rows by lists and a dictionary, as the docstring tells them."""
    texts = [f"{text}{i}" if text.strip() else "" for i, (text, _, _) in enumerate(documents)]
    members = {}
    for row, (_, group, _) in enumerate(documents):
        if group is not None and texts[row]:
            members.setdefault(group, []).append(row)
    result = []
    for row, (_, group, _) in enumerate(documents):
        together = members.get(group, []) if group is not None else []
        if len(together) > 1:
            if row == together[0]:
                place = [(documents[one][2] is None, documents[one][2] or 0, one) for one in together]
                chain = [texts[one] for *_, one in sorted(place)]
                result += [*pairwise(chain), (chain[-1], chain[-2])]
        elif texts[row]:
            words = texts[row].split()
            if len(words) > 1:
                half = len(words) // 2
                result.append((" ".join(words[:half]), " ".join(words[half:])))
    return result


@given(documents=st.lists(DOCUMENT, max_size=30), chunks=st.integers(1, 5))
def test_rows_are_those_of_the_plain_way(documents, chunks) -> None:
    expected = oracle(documents)
    collection = collection_of(documents, chunks)
    if not expected:
        with pytest.raises(DataError, match="two words"):
            adaptation_rows(collection)
        return
    table = adaptation_rows(collection)
    assert list(zip(table["text"].to_pylist(), table["next_text"].to_pylist(), strict=True)) == expected


def test_rows_in_a_file_are_the_same(tmp_path) -> None:
    collection = collection_of([("a b", "g", 1), ("c d", None, None), ("e f", "g", 0)])
    mapped = adaptation_rows(collection, file=tmp_path / "rows.arrow")
    assert mapped.equals(adaptation_rows(collection))
    with pytest.raises(DataError):
        adaptation_rows(collection_of([]), file=tmp_path / "none.arrow")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.arrow"]  # nothing half-written is left


@given(total=st.integers(10, 300), count=st.integers(1, 100), blocks=st.integers(1, 20))
def test_held_out_rows_are_those_of_a_mask(total: int, count: int, blocks: int) -> None:
    rows = pa.table({"text": [str(row) for row in range(total)], "next_text": ["x"] * total})
    part = ["training"] * total
    wanted = max(1, min(count, total // 5))
    number = min(blocks, wanted, total // 10)
    for block in range(number):
        size = wanted * (block + 1) // number - wanted * block // number
        start = total * (2 * block + 1) // (2 * number) - size // 2
        part[start : start + size] = ["held out"] * size
        for beside in (start - 1, start + size):
            if 0 <= beside < total and part[beside] == "training":
                part[beside] = "neither"
    training, held_out = held_out_rows(rows, count, blocks)
    assert training["text"].to_pylist() == [str(row) for row in range(total) if part[row] == "training"]
    assert held_out["text"].to_pylist() == [str(row) for row in range(total) if part[row] == "held out"]


PEAK = """
import sys, pathlib
import pyarrow as pa
from llara_core.data.collection import CORPUS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.data.passages import adaptation_rows
count, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
with pa.OSFile(str(folder / "c.arrow"), "wb") as sink, pa.ipc.new_file(sink, CORPUS_SCHEMA) as out:
    for start in range(0, count, 5000):
        ids = range(start, start + 5000)
        columns = [[str(i) for i in ids], ["t"] * 5000, ["some words of a passage. " * 8] * 5000,
                   [f"g{i * 7919 % count // 4}" for i in ids], list(ids), list(ids)]
        out.write_batch(pa.record_batch(columns, schema=CORPUS_SCHEMA))
corpus = pa.ipc.open_file(pa.memory_map(str(folder / "c.arrow"))).read_all()
rows = adaptation_rows(Collection("c", corpus, QUERIES_SCHEMA.empty_table(), {}), file=folder / "r.arrow")
assert rows.num_rows == count
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
# What is mapped from files counts as resident too, but can be given back at any time.
print(int(status["VmHWM"].split()[0]), int(status["RssFile"].split()[0]), int(status["RssAnon"].split()[0]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_flat(tmp_path) -> None:
    """100,000 documents of 200 letters in shuffled groups: numbers are kept for them, texts are not.

    The least of three: how much of what was freed goes back to the system changes from run to run.
    """
    few, many = (
        min(_anonymous(count, tmp_path) for _ in range(times)) for count, times in ((20_000, 1), (100_000, 3))
    )
    assert many - few < 24 * 1024  # KiB; rows as Python lists would take 60 MB


def _anonymous(count: int, folder: Path) -> int:
    """KiB that a process holds, files aside, after it has made the rows of so many documents."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(count), str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},  # the default keeps what was freed
    )
    return int(done.stdout.split()[2])
