"""The same bytes from any blocks, shards, runs and processes; and memory that does not grow with queries."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llara_core.config import MineSettings
from llara_core.errors import ConfigError
from llara_core.retrieval import mining
from llara_core.retrieval.mining import mine
from tests.oracles.fake_encoder import FakeEncoder
from tests.retrieval.test_mining_oracle import random_collection

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = MineSettings(
    negatives=5,
    bm25_depth=15,
    dense_depth=15,
    random_depth=4,
    shares={"bm25": 0.4, "dense": 0.4, "random": 0.2},
    skip_top=1,
)


class BatchDependent(FakeEncoder):
    """Its vectors' last bits depend on what is encoded together, as a real model's do."""

    def encode_queries(self, texts):
        vectors = super().encode_queries(texts)
        return vectors * np.float32(1 + 1e-6 * (len(texts) % 7))


def arrow_bytes(*tables):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, tables[0].schema) as writer:
        writer.write_table(pa.concat_tables(tables).combine_chunks())
    return sink.getvalue().to_pybytes()


WHOLE = {seed: mine(random_collection(1), FakeEncoder(48), EVERYTHING, seed=seed) for seed in (0, 9)}


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from(sorted(WHOLE)))
@settings(max_examples=25)
def test_blocks_change_nothing(encoded, chosen, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "_ENCODE_BLOCK", encoded)
        patch.setattr(mining, "_CHOICE_BLOCK", chosen)
        again = mine(random_collection(1), FakeEncoder(48), EVERYTHING, seed=seed)
    assert arrow_bytes(again.table) == arrow_bytes(WHOLE[seed].table)
    assert again.table.column("query_id").num_chunks == 1
    assert again.stats == WHOLE[seed].stats and again.audit == WHOLE[seed].audit


@given(st.integers(1, 18), st.integers(1, 9))
@settings(max_examples=25)
def test_shards_are_the_whole(parts, encoded):
    """Also with an encoder whose bits depend on its batch: shards encode the whole's blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "_ENCODE_BLOCK", encoded)
        whole = mine(random_collection(1), BatchDependent(48), EVERYTHING)
        shards = [
            mine(random_collection(1), BatchDependent(48), EVERYTHING, shard=(part, parts))
            for part in range(parts)
        ]
    assert arrow_bytes(*(shard.table for shard in shards)) == arrow_bytes(whole.table)
    assert sum(shard.stats["queries"] for shard in shards) == whole.stats["queries"]
    for reason, count in whole.stats["excluded"].items():
        assert sum(shard.stats["excluded"][reason] for shard in shards) == count


def test_a_shard_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="shard 3 of 3"):
        mine(random_collection(1), FakeEncoder(48), EVERYTHING, shard=(3, 3))


def test_processes_agree():
    """Whatever the salt of Python's hashes."""
    code = (
        "import hashlib; from tests.retrieval.test_mining_same_bytes import WHOLE, arrow_bytes; import json; "
        "print(hashlib.sha256(arrow_bytes(WHOLE[9].table)).hexdigest(), "
        "hashlib.sha256(json.dumps(WHOLE[9].audit).encode()).hexdigest())"
    )
    answers = set()
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": salt}, cwd=ROOT,
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        answers.add(done.stdout)
    (answer,) = answers
    assert answer.split()[0] == hashlib.sha256(arrow_bytes(WHOLE[9].table)).hexdigest()


MEASURE = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from llara_core.config import MineSettings
from llara_core.data.collection import CORPUS_SCHEMA, QRELS_SCHEMA, QUERIES_SCHEMA, Collection
from llara_core.retrieval.mining import mine
N, Q, D = int(sys.argv[1]), int(sys.argv[2]), 64
random = np.random.default_rng(0)
vectors = random.standard_normal((N, D), dtype=np.float32)

class Encoder:
    dimension, fingerprint = D, "random"
    def encode_queries(self, texts):
        return vectors[[int(text.split()[1]) % N for text in texts]] + np.float32(0.1)
    def encode_passages(self, passages):
        return vectors[[int(text.split()[2]) for text in passages]]

ids = pa.array([f"d{i}" for i in range(N)])
text = pa.array([f"passage number {i} about {i % 97} and {i % 31}" for i in range(N)])
empty, lines = pa.nulls(N, pa.string()), pa.array(range(N), pa.int32())
corpus = pa.table([ids, pa.array([""] * N), text, empty, lines, lines], CORPUS_SCHEMA)
lines = pa.array(range(Q), pa.int32())
asked = pa.array([f"q{i}" for i in range(Q)])
queries = pa.table([asked, pa.array([f"query {i}" for i in range(Q)]), lines], QUERIES_SCHEMA)
qrels = pa.table([asked, pa.array([f"d{i % N}" for i in range(Q)]), pa.array([1] * Q, pa.int32()), lines],
                 QRELS_SCHEMA)
collection = Collection("big", corpus, queries, {"train": qrels})
def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])
mine(collection, Encoder(), MineSettings(bm25_depth=0, dense_depth=50, queries=64))
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS:")
mined = mine(collection, Encoder(), MineSettings(bm25_depth=0, dense_depth=50))
assert mined.table.num_rows == 8 * Q
print((memory("VmHWM:") - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_queries_times_corpus():
    """16 times the pairs of query and passage: the matrix of their scores alone would be 1,024 MB more."""

    def peak(documents, queries):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(documents), str(queries)], capture_output=True, text=True,
            check=False, timeout=300, cwd=ROOT,
        )  # fmt: skip
        assert not done.returncode, done.stderr
        return float(done.stdout)

    small, large = peak(4_000, 4_000), peak(16_000, 16_000)
    # What may grow: ids, texts and the negatives themselves, under 2 KB a query.
    assert large < small + 12_000 * 2 / 1024 + 8, (small, large)
