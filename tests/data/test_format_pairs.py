"""Files of training pairs become a collection: FlagEmbedding's, Tevatron's, sentence-transformers'."""

from __future__ import annotations

import hashlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llara_core.config import TextSettings
from llara_core.data.collection import Collection
from llara_core.data.formats import detect
from llara_core.data.pair_rows import PairRows
from llara_core.data.passages import adaptation_rows
from llara_core.data.raw import RowError
from llara_core.data.text_folder import load_text, text_fingerprint
from llara_core.errors import DataError
from tests.data.format_helpers import PACKERS, SAMPLES, lines, read, read_both, table

PAIRS = [
    {"query": "what is lava", "pos": ["Molten rock."], "neg": ["Ice.", "Dust."], "pos_scores": [9.5]},
    {"query": "what is ice", "pos": ["Ice.", "Frozen water."], "neg": ["Molten rock."], "prompt": "p"},
    {"query": "what is lava", "pos": ["Melt."], "neg": ["Dust.", "Dust.", "Melt."]},
]


def name(text: str, kind: str = "p") -> str:
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def expected(collection: Collection, split: str = "train") -> None:
    """The three rows above, by hand: distinct texts once, negatives without what is a positive as well."""
    lava, ice = name("what is lava", "q"), name("what is ice", "q")
    assert dict(table(collection.queries)) == {lava: "what is lava", ice: "what is ice"}
    texts = ["Molten rock.", "Ice.", "Dust.", "Frozen water.", "Melt."]
    assert [(row[0], row[1], row[2]) for row in table(collection.corpus)] == [
        (name(one), "", one) for one in texts
    ]
    assert collection.judgements(split) == {
        lava: {name("Molten rock."): 1, name("Melt."): 1},
        ice: {name("Ice."): 1, name("Frozen water."): 1},
    }
    assert collection.negatives is not None
    assert sorted(table(collection.negatives)) == sorted(
        [(lava, name("Ice.")), (lava, name("Dust.")), (ice, name("Molten rock."))]
    )


@pytest.mark.parametrize("packing", PACKERS)
def test_flag_embedding(tmp_path, packing):
    file = tmp_path / f"data.jsonl{packing}"
    file.write_bytes(PACKERS[packing](lines(tmp_path / "x.jsonl", PAIRS).read_bytes()))
    assert detect(file) == "flag_embedding"
    expected(read_both(file, tmp_path / "out"))


def test_the_order_of_rows_and_files_does_not_matter(tmp_path):
    whole = read(lines(tmp_path / "a.jsonl", PAIRS))
    lines(tmp_path / "f" / "1.jsonl", PAIRS[2:])
    lines(tmp_path / "f" / "2.jsonl", PAIRS[:2])
    assert read(tmp_path / "f").content_hash == whole.content_hash


def test_a_negative_that_a_later_row_gives_as_positive_is_none(tmp_path):
    rows = [{"query": "q", "pos": ["a"], "neg": ["b", "c"]}, {"query": "q", "pos": ["b"], "neg": []}]
    collection = read_both(lines(tmp_path / "a.jsonl", rows), tmp_path / "out")
    assert table(collection.negatives) == [(name("q", "q"), name("c"))]


def test_pairs_in_parquet_and_by_names_of_their_own(tmp_path):
    pq.write_table(pa.Table.from_pylist(PAIRS), tmp_path / "a.parquet")
    expected(read_both(tmp_path / "a.parquet", tmp_path / "out"))
    own = [{"q": row["query"], "good": row["pos"], "bad": row["neg"]} for row in PAIRS]
    columns = {"query": "q", "positive": "good", "negative": "bad"}
    expected(read(lines(tmp_path / "b.jsonl", own), format="flag_embedding", columns=columns))


@pytest.mark.parametrize(
    ("file", "split"),
    [("nq.dev.jsonl", "dev"), ("validation-00000-of-00001.jsonl", "dev"), ("test/a.jsonl", "test"),
     ("train.jsonl", "train"), ("contest_data.jsonl", "train"), ("trains.jsonl", "train")],
)  # fmt: skip
def test_the_split_is_in_the_name(tmp_path, file, split):
    lines(tmp_path / "d" / file, PAIRS[:1])
    assert list(read(tmp_path / "d").qrels) == [split]


@pytest.mark.parametrize(
    ("row", "rule", "said"),
    [
        ({"query": "q", "pos": [], "neg": []}, "has_positive", "expected a passage under 'pos'"),
        ({"query": "q", "pos": [3]}, "has_text", "expected a string under 'pos', got 3"),
        ({"query": None, "pos": ["a"]}, "has_text", "expected a string under 'query'"),
        ({"query": "q", "pos": ["a", "b"], "pos_id": ["1"]}, "has_id", "2 passages under 'pos' but 1"),
    ],
)
def test_a_bad_pair_is_named(tmp_path, row, rule, said):
    with pytest.raises(DataError, match=rf"a\.jsonl:2: {said}.*\[{rule}\]"):
        read(lines(tmp_path / "a.jsonl", [PAIRS[0], row]))


TEVATRON = [
    {
        "query_id": 3,
        "query": "what is lava",
        "positive_passages": [{"docid": "d1", "title": "Lava", "text": "Molten."}],
        "negative_passages": [
            {"docid": "d2", "title": "", "text": "Ice."},
            {"docid": "d1", "title": "Lava", "text": "Molten."},
        ],
    },
    {"query_id": "4", "query": "ice?", "positive_passages": [{"docid": "d2", "text": "Ice."}]},
]


def test_tevatron_keeps_ids_and_titles(tmp_path):
    file = lines(tmp_path / "train.jsonl", TEVATRON)
    assert detect(file) == "tevatron"
    collection = read_both(file, tmp_path / "out")
    assert table(collection.queries) == [("3", "what is lava"), ("4", "ice?")]
    assert [row[:3] for row in table(collection.corpus)] == [("d1", "Lava", "Molten."), ("d2", "", "Ice.")]
    assert collection.judgements("train") == {"3": {"d1": 1}, "4": {"d2": 1}}
    assert table(collection.negatives) == [("3", "d2")]  # d1 is a positive of the same query


def test_an_id_that_stands_for_two_texts_is_told(tmp_path):
    other = {"query_id": "5", "query": "x", "positive_passages": [{"docid": "d1", "text": "Another."}]}
    with pytest.raises(DataError, match=r":3: document id 'd1' stands for another text.*\[unique_ids\]"):
        read(lines(tmp_path / "train.jsonl", [*TEVATRON, other]))


@pytest.mark.parametrize(
    ("rows", "negatives"),
    [
        ([{"anchor": "what is lava", "positive": "Molten rock."}], []),
        ([{"query": "what is lava", "answer": "Molten rock."}], []),
        ([{"question": "what is lava", "answer": "Molten rock.", "negative": "Ice."}], ["Ice."]),
        (
            [
                {
                    "anchor": "what is lava",
                    "positive": "Molten rock.",
                    "negative_1": "Ice.",
                    "negative_2": None,
                },
                {"anchor": "what is lava", "positive": "Molten rock.", "negative_3": "Dust."},
            ],
            ["Ice.", "Dust."],
        ),
    ],
)
def test_sentence_transformers(tmp_path, rows, negatives):
    file = lines(tmp_path / "a.jsonl", rows)
    assert detect(file) == "sentence_transformers"
    collection = read_both(file, tmp_path / "out")
    query = name("what is lava", "q")
    assert collection.judgements("train") == {query: {name("Molten rock."): 1}}
    assert table(collection.negatives) == [(query, name(one)) for one in negatives]


def test_sentence_transformers_as_csv(tmp_path):
    (tmp_path / "a.csv").write_text("anchor,positive,negative\nwhat is lava,Molten rock.,\nice?,Ice.,Dust.\n")
    assert detect(tmp_path / "a.csv") == "sentence_transformers"
    assert table(read_both(tmp_path / "a.csv", tmp_path / "out").negatives) == [
        (name("ice?", "q"), name("Dust."))
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"sentence1": "a", "sentence2": "b", "score": 0.4},
        {"premise": "a", "hypothesis": "b", "label": 2},
        {"anchor": "a", "positive": "b", "label": 1},
    ],
)
def test_labels_are_refused(tmp_path, row):
    with pytest.raises(
        DataError, match=r"column '(score|label)' says how well each pair fits.*\[label_column\]"
    ):
        read(lines(tmp_path / "a.jsonl", [row]))


ADAPTATION = [
    {"input": "One.\t\n", "output_summarize": "One.\t\n", "output_predict": "Two.\n"},
    {"input": "Two.\t\n", "output_summarize": "Two.\t\n", "output_predict": "Three.\n"},
]


def test_adaptation_rows_are_taken_as_they_are(tmp_path):
    file = lines(tmp_path / "pretrain.jsonl", ADAPTATION)
    assert detect(file) == "flag_embedding_rows"
    read_both(file, tmp_path / "out")
    settings = TextSettings(source=str(file))
    text = load_text(settings)
    assert text.name == "pretrain" and text.passages == ["One.", "Two.", "Three."]
    assert table(adaptation_rows(text)) == [("One.", "Two."), ("Two.", "Three.")]
    again = Collection.load(text.save(tmp_path / "saved"))
    assert adaptation_rows(again).equals(adaptation_rows(text)) and again.content_hash == text.content_hash
    before = text_fingerprint(settings)
    lines(file, ADAPTATION[:1])
    assert text_fingerprint(settings) != before


def test_rows_that_rebuild_another_text_are_refused(tmp_path):
    row = {"input": "One.", "output_summarize": "A summary.", "output_predict": "Two."}
    with pytest.raises(DataError, match=r":1: 'output_summarize' differs from 'input'.*\[rebuilds_input\]"):
        read(lines(tmp_path / "a.jsonl", [row]))


def test_pairs_are_text_to_adapt_on_too(tmp_path):
    text = load_text(TextSettings(source=str(lines(tmp_path / "a.jsonl", PAIRS))))
    assert text.corpus.num_rows == 5 and text.queries.num_rows == 0 and not text.qrels


def test_assembling_agrees_with_sets(monkeypatch):
    """Against the obvious way, with the hashes sorted into arrays again and again."""
    from llara_core.data import pair_rows

    monkeypatch.setattr(pair_rows, "_RECENT", 7)
    noise = random.Random(3)
    entries = [
        (None, f"q{noise.randrange(20)}", [(None, "", f"d{noise.randrange(60)}")],
         [(None, "", f"d{noise.randrange(60)}") for _ in range(3)])
        for _ in range(300)
    ]  # fmt: skip
    rows = PairRows()
    parts = [rows.add(entry) for entry in entries]
    documents = [one for part in parts for one in part.documents]
    assert len(documents) == len({text for _, _, pos, neg in entries for _, _, text in pos + neg})
    wanted = {(query, text) for _, query, pos, _ in entries for _, _, text in pos}
    refused = {(query, text) for _, query, _, neg in entries for _, _, text in neg} - wanted
    judged = [one for part in parts for one in part.judgements]
    assert {(one[0], one[1]) for one in judged} == {(name(q, "q"), name(t)) for q, t in wanted}
    assert len(judged) == len(wanted)
    given = [one for part in parts for one in part.negatives]
    written = pa.table({"query_id": [one[0] for one in given], "corpus_id": [one[1] for one in given]})
    kept = table(rows.without_positives(written))
    assert len(kept) == len(set(kept)) and set(kept) == {(name(q, "q"), name(t)) for q, t in refused}
    assert len(kept) < len(given)  # some came as positives only later


def test_a_refused_row_leaves_nothing_behind():
    rows = PairRows()
    rows.add(("1", "first", [("d", "", "a")], []))
    with pytest.raises(RowError, match="stands for another text"):
        rows.add(("2", "second", [("e", "", "new"), ("d", "", "b")], []))
    parts = rows.add(("2", "second", [("e", "", "new")], []))
    assert len(parts.documents) == len(parts.queries) == len(parts.judgements) == 1


@pytest.mark.skipif(not (SAMPLES / "llara_toy").is_dir(), reason="needs the samples in ../shared/data")
class TestToyFiles:
    """The released ten-line files. What is odd about them was found by looking."""

    def test_fine_tuning_rows(self, tmp_path):
        """Eleven rows in ten ended lines; UTF-8 read as Latin-1, so that C1 characters stand in it."""
        file = SAMPLES / "llara_toy" / "toy_finetune_data.jsonl"
        raw = file.read_bytes()
        assert raw.count(b"\n") == 10 and not raw.endswith(b"\n")
        collection = read_both(file, tmp_path / "out")
        assert collection.queries.num_rows == 11 and collection.qrels["train"].num_rows == 11
        assert (collection.corpus.num_rows, collection.negatives.num_rows) == (341, 330)
        broken = [text for text in collection.passages if "\x80" in text]
        assert len(broken) > 50  # they come through as they are; `mojibake: repair` mends them
        assert any("Color\u00e2\x80\x94urine" in text for text in broken)

    def test_adaptation_rows(self, tmp_path):
        """Texts end in a tab and a line break here, in a line break there: stripped, they chain."""
        file = SAMPLES / "llara_toy" / "toy_pretrain_data.jsonl"
        rows = table(adaptation_rows(read_both(file, tmp_path / "out")))
        assert len(rows) == 11
        assert [row[1] for row in rows[:-1]] == [row[0] for row in rows[1:]]
        assert not any(text != text.strip() for row in rows for text in row)

    @pytest.mark.parametrize(("file", "documents", "negatives"), [("msmarco", 260, 250), ("nq", 986, 977)])
    def test_examples(self, tmp_path, file, documents, negatives):
        """nq's first row has two negatives twice."""
        collection = read_both(SAMPLES / "llara_toy" / f"example_{file}.jsonl", tmp_path / "out")
        assert (collection.corpus.num_rows, collection.negatives.num_rows) == (documents, negatives)
        assert collection.queries.num_rows == 10
