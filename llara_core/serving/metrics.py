"""What the service counts, in Prometheus' text format.

| metric | labels | is |
|---|---|---|
| `llara_requests_total` | route, status | requests answered |
| `llara_request_seconds` | route | time from the first byte of a request to the last of its answer |
| `llara_requests_in_flight` | | requests that are being answered |
| `llara_batch_texts` | stage | texts of a batch; stage `encode` or `search` |
| `llara_batch_seconds` | stage | time of a batch |
| `llara_texts_total`, `llara_texts_cut_total`, `llara_tokens_total` | kind | texts encoded, cut, and tokens |
| `llara_queue_texts` | | texts that wait to be encoded |
| `llara_pair_info` | pair, version, fingerprint | 1 for what serves |
| `llara_pairs_open` | | pairs in memory |
| `llara_switches_total`, `llara_switch_failures_total` | | changes of the pair, and those that failed |

Source: issue 7, point 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from llara_core.serving.batching import Watch
    from llara_core.serving.champion import Champion
    from llara_core.serving.engine import Engine

# A small model on a CPU answers in a millisecond, a large one under load in seconds.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one service; another in the same process has its own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self._requests = Counter("llara_requests", "Requests answered.", ["route", "status"], registry=own)
        self._seconds = Histogram(
            "llara_request_seconds", "Seconds of a request.", ["route"], buckets=_SECONDS, registry=own
        )
        self._texts = Counter("llara_texts", "Texts encoded.", ["kind"], registry=own)
        self._cut = Counter("llara_texts_cut", "Texts cut at the model's length.", ["kind"], registry=own)
        self._tokens = Counter(
            "llara_tokens", "Tokens computed, padding not counted.", ["kind"], registry=own
        )
        self._sizes = Histogram(
            "llara_batch_texts", "Texts of a batch.", ["stage"], buckets=_TEXTS, registry=own
        )
        self._batch = Histogram(
            "llara_batch_seconds", "Seconds of a batch.", ["stage"], buckets=_SECONDS, registry=own
        )
        self._flying = Gauge("llara_requests_in_flight", "Requests that are being answered.", registry=own)

    def watch(self, stage: str) -> Watch:
        """What a worker tells of its batches."""
        sizes, seconds = self._sizes.labels(stage), self._batch.labels(stage)

        def told(jobs: int, texts: int, took: float) -> None:
            sizes.observe(texts)
            seconds.observe(took)

        return told

    def encoded(self, kind: str, texts: int, cut: int, tokens: int) -> None:
        """Count texts that were encoded."""
        self._texts.labels(kind).inc(texts)
        self._cut.labels(kind).inc(cut)
        self._tokens.labels(kind).inc(tokens)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def flying(self, requests: int) -> None:
        """How many requests are being answered."""
        self._flying.set(requests)

    def follow(self, champion: Champion, engine: Engine) -> None:
        """Ask these whenever the metrics are read."""
        self.registry.register(_State(champion, engine))

    def page(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)


class _State(Collector):
    """What is asked when the metrics are read."""

    def __init__(self, champion: Champion, engine: Engine) -> None:
        self._champion, self._engine = champion, engine

    def collect(self) -> Iterable[Metric]:
        """The values of this moment."""
        champion, served = self._champion, self._champion.current
        info = GaugeMetricFamily("llara_pair_info", "What serves.", labels=["pair", "version", "fingerprint"])
        if served is not None:
            info.add_metric([served.name, served.version, served.fingerprint], 1)
        yield info
        yield GaugeMetricFamily("llara_pairs_open", "Pairs in memory.", champion.opened)
        yield GaugeMetricFamily("llara_queue_texts", "Texts that wait.", self._engine.waiting)
        yield CounterMetricFamily("llara_switches", "Changes of the pair.", champion.counts.switches)
        yield CounterMetricFamily(
            "llara_switch_failures", "Pairs that could not be opened.", champion.counts.failures
        )
