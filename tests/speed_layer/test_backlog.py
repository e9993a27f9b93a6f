"""A worker far behind gathers, folds in several threads and reads on meanwhile: its answer is the one that the events must give."""

from __future__ import annotations

import re
import signal
import threading
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.events import canonical, chunks, expected
from benchmarks.place import RESULT, same
from benchmarks.produce import Sender, records, send
from sandbox.kafka import RealKafka
from sandbox.postgres import SystemPostgres
from tests.support.crashing import patiently
from tests.support.system import System, wait_for

EVENTS, HALF, SEED = 600_000, 300_000, 5
GROWTH_MIB = 16  # what 300,000 events more would take, were they read, is five times that
VIEWS = """
from dataclasses import replace
from benchmarks.views_bench import events as base, minutes as of
events = replace(base, topic={topic!r})
minutes = replace(of, source=events)
VIEWS = (minutes,)
"""


def assert_exact(system: System, events: int) -> None:
    """The rows are those that the events must give, and the audit finds nothing."""
    rows = system.query(RESULT)
    found = pa.table({name: [row[name] for row in rows] for name in ("key", "minute", "count", "sum", "min", "max")})
    same(canonical(found), expected(SEED, events), "the worker")
    views = system.audit()["views"]
    assert [(v["differences"], v["counts"]) for v in views] == [(0, [])]


def most_mib(pid: int) -> float:
    """The most memory that a process has had so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_backlog_that_grows_while_postgres_is_down_waits_in_kafka(
    own_system: System, own_servers: tuple[RealKafka, SystemPostgres], tmp_path: Path
) -> None:
    """A worker that cannot commit stops reading: its memory does not grow with the backlog, and nothing of it is lost."""
    system, postgres = own_system, own_servers[1]
    system.define(VIEWS.format(topic=system.topic))
    system.run("init", "--partitions", "4")
    send(system.kafka, SEED, HALF, topic=system.topic)
    worker = system.worker()
    wait_for(lambda: sum(system.positions().values()) == HALF, "the worker has caught up")
    postgres.kill()
    send(system.kafka, SEED, HALF + 1000, topic=system.topic, start=HALF)
    wait_for(lambda: "waiting" in (tmp_path / "worker.log").read_text(), "the worker says that it waits")
    before = most_mib(worker.pid)
    send(system.kafka, SEED, EVENTS, topic=system.topic, start=HALF + 1000)
    assert most_mib(worker.pid) - before < GROWTH_MIB
    postgres.start()
    wait_for(lambda: sum(patiently(system.positions).values()) == EVENTS, "the worker goes on by itself")
    assert worker.poll() is None
    assert_exact(system, EVENTS)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_backlog_is_folded_exactly_though_its_worker_is_killed_twice(system: System) -> None:
    system.define(VIEWS.format(topic=system.topic))
    system.run("init", "--partitions", "4")
    send(system.kafka, SEED, EVENTS, topic=system.topic)
    before = 0
    for kill in range(2):
        worker = system.worker(f"killed-{kill}")
        wait_for(lambda before=before: sum(system.positions().values()) > before, "a commit of the backlog lands")
        worker.send_signal(signal.SIGKILL)
        worker.wait(timeout=30)
        before = sum(system.positions().values())
    assert before < EVENTS, "it must die with a backlog before it for this test to mean anything"
    system.catch_up()
    assert_exact(system, EVENTS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_events_without_a_pause_keep_no_worker_from_its_snapshots_nor_from_its_end(system: System) -> None:
    """There is always something in hand or under way: a snapshot waits for a moment of its own, and --until-caught-up for a commit."""
    system.define(VIEWS.format(topic=system.topic))
    system.run("init", "--partitions", "4")
    sent, enough = 0, threading.Event()

    def feed() -> None:
        nonlocal sent
        sender = Sender(system.kafka, system.topic, linger_ms=2)
        made = (record for chunk in chunks(SEED, 2**40) for record in records(chunk))
        while not enough.wait(0.005):
            sent += sender.send(islice(made, 50))
        sender.flush()

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        worker = system.worker(WATERSHED_SNAPSHOT_EVERY_S="0.5")
        wait_for(
            lambda: len(system.query("SELECT DISTINCT partition FROM ops.snapshots")) == 4,
            "every partition has a snapshot",
        )
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0
        system.catch_up()
        assert sum(system.positions().values()) > 0 and feeding.is_alive()
    finally:
        enough.set()
        feeding.join()
    system.catch_up()
    assert_exact(system, sent)
