"""How many rows were read and what became of them: by file, by rule, and whether it is too many.

A row is taken in or put aside, never both and never neither: ``check`` holds the sums against each
other for every file. Issue 5, point 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llara_core.data.row_rules import STATEMENTS
from llara_core.data_settings import IngestSettings

KINDS = ("read", "accepted", "quarantined", "flagged", "repaired", "repeated", "dropped")


@dataclass(frozen=True)
class Stop:
    """Why a collection is refused.

    Args:
        rule: the rule broken too often; ``quarantined`` where all rules together are.
        role: of the files: ``corpus``, ``queries``, ``qrels/<split>``, …
        rows: how many rows break it.
        of: rows read of that role.
        message: the same in words, with the first row.
        file: of the first row.
        row: the first row; None where the whole is at fault.
    """

    rule: str
    role: str
    rows: int
    of: int
    message: str
    file: str = ""
    row: int | None = None


@dataclass
class Counts:
    """Counters of one ingestion.

    Args:
        files: file to counts of ``KINDS``: ``read = accepted + quarantined``; ``flagged``, ``repaired`` and
            ``repeated`` (an id that came before, with the same text: taken in once) are among the
            accepted, ``dropped`` (by the person who repaired) among the quarantined.
        roles: role to rows read and quarantined.
        rules: (role, rule) to rows by action.
        first: (role, rule) to file, row and reason of the first row.
    """

    files: dict[str, Counter[str]] = field(default_factory=dict)
    roles: dict[str, Counter[str]] = field(default_factory=dict)
    rules: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    first: dict[tuple[str, str], tuple[str, int, str]] = field(default_factory=dict)

    def add(self, role: str, file: str, kind: str, rows: int = 1) -> None:
        """Count rows of a file as one of ``KINDS``."""
        self.files.setdefault(file, Counter())[kind] += rows
        self.roles.setdefault(role, Counter())[kind] += rows

    def broken(self, role: str, file: str, row: int, rule: str, reason: str, action: str) -> None:
        """Count one broken rule of one row."""
        self.rules.setdefault((role, rule), Counter())[action] += 1
        self.first.setdefault((role, rule), (file, row, reason))

    def check(self) -> None:
        """Hold the sums against each other.

        Raises:
            RuntimeError: a row was lost or counted twice, which is a bug of ours.
        """
        for file, counts in self.files.items():
            if counts["read"] != counts["accepted"] + counts["quarantined"]:
                raise RuntimeError(
                    f"{file}: {counts['read']} rows read, but {counts['accepted']} accepted and "
                    f"{counts['quarantined']} quarantined; this is a bug of ours"
                )

    def stops(self, settings: IngestSettings, unresolved_share: float = 0.0) -> list[Stop]:
        """The rules that too many rows break, the gravest first; then files of which too much is aside."""
        found = []
        for (role, rule), by_action in self.rules.items():
            read, rows = self.roles[role]["read"], by_action["quarantine"] + by_action["flag"]
            bound = settings.policy(rule).stop_above
            if unresolved_share and rule in ("known_query", "known_document"):
                bound = unresolved_share
            if exceeds(rows, read, bound):
                file, row, reason = self.first[role, rule]
                message = (
                    f"{reason} ({rows:,} of {read:,} rows of {role} break this rule, at most "
                    f"{_worded(bound)} may; see ingest.rules.{rule}.stop_above)"
                )
                found.append(Stop(rule, role, rows, read, message, file, row))
        named = {stop.role for stop in found}
        for role, counts in self.roles.items():
            rows = counts["quarantined"] - counts["dropped"]
            if role not in named and exceeds(rows, counts["read"], settings.stop_above):
                message = (
                    f"{rows:,} of {counts['read']:,} rows of {role} were put aside, at most "
                    f"{_worded(settings.stop_above)} may be; see ingest.stop_above"
                )
                found.append(Stop("quarantined", role, rows, counts["read"], message))
        return sorted(found, key=lambda stop: -stop.rows / max(1, stop.of))

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: totals of ``KINDS``, ``files``, ``roles``, and ``rules`` by name."""
        totals: Counter[str] = Counter()
        for counts in self.files.values():
            totals.update(counts)
        rules: dict[str, dict[str, Any]] = {}
        for (_, rule), by_action in sorted(self.rules.items()):
            one = rules.setdefault(rule, {"statement": STATEMENTS.get(rule, rule)})
            for action, rows in sorted(by_action.items()):
                one[action] = one.get(action, 0) + rows
        return {
            **_all_kinds(totals),
            "files": {file: _all_kinds(counts) for file, counts in self.files.items()},
            "roles": {role: _all_kinds(counts) for role, counts in self.roles.items()},
            "rules": rules,
        }


def exceeds(rows: int, read: int, bound: float | None) -> bool:
    """Whether ``rows`` of ``read`` rows are more than a bound: a share below 1, a number from 1 on."""
    if bound is None or not rows:
        return False
    return rows > (bound if bound >= 1 else bound * read)


def _worded(bound: float | None) -> str:
    return f"{bound:g}" if bound is None or bound >= 1 or not bound else f"{100 * bound:g}%"


def _all_kinds(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind: counts.get(kind, 0) for kind in KINDS}
