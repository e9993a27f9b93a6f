"""A worker far behind gathers, folds in several threads and reads on meanwhile: its answer is the one that the events must give."""

from __future__ import annotations

import signal

import pyarrow as pa
import pytest

from benchmarks.events import canonical, expected
from benchmarks.place import RESULT, same
from benchmarks.produce import send
from tests.system import System, wait_for

EVENTS, SEED = 600_000, 5
VIEWS = """
from dataclasses import replace
from benchmarks.views_bench import events as base, minutes as of
events = replace(base, topic={topic!r})
minutes = replace(of, source=events)
VIEWS = (minutes,)
"""


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
    rows = system.query(RESULT)
    found = pa.table({name: [row[name] for row in rows] for name in ("key", "minute", "count", "sum", "min", "max")})
    same(canonical(found), expected(SEED, EVENTS), "the worker")
    views = system.audit()["views"]
    assert [(v["differences"], v["counts"]) for v in views] == [(0, [])]
