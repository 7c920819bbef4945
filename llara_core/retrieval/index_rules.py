"""Which kind of index a corpus gets, and with which parameters: written rules, by size.

| kind | memory beside the vectors on disk | what it gives up |
|---|---|---|
| flat | none | nothing: it is exact, and time grows with the corpus |
| ivfpq | N x m x bits / 8 bytes | the passages of lists that are not probed |
| hnsw | N x (4 D + 8 links) bytes, and a long build | the passages that its walk does not meet |

Source: issue 4, point 2; the FAISS wiki's "Guidelines to choose an index" for the number of lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, cast

from llara_core.errors import ConfigError

Kind = Literal["flat", "ivfpq", "hnsw"]
KINDS: tuple[Kind, ...] = ("flat", "ivfpq", "hnsw")
FLAT_UP_TO = 1_000_000  # passages: exact search of one query still takes well under a second
LEAST_APPROXIMATE = 1_000  # passages: below, nothing can be trained, and exact search takes a millisecond
_PER_CENTROID = 39  # training vectors a centroid needs; FAISS warns below
_LARGEST_CODE = 128  # bytes of a passage's code
REBUILD_SHARE = 0.2  # of passages new or gone since the training, from which on an index is trained again


def choose(
    kind: str, documents: int, dimension: int, overrides: Mapping[str, int] | None = None
) -> tuple[Kind, dict[str, int]]:
    """Return the kind and the parameters of an index.

    - ``auto``: flat up to a million passages, ivfpq above. hnsw is never chosen by itself, because it
      keeps all vectors in memory.
    - Fewer than a thousand passages are flat, whatever was asked for.
    - ``ivfpq``: ``nlist`` lists, the power of two next to 4 sqrt(N) that leaves 39 passages a list;
      ``nprobe`` lists searched, one in 32 and at least 16; ``m`` sub-vectors of 4 or more dimensions, at
      most 128; ``nbits`` a sub-vector, 8 where 39 passages a centroid are there.
    - ``hnsw``: ``m`` = 32 links, ``ef_construction`` = 200, ``ef_search`` = 128, from a million on 256.
    - Both: the best ``refine`` = 4 times k (at least 200) candidates are scored again exactly.

    Args:
        kind: ``auto``, ``flat``, ``ivfpq`` or ``hnsw``.
        documents: N.
        dimension: D.
        overrides: parameters by name that are taken as given.

    Raises:
        ConfigError: an unknown kind or parameter, or one that is out of range.
    """
    if kind not in ("auto", *KINDS):
        raise ConfigError(f"index: unknown kind {kind!r}; choose auto, {', '.join(KINDS)}")
    chosen = cast(Kind, ("flat" if documents <= FLAT_UP_TO else "ivfpq") if kind == "auto" else kind)
    known = set().union(*(_parameters(one, LEAST_APPROXIMATE, dimension) for one in KINDS))
    given = dict(overrides or {})
    if unknown := sorted(set(given) - (known if kind == "auto" else set(_parameters(chosen, 1, dimension)))):
        raise ConfigError(f"index: {chosen} has no parameter {unknown[0]!r}; it has: {_names(chosen)}")
    if documents < LEAST_APPROXIMATE:
        chosen = "flat"
    rule = _parameters(chosen, documents, dimension)
    parameters = rule | {name: value for name, value in given.items() if name in rule}
    _check(chosen, parameters, documents, dimension)
    return chosen, parameters


def _names(kind: Kind) -> str:
    return ", ".join(_parameters(kind, LEAST_APPROXIMATE, 64)) or "none"


def _parameters(kind: Kind, documents: int, dimension: int) -> dict[str, int]:
    if kind == "flat":
        return {}
    if kind == "hnsw":
        return {
            "m": 32,
            "ef_construction": 200,
            "ef_search": 128 if documents < 1_000_000 else 256,
            "refine": 4,
        }
    trainable = max(1, documents // _PER_CENTROID)
    nlist = 1 << max(0, round(math.log2(4 * math.sqrt(max(1, documents)))))
    while nlist > trainable:
        nlist //= 2
    return {
        "nlist": nlist,
        "nprobe": min(nlist, max(16, nlist // 32)),
        "m": _sub_vectors(dimension),
        "nbits": min(8, max(4, int(math.log2(trainable)))),
        "refine": 4,
    }


def _sub_vectors(dimension: int) -> int:
    most = max(1, min(dimension // 4, _LARGEST_CODE))
    return next(m for m in range(most, 0, -1) if dimension % m == 0)


def _check(kind: Kind, parameters: Mapping[str, int], documents: int, dimension: int) -> None:
    for name, value in parameters.items():
        if value < 1:
            raise ConfigError(f"index: {name} must be at least 1, got {value}")
    if kind == "ivfpq":
        if dimension % parameters["m"]:
            raise ConfigError(f"index: m must divide the dimension {dimension}, got {parameters['m']}")
        if parameters["nbits"] > 8 or parameters["nlist"] > documents or 1 << parameters["nbits"] > documents:
            raise ConfigError(
                f"index: expected nbits up to 8 and no more lists or centroids than the {documents} "
                f"passages, got nbits={parameters['nbits']} and nlist={parameters['nlist']}"
            )
