"""The promotion gate on planted challengers: how often it decides rightly, and what it can see.

    .venv/bin/python benchmarks/gate.py [--runs 1000]

Writes docs/results/gate.md. Nothing is trained: the scores are drawn (see planted_challengers.py), so the
right decision is known. --output writes elsewhere.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from planted_challengers import GUARDS, LEAKED, OWN, PRIMARY, SCENARIOS, Scenario, evidence

from llara_core.operations.decision import first_failed
from llara_core.operations.gate import PROMOTE, judge
from llara_core.promotion_settings import PromoteSettings

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "docs" / "results" / "gate.md"
CONFIDENCE = 0.95
GAINS, COUNTS = (0.01, 0.02, 0.03, 0.04, 0.06), (300, 1_000, PRIMARY)
LOSSES = (0.0, 0.02, 0.05, 0.06, 0.08)
SMALL = (300, 300, 300)  # as SciFact
logger = logging.getLogger("gate")


def decisions(
    scenario: Scenario, runs: int, seed: int, queries: int = PRIMARY, guards: Sequence[int] = GUARDS
) -> Counter[str]:
    """How often each check decided; ``promote`` where all held."""
    rules, found = PromoteSettings(), Counter[str]()
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        verdict = judge(evidence(scenario, rng, queries, guards), rules)
        failed = first_failed(verdict.checks)
        found[PROMOTE if failed is None else failed.name.split("-")[0]] += 1
    return found


def right(scenario: Scenario, found: Counter[str]) -> int:
    """Runs with the right decision."""
    return found[PROMOTE] if scenario.promote else found.total() - found[PROMOTE]


def at_least(hits: int, runs: int, confidence: float = CONFIDENCE) -> float:
    """Lower bound of a share (Clopper and Pearson 1934, one-sided), by bisection of the binomial tail."""
    from math import exp, lgamma, log

    def tail(share: float) -> float:  # chance of so many hits or more
        return sum(
            exp(
                lgamma(runs + 1) - lgamma(k + 1) - lgamma(runs - k + 1)
                + k * log(share) + (runs - k) * log(1 - share)
            )
            for k in range(hits, runs + 1)
        )  # fmt: skip

    low, high = 0.0, 1.0
    if not hits:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) < 1 - confidence else (low, middle)
    return low


def spread(runs: int = 20) -> float:
    """Standard deviation of the difference of two equal models, query by query."""
    noise = next(one for one in SCENARIOS if one.name == "noise")
    pairs = [evidence(noise, np.random.default_rng([9, run])).primary for run in range(runs)]
    return float(
        np.concatenate([one.challenger - one.champion for one in pairs if one.champion is not None]).std()
    )


def planted_table(runs: int) -> list[str]:
    """Decisions on the planted challengers."""
    lines = [
        "| challenger | true gain | loss on one guard | gain on leaked queries | asked | right | at least "
        "(95%) | decided by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, one in enumerate(SCENARIOS):
        found = decisions(one, runs, seed=place)
        hits = right(one, found)
        why = ", ".join(f"{name} {count}" for name, count in found.most_common())
        asked = "promote" if one.promote else "refuse"
        lines.append(
            f"| {one.name} | {one.gain:+.2f} | {-one.lost:+.2f} | {one.seen:+.2f} | {asked} "
            f"| {hits / runs:.1%} | {at_least(hits, runs):.1%} | {why} |"
        )
        logger.info("%s: %d of %d right (%s)", one.name, hits, runs, why)
    return lines


def power_table(runs: int) -> list[str]:
    """Share promoted by true gain and number of queries."""
    lines = [
        f"| true gain | {' | '.join(f'{count:,} queries' for count in COUNTS)} |",
        "|---|" + "---|" * len(COUNTS),
    ]
    for gain in GAINS:
        shares = [
            decisions(Scenario("", True, gain=gain), runs, 100 + place, count)[PROMOTE] / runs
            for place, count in enumerate(COUNTS)
        ]
        lines.append(f"| {gain:+.2f} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    return lines


def guard_table(runs: int) -> list[str]:
    """Share refused by the guards, by the true loss on one of them and by their size."""
    lines = ["| true loss on one guard | guards of | refused by a guard |", "|---|---|---|"]
    cases = [(loss, GUARDS) for loss in LOSSES] + [(loss, SMALL) for loss in (0.0, 0.08)]
    for place, (loss, guards) in enumerate(cases):
        found = decisions(Scenario("", True, gain=0.04, lost=loss), runs, 200 + place, guards=guards)
        sizes = ", ".join(f"{count:,}" for count in guards)
        lines.append(f"| {-loss:+.2f} | {sizes} queries | {found['guard/guard'] / runs:.0%} |")
    return lines


def page(runs: int) -> str:
    """The results page."""
    rules, few = PromoteSettings(), min(100, runs)
    parts = [
        "# The promotion gate on planted challengers",
        f"`make bench-gate`, or `.venv/bin/python benchmarks/gate.py --runs {runs}`. Nothing is trained: "
        "scores per query (nDCG@10, one relevant document a query) are drawn, so that the right decision is "
        "known.",
        f"The primary collection has {PRIMARY:,} queries (as the demo), the three guarded ones "
        f"{', '.join(f'{count:,}' for count in GUARDS)} (as FiQA, SCIDOCS and ArguAna). The scores of two "
        f"equal models differ by a standard deviation of {spread():.2f} a query (spread of a model's own "
        f"log-rank: {OWN}). The leaked challenger has seen {LEAKED:.0%} of the queries. The gate has its "
        f"default rules: level {rules.level:g}, least gain {rules.minimum_gain:g}, margin {rules.margin:g} "
        f"at level {rules.guard_level:g}.",
        f"## Right decisions, {runs:,} runs each",
        "\n".join(planted_table(runs)),
        "*equal*: the champion once more, score by score. *noise*: as good, but another model (another "
        "seed). *better* and *worse on one guard* both gain on the primary collection; the second forgets "
        "one of the three, drawn anew in each run. *leaked*: no gain but on the queries that it has seen.",
        f"## What it can see: share promoted, {few} runs each",
        "\n".join(power_table(few)),
        f"## What the guards do, {few} runs each",
        "\n".join(guard_table(few)),
        f"A loss as great as the margin ({rules.margin:g}) is accepted about {rules.guard_level:.0%} of the "
        "time, by design; a smaller one more often, a greater one hardly ever. A small guard needs a wider "
        "margin: what it cannot rule out is refused.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Run all, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="simulated runs for each challenger")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.output.write_text(page(arguments.runs), encoding="utf-8")
    logger.info("%s", arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
