"""The shift of queries: calibrated without one, seen with one, equal to the definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from llara_core.errors import DataError
from llara_core.operations.freshness_queries import energy_shift, read_queries


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def sample(rng: np.random.Generator, count: int, towards: float = 0.0) -> NDArray[np.float32]:
    vectors = rng.standard_normal((count, 16))
    vectors[:, 0] += towards
    return unit(vectors)


def test_it_is_the_energy_coefficient() -> None:
    rng = np.random.default_rng(0)
    x, y = sample(rng, 7), sample(rng, 5, 1.0)

    def mean(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        return float(np.mean([[np.linalg.norm(one - other) for other in b] for one in a]))

    expected = (2 * mean(x, y) - mean(x, x) - mean(y, y)) / (2 * mean(x, y))
    assert energy_shift(x, y, level=0.1, permutations=19).value == pytest.approx(expected, abs=1e-6)


def test_without_a_shift_alarms_are_as_rare_as_the_level_says() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for seed in range(300):
        found = energy_shift(sample(rng, 40), sample(rng, 25), level=0.05, permutations=99, seed=seed)
        alarms += found.value > found.by_chance
        assert (found.value > found.by_chance) == (found.p_value <= 0.05)
    # Binomial(300, 0.05): 15 expected; more than 29 or fewer than 4 once in some thousand seeds.
    assert 4 <= alarms <= 29


def test_a_shift_is_seen() -> None:
    rng = np.random.default_rng(2)
    found = [energy_shift(sample(rng, 100), sample(rng, 100, 1.0), seed=seed) for seed in range(20)]
    assert all(one.value > one.by_chance for one in found)


def test_a_difference_of_spread_alone_is_seen() -> None:
    rng = np.random.default_rng(3)
    centre = np.zeros(16)
    centre[0] = 3
    narrow = unit(centre + 0.3 * rng.standard_normal((150, 16)))
    wide = unit(centre + 1.5 * rng.standard_normal((150, 16)))
    found = energy_shift(narrow, wide)
    assert found.value > found.by_chance


def test_the_seed_decides_and_the_permutations_bound_p() -> None:
    rng = np.random.default_rng(4)
    x, y = sample(rng, 30), sample(rng, 30, 3.0)
    assert energy_shift(x, y, seed=7) == energy_shift(x, y, seed=7)
    assert energy_shift(x, y, permutations=99).p_value == pytest.approx(1 / 100)


def test_equal_vectors_are_no_shift() -> None:
    same = unit(np.ones((20, 4)))
    found = energy_shift(same, same)
    assert found.value <= found.by_chance + 1e-12
    assert found.p_value > 0.5


@pytest.mark.parametrize(
    ("x", "y", "settings"),
    [
        (np.ones((0, 4)), np.ones((3, 4)), {}),
        (np.ones((3, 4)), np.ones((3, 5)), {}),
        (np.ones((3, 4)), np.ones((3, 4)), {"permutations": 9}),
        (np.full((3, 4), np.nan), np.ones((3, 4)), {}),
    ],
)
def test_what_cannot_be_compared(
    x: NDArray[np.float32], y: NDArray[np.float32], settings: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"expected|finite"):
        energy_shift(x, y, **settings)  # type: ignore[arg-type]


def test_the_newest_different_queries(tmp_path: Path) -> None:
    log = tmp_path / "q.txt"
    log.write_text("one\ntwo\n\n  three   words here \none\n", encoding="utf-8")
    assert read_queries(log, 2) == ["three words here", "one"]
    assert read_queries(log, 10) == ["two", "three words here", "one"]


def test_json_lines_with_a_torn_last_one(tmp_path: Path) -> None:
    log = tmp_path / "q.jsonl"
    log.write_text('{"text": "a"}\n{"query": "b", "user": 1}\n{"text": "c', encoding="utf-8")
    assert read_queries(log, 10) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "rule"),
    [(b'{"q": "a"}\n{"q": "b"}\n', "query_log"), (b"\xff\xfe\n", "utf8"), (None, "file_exists")],
)
def test_what_is_no_log(tmp_path: Path, content: bytes | None, rule: str) -> None:
    log = tmp_path / "q.jsonl"
    if content is not None:
        log.write_bytes(content)
    with pytest.raises(DataError, match=rule):
        read_queries(log, 10)
