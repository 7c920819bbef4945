from __future__ import annotations

import pytest

from llara_core.errors import ConfigError
from llara_core.retrieval.index_rules import choose


@pytest.mark.parametrize(
    ("kind", "documents", "expected"),
    [
        ("auto", 0, "flat"),
        ("auto", 1_000_000, "flat"),
        ("auto", 1_000_001, "ivfpq"),
        ("hnsw", 999, "flat"),
        ("hnsw", 1_000, "hnsw"),
        ("ivfpq", 999, "flat"),
    ],
)
def test_kind_by_size(kind, documents, expected):
    assert choose(kind, documents, 64)[0] == expected


def test_parameters_grow_with_the_corpus():
    """4 sqrt(N): 126 -> 128, held at 16 by 39 passages a list; 4,000 -> 4,096; 11,866 -> 16,384."""
    assert choose("ivfpq", 1_000, 64)[1] == {"nlist": 16, "nprobe": 16, "m": 16, "nbits": 4, "refine": 4}
    assert choose("ivfpq", 1_000_000, 256)[1] == {
        "nlist": 4096, "nprobe": 128, "m": 64, "nbits": 8, "refine": 4,
    }  # fmt: skip
    assert choose("ivfpq", 8_800_000, 4096)[1]["nlist"] == 16_384
    assert choose("ivfpq", 8_800_000, 4096)[1]["m"] == 128
    assert choose("hnsw", 2_000_000, 64)[1]["ef_search"] == 256


@pytest.mark.parametrize("dimension", [1, 2, 7, 48, 97, 768, 2560])
def test_m_divides_every_dimension(dimension):
    assert dimension % choose("ivfpq", 50_000, dimension)[1]["m"] == 0


def test_overrides_are_taken_as_given():
    assert choose("ivfpq", 50_000, 64, {"nprobe": 3})[1]["nprobe"] == 3
    assert choose("auto", 10, 64, {"nprobe": 3}) == ("flat", {})  # kept for when the corpus has grown


@pytest.mark.parametrize(
    ("kind", "overrides", "said"),
    [
        ("tree", {}, "unknown kind 'tree'; choose auto, flat, ivfpq, hnsw"),
        ("ivfpq", {"nprob": 3}, "no parameter 'nprob'; it has: nlist, nprobe, m"),
        ("flat", {"nprobe": 3}, "it has: none"),
        ("ivfpq", {"m": 5}, "must divide the dimension 64, got 5"),
        ("ivfpq", {"nbits": 9}, "nbits up to 8"),
        ("hnsw", {"m": 0}, "m must be at least 1, got 0"),
    ],
)
def test_unusable_settings(kind, overrides, said):
    with pytest.raises(ConfigError, match=said):
        choose(kind, 50_000, 64, overrides)
