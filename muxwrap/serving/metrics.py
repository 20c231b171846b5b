"""What a server counts, in Prometheus' format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from muxwrap.serving.groups import Groups

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SHARES = tuple(k / 8 for k in range(1, 9))


class Metrics:
    """Counters of one server, in a registry of its own.

    | name | type | counts |
    | --- | --- | --- |
    | ``muxwrap_requests_total`` | counter | responses, by HTTP status |
    | ``muxwrap_request_seconds`` | histogram | from a request's head to its answer, of those answered with 200 |
    | ``muxwrap_pass_seconds`` | histogram | passes of the model |
    | ``muxwrap_mixtures_total`` | counter | mixtures, by n; its rate is mixtures per second |
    | ``muxwrap_rows_total`` | counter | rows in them, by n |
    | ``muxwrap_mixture_fill`` | histogram | rows of a mixture in parts of n |
    | ``muxwrap_queue_length`` | gauge | rows that wait for a pass |
    | ``muxwrap_requests_in_progress`` | gauge | requests admitted and not answered |
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("muxwrap_requests", "Responses by HTTP status", ["status"], registry=self.registry)
        self.seconds = self._histogram(
            "muxwrap_request_seconds", "Seconds from a request's head to its answer", _SECONDS
        )
        self.passes = self._histogram("muxwrap_pass_seconds", "Seconds of a pass of the model", _SECONDS)
        self.mixtures = Counter("muxwrap_mixtures", "Mixtures by n", ["n"], registry=self.registry)
        self.rows = Counter("muxwrap_rows", "Rows in mixtures by n", ["n"], registry=self.registry)
        self.fill = self._histogram("muxwrap_mixture_fill", "Rows of a mixture in parts of n", _SHARES)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, registry=self.registry, buckets=buckets)

    def watch(self, groups: Groups) -> None:
        """Read the queue's length when somebody asks for it."""
        waiting = Gauge("muxwrap_queue_length", "Rows that wait for a pass", registry=self.registry)
        waiting.set_function(lambda: groups.waiting)
        admitted = Gauge("muxwrap_requests_in_progress", "Requests admitted and not answered", registry=self.registry)
        admitted.set_function(lambda: groups.admitted)

    def passed(self, n: int, rows: list[int], seconds: float) -> None:
        """Count a pass: its n, the rows of each mixture, its seconds."""
        self.passes.observe(seconds)
        self.mixtures.labels(n).inc(len(rows))
        self.rows.labels(n).inc(sum(rows))
        for each in rows:
            self.fill.observe(each / n)

    def answered(self, status: int, seconds: float) -> None:
        """Count a response."""
        self.requests.labels(status).inc()
        if status == 200:
            self.seconds.observe(seconds)

    def page(self) -> tuple[bytes, str]:
        """Return the page that Prometheus reads, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
