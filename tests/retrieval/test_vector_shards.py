"""A corpus in shards has the bytes that one process gives it; a shard that is not of it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llara_core.errors import ConfigError, DataError
from llara_core.model.retriever import Retriever
from llara_core.retrieval.hashes import passage_hashes
from llara_core.retrieval.vector_shards import encode_shard, merge_shards, plan_shards
from llara_core.retrieval.vector_store import HASHES, MANIFEST, VECTORS, Key, read_manifest
from llara_core.retrieval.vectors import stored_vectors
from tests.training.two_processes import make_base

BLOCK = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("model") / "base")


def corpus() -> list[str]:
    """53 texts of one to nine words, 6 of which stand there twice or more."""
    random = np.random.default_rng(3)
    words = ["".join(random.choice(list("aeioubdgklmnprst"), 5)) for _ in range(40)]
    texts = [" ".join(random.choice(words, 1 + number % 9)) for number in range(53)]
    for row, like in ((5, 2), (20, 2), (21, 19), (40, 7), (51, 50), (52, 0)):
        texts[row] = texts[like]
    return texts


@pytest.mark.parametrize("shards", [1, 2, 3, 50])
def test_the_plan_is_whole_blocks_of_every_text_once(shards: int) -> None:
    texts = corpus()
    plan = plan_shards(passage_hashes(texts), shards, BLOCK)
    assert len(plan) == min(shards, 6)  # 47 texts are 6 blocks
    rows = np.concatenate(plan)
    assert rows.tolist() == sorted({texts.index(text) for text in texts})
    assert all(len(part) % BLOCK == 0 for part in plan[:-1]) and all(len(part) for part in plan)
    assert max(map(len, plan)) - min(map(len, plan[:-1] or plan)) <= BLOCK


def test_a_plan_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="got 0"):
        plan_shards(passage_hashes(["a"]), 0)
    with pytest.raises(DataError, match="no passage"):
        plan_shards(passage_hashes([]), 2)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_bytes_are_those_of_one_process(tmp_path: Path, model: Path, dtype: str) -> None:
    texts = corpus()
    one = stored_vectors(Retriever.from_pretrained(model), texts, tmp_path / "one", dtype=dtype, block=BLOCK)
    hashes = passage_hashes(texts)
    plan = plan_shards(hashes, 3, BLOCK)
    folders = []
    for number in (
        2,
        0,
        1,
    ):  # whoever is free takes the next; each a process of its own, so a model of its own
        encoder = Retriever.from_pretrained(model)
        some = [texts[row] for row in plan[number]]
        made = encode_shard(encoder, some, tmp_path / f"shard-{number}", dtype=dtype, block=BLOCK)
        assert made.folder is not None
        folders.append((number, made.folder))
    key = Key(encoder.fingerprint, encoder.dimension, dtype, hashes)
    merged = merge_shards(key, plan, [folder for _, folder in sorted(folders)], tmp_path / "many", BLOCK)
    assert one.folder is not None and merged.name == one.folder.name
    for name in (VECTORS, HASHES):
        assert (merged / name).read_bytes() == (one.folder / name).read_bytes()
    assert read_manifest(merged) == read_manifest(one.folder)
    assert sorted(path.name for path in merged.iterdir()) == [HASHES, MANIFEST, VECTORS]
    again = stored_vectors(encoder, texts, tmp_path / "many", dtype=dtype, block=BLOCK)
    assert again.facts["encoded"] == 0  # found by whoever needs the vectors next


def test_a_lost_or_foreign_shard_is_named(tmp_path: Path, model: Path) -> None:
    texts, encoder = corpus(), Retriever.from_pretrained(model)
    hashes = passage_hashes(texts)
    plan = plan_shards(hashes, 2, BLOCK)
    key = Key(encoder.fingerprint, encoder.dimension, "float32", hashes)
    shards = []
    for rows in plan:
        made = encode_shard(encoder, [texts[row] for row in rows], tmp_path / "shards", block=BLOCK)
        assert made.folder is not None
        shards.append(made.folder)
    with pytest.raises(DataError, match="plan has 2 shards, and 1 were given"):
        merge_shards(key, plan, shards[:1], tmp_path / "many", BLOCK)
    with pytest.raises(DataError, match="shard 1 of"):
        merge_shards(key, plan, [shards[0], tmp_path / "nowhere"], tmp_path / "many", BLOCK)
    with pytest.raises(DataError, match="shard 0 of"):
        merge_shards(key, plan, shards[::-1], tmp_path / "many", BLOCK)
    assert merge_shards(key, plan, shards, tmp_path / "many", BLOCK).is_dir()  # after all, and whole


def test_a_shard_goes_on_at_the_block_where_it_was_killed(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, encoder = corpus(), Retriever.from_pretrained(model)
    rows = plan_shards(passage_hashes(texts), 2, BLOCK)[0]
    some = [texts[row] for row in rows]
    blocks = encoder.encode_blocks
    monkeypatch.setattr(
        encoder, "encode_blocks", lambda texts, **more: _die_after(1, blocks(texts, **more)), raising=True
    )
    with pytest.raises(KeyboardInterrupt):
        encode_shard(encoder, some, tmp_path / "shard", block=BLOCK)
    monkeypatch.undo()
    made = encode_shard(encoder, some, tmp_path / "shard", block=BLOCK)
    assert (made.facts["resumed"], made.facts["encoded"]) == (BLOCK, len(some) - BLOCK)
    whole = encode_shard(encoder, some, tmp_path / "whole", block=BLOCK)
    assert np.array_equal(made.vectors, whole.vectors)


def _die_after(count: int, blocks):  # type: ignore[no-untyped-def]
    for number, block in enumerate(blocks):
        if number == count:
            raise KeyboardInterrupt
        yield block
