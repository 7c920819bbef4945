"""What a teacher says of the training candidates, and the loss that makes the student say the same.

Source: issue 3, point 5 (KL over each query's candidates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from llara_core.config import FinetuneSettings
from llara_core.data.collection import Collection
from llara_core.errors import ConfigError, DataError, TrainingError
from llara_core.training.step_plan import Rows, TrainingPairs

# Any numbers whose softmax means something: a cross-encoder's logits, another retriever's inner products.
TEACHER_SCHEMA = pa.schema([("query_id", pa.string()), ("corpus_id", pa.string()), ("score", pa.float64())])


@dataclass(frozen=True)
class TeacherScores:
    """A teacher's scores by row number.

    Args:
        scores: for each query of ``TrainingPairs`` its {text, as in ``text_of``: score}.
    """

    scores: list[dict[int, float]]

    @classmethod
    def collect(cls, teacher: pa.Table, collection: Collection, pairs: TrainingPairs) -> TeacherScores:
        """Join a teacher's table with the training pairs; queries and documents not known are left out.

        Args:
            teacher: columns ``query_id``, ``corpus_id`` and ``score``.
            collection: whose ids they are.
            pairs: made from it.

        Raises:
            DataError: a column is missing, or a score is not a finite number.
            TrainingError: no score is of a training query and a document of the corpus.
        """
        missing = [name for name in TEACHER_SCHEMA.names if name not in teacher.column_names]
        if missing:
            raise DataError(
                f"the teacher's table lacks {', '.join(missing)} (it has: {', '.join(teacher.column_names)})",
                rule="teacher_columns",
            )
        document_row = {name: row for row, name in enumerate(collection.corpus_ids)}
        query_row = {name: row for row, name in enumerate(pairs.query_ids)}
        scores: list[dict[int, float]] = [{} for _ in pairs.queries]
        columns = (teacher[name].to_pylist() for name in TEACHER_SCHEMA.names)
        for number, (query, document, score) in enumerate(zip(*columns, strict=True), 1):
            if score is None or not math.isfinite(score):
                raise DataError(
                    f"score {score} of query {query!r} and document {document!r}; expected a finite number",
                    row=number, rule="teacher_scores",
                )  # fmt: skip
            if query in query_row and document in document_row:
                text = int(pairs.text_of[document_row[document]])
                scores[query_row[query]].setdefault(text, float(score))
        if not any(scores):
            raise TrainingError(
                "finetune: the teacher scores no document of any training query; check that its query_id and "
                "corpus_id are those of the collection"
            )
        return cls(scores)

    def among(self, query: int, texts: Rows) -> dict[int, float]:
        """The scores of those texts that have one; empty if fewer than two do: one says nothing.

        Args:
            query: row of the query.
            texts: int64, as in ``TrainingPairs.text_of``; may repeat.
        """
        known = self.scores[query]
        found = {int(text): known[int(text)] for text in np.unique(texts) if int(text) in known}
        return found if len(found) > 1 else {}


def check_teacher(settings: FinetuneSettings, teacher: pa.Table | None) -> None:
    """Refuse a weight without a teacher, and a teacher without a weight.

    Raises:
        ConfigError: one is given without the other.
    """
    weight = settings.distillation_weight
    if weight > 0 and teacher is None:
        raise ConfigError(
            f"finetune.distillation_weight is {weight:g}, and there is no teacher; give its scores "
            "(llara finetune --teacher FILE, finetune(teacher=...)), or set distillation_weight to 0"
        )
    if weight == 0 and teacher is not None:
        raise ConfigError(
            "a teacher is given, and finetune.distillation_weight is 0, so its scores would do nothing; "
            "set finetune.distillation_weight (1 is a fair start), or leave the teacher out"
        )


def kl_to_teacher(
    similarities: Tensor, columns: Tensor, scores: Tensor, weights: Tensor, settings: FinetuneSettings
) -> Tensor:
    """KL(teacher || student) over each query's scored candidates, summed with ``weights``, nats.

    Both are softmaxes over the candidates alone: the teacher's of its scores divided by
    ``distillation_temperature``, the student's of its cosines divided by ``temperature``.

    Args:
        similarities: float [Q, P], the student's cosines divided by ``temperature``, nothing masked.
        columns: int64 [Q, C], the candidates' columns; anything where there is none.
        scores: float [Q, C], the teacher's; -inf where there is no candidate.
        weights: float [Q]; 0 for a query without a teacher.
        settings: the teacher's temperature.
    """
    absent = torch.isinf(scores)
    least = torch.finfo(similarities.dtype).min
    student = similarities.gather(1, columns).masked_fill(absent, least)
    taught = (scores.to(similarities.dtype) / settings.distillation_temperature).masked_fill(absent, least)
    log_student, log_teacher = (functional.log_softmax(values, dim=1) for values in (student, taught))
    divergence = (log_teacher.exp() * (log_teacher - log_student)).masked_fill(absent, 0.0).sum(dim=1)
    return divergence @ weights.to(divergence.dtype)
