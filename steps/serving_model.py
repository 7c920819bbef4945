"""The registered model as MLflow loads it: from this file and the bundle beside it, no pickle.

MLflow copies the file into the model version and runs it on load, so it may import only the library. What a
caller did wrong is raised as MLflow's own exception: its server answers those with status 400 and the reason,
and any other with the same status and a traceback.
"""

from __future__ import annotations

import os
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from llara_core.model.retriever import Retriever

KINDS = ("query", "passage")
_SERVED = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"  # set by MLflow's server


class ServedRetriever(PythonModel):
    """Encodes rows of ``text`` and, where given, ``kind`` and, for passages, ``title``.

    ``kind`` is ``query`` (the default) or ``passage``. Threads may call ``predict`` at once.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle that was registered with the model."""
        self.limits = dict(context.model_config)  # those of steps/registry.py, as far as nobody set others
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
            model_input: frame with a column ``text`` and perhaps ``kind`` and ``title``.
            params: none are known.

        Raises:
            MlflowException: a row holds what cannot be encoded, or there is too much of it; says which row
                and what is expected.
        """
        texts = list(model_input["text"])
        kinds, titles = (_column(model_input, name, len(texts)) for name in ("kind", "title"))
        self._check(texts, kinds, titles)
        vectors = np.zeros((len(texts), self.retriever.dimension), np.float32)
        rows = [row for row, kind in enumerate(kinds) if kind != "passage"]
        vectors[rows] = self.retriever.encode_queries([texts[row] for row in rows])
        rows = [row for row, kind in enumerate(kinds) if kind == "passage"]
        passages = [{"title": titles[row] or "", "text": texts[row]} for row in rows]
        vectors[rows] = self.retriever.encode_passages(passages)
        return vectors

    def _check(self, texts: list[Any], kinds: list[Any], titles: list[Any]) -> None:
        # Whoever calls predict in a process of their own, over a table of a million rows, has no limits.
        most = self.limits if os.environ.get(_SERVED) == "true" else dict.fromkeys(self.limits, 0)
        if most["max_texts"] and len(texts) > most["max_texts"]:
            raise _refused(f"{len(texts)} texts; a request may hold {most['max_texts']}: send several")
        for row, (text, kind, title) in enumerate(zip(texts, kinds, titles, strict=True)):
            if why := _fault(text, kind, title, most["max_characters"]):
                raise _refused(f"row {row} (counted from 0): {why}")


def _fault(text: Any, kind: Any, title: Any, most: int) -> str | None:
    """What is wrong with a row; None: nothing."""
    if not isinstance(text, str):
        return f"text is {str(text)[:40]!r}; expected a string, perhaps the empty one"
    if kind is not None and kind not in KINDS:
        return f"kind {str(kind)[:40]!r}; expected one of {', '.join(KINDS)}"
    if title is not None and not isinstance(title, str):
        return f"title is {str(title)[:40]!r}; expected a string"
    if title and kind != "passage":
        return "a title, but its kind is query; only passages have titles"
    size = len(text) + len(title or "")
    if most and size > most:
        return f"{size} characters; expected at most {most}, of which the model reads the beginning"
    return None


def _column(frame: Any, name: str, rows: int) -> list[Any]:
    """An optional column; what is missing in it is None."""
    if name not in frame:
        return [None] * rows
    return [None if pd.isna(one) is True else one for one in frame[name]]


def _refused(reason: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(reason)


mlflow.models.set_model(ServedRetriever())
