"""OpenAI's embeddings, so that what speaks to OpenAI speaks to this service.

    client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="any")
    client.embeddings.create(model="llara-retriever:passage", input=["a text"])

One thing OpenAI's models do not have: queries and passages are encoded differently. ``input_type`` says what
the texts are; clients that cannot send it end the model's name with ``:query`` or ``:passage``.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from llara_core.serving.refusals import ServiceError
from llara_core.serving.schemas import (
    GET_ERRORS,
    POST_ERRORS,
    OpenAIModels,
    OpenAIRequest,
    OpenAIResponse,
    errors,
)
from llara_core.serving.service import Service, as_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llara_core.serving.served import Served


def router(service: Service) -> APIRouter:
    """The routes below ``/v1``."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI"])

    @routes.post("/embeddings", response_model=OpenAIResponse, responses=POST_ERRORS)
    async def embeddings(body: OpenAIRequest, request: Request) -> Response:
        """Vectors of texts, in the shape of OpenAI's answer."""
        served = service.served()
        width = served.retriever.dimension
        if body.dimensions not in (None, width):
            raise ServiceError(
                422, "dimensions", f"dimensions: this model's vectors have {width}, and cannot be shortened",
                param="dimensions",
            )  # fmt: skip
        texts = [body.input] if isinstance(body.input, str) else body.input
        counted = await service.embed(served, body.kind, texts, request)
        tokens = int(counted.tokens.sum())
        data = [
            {"object": "embedding", "index": place, "embedding": vector}
            for place, vector in enumerate(_shown(counted.vectors, body.encoding_format))
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return as_json({"object": "list", "data": data, "model": served.name, "usage": usage})

    @routes.get("/models", response_model=OpenAIModels, responses=GET_ERRORS | errors(503))
    async def models() -> Response:
        """The model that serves."""
        served = service.served()
        told = {
            "id": served.name,
            "object": "model",
            "created": _unix(served),
            "owned_by": "llara",
            "fingerprint": served.fingerprint,
            "dimension": served.retriever.dimension,
        }
        return as_json({"object": "list", "data": [told]})

    return routes


def _shown(vectors: NDArray[np.float32], encoding: str) -> list[Any]:
    """The vectors as numbers, or as base64 of their little-endian float32."""
    if encoding == "float":
        found: list[Any] = vectors.tolist()
        return found
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]


def _unix(served: Served) -> int:
    """When the pair was made, in seconds since 1970; 0 where nobody noted it."""
    return int(datetime.fromisoformat(served.created).timestamp()) if served.created else 0
