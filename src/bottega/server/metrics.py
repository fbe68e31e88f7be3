"""Figures for Prometheus, one registry an app; `curl localhost:8400/metrics` shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from bottega.generation.delivery import Maker
    from bottega.guard.verdict import Verdict

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SPEEDS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500)


class Metrics:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("bottega_requests", "HTTP requests answered.", ["method", "route", "status"],
                                registry=self._registry)
        self.tokens = Counter("bottega_tokens", "Tokens read and made.", ["model", "direction"],
                              registry=self._registry)
        self.pictures = Counter("bottega_pictures", "Pictures made.", ["model"], registry=self._registry)
        self.rows = Counter("bottega_rows", "Rows of tables, and graphs, made.", ["model"], registry=self._registry)
        self.first_token = Histogram("bottega_first_token_seconds", "From the request to its first token.", ["model"],
                                     buckets=_SECONDS, registry=self._registry)
        self.speed = Histogram("bottega_tokens_per_second", "Tokens made a second, by request.", ["model"],
                               buckets=_SPEEDS, registry=self._registry)
        self._waiting = Gauge("bottega_queue_length", "Requests that wait for a place.", ["model"],
                              registry=self._registry)
        self._running = Gauge("bottega_outputs_running", "Outputs being made.", ["model"], registry=self._registry)
        self._active = Gauge("bottega_requests_active", "HTTP requests under way, streams included.",
                             registry=self._registry)
        self.cancelled = Counter("bottega_requests_cancelled", "Generations whose client went away.",
                                 registry=self._registry)
        self._verdicts = Counter("bottega_guard_verdicts", "Findings of the guard.", ["stage", "category", "action"],
                                 registry=self._registry)
        self.feedback = Counter("bottega_feedback", "Feedback kept.", ["kind"], registry=self._registry)

    def judged(self, verdicts: Iterable[Verdict]) -> None:
        """Count findings of the guard."""
        for verdict in verdicts:
            self._verdicts.labels(verdict.stage, verdict.category, verdict.action.name.lower()).inc()

    def text(self, loaded: Mapping[str, Maker], active: int) -> bytes:
        """Return all figures in Prometheus' text format.

        Args:
            loaded: what makes outputs now.
            active: HTTP requests under way.
        """
        self._active.set(active)
        self._waiting.clear()
        self._running.clear()
        for batcher in loaded.values():
            name = batcher.engine.lineage["name"]
            self._waiting.labels(name).set(batcher.waiting)
            self._running.labels(name).set(batcher.running)
        return generate_latest(self._registry)
