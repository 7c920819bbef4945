"""Every rule on texts that break it and on texts that only look as if they did."""

from __future__ import annotations

import base64
import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from llara_core.data.row_bytes import marks
from llara_core.data.row_mojibake import first_mojibake
from llara_core.data.row_rules import STATEMENTS, blank, explain, judge_texts, repaired
from llara_core.data_settings import POLICIES, IngestSettings
from llara_core.errors import ConfigError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SETTINGS = IngestSettings()
PAGE = '<div class="row"><a href="/x?y=1">Home</a><br/><td align="left">One</td><li>two</li></div>&nbsp;'
CODE = (
    "fn f<T: Into<String>>(x: Vec<Option<T>>) -> Map<String, Vec<u8>> { if a < b && c > d { x << 2 } }\n" * 9
)
BASE64 = base64.b64encode(random.Random(1).randbytes(900)).decode()


def broken(text, settings=SETTINGS, longest=10_000):
    return set(judge_texts(pa.array([text], pa.string()), longest, settings))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a\x00b", "control_characters"),
        ("a\x1bb", "control_characters"),
        ("a\x7fb", "control_characters"),
        ("pay \u202e001\u202c", "bidi_controls"),
        ("\u2066x\u2069", "bidi_controls"),
        ("na\ufffdve", "replacement_characters"),
        ("it\u00e2\u20ac\u2122s", "mojibake"),
        ("it\u00e2\u0080\u0099s", "mojibake"),
        ("caf\u00c3\u00a9", "mojibake"),
        ("100\u00c2\u00a0km", "mojibake"),
        ("\u00d0\u00bf\u00d1\u20ac\u00d0\u00b8\u00d0\u00b2\u00d0\u00b5\u00d1\u201a", "mojibake"),
        ("ESPA\u00c3\u2018A", "mojibake"),
        ("a \u0096 b", "mojibake"),
        (PAGE, "html_debris"),
        (BASE64, "base64_debris"),
        ("\n".join(BASE64[at : at + 76] for at in range(0, 1200, 76)), "base64_debris"),
        ("x" * 10_001, "text_length"),
    ],
)
def test_rule_is_broken(text, rule):
    assert broken(text) == {rule}
    assert "'text'" in explain(rule, "text", text, SETTINGS, 10_000)
    assert rule in STATEMENTS and rule in POLICIES


@pytest.mark.parametrize(
    "text",
    [
        "plain text", "tabs\tand\r\nlines\x0c", "\u200e\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627\u200f",  # noqa: E501
        "Le caf\u00e9 \u00ab\u00e0 la cr\u00e8me\u00bb, d\u00e9j\u00e0 vu\u2026", "CAF\u00c9\u201d", "OL\u00c9\u2026", "IRM\u00c3\u201d",  # noqa: E501
        "\u010cesk\u00e1 republika, Stra\u00dfe \u00d6sterreich", "5 \u00b0C \u00b1 2 \u00b5m", "\u65e5\u672c\u8a9e\u306e\u6587", "emoji \U0001f600",  # noqa: E501
        CODE, "Use <b>bold</b> and <i>it</i>: " + "a sentence of ordinary words follows here. " * 20,
        "if (a < b) { x << 1; } // <<<<<<< HEAD\n" * 5, "AT&T & sons &c. R&D Q&A B&B P&L " * 5,
        "ACGTTGCA" * 60, "0123456789abcdef" * 40, "_" * 400, "a" * 300, "/usr/share/doc/package/" * 20,
        f"The key is {BASE64[:120]} and " + "it is used in this sentence of ordinary words. " * 10,
        "LoremIpsumDolorSitAmetConsetetur" * 12, "x" * 10_000, "\u00e9" * 9000,
    ],
)  # fmt: skip
def test_sound_text_breaks_no_rule(text):
    assert broken(text) == set()


def test_bytes_agree_with_a_slow_reading():
    alphabet = "ab \n\x00\x0b\x0c\x1f\x7f\u0080\u009f\u00a0\u00c3\u00a9\u2019\u202a\u202e\u2029\u2065\u2066\u2069\u206a\ufffd\uffff\u65e5\U0001f600"  # noqa: E501
    chance = random.Random(3)
    texts = ["".join(chance.choices(alphabet, k=chance.randrange(6))) for _ in range(3000)]
    found = marks(pa.array(texts, pa.string()).slice(7))
    for row, text in enumerate(texts[7:]):
        assert found.control[row] == any(one in "\x00\x0b\x1f\x7f" for one in text), repr(text)
        assert found.late_control[row] == any(one in "\u0080\u009f" for one in text)
        assert found.bidi[row] == any(
            "\u202a" <= one <= "\u202e" or "\u2066" <= one <= "\u2069" for one in text
        )
        assert found.replacement[row] == ("\ufffd" in text)


def test_empty_columns():
    assert judge_texts(pa.array([], pa.string()), 10, SETTINGS) == {}
    assert judge_texts(pa.array(["", ""], pa.string()), 10, SETTINGS) == {}
    assert blank(pa.array(["", " \n\u3000", "a "], pa.string())).tolist() == [True, True, False]


@pytest.mark.parametrize(
    "original",
    [
        "l\u2019\u00e9t\u00e9 \u2014 d\u00e9j\u00e0",
        "na\u00efve \u201cquotes\u201d",
        "\u041f\u0440\u0438\u0432\u0435\u0442",
    ],
)
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_round_trip_of_wrong_decodings_is_found(original, encoding):
    try:
        wrong = original.encode("utf-8").decode(encoding)
    except UnicodeDecodeError:
        pytest.skip("this encoding has no such bytes")
    assert first_mojibake(wrong) is not None and first_mojibake(original) is None


def test_ftfy_mends_only_what_was_found():
    pytest.importorskip("ftfy")
    texts = ["it\u00e2\u20ac\u2122s", "L&amp;R  \ufb01ne \u201cquotes\u201d", "a \u0096 b"]
    better, changed = repaired(pa.array(texts, pa.string()))
    assert better.to_pylist() == ["it\u2019s", texts[1], "a \u2013 b"]
    assert changed.tolist() == [True, False, True]


def test_unknown_rule_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'mojibake'"):
        IngestSettings.parse({"rules": {"mojibak": {"action": "flag"}}}, "ingest")


def _public_texts():
    for name in ("scifact", "arguana", "cranfield", "cisi"):
        for line in (SHARED / name / "corpus.jsonl").read_bytes().split(b"\n"):
            if line.strip():
                yield json.loads(line)["text"]
    with gzip.open(SHARED / "enwiki_sample" / "articles.jsonl.gz") as stream:
        for line in stream:
            yield json.loads(line)["text"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the public collections in ../shared/data")
def test_false_alarms_on_public_collections():
    column = pa.array(list(_public_texts()), pa.string())
    found = judge_texts(column, SETTINGS.longest_text, SETTINGS)
    aside = [rule for rule in found if SETTINGS.policy(rule).action == "quarantine"]
    assert aside == []
    assert all(np.count_nonzero(rows) <= 0.001 * len(column) for rows in found.values())


@pytest.mark.skipif(not (SHARED / "llara_toy").is_dir(), reason="needs llara_toy in ../shared/data")
def test_real_mojibake_is_found():
    raw = b"\n".join(file.read_bytes() for file in sorted((SHARED / "llara_toy").glob("*.jsonl")))
    texts = [line for line in raw.decode().split("\n") if line]
    wrong = [json.loads(line) for line in texts if "\\u00e2\\u0080\\u0099" in line]
    assert wrong
    for record in wrong:
        values = [
            text for value in record.values() for text in ([value] if isinstance(value, str) else value)
        ]
        assert any(broken(text, longest=1_000_000) & {"mojibake"} for text in values if isinstance(text, str))
