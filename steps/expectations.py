"""Judge data by Great Expectations suites, and show the judgement as one page.

``great_expectations`` is imported inside the functions: it takes seconds that a cached step saves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from llara_core.data.collection import Collection
from llara_core.data.profile import drift
from llara_core.data.profile import profile as profile_of
from llara_core.errors import DataError
from steps.data_docs import Section, render
from steps.expectation_drift import drifted
from steps.expectation_facts import Lengths
from steps.expectation_failures import Failure, failures_of
from steps.expectation_run import run_suite
from steps.expectation_suites import SUITES, Suite, read_suite
from steps.frames import Judged, frames
from steps.frames_of_texts import negatives, pairs

__all__ = ["SUITES", "Judgement", "Lengths", "judge", "judge_negatives", "judge_pairs"]

FIRST_VERSION = "There is no earlier accepted version to compare with: nothing is said about drift."


@dataclass(frozen=True)
class Judgement:
    """What the suites say: failures, counts, and the Data Docs page.

    Args:
        failures: expectations that do not hold, in the order of the tables.
        expectations: how many were judged.
        page: the Data Docs, self-contained HTML.
        versions: ``meta.version`` of every suite that was used, by name.
        rows: rows judged, over all tables.
        drift: how the collection differs from the version before (``llara_core.data.profile.drift``); None
            where there is none.
    """

    failures: Sequence[Failure]
    expectations: int
    page: str
    versions: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    drift: Mapping[str, Any] | None = None

    @property
    def summary(self) -> dict[str, int]:
        """Numbers for metadata and MLflow, with ``suite_version.<name>`` of every suite that was used."""
        critical = sum(one.critical for one in self.failures)
        return {
            "expectations": self.expectations,
            "rows": self.rows,
            "failed_critical": critical,
            "failed_warning": len(self.failures) - critical,
            **{f"suite_version.{name}": version for name, version in self.versions.items()},
        }

    def raise_critical(self) -> None:
        """Stop on the first failed critical expectation.

        Raises:
            DataError: names file, row and rule, and counts the other failures.
        """
        critical = [one for one in self.failures if one.critical]
        if critical:
            first = critical[0]
            others = f"; {len(critical) - 1} more critical expectations failed" if critical[1:] else ""
            raise DataError(first.message + others, file=Path(first.file), row=first.row, rule=first.rule)


def judge(
    collection: Collection,
    *,
    previous: Mapping[str, Any] | None = None,
    profile: Mapping[str, Any] | None = None,
    lengths: Lengths | None = None,
    suites: Path = SUITES,
) -> Judgement:
    """Run every suite on every row of corpus, queries, judgements, training pairs and given negatives.

    Args:
        collection: may be memory-mapped; it is looked at batch by batch.
        previous: profile of the version that was accepted last (``llara_core.data.profile.profile``); None
            for the first version, whose Data Docs say that there is nothing to compare with.
        profile: of this version, where it is at hand already.
        lengths: how many tokens the model reads, for the expectations on token counts; None leaves those out.
        suites: folder of the suites.

    Returns:
        failures in the order corpus, queries, qrels by split, training pairs, drift; one page of all.

    Raises:
        ConfigError: a suite cannot be used; names file and place.
    """
    names = ["corpus", "queries", "qrels", "splits"]
    tables, notes, change = [frames(collection, lengths)], [FIRST_VERSION], None
    if "train" in collection.qrels:
        names.append("training_pairs")
        tables.append(pairs(collection, split, lengths) for split in ("train",))
    if collection.negatives is not None:
        names.append("mined_negatives")
        file = collection.files.get("negatives", "negatives")
        tables.append(negatives(collection, one, file, lengths) for one in (collection.negatives,))
    if previous is not None:
        names.append("drift")
        notes, change = [], drift(previous, profile_of(collection) if profile is None else profile)
        tables.append(iter([drifted(change, collection.files.get("corpus", "corpus"))]))
    known = {name: read_suite(name, suites) for name in names}
    return _judged(collection, known, chain.from_iterable(tables), lengths, notes, change)


def judge_pairs(
    collection: Collection, split: str = "train", *, lengths: Lengths | None = None, suites: Path = SUITES
) -> Judgement:
    """Run the suite of training pairs on the relevant judgements of one split, with their texts.

    Raises:
        ConfigError: the suite cannot be used; names file and place.
        DataError: there is no such split.
    """
    known = {"training_pairs": read_suite("training_pairs", suites)}
    return _judged(collection, known, [pairs(collection, split, lengths)], lengths)


def judge_negatives(
    collection: Collection,
    table: pa.Table,
    *,
    file: str = "negatives",
    lengths: Lengths | None = None,
    suites: Path = SUITES,
) -> Judgement:
    """Run the suite of mined negatives.

    Args:
        collection: whose queries and documents the negatives name.
        table: ``query_id`` and ``corpus_id``, and where it was mined ``source``, ``rank`` and ``score`` [N]
            (``llara_core.retrieval.mining_table.NEGATIVES_SCHEMA``).
        file: where the negatives came from, for messages; rows are counted from 1.
        lengths: as for ``judge``.
        suites: folder of the suites.

    Raises:
        ConfigError: the suite cannot be used; names file and place.
        DataError: the table has no such columns.
    """
    known = {"mined_negatives": read_suite("mined_negatives", suites)}
    return _judged(collection, known, [negatives(collection, table, file, lengths)], lengths)


def _judged(
    collection: Collection,
    suites: Mapping[str, Suite],
    tables: Iterable[Judged],
    lengths: Lengths | None,
    notes: Sequence[str] = (),
    change: Mapping[str, Any] | None = None,
) -> Judgement:
    parameters = lengths.parameters if lengths else {}
    sections: list[Section] = []
    failures: list[Failure] = []
    for judged in tables:
        suite = suites[judged.suite]
        result = run_suite(judged, suite.given(parameters), parameters)
        rows = judged.table.num_rows
        failures += failures_of(result, judged.file, rows, collection.unresolved_share)
        sections.append(Section(judged.suite, suite.version, judged.file, rows, result))
    return Judgement(
        failures,
        sum(len(one.result.results) for one in sections),
        render(collection.name, sections, failures, notes),
        {name: suite.version for name, suite in suites.items()},
        sum(one.rows for one in sections),
        change,
    )
