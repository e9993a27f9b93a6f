"""A changelog from the database's envelopes to the answer, on real servers."""

from __future__ import annotations

import base64
import json

import pytest

from tests.support.system import System

VIEWS = """
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from pipeline import Count, Debezium, Json, Scale, Source, Sum, View, tumbling

@dataclass(frozen=True)
class Order:
    id: int
    customer: str
    changed_at: datetime
    total: Annotated[Decimal, Scale(2)]

orders = Source(topic={topic!r}, record=Order, key="id", event_time="changed_at", identity=None, format=Debezium(Json()))
VIEWS = (
    View(name="order_changes", source=orders, key=("customer",), window=tumbling(days=1),
         aggregates={{"changes": Count(), "total": Sum("total")}}),
)
"""
FIELDS = [
    {"type": "int64", "field": "id"},
    {"type": "string", "field": "customer"},
    {"type": "int64", "name": "io.debezium.time.MicroTimestamp", "field": "changed_at"},
    {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}, "field": "total"},
]
SCHEMA = {
    "type": "struct",
    "fields": [{"type": "struct", "fields": FIELDS, "field": "after"}, {"type": "string", "field": "op"}],
}


def change(op: str, n: int, cents: int) -> bytes:
    total = base64.b64encode(cents.to_bytes(4, "big", signed=True)).decode()
    after = {"id": n, "customer": f"c{n % 3}", "changed_at": 1_709_251_200_000_000 + n, "total": total}
    payload = {"before": None, "after": None if op == "d" else after, "op": op}
    return json.dumps({"schema": SCHEMA, "payload": payload}, separators=(",", ":")).encode()


@pytest.mark.slow
def test_new_images_are_events_and_deletions_are_tombstones_through_both_layers(system: System) -> None:
    system.define(VIEWS.format(topic=system.topic))
    system.run("init", "--partitions", "1")
    system.produce((0, b"k", change("c", n, 100 * n)) for n in range(60))
    system.catch_up()
    system.night("2024-03-01")
    system.produce((0, b"k", change("u", n, -n)) for n in range(30))
    system.produce([(0, b"k", change("d", 1, 0)), (0, b"k", None), (0, b"k", change("x", 2, 0)), (0, b"k", b"{}")])
    system.catch_up()
    counts = system.query("SELECT accepted, rejected, tombstones FROM serving.accounting")
    assert counts == [{"accepted": 90, "rejected": 2, "tombstones": 2}]
    (total,) = system.query("SELECT sum(changes) AS changes, sum(total)::text AS total FROM serving.order_changes")
    assert total == {"changes": 90, "total": f"{sum(range(60)) - sum(range(30)) / 100:.2f}"}
    system.assert_exact()
    system.night("2024-03-02")
    system.assert_exact()
