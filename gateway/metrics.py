"""Every metric of the gateway (contract, section 8), on a registry of its own so that several gateways fit in one process.

Labels are configured names and constants, never a task, a user or a URL.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, disable_created_metrics, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.process import Process

# When each series began is of no use to anybody here, and would double the exposition.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library does not say that it returns nothing

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)


class Histogram(Collector):
    """The library's histogram for the event loop alone: an observation takes no lock, which made it cost 0.7 µs of the 20 that
    all the bookkeeping of a delivery may cost.

    Args:
        name, text: of the metric.
        bounds: upper ends of the buckets, in ascending order; one for all that is greater comes on top.
    """

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self._name, self._text, self._bounds = name, text, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts a value. Called by the event loop's thread."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[Metric]:
        """The metric now."""
        ends = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(ends, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


class Metrics:
    """The metrics as attributes, named as in the exposition without the prefix and the unit of counters."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(Process())

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mainstem_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"mainstem_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            made = Histogram(f"mainstem_{name}", text, bounds)
            registry.register(made)
            return made

        self.events = counter("events_total", "Events committed to the log", "source", "type")
        self.frames_received = counter("frames_received_total", "Data frames read from upstreams", "source")
        self.frames_rejected = counter(
            "frames_rejected_total", "Frames or items of a frame that were quarantined", "source", "reason"
        )
        self.duplicates = counter("duplicates_total", "Repeats that were suppressed", "source")
        self.stale = counter("stale_total", "Frames that would have moved a finished task back", "source")
        self.unfamiliar = counter(
            "unfamiliar_total", "Upstream types and statuses this version does not know", "source"
        )
        self.source_up = gauge("source_up", "1 while at least one connection of the source is open", "source")
        self.source_reconnects = counter("source_reconnects_total", "Connection attempts after the first", "source")
        self.source_last_frame = gauge(
            "source_last_frame_timestamp_seconds", "When the last data frame was read", "source"
        )
        self.stream_connections = gauge("stream_connections", "Open WebSocket and SSE connections")
        self.stream_sent = counter("stream_sent_total", "Messages handed to stream connections")
        self.stream_conflated = counter("stream_conflated_total", "Progress events folded into a newer one")
        self.stream_closed = counter("stream_closed_total", "Stream connections closed, by close code", "code")
        self.delivery_attempts = counter("delivery_attempts_total", "Webhook attempts", "endpoint", "outcome")
        self.delivery_duration = histogram("delivery_duration_seconds", "Duration of webhook attempts", _SLOW)
        self.deliveries_pending = gauge("deliveries_pending", "Deliveries waiting or in flight", "endpoint")
        self.deliveries_dead = gauge("deliveries_dead", "Dead letters", "endpoint")
        self.delivery_lag = gauge("delivery_lag_events", "Events that the log has for it to look at", "endpoint")
        self.log_append = histogram("log_append_seconds", "From handing a batch to the log to its commit", _FAST)
        self.relay_latency = histogram("relay_latency_seconds", "Upstream frame read to handed to subscribers", _FAST)
        self.ready = gauge("ready", "1 while this check of /readyz is fine", "check")
        self.config_reloads = counter("config_reloads_total", "Configuration read again, by what came of it", "outcome")
        self.config_loaded = gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration was last read and followed"
        )

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
