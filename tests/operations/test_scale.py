"""A corpus of any size on paper: figures worked out by hand, and limits that hold what they say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from llara_core.cli.scale import read_rates
from llara_core.errors import ConfigError, DataError
from llara_core.operations.scale import Corpus, Rates, encodings, first_limits, indexes, sizes
from llara_core.operations.scale_model import corpus_of
from llara_core.operations.scale_text import duration_text, scale_text, size_text
from llara_core.training.plan_gpus import Device

CORPUS = Corpus(
    passages=2_000_000, mean_tokens=100, dimension=1024, dtype_bytes=2, flops_per_token=1e9,
    flops_per_pair=1e6, weight_bytes=10e9,
)  # fmt: skip
BIG = Device("big", "Big", 80e9, 1e15, 1e14, 0.5)
SMALL = Device("small", "Small", 9e9, None, 1e13, 0.5)
RATES = Rates("a machine", 1e5, 1e8, 5e8, 1e9, 2e9, 300.0)


def test_encoding_by_hand() -> None:
    # 2e6 x (100 x 1e9 + 100 x 100 x 1e6) = 2.2e17 operations at 5e14 a second: 440 s.
    assert CORPUS.flops == pytest.approx(2.2e17)
    big, small = encodings(CORPUS, [BIG, SMALL], 4, {"big": 3.6})
    assert big.device_hours * 3600 == pytest.approx(440) and big.hours * 3600 == pytest.approx(110)
    assert big.passages_per_second == pytest.approx(2e6 / 440) and big.cost == pytest.approx(0.44)
    assert big.fits and not small.fits and small.cost is None
    assert small.device_hours / big.device_hours == pytest.approx(100)  # no bfloat16: its float32 peak


def test_no_more_devices_work_than_there_are_blocks() -> None:
    [one] = encodings(replace(CORPUS, passages=16_384 * 3), [BIG], 64)
    assert one.devices == 3
    with pytest.raises(ConfigError, match="got 0"):
        encodings(CORPUS, [BIG], 0)


def test_sizes_by_hand() -> None:
    found = sizes(CORPUS)
    assert found["vectors"] == 2e6 * 1024 * 2 and found["hashes"] == 2e6 * 16 and found["plan"] == 2e6 * 8


def test_indexes_by_hand() -> None:
    flat, ivfpq, hnsw = indexes(CORPUS, RATES)
    assert flat.memory == sizes(CORPUS)["vectors"] and flat.query_seconds == pytest.approx(4.096)
    told = ivfpq.parameters
    code = told["m"] * told["nbits"] / 8
    assert ivfpq.memory == 2e6 * (code + 8) + told["nlist"] * 1024 * 4
    scanned = 2e6 * told["nprobe"] / told["nlist"] * code
    assert ivfpq.query_seconds == pytest.approx(scanned / 2e9 + told["nlist"] * 4096 / 1e9)
    assert hnsw.memory == 2e6 * (4 * 1024 + 8 * 32) and hnsw.query_seconds is None


def test_what_breaks_first_is_told_first_and_at_its_limit() -> None:
    limits = first_limits(CORPUS, memory=1e11, disk=1e12)
    assert [passages for _, passages in limits] == sorted(passages for _, passages in limits)
    by_name = dict(limits)
    assert by_name["flat search with all vectors in memory"] == pytest.approx(1e11 / 2048)
    assert by_name["merging all vectors on one disk (shards and whole together)"] == pytest.approx(
        1e12 / 4096
    )
    assert limits[0][0].startswith("HNSW")  # float32 and links, where the vectors are float16


def test_a_known_models_figures_are_its_parameters() -> None:
    corpus = corpus_of("HuggingFaceTB/SmolLM2-135M", 10**8, 160)
    assert corpus.dimension == 576
    assert corpus.flops_per_token == pytest.approx(2 * 106e6, rel=0.01)  # its body; embeddings are looked up
    assert corpus.weight_bytes == pytest.approx(2 * 134.5e6, rel=0.01)


def test_the_text_holds_every_part() -> None:
    text = scale_text(CORPUS, [BIG, SMALL], 4, {"big": 3.6}, RATES, (1e11, 1e12))
    for part in ("2,000,000 passages", "the model does not fit", "4.1 GB", "ivfpq", "what breaks", "20 s"):
        assert part in text
    assert "time to merge" not in scale_text(CORPUS, [BIG], 1, {}, None, (1e11, 1e12))


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "500 ms"), (90, "90 s"), (600, "10 min"), (9000, "2.5 h"), (864_000, "10 days")]
)
def test_durations(value: float, text: str) -> None:
    assert duration_text(value) == text


def test_size_texts() -> None:
    assert [size_text(value) for value in (0, 999, 1e3, 8.19e11, 2e15)] == [
        "0 B",
        "999 B",
        "1 kB",
        "819 GB",
        "2 PB",
    ]


def test_rates_that_are_none(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "rates.json").write_text(json.dumps({"machine": "x"}))
    with pytest.raises(DataError, match="no measured rates"):
        read_rates(tmp_path / "rates.json")
