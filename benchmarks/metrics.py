"""nDCG@10, MRR, recall@100 and MAP@100 per query, side by side with pytrec_eval, in one run.

    .venv/bin/python benchmarks/metrics.py [--queries 3000] [--depth 1000] [--rounds 7]

Writes docs/results/metrics.md: medians of alternating rounds, and the memory of each way in a process of its
own. pytrec_eval reads dictionaries; ours are timed on the same dictionaries, and on the arrays that a search
gives (`evaluate_rows`). --output writes elsewhere.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import peak_memory
import pytrec_eval

from llara_core.evaluation.metrics import evaluate_rows, evaluate_run

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "metrics.md"
CORPUS, JUDGED = 50_000, 20  # documents; judgements per query, half of them among the results
METRICS = (
    "ndcg_at_10",
    "mrr_at_1000",
    "recall_at_100",
    "map_at_100",
)  # pytrec_eval's recip_rank has no cut-off
MEASURES = {"ndcg_cut.10", "recip_rank", "recall.100", "map_cut.100"}
THEIRS = ("ndcg_cut_10", "recip_rank", "recall_100", "map_cut_100")
logger = logging.getLogger("metrics")


@dataclass(frozen=True)
class Case:
    """Results of `queries` queries, `depth` each; `decimals` of the scores decide how many tie."""

    queries: int
    depth: int
    decimals: int

    @cached_property
    def corpus_ids(self) -> list[str]:
        """Ids that sort unlike their rows."""
        return [f"d{number}" for number in np.random.default_rng(1).permutation(CORPUS)]

    @cached_property
    def query_ids(self) -> list[str]:
        """One id per query."""
        return [f"q{number}" for number in range(self.queries)]

    @cached_property
    def arrays(self) -> tuple[Any, Any]:
        """Rows [Q, K] and scores [Q, K]."""
        rng = np.random.default_rng(2)
        rows = np.stack([rng.permutation(CORPUS)[: self.depth] for _ in range(self.queries)])
        return rows, rng.random(rows.shape).round(self.decimals).astype(np.float32)

    @cached_property
    def qrels(self) -> dict[str, dict[str, int]]:
        """Grades 0 to 2."""
        rng = np.random.default_rng(3)
        found = self.arrays[0]
        judged = {}
        for place, query in enumerate(self.query_ids):
            rows = [*rng.choice(found[place], JUDGED // 2), *rng.integers(0, CORPUS, JUDGED - JUDGED // 2)]
            judged[query] = {self.corpus_ids[row]: int(rng.integers(0, 3)) for row in rows}
        return judged

    @cached_property
    def run(self) -> dict[str, dict[str, float]]:
        """The same results as dictionaries."""
        return {
            query: {self.corpus_ids[row]: score for row, score in zip(rows, scores, strict=True)}
            for query, rows, scores in zip(self.query_ids, *(a.tolist() for a in self.arrays), strict=True)
        }


def plain_pytrec_eval(case: Case) -> Any:
    """As its documentation shows it."""
    return pytrec_eval.RelevanceEvaluator(case.qrels, MEASURES).evaluate(case.run)


def dictionaries(case: Case) -> Any:
    """``llara_core.evaluation.metrics.evaluate_run`` on the same dictionaries."""
    return evaluate_run(case.qrels, case.run, METRICS)


def arrays(case: Case) -> Any:
    """``llara_core.evaluation.metrics.evaluate_rows`` on arrays."""
    return evaluate_rows(case.qrels, case.query_ids, case.corpus_ids, *case.arrays, METRICS)


WAYS: dict[str, Callable[[Case], Any]] = {
    "pytrec_eval": plain_pytrec_eval, "llara, dictionaries": dictionaries, "llara, arrays": arrays,
}  # fmt: skip


def check(case: Case) -> float:
    """The greatest difference between any two values of any query; refuses more than rounding."""
    theirs = plain_pytrec_eval(case)
    worst = 0.0
    for way in (dictionaries, arrays):
        ours = way(case)
        for metric, measure in zip(METRICS, THEIRS, strict=True):
            values = np.array([theirs[query][measure] for query in case.query_ids])
            worst = max(worst, float(np.abs(ours[metric] - values).max()))
    if worst > 1e-12:
        raise SystemExit(f"llara and pytrec_eval differ by {worst}: not the same metrics")
    return worst


def seconds(case: Case, rounds: int) -> dict[str, float]:
    """Median seconds of processor time of each way; the ways alternate."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            start = time.process_time()  # all ways are one thread: a busy machine does not count
            way(case)
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def memory(case: Case, name: str) -> dict[str, float]:
    """MiB of the input and of the work beyond it, of one way in a fresh process."""
    command = [sys.executable, __file__, "--child", name, "--queries", str(case.queries)]
    command += ["--depth", str(case.depth)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def child(case: Case, name: str) -> None:
    """Write what `memory` wants to know to stdout, as JSON."""
    before = peak_memory.start()
    if name == "llara, arrays":
        inputs = (case.qrels, case.corpus_ids, case.query_ids, case.arrays)
    else:
        inputs = (case.qrels, case.run)
        del case.__dict__["arrays"]
    held = peak_memory.start()
    WAYS[name](case)
    work = peak_memory.peak() - held
    json.dump({"input": held - before, "work": work, "parts": len(inputs)}, sys.stdout)


def page(case: Case, rounds: int) -> list[str]:
    """The lines of the document."""
    lines = [
        "# Metrics",
        "",
        f"Written by `make bench`: {', '.join(METRICS)} of {case.queries:,} queries, {case.depth:,} "
        f"results and {JUDGED} judgements each, against pytrec_eval-terrier "
        f"{version('pytrec_eval-terrier')}; medians of {rounds} alternating rounds in one process, of "
        "processor time (each way is one thread). The values are compared before: they differ by less than "
        "1e-12.",
        "",
        "| scores | way | ms | times as fast as pytrec_eval |",
        "|---|---|---|---|",
    ]
    for text, decimals in (("all different", 7), ("two decimals, so that most tie", 2)):
        measured = Case(case.queries, case.depth, decimals)
        worst = check(measured)
        times = seconds(measured, rounds)
        for name, value in times.items():
            lines.append(f"| {text} | {name} | {value * 1000:.0f} | {times['pytrec_eval'] / value:.1f} |")
            logger.info("%s (greatest difference %.1e)", lines[-1], worst)
    lines += [
        "",
        "Memory, each way in a process of its own:",
        "",
        "| way | input, MiB | work beyond it, MiB |",
        "|---|---|---|",
    ]
    for name in WAYS:
        used = memory(case, name)
        lines.append(f"| {name} | {used['input']:.0f} | {used['work']:.0f} |")
        logger.info(lines[-1])
    return lines


def main() -> int:
    """Measure and write the page; exits 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--depth", type=int, default=1000, choices=range(100, 1001), metavar="100..1000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    case = Case(chosen.queries, chosen.depth, 7)
    if chosen.child:
        child(case, chosen.child)
        return 0
    chosen.output.write_text("\n".join(page(case, chosen.rounds)) + "\n", encoding="utf-8")
    logger.info("wrote %s", chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
