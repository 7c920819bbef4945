"""Row rules of a collection: what is checked, why, and which file and row break it.

A broken *critical* rule stops the work before any training; a broken other rule is a warning.
Published collections have a few rows with control characters, so these are critical only when they
are many. A judgement of an unknown document is critical at once, unless the collection's settings
tolerate a share of them (ArguAna's official qrels name 5 documents that its corpus lacks).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llara_core.data.checks import GRADES, Breach, breaches, table_of
from llara_core.data.collection import Collection
from llara_core.errors import DataError

logger = logging.getLogger(__name__)

TOLERATED_SHARE = 0.01  # of the rows may hold control characters


@dataclass(frozen=True)
class Rule:
    """A rule that every row, file or split must keep.

    Args:
        name: short name, as it stands in messages.
        statement: what must hold.
        critical: whether breaking it stops the work.
        tolerated: share of the rows up to which breaking it is a warning; None: what the
            collection's ``unresolved_share`` says.
    """

    name: str
    statement: str
    critical: bool = True
    tolerated: float | None = 0.0


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("corpus_not_empty", "the corpus has documents"),
        Rule("valid_utf8", "ids and texts are valid UTF-8"),
        Rule("non_empty_ids", "every document and query has a non-empty id"),
        Rule("unique_ids", "no id stands twice"),
        Rule("query_text", "every query has text"),
        Rule("passage_text", "every document has a title or text", critical=False),
        Rule("text_length", "texts are shorter than the bound"),
        Rule("control_characters", "texts hold no control characters", tolerated=TOLERATED_SHARE),
        Rule("replacement_characters", "texts hold no U+FFFD, the trace of a wrong decoding", critical=False),
        Rule("known_query", "every judgement names a query of the queries file", tolerated=None),
        Rule("known_document", "every judgement names a document of the corpus", tolerated=None),
        Rule("grades_in_range", f"grades lie in {GRADES[0]} to {GRADES[1]}"),
        Rule("unique_judgements", "a query and a document are judged once", critical=False),
        Rule("split_has_queries", "every split has a known query with a relevant document"),
        Rule("train_overlap_id", "no training query is judged in another split"),
        Rule("train_overlap_text", "no training query's text stands in another split", critical=False),
    )
}


@dataclass(frozen=True)
class Problem:
    """One broken rule at one place.

    Args:
        file: the file (or the table's name when it came from no file).
        row: 1-based line, or None when the whole file is at fault.
        rule: name of the rule, a key of ``RULES``.
        message: what was found and how to mend it.
        critical: whether it stops the work.
        count: rows that break this rule in this file, of which this is one.
    """

    file: str
    row: int | None
    rule: str
    message: str
    critical: bool
    count: int = 1


def problems(collection: Collection, max_per_rule: int = 20) -> list[Problem]:
    """Check every rule; critical problems first, then in the order of the files' rows.

    Args:
        collection: what to check; a collection without qrels breaks no rule of theirs.
        max_per_rule: rows named per rule and file; ``Problem.count`` has the full number.
    """
    found = [
        problem for breach in breaches(collection) for problem in _worded(collection, breach, max_per_rule)
    ]
    order = list(RULES)
    return sorted(found, key=lambda one: (not one.critical, order.index(one.rule), one.file, one.row or 0))


def check(collection: Collection, max_per_rule: int = 20) -> list[Problem]:
    """Stop on the first critical problem; log and return the warnings otherwise.

    Raises:
        DataError: a critical rule is broken; names file, row and rule and counts the other breaches.
    """
    found = problems(collection, max_per_rule)
    critical = [one for one in found if one.critical]
    if critical:
        first = critical[0]
        places = {(one.file, one.rule): one.count for one in critical}
        others = sum(places.values()) - 1
        more = f" ({others} more critical {'problem' if others == 1 else 'problems'})" if others else ""
        raise DataError(first.message + more, file=Path(first.file), row=first.row, rule=first.rule)
    seen: set[tuple[str, str]] = set()
    for one in found:
        if (one.file, one.rule) not in seen:
            seen.add((one.file, one.rule))
            row = f":{one.row}" if one.row is not None else ""
            logger.warning("%s%s: %s [%s, %d rows]", one.file, row, one.message, one.rule, one.count)
    return found


def is_critical(collection: Collection, rule: Rule, count: int, rows: int) -> bool:
    """Whether ``count`` breaches of a rule among ``rows`` rows stop the work."""
    tolerated = collection.unresolved_share if rule.tolerated is None else rule.tolerated
    return rule.critical and not 0 < count <= tolerated * rows


def _worded(collection: Collection, breach: Breach, limit: int) -> Iterator[Problem]:
    rule = RULES[breach.rule]
    name = breach.table
    table = table_of(collection, name)
    file = collection.files.get(name, name)
    count = max(1, len(breach.rows))
    critical = is_critical(collection, rule, count, table.num_rows)
    if not breach.rows:
        yield Problem(file, None, rule.name, breach.message(-1), critical)
    for index in breach.rows[:limit]:
        row = table["line"][index].as_py() if "line" in table.column_names else None
        yield Problem(
            file, index + 1 if row is None else row, rule.name, breach.message(index), critical, count
        )
