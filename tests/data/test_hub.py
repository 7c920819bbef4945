"""Hugging Face datasets in BEIR's layout and in mteb's, as local folders and from a hub on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llara_core.data.formats import (
    open_collection,
    open_place_as_source,
    path_fingerprint,
    read_beir,
    strict_collection,
)
from llara_core.data.hub import is_repository, read_repository, repository_id
from llara_core.errors import DataError, MissingDependencyError
from tests.conftest import write_jsonl
from tests.oracles.fake_hub import COMMIT, fake_hub

pytest.importorskip("datasets", reason="reads the hub's Parquet; comes with the extra pipeline")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test may read or fill the user's cache of data sets."""
    import datasets

    for name in ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH"):
        monkeypatch.setattr(datasets.config, name, str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def configs(**files: dict[str, str]) -> str:
    """A README whose head names the files of each configuration and split."""
    head = ["---", "configs:"]
    for name, splits in files.items():
        head += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            head += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*head, "---", ""])


def parquet(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def beir_layout(source, folder):
    """As BeIR/scifact and BeIR/scifact-qrels: Parquet, and the judgements in a repository of their own."""
    collection = read_beir(source)
    corpus, queries = collection.corpus, collection.queries
    parquet(folder / "corpus" / "c.parquet", {name: corpus[name] for name in ("_id", "title", "text")})
    titles = pa.array([""] * queries.num_rows)
    parquet(
        folder / "queries" / "q.parquet", {"_id": queries["_id"], "title": titles, "text": queries["text"]}
    )
    (folder / "README.md").write_text(
        configs(corpus={"corpus": "corpus/c.parquet"}, queries={"queries": "queries/q.parquet"})
    )
    beside = folder.with_name(f"{folder.name}-qrels")
    beside.mkdir()
    for split, table in collection.qrels.items():
        lines = ["query-id\tcorpus-id\tscore"]
        lines += [f"{one['query_id']}\t{one['corpus_id']}\t{one['score']}" for one in table.to_pylist()]
        hub_name = {"test": "test", "train": "validation"}[split]  # the hub says validation for dev
        (beside / f"{hub_name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def mteb_layout(source, folder, kind="parquet"):
    """As mteb/scifact: everything in one repository, judgements under the configuration default."""
    collection = read_beir(source)
    corpus, queries, qrels = collection.corpus, collection.queries, collection.qrels["test"]
    tables = {
        "corpus": {"_id": corpus["_id"], "title": corpus["title"], "text": corpus["text"]},
        "queries": {"_id": queries["_id"], "text": queries["text"]},
        "qrels": {
            "query-id": qrels["query_id"],
            "corpus-id": qrels["corpus_id"],
            "score": qrels["score"].cast(pa.float64()),
        },
    }
    if kind == "jsonl":
        for name, columns in tables.items():
            path = folder / ("qrels/test.jsonl" if name == "qrels" else f"{name}.jsonl")
            write_jsonl(path, pa.table(columns).to_pylist())
        return folder
    for name, columns in tables.items():
        parquet(folder / name / "t.parquet", columns)
    head = configs(
        default={"test": "qrels/t.parquet"},
        corpus={"corpus": "corpus/t.parquet"},
        queries={"queries": "queries/t.parquet"},
    )
    (folder / "README.md").write_text(head)
    return folder


def same_rows(one, other, split="test"):
    assert one.corpus_ids == other.corpus_ids
    assert list(one.passages) == list(other.passages)
    assert one.split_queries(split) == other.split_queries(split)
    assert one.judgements(split) == other.judgements(split)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_mteb_layout(beir_folder, tmp_path, kind):
    folder = mteb_layout(beir_folder, tmp_path / "mteb" / "tiny", kind)
    assert is_repository(folder) and not is_repository(beir_folder)
    opened = open_collection(folder)
    assert opened.name == "tiny" and list(opened.qrels) == ["test"]
    same_rows(opened, read_beir(beir_folder))
    assert open_collection(folder, corpus_only=True).qrels == {}


def test_beir_layout(beir_folder, tmp_path):
    folder = beir_layout(beir_folder, tmp_path / "hub" / "tiny")
    opened = open_collection(folder, "named")
    assert opened.name == "named" and sorted(opened.qrels) == ["dev", "test"]
    same_rows(opened, read_beir(beir_folder))
    assert opened.corpus["line"].to_pylist()[:2] == [1, 2]


def test_queries_cut_by_split_are_joined(beir_folder, tmp_path):
    folder = mteb_layout(beir_folder, tmp_path / "mteb" / "tiny")
    rows = read_beir(beir_folder).queries
    for name, some in (("dev", rows.slice(0, 9)), ("test", rows.slice(8))):  # one query stands in both
        parquet(folder / "queries" / f"{name}.parquet", {"_id": some["_id"], "text": some["text"]})
    head = configs(
        default={"test": "qrels/t.parquet"},
        corpus={"corpus": "corpus/t.parquet"},
        queries={"dev": "queries/dev.parquet", "test": "queries/test.parquet"},
    )
    (folder / "README.md").write_text(head)
    opened = open_collection(folder)
    assert opened.queries["_id"].to_pylist() == rows["_id"].to_pylist()
    same_rows(opened, read_beir(beir_folder))


def test_a_null_is_named_by_file_and_row(beir_folder, tmp_path):
    folder = mteb_layout(beir_folder, tmp_path / "tiny2")
    columns = {"_id": ["a", "b"], "title": [None, "t"], "text": ["x", None]}
    parquet(folder / "corpus" / "t.parquet", columns)
    with pytest.raises(DataError, match=r"corpus:2: expected a string under 'text', got None") as caught:
        read_repository(folder)
    assert caught.value.row == 2


def test_scores_must_be_whole(beir_folder, tmp_path):
    folder = mteb_layout(beir_folder, tmp_path / "tiny2")
    parquet(folder / "qrels" / "t.parquet", {"query-id": ["q"], "corpus-id": ["d"], "score": [0.5]})
    with pytest.raises(DataError, match=r"whole number under 'score', got 0\.5"):
        read_repository(folder)
    json_folder = mteb_layout(beir_folder, tmp_path / "tiny3", "jsonl")
    write_jsonl(json_folder / "qrels" / "test.jsonl", [{"query-id": "q", "corpus-id": "d", "score": "high"}])
    with pytest.raises(DataError, match="whole number under 'score', got 'high'"):
        read_repository(json_folder)


def test_missing_judgements_and_texts(beir_folder, tmp_path):
    folder = beir_layout(beir_folder, tmp_path / "hub" / "tiny")
    for file in (tmp_path / "hub" / "tiny-qrels").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="the repository tiny-qrels beside it"):
        open_collection(folder)
    (folder / "README.md").write_text(configs(corpus={"corpus": "corpus/c.parquet"}))
    with pytest.raises(DataError, match=r"neither queries.jsonl nor a configuration 'queries'"):
        open_collection(folder)


def test_ids_and_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert repository_id("BeIR/scifact") == "BeIR/scifact" == repository_id("hf:BeIR/scifact")
    (tmp_path / "BeIR" / "scifact").mkdir(parents=True)
    assert repository_id("BeIR/scifact") is None and repository_id("hf:BeIR/scifact") == "BeIR/scifact"
    for path in ("scifact", "/data/scifact", "./data/scifact", "a/b/c", "~/scifact", "../scifact"):
        assert repository_id(path) is None


def test_offline_says_what_to_download_and_where_to_put_it(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError) as caught:
        open_collection(Path("nobody/none"))
    said = str(caught.value)
    assert "hf download nobody/none --repo-type dataset --local-dir FOLDER/none" in said
    assert "nobody/none-qrels" in said and "none.zip" in said


@pytest.fixture
def online(tmp_path, monkeypatch):
    """huggingface_hub's client, pointed to whatever address a test gives, with a cache of its own."""
    import huggingface_hub.constants
    import huggingface_hub.hf_api

    def point(address):
        for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
            value = address if name == "ENDPOINT" else address + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", address)

    return point


def test_a_hub_serves_both_layouts(beir_folder, tmp_path, online):
    split = beir_layout(beir_folder, tmp_path / "hub" / "tiny")
    beside = {"BeIR/tiny-qrels": tmp_path / "hub" / "tiny-qrels"}
    with fake_hub("BeIR/tiny", split, beside, kind="datasets") as address:
        online(address)
        opened = open_collection(Path("BeIR/tiny"))
        assert opened.name == "tiny" and sorted(opened.qrels) == ["dev", "test"]
        same_rows(opened, read_beir(beir_folder))
        assert len(path_fingerprint(Path("BeIR/tiny"))) == 64
        with pytest.raises(DataError, match="hf download BeIR/other"):
            open_collection(Path("BeIR/other"))
    whole = mteb_layout(beir_folder, tmp_path / "mteb" / "tiny")
    with fake_hub("mteb/tiny", whole, kind="datasets") as address:
        online(address)
        same_rows(open_collection(Path("hf:mteb/tiny")), read_beir(beir_folder))


def test_without_datasets_the_message_names_the_extra(beir_folder, tmp_path, monkeypatch):
    folder = mteb_layout(beir_folder, tmp_path / "tiny2")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'llara\[pipeline\]'"):
        open_collection(folder)
    plain = mteb_layout(beir_folder, tmp_path / "tiny3", "jsonl")
    assert open_collection(plain).corpus.num_rows == 24  # JSON lines need no package


def test_the_fingerprint_follows_the_data(beir_folder, tmp_path):
    folder = mteb_layout(beir_folder, tmp_path / "mteb" / "tiny", "jsonl")
    before = path_fingerprint(folder)
    (folder / "notes.txt").write_text("no data")
    assert path_fingerprint(folder) == before
    with (folder / "corpus.jsonl").open("a") as stream:
        stream.write(json.dumps({"_id": "new", "text": "one more"}) + "\n")
    assert path_fingerprint(folder) != before


def test_a_revision_is_pinned_and_its_commit_recorded(beir_folder, tmp_path, online):
    whole = mteb_layout(beir_folder, tmp_path / "mteb" / "tiny", "jsonl")
    with fake_hub("mteb/tiny", whole, kind="datasets") as address:
        online(address)
        for place, revision in (
            ("hf:mteb/tiny@v1.0", None),
            ("hf:mteb/tiny", "v1.0"),
            ("mteb/tiny@v1.0", None),
        ):
            source = open_place_as_source(place, revision=revision)
            assert (source.format, source.name) == ("hub", "tiny")
            assert source.facts["commit"] == COMMIT and source.facts["revision"] == "v1.0"
            same_rows(strict_collection(source), read_beir(beir_folder))
        assert repository_id("hf:mteb/tiny@v1.0") == "mteb/tiny"


def test_a_repository_of_pairs_is_read_by_its_files(tmp_path, online):
    folder = tmp_path / "st"
    for config in ("pair", "triplet"):
        for split in ("train", "dev"):
            columns = {"anchor": [f"{config} {split}"], "positive": ["p"], "negative": ["n"]}
            parquet(folder / config / f"{split}-00000-of-00001.parquet", columns)
    (folder / "README.md").write_text(
        configs(pair={"train": "pair/train-*"}, triplet={"train": "triplet/train-*"})
    )
    with fake_hub("sentence-transformers/tiny", folder, kind="datasets") as address:
        online(address)
        source = open_place_as_source("hf:sentence-transformers/tiny@main/triplet")
        assert source.format == "sentence_transformers" and source.facts["commit"] == COMMIT
        assert [file.role for file in source.files] == ["pairs/dev", "pairs/train"]
        collection = strict_collection(source)
        assert sorted(collection.queries["text"].to_pylist()) == ["triplet dev", "triplet train"]
