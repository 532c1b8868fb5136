"""What the gateway counts. Labels are bounded: route templates and status codes, never ids, peers or accounts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """One registry per gateway, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "shoal_gateway_requests_total", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "shoal_gateway_request_seconds",
            "Seconds from the request to the first byte of its answer.",
            ("route",),
            registry=self.registry,
        )
        self.streams = Gauge("shoal_gateway_streams", "Event streams that are open.", registry=self.registry)
        self.limited = Counter(
            "shoal_gateway_rate_limited_total", "Requests refused for their rate.", registry=self.registry
        )
        self.replays = Counter(
            "shoal_gateway_idempotent_replays_total",
            "Answers given again for a known Idempotency-Key.",
            registry=self.registry,
        )
        self.uploaded = Counter(
            "shoal_gateway_uploaded_bytes_total", "Bytes taken in through /blobs.", registry=self.registry
        )
        self.node_connected = Gauge("shoal_gateway_node_connected", "1 while the node answers.", registry=self.registry)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
