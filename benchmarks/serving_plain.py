"""The service one writes first: FastAPI around a SentenceTransformer, one text a request.

``LLARA_PLAIN`` names the folder. The endpoint is an ordinary function: FastAPI calls it in its thread pool.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from pydantic import BaseModel


class Query(BaseModel):
    """One text."""

    text: str


def create() -> FastAPI:
    """The application, its model loaded."""
    from sentence_transformers import SentenceTransformer

    app = FastAPI()
    model = SentenceTransformer(os.environ["LLARA_PLAIN"], device="cpu")

    @app.post("/embed")
    def embed(query: Query) -> dict[str, list[float]]:
        return {"vector": model.encode_query(query.text, show_progress_bar=False).tolist()}

    @app.get("/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    return app
