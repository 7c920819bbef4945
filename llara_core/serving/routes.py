"""``/embed`` and ``/search``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from llara_core.serving.schemas import (
    POST_ERRORS,
    EmbedRequest,
    EmbedResponse,
    SearchRequest,
    SearchResponse,
    errors,
)
from llara_core.serving.service import Service, as_json

if TYPE_CHECKING:
    from llara_core.serving.engine import Hits
    from llara_core.serving.served import Served


def router(service: Service) -> APIRouter:
    """The service's own routes."""
    routes = APIRouter(tags=["retrieval"])

    @routes.post("/embed", response_model=EmbedResponse, responses=POST_ERRORS)
    async def embed(body: EmbedRequest, request: Request) -> Response:
        """Vectors of texts, in their order."""
        served = service.served()
        counted = await service.embed(served, body.kind, body.texts, request)
        return as_json(
            {
                "vectors": counted.vectors.tolist(),
                "dimension": served.retriever.dimension,
                "kind": body.kind,
                "tokens": int(counted.tokens.sum()),
                "cut": int(counted.cut.sum()),
                **served.facts(),
            }
        )

    @routes.post("/search", response_model=SearchResponse, responses=POST_ERRORS | errors(409))
    async def search(body: SearchRequest, request: Request) -> Response:
        """The passages nearest to each query, best first."""
        start, served = time.perf_counter(), service.served()
        limits = service.settings.limits
        k = body.k if "k" in body.model_fields_set else min(body.k, limits.k)
        hits = await service.search(served, body.asked, k, request)
        shown = None if body.full_text else limits.snippet
        results = _results(served, hits, shown)
        took = {
            "encode_ms": _ms(hits.encoding),
            "search_ms": _ms(hits.searching),
            "total_ms": _ms(time.perf_counter() - start),
        }
        documents = 0 if served.index is None else len(served.index)
        return as_json({"results": results, "took": took, "documents": documents, **served.facts()})

    return routes


def _results(served: Served, hits: Hits, shown: int | None) -> list[dict[str, Any]]:
    """What each query has found; texts of at most ``shown`` characters."""
    found = []
    told = (hits.scores.tolist(), hits.rows.tolist(), hits.queries.cut.tolist())
    for scores, rows, cut in zip(*told, strict=True):
        listed = [
            {"rank": rank, "score": score, **_passage(served, row, shown)}
            for rank, (score, row) in enumerate(zip(scores, rows, strict=True), start=1)
        ]
        found.append({"hits": listed, "cut": cut})
    return found


def _passage(served: Served, row: int, shown: int | None) -> dict[str, Any]:
    if served.corpus is None:
        assert served.index is not None  # noqa: S101 - nothing is found without one
        return {"id": served.index.id_of(row), "title": None, "text": None, "cut": False}
    passage = served.corpus.passage(row)
    text, cut = passage.text, shown is not None and len(passage.text) > shown
    if cut:
        text = beginning(text, shown or 0)
    return {"id": passage.id, "title": passage.title, "text": text, "cut": cut}


def beginning(text: str, most: int) -> str:
    """The first ``most`` characters, to the end of a word where one ends in their second half."""
    head = text[:most]
    end = head.rfind(" ")
    return head[:end] if end > most // 2 else head


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
