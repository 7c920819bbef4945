"""The benchmark of ingestion runs from end to end at a small size, and its page says what was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def data_scale(monkeypatch):
    if not Path("/proc/self/status").is_file():
        pytest.skip("the benchmark reads /proc/self/status, which only Linux has")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("data_scale", None)
    import data_scale

    return data_scale


def test_stages_are_measured_each_in_a_process(data_scale, tmp_path):
    data_scale.write_source(tmp_path / "source", 3000)
    points = [
        data_scale.measured(stage, tmp_path, 3000) | {"bytes": 1} for stage in ("ingest", "hash", "split")
    ]
    assert all(point["anonymous"] > 0 and point["seconds"] > 0 for point in points)
    text = data_scale.page([*points, {**points[0], "rows": 300, "processor": points[0]["processor"] / 10}])
    assert "`ingest`: processor time grows as rows^1.00 from 300 to 3,000 rows." in text
    assert "| split | 3,000 |" in text


def test_the_same_size_gives_the_same_rows(data_scale, tmp_path):
    data_scale.write_source(tmp_path / "one", 500)
    data_scale.write_source(tmp_path / "two", 500)
    first, second = ((tmp_path / name / "corpus.jsonl").read_bytes() for name in ("one", "two"))
    assert first == second and first.count(b"\n") == 500
