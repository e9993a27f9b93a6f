"""What a worker shows: a lag that nobody knows is said to be unknown, and is never 0."""

from __future__ import annotations

import io
import re
import signal
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from pipeline.handover import Claim, Counts
from sandbox.processes import free_ports
from speed_layer.display import figures, table
from speed_layer.metrics import WorkerCollector
from speed_layer.stats import Stats
from tests.support.clocks import HandClock
from tests.support.system import System, wait_for


def stats_of(*positions: int) -> Stats:
    """Of a worker that has taken partitions which stand at these positions."""
    stats = Stats(HandClock())
    for partition, position in enumerate(positions):
        stats.stands(Claim("t", 1, partition, uuid.uuid4(), 1, position, position))
    return stats


def shown(stats: Stats) -> tuple[Any, str, list[str]]:
    """The lag in a line, on a terminal, and in the metrics."""
    console, registry = Console(width=100, record=True, file=io.StringIO()), CollectorRegistry()
    console.print(table("w", stats))
    registry.register(WorkerCollector(stats))
    page = generate_latest(registry).decode()
    return (
        figures(stats)["lag"],
        console.export_text(),
        re.findall(r"^watershed_lag_offsets\S+ \S+$", page, re.MULTILINE),
    )


def test_a_lag_is_the_sum_of_what_is_left_of_each_partition() -> None:
    stats = stats_of(10, 20)
    stats.goes_on({("t", 0): 15, ("t", 1): 20})
    lag, text, metrics = shown(stats)
    assert lag == 5 and "unknown" not in text
    assert metrics == [
        'watershed_lag_offsets{partition="0",topic="t"} 5.0',
        'watershed_lag_offsets{partition="1",topic="t"} 0.0',
    ]
    stats.committed(Claim("t", 1, 0, uuid.uuid4(), 1, 16, 10), Counts(6), 0.01, -1)
    assert stats.lag == 0, "an end that is older than the position is no negative lag"


def test_a_lag_is_unknown_while_the_end_of_one_partition_is() -> None:
    stats = stats_of(10, 20)
    assert shown(stats)[0] == "unknown", "nothing was heard of Kafka yet"
    stats.goes_on({("t", 0): 15})
    lag, text, metrics = shown(stats)
    assert lag == "unknown" and "unknown" in text
    assert metrics == ['watershed_lag_offsets{partition="0",topic="t"} 5.0'], "absent, not 0"


def test_a_lag_that_was_known_is_unknown_while_kafka_or_postgres_is_down() -> None:
    stats = stats_of(10)
    stats.goes_on({("t", 0): 15})
    stats.waits("Kafka at k:9092 does not answer")
    lag, text, metrics = shown(stats)
    assert lag == "unknown" and "Kafka at k:9092 does not answer" in text and metrics == []
    stats.goes_on({("t", 0): 17})
    assert stats.lag == 7 and stats.trouble == ""


def test_a_worker_that_has_no_partition_has_no_lag() -> None:
    stats = stats_of()
    stats.goes_on({})
    assert stats.lag == 0 and stats_of().lag is None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_without_kafka_says_that_nobody_knows_its_lag(
    own_system: System, own_servers: Any, tmp_path: Path
) -> None:
    system, (metrics,) = own_system, free_ports(1)
    system.run("init", "--partitions", "2")
    system.produce([(0, b"k", b"{}")])
    worker = system.worker(WATERSHED_METRICS_PORT=str(metrics))
    log = tmp_path / "worker.log"
    wait_for(lambda: sum(system.positions().values()) == 1, "it is at work")
    own_servers[0].kill()
    wait_for(lambda: "waiting" in log.read_text(), "it says that it waits")
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=5) as answer:
        assert "watershed_lag_offsets{" not in answer.read().decode()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text())
    assert "lag=unknown" in text and "lag=0" not in text
