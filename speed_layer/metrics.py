"""A worker's figures for Prometheus: a page of text at http://HOST:PORT/metrics while `metrics_port` is set.

Invariant: read, never kept: each figure is what Stats and pipeline.base.stages hold when the page is asked for. The lag
of a partition whose end is unknown is absent, so that an alert can tell it from 0 (`absent(watershed_lag_offsets)`).
"""

import errno
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.base.errors import SettingsError
from pipeline.base.stages import totals
from speed_layer.stats import Stats


class WorkerCollector(Collector):
    """Collects from the running worker's Stats."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats

    def collect(self) -> Iterable[Any]:
        """One scrape."""
        stats = self.stats
        spent = CounterMetricFamily(
            "watershed_stage_seconds", "Time spent by stage (fetch: with waiting for records).", labels=["stage"]
        )
        through = CounterMetricFamily(
            "watershed_stage_records", "Records that went through each stage.", labels=["stage"]
        )
        for name, (seconds, count) in totals().items():
            spent.add_metric([name], seconds)
            through.add_metric([name], count)
        records = CounterMetricFamily(
            "watershed_records", "Records committed, by what became of them.", labels=["outcome"]
        )
        for outcome in ("accepted", "duplicates", "rejected", "tombstones"):
            records.add_metric([outcome], getattr(stats.totals, outcome))
        position = GaugeMetricFamily(
            "watershed_position", "Next offset that this worker commits from.", labels=["topic", "partition"]
        )
        told = "Offsets from position to the log's end; absent while unknown."
        lag = GaugeMetricFamily("watershed_lag_offsets", told, labels=["topic", "partition"])
        for (topic, partition), at in stats.positions.items():
            position.add_metric([topic, str(partition)], at)
            if (end := stats.log_end((topic, partition))) is not None:
                lag.add_metric([topic, str(partition)], max(0, end - at))
        latency = GaugeMetricFamily(
            "watershed_latency_seconds", "Median age of the newest record of recent commits, at its commit."
        )
        latency.add_metric([], stats.latency_ms / 1000)
        return [
            spent,
            through,
            records,
            position,
            lag,
            latency,
            CounterMetricFamily("watershed_commits", "Commits.", stats.commits),
        ]


def serve(stats: Stats, host: str, port: int) -> Any:
    """Start answering, on a thread of its own; the server, to be `shutdown`. SettingsError when the port is taken or not ours."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(stats))
    try:
        server, _ = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
        raise SettingsError(
            f"metrics port {host}:{port} {why}: set metrics_port (WATERSHED_METRICS_PORT) to a free one, or 0"
        ) from None
    return server


__all__ = ["WorkerCollector", "serve"]
