"""Published files as they are: MS MARCO, Wikipedia extracts, and what is told where nothing is recognised."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from llara_core.config import CollectionSettings, TextSettings
from llara_core.data.formats import (
    FORMATS,
    detect,
    has_judgements,
    load_collection,
    open_collection,
    open_place_as_source,
    open_source,
    path_fingerprint,
    read_beir,
    source_fingerprint,
    strict_collection,
)
from llara_core.data.text_folder import load_text
from llara_core.errors import DataError
from tests.data.format_helpers import PACKERS, SAMPLES, lines, read, read_both, table

SEPARATED = "The presence\u2028of \x85communication\u2029amid \u200bminds"  # one row: only \n ends one


@pytest.fixture
def msmarco(tmp_path: Path) -> Path:
    folder = tmp_path / "msmarco"
    folder.mkdir()
    (folder / "collection.tsv").write_text(f"0\t{SEPARATED}\n1\tIce.\n2\tDust.\n", encoding="utf-8")
    (folder / "queries.train.tsv").write_text("121352\tdefine extreme\n", encoding="utf-8")
    (folder / "queries.dev.tsv").write_text("7\twhat is ice\n8\twhat is dust\n", encoding="utf-8")
    (folder / "queries.dev.small.tsv").write_text("7\twhat is ice\n", encoding="utf-8")
    (folder / "qrels.train.tsv").write_text("121352\t0\t0\t1\n", encoding="utf-8")
    (folder / "qrels.dev.small.tsv").write_text("7 0 1 1\n", encoding="utf-8")
    (folder / "qidpidtriples.train.full.2.tsv").write_text("121352\t0\t1\n121352\t0\t2\n", encoding="utf-8")
    (folder / "triples.train.small.tsv").write_text("define extreme\tpositive\tnegative\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("packing", PACKERS)
def test_msmarco_as_published(msmarco, tmp_path, packing):
    for file in list(msmarco.iterdir()):
        packed = PACKERS[packing](file.read_bytes())
        file.unlink()
        file.with_name(file.name + packing).write_bytes(packed)
    assert detect(msmarco) == "msmarco" and has_judgements(msmarco)
    collection = read_both(msmarco, tmp_path / "out")
    assert list(collection.passages) == [SEPARATED, "Ice.", "Dust."] and collection.corpus_ids == [
        "0",
        "1",
        "2",
    ]
    assert collection.judgements("train") == {"121352": {"0": 1}}
    assert collection.judgements("dev.small") == {"7": {"1": 1}}
    assert collection.queries["_id"].to_pylist() == ["7", "8", "121352"]  # dev.small's are dev's
    assert table(collection.negatives) == [("121352", "1"), ("121352", "2")]
    assert open_collection(msmarco, corpus_only=True).queries.num_rows == 0


def test_msmarco_triples_of_text_alone(msmarco, tmp_path):
    file = msmarco / "triples.train.small.tsv"
    assert detect(file) == "msmarco"
    collection = read_both(file, tmp_path / "out")
    assert list(collection.passages) == ["positive", "negative"] and list(collection.qrels) == ["train"]
    assert collection.negatives.num_rows == 1


def test_msmarco_alone_and_broken(msmarco):
    assert read(msmarco / "collection.tsv").corpus.num_rows == 3
    with pytest.raises(
        DataError, match=r"MS MARCO's queries alone: name the folder that holds collection\.tsv"
    ):
        detect(msmarco / "queries.dev.tsv")
    with (msmarco / "qrels.train.tsv").open("a") as stream:
        stream.write("121352\t0\t1\n")
    with pytest.raises(DataError, match=r"qrels\.train\.tsv:2: expected 4 cells .*got 3.*\[qrels_columns\]"):
        read(msmarco)
    for file in msmarco.glob("qrels*"):
        file.unlink()
    with pytest.raises(
        DataError, match=r"missing qrels\.train\.tsv, which says what the triples' positives are"
    ):
        read(msmarco)


ARTICLES = [
    {"id": "12", "url": "u", "title": "Anarchism", "text": "Anarchism\n\nAnarchism is\na movement."},
    {"id": "13", "url": "u", "title": "Ice & snow", "text": "It is cold: <3 kelvin."},
]
WANTED = [("12", "Anarchism", "Anarchism is\na movement."), ("13", "Ice & snow", "It is cold: <3 kelvin.")]
DOCS = """<doc id="12" url="u" title="Anarchism">
Anarchism

Anarchism is
a movement.

</doc>
<doc id="13" url="u" title="Ice &amp; snow">
Ice &amp; snow

It is cold: &lt;3 kelvin.
</doc>
"""


@pytest.mark.parametrize("kind", ["json", "doc"])
def test_wiki_extractor(tmp_path, kind):
    file = lines(tmp_path / "w" / "AA" / "wiki_00", ARTICLES)
    if kind == "doc":
        file.write_text(DOCS, encoding="utf-8")
    assert detect(tmp_path / "w") == detect(file) == "wikipedia"
    collection = read_both(tmp_path / "w", tmp_path / "out")
    assert [row[:3] for row in table(collection.corpus)] == WANTED
    assert collection.corpus["line"].to_pylist() == ([1, 2] if kind == "json" else [1, 8])


def test_wiki_extractor_that_was_cut_off(tmp_path):
    file = tmp_path / "wiki_00"
    file.write_text("stray\n" + DOCS + '<doc id="14" title="Lava">\nLava is', encoding="utf-8")
    raws = list(open_place_as_source(file, format="wikipedia").files[0].read())
    # The file begins with a stray line, so that it must be told that these are no JSON lines.
    assert any(raw.fault is not None for raw in raws)
    file.write_text(DOCS + '<doc id="14" title="Lava">\nLava is', encoding="utf-8")
    raws = list(open_place_as_source(file).files[0].read())
    assert [raw.fault and raw.fault.rule for raw in raws] == [None, None, "wikipedia_doc"]
    assert raws[2].number == 13 and raws[2].raw.endswith(b"Lava is")


@pytest.mark.skipif(not (SAMPLES / "enwiki_sample").is_dir(), reason="needs the samples in ../shared/data")
def test_the_wikipedia_sample():
    source = open_place_as_source(SAMPLES / "enwiki_sample" / "articles.jsonl.gz")
    assert source.format == "wikipedia"
    rows = [source.files[0].convert(raw.record) for raw in source.files[0].read()]
    assert len(rows) == 18_331 and all(row[0].isdigit() and row[2] for row in rows)


HASHES = {  # as they were before the formats were rebuilt; published scores name them
    "scifact": "2c87de56eff8b3d70d0180333ef6da1d84635f72999cfa2d28e6339970e9a1ac",
    "arguana": "0c5c450383ed2308f6d983e3f1d46ea66b2d63934ac79c3966e27d13b08cf884",
    "cranfield": "665536dffe49e9a5e5d39570d8166197e2bbccd43f85d9bfb23854d92ef27e2a",
    "cisi": "4216acfa5229b4e681e96c82d4b1a30c9d622e8f53876223eb146c3f200e56c1",
}


@pytest.mark.parametrize("name", HASHES)
@pytest.mark.skipif(not (SAMPLES / "scifact").is_dir(), reason="needs the samples in ../shared/data")
def test_public_collections_keep_their_content(name):
    assert detect(SAMPLES / name) == "beir"
    assert open_collection(SAMPLES / name).content_hash == HASHES[name]


@pytest.mark.parametrize(
    ("name", "content", "seen"),
    [
        ("picture.png", b"\x89PNG", r"a file called 'picture\.png' that begins with b'\\x89PNG'"),
        ("data", b"<xml>", r"a file called 'data' that begins with b'<xml>'"),
        ("folder/picture.png", b"\x89PNG", r"files picture\.png"),
    ],
)
def test_what_was_seen_is_told_where_nothing_is_recognised(tmp_path, name, content, seen):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    place = file.parent if "/" in name else file
    with pytest.raises(
        DataError, match=rf"seen: {seen}.*Known formats: beir, .*collection\.format"
    ) as caught:
        detect(place)
    assert caught.value.rule == "known_format"


def test_a_json_array_is_told(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"query": "q", "pos": ["p"]}]))
    with pytest.raises(DataError, match=r"is one JSON array; expected an object a line.*jq -c"):
        detect(file)


def test_a_name_overrules_what_would_be_recognised(tmp_path):
    file = lines(tmp_path / "a.jsonl", [{"query": "q", "pos": ["p"], "text": "t", "id": "1"}])
    assert detect(file) == "flag_embedding"
    assert read(file, format="jsonl").queries.num_rows == 0


def test_a_saved_collection_is_a_source_too(beir_folder, tmp_path):
    collection = read_beir(beir_folder)
    place = collection.save(tmp_path / "saved")
    assert detect(place) == "saved"
    assert read_both(place, tmp_path / "out").content_hash == collection.content_hash


@pytest.mark.parametrize("packing", PACKERS)
def test_beir_packed_zipped_and_in_a_store(beir_folder, tmp_path, packing):
    import fsspec

    wanted = read_beir(beir_folder).content_hash
    store = f"memory://llara-beir{packing.replace('.', '-')}/tiny"
    with zipfile.ZipFile(tmp_path / "tiny.zip", "w") as archive:
        for file in sorted(beir_folder.rglob("*.*")):
            packed = PACKERS[packing](file.read_bytes())
            relative = f"{file.relative_to(beir_folder)}{packing}"
            archive.writestr(f"tiny/{relative}", packed)
            with fsspec.open(f"{store}/{relative}", "wb") as stream:
                stream.write(packed)
    for place in (tmp_path / "tiny.zip", store):
        assert detect(place) == "beir"
        collection = open_collection(place)
        assert (collection.content_hash, collection.name) == (wanted, "tiny")
        assert has_judgements(place) and len(path_fingerprint(place)) == 64


def test_settings_lead_to_the_same(tmp_path):
    file = lines(tmp_path / "a.jsonl", [{"nr": 1, "inhalt": "x"}])
    settings = CollectionSettings(source=str(file), columns={"id": "nr", "text": "inhalt"}, name="mine")
    opened = strict_collection(open_source(settings))
    assert opened.name == "mine" and opened.corpus_ids == ["1"]
    assert load_collection(settings).content_hash == opened.content_hash
    before = source_fingerprint(settings)
    lines(file, [{"nr": 2, "inhalt": "x"}])
    assert source_fingerprint(settings) != before


@pytest.mark.parametrize("kind", ["csv", "msmarco"])
def test_text_of_any_format_can_be_adapted_on(msmarco, tmp_path, kind):
    place = msmarco
    if kind == "csv":
        place = tmp_path / "a.csv"
        place.write_text("id,text\n1,one two\n2,three four\n")
    text = load_text(TextSettings(source=str(place)))
    assert text.queries.num_rows == 0 and not text.qrels and text.report["format"] == kind
    assert text.corpus.num_rows == (2 if kind == "csv" else 3)


def test_every_format_is_in_the_guide():
    guide = Path(__file__).resolve().parents[2] / "docs" / "guides" / "formats.md"
    rows = [line for line in guide.read_text(encoding="utf-8").split("\n") if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(FORMATS)
    for row, format in zip(rows, FORMATS.values(), strict=True):
        for said in (format.recognised, format.becomes):
            assert said in row, format.name
