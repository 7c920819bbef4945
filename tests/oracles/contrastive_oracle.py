"""The contrastive step in loops over texts: what ``llara_core.training.contrastive`` must compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Vector = Sequence[float]


@dataclass
class Drawn:
    """A query of a step.

    Args:
        vector: of the query.
        positives: texts of the drawn positives, without repeats.
        negatives: texts of the drawn hard negatives.
        relevant: texts that are no negatives of it, its positives among them.
        teacher: a teacher's score of some texts.
    """

    vector: Vector
    positives: list[str]
    negatives: list[str]
    relevant: set[str]
    teacher: dict[str, float] = field(default_factory=dict)


def texts_of(queries: Sequence[Drawn]) -> set[str]:
    """Every text that the queries drew."""
    return {text for query in queries for text in [*query.positives, *query.negatives]}


def cosine(left: Vector, right: Vector) -> float:
    """Of two unit vectors."""
    return sum(a * b for a, b in zip(left, right, strict=True))


def charge(own: float, others: Sequence[float]) -> float:
    """-log softmax of ``own`` among itself and the others."""
    highest = max([own, *others])
    return highest + math.log(sum(math.exp(score - highest) for score in [own, *others])) - own


def query_to_passage(
    queries: Sequence[Drawn],
    vectors: Mapping[str, Vector],
    temperature: float,
    seen: Sequence[Drawn] | None = None,
    of: int | None = None,
) -> float:
    """Mean over the queries of the mean over their drawn positives.

    Args:
        queries: who is charged.
        vectors: of the texts.
        temperature: divides the cosines.
        seen: whose texts are candidates; None: those of ``queries``.
        of: queries of the whole step; None: all are here.
    """
    candidates = texts_of(queries if seen is None else seen)
    total = 0.0
    for query in queries:
        scores = {text: cosine(query.vector, vectors[text]) / temperature for text in candidates}
        others = [score for text, score in scores.items() if text not in query.relevant]
        losses = [charge(scores[text], others) for text in query.positives]
        total += sum(losses) / len(losses)
    return total / (of or len(queries))


def passage_to_query(queries: Sequence[Drawn], vectors: Mapping[str, Vector], temperature: float) -> float:
    """Each drawn positive must find its query among those to which it is not relevant."""
    total = 0.0
    for own in queries:
        losses = []
        for text in own.positives:
            scores = [
                cosine(other.vector, vectors[text]) / temperature
                for other in queries
                if other is not own and text not in other.relevant
            ]
            losses.append(charge(cosine(own.vector, vectors[text]) / temperature, scores))
        total += sum(losses) / len(losses)
    return total / len(queries)


def distillation(
    queries: Sequence[Drawn], vectors: Mapping[str, Vector], temperature: float, teacher_temperature: float
) -> float:
    """KL(teacher || student) over each query's scored candidates; mean over queries that have two or more."""
    divergences = []
    for query in queries:
        known = sorted({*query.positives, *query.negatives} & query.teacher.keys())
        if len(known) < 2:
            continue
        student = [cosine(query.vector, vectors[text]) / temperature for text in known]
        taught = [query.teacher[text] / teacher_temperature for text in known]
        total = 0.0
        for index in range(len(known)):
            log_teacher = -charge(taught[index], taught[:index] + taught[index + 1 :])
            log_student = -charge(student[index], student[:index] + student[index + 1 :])
            total += math.exp(log_teacher) * (log_teacher - log_student)
        divergences.append(total)
    return sum(divergences) / len(divergences) if divergences else 0.0
