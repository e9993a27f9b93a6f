"""A key too long for Postgres' index rejects its record for the view, in both layers and in the reference alike."""

from __future__ import annotations

import json

from tests.support.system import System

VIEWS = """
from dataclasses import dataclass
from datetime import datetime
from pipeline import Count, Source, View, tumbling

@dataclass(frozen=True)
class Visit:
    id: int
    page: str
    visitor: str
    at: datetime

visits = Source(topic={topic!r}, record=Visit, key="page", event_time="at", identity="id")
pages = View(name="pages", source=visits, key=("page", "visitor"), window=tumbling(days=1), aggregates={{"visits": Count()}})
VIEWS = (pages,)
"""


def test_keys_of_up_to_2000_bytes_are_served_and_longer_ones_rejected_for_the_view(system: System) -> None:
    system.define(VIEWS.format(topic=system.topic))
    system.run("init", "--partitions", "1")
    lengths = [(1, 1), (1000, 1000), (1000, 1001), (0, 2000), (3000, 5)]
    events = [
        {"id": n, "page": "é" * (a // 2) + "x" * (a % 2), "visitor": "v" * b, "at": 0}
        for n, (a, b) in enumerate(lengths)
    ]
    system.produce((0, None, json.dumps(e).encode()) for e in events)
    system.catch_up()
    counts = "SELECT folded, filtered, rejected FROM serving.view_accounting WHERE view = 'pages'"
    assert system.query(counts) == [{"folded": 3, "filtered": 0, "rejected": 2}]
    system.assert_exact()
    system.night("2013-01-02")
    assert system.query(counts) == [{"folded": 3, "filtered": 0, "rejected": 2}]
    assert sorted(len(r["visitor"]) for r in system.query("SELECT * FROM serving.pages")) == [1, 1000, 2000]
    system.assert_exact()
