"""The leak gate: what training shows of the evaluation, and what is done about it.

An evaluation query leaks where training has its text or its answer:

- in a training query: word for word, but for case and punctuation, in much the same words, or inside it;
- inside a passage that is a training positive;
- through a relevant passage that is a training positive, or is copied in one;
- inside the text of adaptation.

Evaluation stays as it is, whatever is found: ``drop`` takes rows out of training only, and the scores on
the queries that did not leak stand beside the official one. Source: issue 5, point 5.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llara_core.data.collection import Collection
from llara_core.data.leaks_kinds import document_findings, query_findings, text_findings
from llara_core.data.leaks_report import report_of, worst
from llara_core.data.leaks_search import SoughtTexts
from llara_core.data.leaks_sides import Evaluation, Finding, Training
from llara_core.data.leaks_subsets import near_pairs, subsets_of
from llara_core.data_settings import LeakSettings
from llara_core.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leaks:
    """What leaks of one split into training.

    Args:
        action: what the settings tell to do: ``mark``, ``drop`` or ``stop``.
        train_split: the split trained on.
        subsets: name to marks [Q] of the queries that did not leak that way, in the order of
            ``Collection.split_queries``; ``evaluation.subsets.DESCRIPTIONS`` says what the names mean.
        drop_queries: ids of training queries that leak; ``apply`` drops their judgements.
        drop_judgements: (query id, document id) of training positives that leak.
        drop_adaptation: rows of the adaptation text that hold an evaluation query.
        report: counts and examples by kind; JSON-able.
    """

    action: str
    train_split: str
    subsets: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    drop_queries: list[str] = field(default_factory=list)
    drop_judgements: list[tuple[str, str]] = field(default_factory=list)
    drop_adaptation: list[int] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def raise_stop(self) -> None:
        """Refuse the collection where the settings tell to.

        Raises:
            DataError: the action is ``stop`` and a larger share of the queries leaks than
                ``stop_above`` allows; names the worst examples.
        """
        allowed = float(self.report["settings"]["stop_above"])
        leaking, queries = int(self.report["leaking_queries"]), int(self.report["evaluation_queries"])
        if self.action != "stop" or leaking <= allowed * queries:
            return
        raise DataError(
            f"{leaking} of {queries} evaluation queries leak into training (allowed: {allowed:.1%}):\n"
            f"{worst(self.report)}\n"
            "Mend the split, raise leaks.stop_above, or set leaks.action to drop (takes the rows out of "
            "training) or mark (only reports)",
            rule="leaks",
        )


def find_leaks(
    collection: Collection,
    *,
    split: str = "test",
    train_split: str = "train",
    adaptation: Sequence[str] | None = None,
    settings: LeakSettings | None = None,
) -> Leaks:
    """Look for everything that training shows of a split. Nothing is changed and nothing is raised for it.

    Memory follows the evaluation: its queries and relevant passages are held as hashes, 32 bytes a word.
    Training queries are held; training passages and adaptation text are streamed.

    Args:
        collection: queries, passages and judgements.
        split: the split judged.
        train_split: the split trained on; where the collection has none, only adaptation can leak.
        adaptation: R texts to adapt on; None: none.
        settings: what counts as a leak; None: the defaults.

    Raises:
        DataError: the split does not exist or judges no known query.
    """
    settings = settings or LeakSettings()
    evaluation, training = Evaluation.of(collection, split), Training.of(collection, train_split)
    near = near_pairs(evaluation.texts, training.texts, settings.near_query)
    sought = SoughtTexts(evaluation.texts, settings, settings.ngram)
    findings: list[Finding] = []
    if settings.queries and training.known:
        findings += query_findings(evaluation, training, near, sought)
    if settings.documents and training.known:
        findings += document_findings(collection, evaluation, training, settings)
    findings += text_findings(collection, training, adaptation, sought, settings)
    dropped = {name for one in findings for name in one.drop_documents}
    leaks = Leaks(
        action=settings.action,
        train_split=train_split,
        subsets=subsets_of(evaluation, training, near),
        drop_queries=sorted({name for one in findings for name in one.drop_queries}),
        drop_judgements=sorted((query, name) for name in dropped for query in training.positives[name]),
        drop_adaptation=sorted({row for one in findings for row in one.drop_rows}),
    )
    sizes = {"adaptation_texts": 0 if adaptation is None else len(adaptation), "too_short": sought.too_short}
    leaks.report.update(report_of(evaluation, training, findings, settings, sizes))
    leaks.report["dropped" if settings.action == "drop" else "to_drop"] = {
        "queries": len(leaks.drop_queries),
        "judgements": len(leaks.drop_judgements),
        "adaptation_texts": len(leaks.drop_adaptation),
    }
    leaks.report["subsets"] = {name: int(marks.sum()) for name, marks in leaks.subsets.items()}
    _tell(leaks)
    return leaks


def apply(collection: Collection, leaks: Leaks) -> Collection:
    """Take what leaks out of training, where the action is ``drop``; the evaluation stays untouched.

    Judgements of leaking training queries and leaking positives go, and the negatives of queries that
    have no positive left. Queries and documents stay in their tables: other splits and the search
    need them. Rows of adaptation text are the caller's: ``leaks.drop_adaptation`` names them.

    Args:
        collection: the one that was looked through.
        leaks: what was found.

    Returns:
        A collection that shares the untouched tables; the same one where there is nothing to drop.
    """
    if leaks.action != "drop" or not (leaks.drop_queries or leaks.drop_judgements):
        return collection
    table = collection.qrels[leaks.train_split]
    by_query = pc.is_in(table["query_id"], value_set=pa.array(leaks.drop_queries, pa.string()))
    pairs = set(leaks.drop_judgements)
    columns = zip(table["query_id"].to_pylist(), table["corpus_id"].to_pylist(), strict=True)
    by_pair = pa.array([pair in pairs for pair in columns], pa.bool_())
    left = table.filter(pc.invert(pc.or_(by_query, by_pair)))
    changes: dict[str, Any] = {"qrels": {**collection.qrels, leaks.train_split: left}}
    if collection.negatives is not None:
        positive = left.filter(pc.greater(left["score"], 0))["query_id"]
        before = table.filter(pc.greater(table["score"], 0))["query_id"]
        asked = collection.negatives["query_id"]
        bereft = pc.and_(
            pc.is_in(asked, value_set=pc.unique(before)),
            pc.invert(pc.is_in(asked, value_set=pc.unique(positive))),
        )
        changes["negatives"] = collection.negatives.filter(pc.invert(bereft))
    return replace(collection, **changes)


def _tell(leaks: Leaks) -> None:
    report = leaks.report
    if report["leaking_queries"]:
        kinds = [f"{one['queries']} {name}" for name, one in report["kinds"].items() if one["queries"]]
        logger.warning(
            "%d of %d queries of %s leak into training (%s); leaks.action is %s",
            report["leaking_queries"], report["evaluation_queries"], report["split"], ", ".join(kinds),
            leaks.action,
        )  # fmt: skip
