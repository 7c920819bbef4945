from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from llara_core.data.collection import QRELS_SCHEMA, Collection
from llara_core.data.formats import read_beir
from steps.expectation_facts import Facts
from steps.frames import Judged, frames
from steps.frames_of_texts import negatives, pairs

ROOT = Path(__file__).resolve().parents[2]


def test_batches_keep_rows_order_and_bounds() -> None:
    sizes = [5, 5, 5, 40, 1, 1, 1, 1, 1, 1]
    table = pa.table({"text": ["x" * size for size in sizes]})
    judged = Judged("corpus", "c", table, Facts(table, {}), sizes=pa.array(sizes).to_numpy())
    parts = [frame["text"].str.len().tolist() for frame in judged.batches(rows=4, size=12)]
    # A row of 40 bytes is alone in its batch, others share 12 bytes and 4 rows.
    assert parts == [[5, 5], [5], [40], [1, 1, 1, 1], [1, 1]]
    joined = pd.concat(list(judged.batches(rows=4, size=12)))
    assert joined.index.tolist() == list(range(10)) and joined["text"].tolist() == table["text"].to_pylist()


def test_tables_come_in_the_order_of_the_files(beir_folder: Path) -> None:
    judged = list(frames(read_beir(beir_folder)))
    assert [(one.suite, one.file.rsplit("/")[-1], one.table.num_rows) for one in judged] == [
        ("corpus", "corpus.jsonl", 24),
        ("queries", "queries.jsonl", 16),
        ("qrels", "test.tsv", 16),
        ("splits", "test.tsv", 1),
        ("qrels", "train.tsv", 8),
        ("splits", "train.tsv", 1),
    ]
    assert next(judged[3].batches())["queries_with_relevant"].tolist() == [8]


def test_a_query_of_another_split_that_stands_in_training_is_marked(beir_folder: Path) -> None:
    with (beir_folder / "queries.jsonl").open("a") as file:
        for name, text in (
            ("leak", " What is a VOLCANO down rock "),
            ("idle", "what is a volcano down rock"),
            ("fine", "x"),
        ):
            file.write(json.dumps({"_id": name, "text": text}) + "\n")
    with (beir_folder / "qrels" / "test.tsv").open("a") as file:
        file.write("leak\tvolcano-0\t1\nfine\tvolcano-0\t1\n")
    queries = list(frames(read_beir(beir_folder)))[1]
    frame = next(queries.batches())
    assert frame.loc[frame["text_in_train"], "_id"].tolist() == ["leak"]  # "idle" is judged nowhere


def test_a_corpus_without_queries_is_judged(beir_folder: Path) -> None:
    whole = read_beir(beir_folder)
    alone = Collection("x", whole.corpus, whole.queries.slice(0, 0), {})
    assert [len(next(one.batches())) for one in frames(alone)] == [24, 0]


def test_pairs_have_the_texts_of_their_ids(beir_folder: Path) -> None:
    collection = read_beir(beir_folder)
    rows = [
        ("test-comet", "loom-2", 1),
        ("test-comet", "loom-1", 0),
        ("nobody", "loom-1", 1),
        ("test-loom", "gone", 1),
    ]
    table = pa.table([*map(list, zip(*rows, strict=True)), [2, 3, 4, 5]], schema=QRELS_SCHEMA)
    changed = Collection("x", collection.corpus, collection.queries, {"dev": table})
    (frame,) = pairs(changed, "dev").batches()
    titles, texts = (collection.corpus[name].to_pylist() for name in ("title", "text"))
    place = collection.corpus["_id"].to_pylist().index("loom-2")
    assert frame["line"].tolist() == [2]  # the others have grade 0, or name what is not there
    assert frame["passage"].tolist() == [f"{titles[place]} {texts[place]}"]
    assert frame["query"].tolist() == ["tail and of the comet"]


def test_a_negative_that_any_split_judges_relevant_is_marked(beir_folder: Path) -> None:
    collection = read_beir(beir_folder)
    table = pa.table(
        {
            "query_id": ["train-comet", "train-comet", "test-comet", "nobody"],
            "corpus_id": ["comet-0", "comet-1", "comet-1", "comet-0"],
        }
    )
    frame = next(negatives(collection, table, "negatives").batches())
    assert frame["judged_relevant"].tolist() == [True, False, True, False]
    assert frame["line"].tolist() == [1, 2, 3, 4]
    assert frame["query"].isna().tolist() == [False, False, False, True]


MEASURE = """
import sys, threading, time
from pathlib import Path
from llara_core.data.collection import Collection
from steps.expectations import judge
def now():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) / 1024
import great_expectations, pandas
judge(Collection.load(Path(sys.argv[1])))
before = peak = now()
def watch():
    global peak
    while True:
        peak = max(peak, now())
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
judge(Collection.load(Path(sys.argv[2])))
print(peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_grows_by_bytes_a_row_and_not_by_texts(tmp_path: Path) -> None:
    """300,000 rows of 1 kB are 300 MB of text, of which a batch holds a part at a time."""
    folders = []
    for rows in (1000, 100_000, 300_000):
        folder = tmp_path / str(rows)
        words = "some words of a text that is neither short nor long and says nothing of note "
        ids = [f"d{row}" for row in range(rows)]
        corpus = pa.table(
            {
                "_id": ids, "title": [""] * rows, "text": [f"{row} " + words * 13 for row in range(rows)],
                "group": [""] * rows, "position": pa.array([0] * rows, pa.int32()),
                "line": pa.array(range(1, rows + 1), pa.int32()),
            }
        )  # fmt: skip
        queries = pa.table({"_id": ["q"], "text": ["what"], "line": pa.array([1], pa.int32())})
        qrels = pa.table([["q"], ["d1"], [1], [2]], schema=QRELS_SCHEMA)
        Collection("x", corpus, queries, {"test": qrels}).save(folder)
        folders.append(str(folder))
        del corpus

    def above(folder: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, folders[0], folder],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        return float(done.stdout.split()[-1])

    small, large = above(folders[1]), above(folders[2])
    assert large - small < 60  # MiB; the texts of the 200,000 rows more are 200 MB
