"""The registered model as MLflow loads it: from this file and the bundle beside it, no pickle.

MLflow copies the file into the model version and runs it on load, so it may import only the library.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext

from llara_core.errors import DataError
from llara_core.model.retriever import Retriever

KINDS = ("query", "passage")


class ServedRetriever(PythonModel):
    """Encodes rows of ``text`` and, where given, ``kind`` (``query``, the default, or ``passage``)."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle that was registered with the model."""
        self.retriever = Retriever.from_pretrained(context.artifacts["bundle"])

    def predict(
        # A type hint on model_input would make MLflow derive a schema from it, beside our signature.
        self,
        context: PythonModelContext,
        model_input,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """Vectors of the rows, float32 [N, D], L2-normalised.

        Args:
            context: not used again.
            model_input: frame with a column ``text`` and perhaps ``kind``.
            params: none are known.

        Raises:
            DataError: a kind is neither ``query`` nor ``passage``.
        """
        texts = ["" if text is None else str(text) for text in model_input["text"]]
        given = model_input["kind"] if "kind" in model_input else [None] * len(texts)
        kinds = [kind if isinstance(kind, str) else "query" for kind in given]
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise DataError(f"kind {unknown[0]!r}: expected one of {', '.join(KINDS)}")
        vectors = np.zeros((len(texts), self.retriever.dimension), np.float32)
        encoders = {"query": self.retriever.encode_queries, "passage": self.retriever.encode_passages}
        for kind, encode in encoders.items():
            rows = [row for row, one in enumerate(kinds) if one == kind]
            if rows:
                vectors[rows] = encode([texts[row] for row in rows])
        return vectors


mlflow.models.set_model(ServedRetriever())
