"""Requests a second and latency of `llara serve`, MLflow's server and a plain FastAPI app, in one run.

    .venv/bin/python benchmarks/serving.py [--rounds 3] [--seconds 3]

Same weights, one query a request, over loopback. The servers stand side by side and are asked in turns, round
after round, so that a busy moment of the machine hits all of them. The clients are a process on a core of
their own, the servers have the others. Answers are compared first. Writes docs/results/serving.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from contrastive_task import ROOT
from serving_task import (
    EMPTY,
    MLFLOW,
    MODEL,
    OURS,
    PASSAGES,
    PLAIN,
    QUERIES,
    SEARCH,
    Server,
    Task,
    Way,
    ask,
    build,
    start,
    ways,
)

RESULTS = ROOT / "docs" / "results" / "serving.md"
CLIENTS = (1, 8, 32, 128)
TARGET_AT = 32  # clients
_COMPARED = 32  # queries whose answers are compared
_LEAST_COSINE = 0.9999
_MOST = 100_000  # requests of a client in a round
logger = logging.getLogger("serving")


@dataclass
class Found:
    """What one endpoint showed with a number of clients.

    Args:
        rates: requests a second, a round each.
        cpu: milliseconds of the server's CPU time a request, a round each.
        latencies: of every request of all rounds, seconds.
    """

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median requests a second."""
        return statistics.median(self.rates)


Table = dict[tuple[str, int], Found]


def check(task: Task, servers: Mapping[str, Server], listed: list[Way]) -> float:
    """Smallest cosine between an endpoint's vector and ours; ends the run when it is not rounding."""
    worst = 1.0
    for way in listed:
        if way.vector is None:
            continue
        for query, wanted in zip(task.queries[:_COMPARED], task.vectors, strict=False):
            found = np.array(way.vector(ask(servers[way.server], way, query)))
            cosine = float(found @ wanted / np.linalg.norm(found))
            if cosine < _LEAST_COSINE:
                raise SystemExit(f"{way.name}: another vector for {query!r}: cosine {cosine:.6f}")
            worst = min(worst, cosine)
    return worst


def load(task: Task, server: Server, way: Way, clients: int, seconds: float, core: int) -> dict[str, object]:
    """What the clients' process has measured.

    Raises:
        SystemExit: it failed, or an answer was not 200.
    """
    job = task.folder / "job.json"
    bodies = [way.body(query) for query in task.queries]
    job.write_text(
        json.dumps({"port": server.port, "path": way.path, "bodies": bodies, "clients": clients,
                    "seconds": seconds, "most": _MOST})
    )  # fmt: skip
    script = Path(__file__).with_name("serving_client.py")
    command = [sys.executable, str(script), "--job", str(job), "--cores", str(core)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 120)
    if done.returncode:
        raise SystemExit(f"the clients of {way.name} failed:\n{done.stderr}")
    told: dict[str, object] = json.loads(done.stdout)
    if told["failed"]:
        raise SystemExit(f"{way.name}, {clients} clients: {told['failed']} requests failed")
    return told


def measure(
    task: Task, servers: Mapping[str, Server], listed: list[Way], chosen: argparse.Namespace, core: int
) -> Table:
    """All endpoints with all numbers of clients, in turns."""
    found: Table = {(way.name, clients): Found() for way in listed for clients in CLIENTS}
    for way in listed:  # what a server does only once
        load(task, servers[way.server], way, 8, 1.0, core)
    for clients in CLIENTS:
        for _ in range(chosen.rounds):
            for way in listed:
                before = servers[way.server].cpu()
                told = load(task, servers[way.server], way, clients, chosen.seconds, core)
                latencies, one = list(told["latencies"]), found[way.name, clients]  # type: ignore[call-overload]
                one.rates.append(len(latencies) / float(told["seconds"]))  # type: ignore[arg-type]
                one.cpu.append(1000 * (servers[way.server].cpu() - before) / len(latencies))
                one.latencies += latencies
        told_of = {way.name: found[way.name, clients] for way in listed}
        words = [f"{name} {one.rate:.0f}/s, {one.cpu[-1]:.2f} ms CPU" for name, one in told_of.items()]
        logger.info("%d clients: %s", clients, "; ".join(words))
    return found


def better_peer(found: Table, listed: list[Way]) -> tuple[str, float]:
    """The peer with most requests a second at the target's number of clients."""
    peers = [way.name for way in listed if way.name not in (OURS, SEARCH, EMPTY)]
    name = max(peers, key=lambda one: found[one, TARGET_AT].rate)
    return name, found[OURS, TARGET_AT].rate / found[name, TARGET_AT].rate


def page(
    task: Task, found: Table, listed: list[Way], memory: Mapping[str, float], chosen: argparse.Namespace
) -> list[str]:
    """The page, line by line."""
    peer, times = better_peer(found, listed)
    lengths = np.percentile([len(query) for query in task.queries], [0, 25, 50, 75, 100]).astype(int).tolist()
    cores = len(os.sched_getaffinity(0))
    lines = [
        "# Serving",
        "",
        f"Written by `{command(chosen)}`: one query a request over loopback, {QUERIES} different queries of "
        f"{task.data[0]} (characters: quartiles {', '.join(map(str, lengths))}); a Llama of {MODEL.layers} "
        f"layers and hidden size {MODEL.hidden_size}, random weights, float32. Every server has the same "
        f"{cores - 1} core(s) and one PyTorch thread a core; the clients are a process on another core, each "
        "with one connection, and send their next request when the answer to the last is whole. All servers "
        f"stand side by side and are asked in turns: medians of {chosen.rounds} round(s) of "
        f"{chosen.seconds:g} s; latencies of all rounds. Cosine of all answers with the library's: at least "
        f"{_LEAST_COSINE}, checked on {_COMPARED} queries. Python {platform.python_version()}, torch "
        f"{version('torch').split('+')[0]}, mlflow {version('mlflow')}, sentence-transformers "
        f"{version('sentence-transformers')}, fastapi {version('fastapi')}, uvicorn {version('uvicorn')}.",
        "",
        f"**With {TARGET_AT} clients `{OURS}` answers {times:.1f} times the requests of the better peer** "
        f"({peer}).",
    ]
    for clients in CLIENTS:
        own = found[OURS, clients].rate
        lines += [
            "",
            f"## {clients} client{'s' if clients > 1 else ''}",
            "",
            "| server | requests/s | llara's /embed, times its | p50, ms | p95, ms | p99, ms | CPU, ms |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for way in listed:
            one = found[way.name, clients]
            shown = [f"{1000 * value:.1f}" for value in np.percentile(one.latencies, [50, 95, 99])]
            ratio = "" if way.name in (OURS, EMPTY) else f"{own / one.rate:.2f}"
            lines.append(
                f"| {way.name} | {one.rate:,.0f} | {ratio} | {' | '.join(shown)} "
                f"| {statistics.median(one.cpu):.2f} |"
            )
    lines += ["", "| server | memory after all of it, MB |", "|---|---:|"]
    lines += [f"| {name} | {held:,.0f} |" for name, held in memory.items() if name != EMPTY]
    return [*lines, "", *notes()]


def notes() -> list[str]:
    """What the table does not say by itself."""
    return [
        f"`{EMPTY}` is the clients' own ceiling: a server that answers with fixed bytes. `/search` encodes "
        f"and then finds the ten nearest of {PASSAGES:,} passages, whose texts it answers with; no peer has "
        "such an endpoint. CPU is that of the server's processes a request; other programs on the machine "
        f"disturb it less than the rest (load average at the end: {os.getloadavg()[1]:.1f}). "
        f"`{PLAIN}` is an ordinary (not async) endpoint that calls `encode_query`, as tutorials show it. "
        f"`{MLFLOW}` parses each request into a pandas frame and encodes it alone. llara encodes together "
        "what waits while it encodes.",
    ]


def command(chosen: argparse.Namespace) -> str:
    """What was run, for the page."""
    return f"benchmarks/serving.py --rounds {chosen.rounds} --seconds {chosen.seconds:g}"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> int:
    """Compare, measure and write the page; exits 0."""
    chosen = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end, too
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        raise SystemExit("this benchmark needs two cores: one for the clients, the others for the servers")
    own, core = set(cores[:-1]), cores[-1]
    listed = ways(max(2, len(own)))
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory(prefix="llara-") as scratch:
        task = build(Path(scratch))
        try:
            for name in dict.fromkeys(way.server for way in listed):
                servers[name] = start(task, name, own, len(own), max(2, len(own)))
                logger.info("%s is ready", name)
            logger.info("smallest cosine: %.7f", check(task, servers, listed))
            found = measure(task, servers, listed, chosen, core)
            memory = {
                "llara serve" if name == "ours" else name: one.memory() for name, one in servers.items()
            }
        finally:
            for server in servers.values():
                server.stop()
        lines = page(task, found, listed, memory, chosen)
    chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    logger.info("wrote %s", chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
