"""Decoding alone, format by format: a flat event in Avro, and a row of a table in Debezium's envelopes, on one core.

    every decoder finds the same identity, key, time and amount in each event        ours to columns, the peers to Python's objects

Peers: fastavro.schemaless_reader for Avro, orjson.loads for JSON. The rounds of all decoders alternate; the best of each counts.
"""

import argparse
import base64
import importlib.util
import io
import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import pyarrow as pa

from benchmarks.measure import BenchmarkError
from benchmarks.report import machine, save, table
from benchmarks.shapes import EPOCH, EVENTS, ROUNDS, timed
from pipeline import Avro, Debezium, Json, Scale, Source
from pipeline.decode.decode import DECODERS
from pipeline.decode.schemas import Schema
from pipeline.definition.formats import Format

MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
FIELDS: list[dict[str, Any]] = [
    {"name": "id", "type": "string"},
    {"name": "key", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "amount", "type": MONEY},
    {"name": "quantity", "type": ["null", "long"]},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["sale", "refund"]}},
    {"name": "weight", "type": "double"},
    {"name": "gift", "type": "boolean"},
]
FLAT = {"type": "record", "name": "Event", "fields": FIELDS}
ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "fields": [
        {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": FIELDS}]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "op", "type": "string"},
    ],
}
CONNECT = [
    {"type": "string", "optional": False, "field": "id"},
    {"type": "string", "optional": False, "field": "key"},
    {"type": "int64", "optional": False, "name": "io.debezium.time.MicroTimestamp", "version": 1, "field": "at"},
    {
        "type": "bytes",
        "optional": False,
        "name": "org.apache.kafka.connect.data.Decimal",
        "version": 1,
        "parameters": {"scale": "2"},
        "field": "amount",
    },
    *({"type": type, "optional": True, "field": name} for name, type in (("quantity", "int64"), ("kind", "string"))),
    *({"type": type, "optional": True, "field": name} for name, type in (("weight", "double"), ("gift", "boolean"))),
]


@dataclass(frozen=True)
class Sale:
    """All eight fields of an event."""

    id: str
    key: str
    at: datetime
    amount: Annotated[Decimal, Scale(2)]
    quantity: int | None
    kind: str
    weight: float
    gift: bool


@dataclass(frozen=True)
class Figures:
    """One format's figures: thousands of events a second on one core, the best of ROUNDS. `asked`: left to the other reader."""

    format: str
    bytes: int
    ours_k_per_s: float
    peer: str
    peer_k_per_s: float | None
    asked: int


class OneSchema:
    """A registry of one schema."""

    def __init__(self, schema: Any) -> None:
        self._schema = Schema("AVRO", json.dumps(schema))

    def schema(self, id: int) -> Schema | None:
        """The schema, whatever the id."""
        return self._schema

    def knows(self, id: int) -> bool:
        """True: it is in memory."""
        return True


def event(n: int) -> dict[str, Any]:
    """An event, as Python has it."""
    at, amount = EPOCH + timedelta(seconds=n), Decimal(n % 10_000) / 100
    about = {
        "quantity": n % 9 if n % 3 else None,
        "kind": ("sale", "refund")[n % 7 == 0],
        "weight": n / 8,
        "gift": n % 5 == 0,
    }
    return {"id": f"e-{n}", "key": f"k{n % 1000}", "at": at, "amount": amount, **about}


def as_avro(schema: Any, found: dict[str, Any]) -> bytes:
    """An event in the registry's framing, by fastavro."""
    import fastavro

    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), found)
    return b"\0\0\0\0\1" + out.getvalue()


def as_json(found: dict[str, Any], schema: Any = None) -> bytes:
    """An envelope in JSON, as Kafka Connect's converter writes it, in its wrapper where a schema is given."""
    unscaled = int(found["amount"] * 100)
    amount = base64.b64encode(unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)).decode()
    row = found | {
        "at": (found["at"] - EPOCH) // timedelta(microseconds=1) + int(EPOCH.timestamp()) * 10**6,
        "amount": amount,
    }
    envelope = {"before": None, "after": row, "op": "c", "ts_ms": 0}
    return json.dumps({"schema": schema, "payload": envelope} if schema else envelope, separators=(",", ":")).encode()


def cases() -> dict[str, tuple[Format, Any, Callable[[int], bytes]]]:
    """name -> (format, schema of the registry, an event as it is sent)."""
    row = {"type": "struct", "fields": CONNECT, "optional": True}
    connect = {
        "type": "struct",
        "fields": [{**row, "field": "before"}, {**row, "field": "after"}, {"type": "string", "field": "op"}],
    }
    return {
        "a flat Avro event of 8 fields, all declared": (Avro(), FLAT, lambda n: as_avro(FLAT, event(n))),
        "a Debezium envelope in Avro": (
            Debezium(Avro()),
            ENVELOPE,
            lambda n: as_avro(ENVELOPE, {"before": None, "after": event(n), "op": "c"}),
        ),
        "a Debezium envelope in JSON, with its schema": (Debezium(Json()), None, lambda n: as_json(event(n), connect)),
    }


def peer(schema: Any) -> tuple[str, Callable[[bytes], Any]] | None:
    """The peer that reads such records, where it is installed."""
    if schema is None:
        if importlib.util.find_spec("orjson") is None:
            return None
        import orjson

        return "orjson", orjson.loads
    import fastavro

    parsed = fastavro.parse_schema(schema)
    return "fastavro", lambda value: fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, None)


def measure(name: str, count: int = EVENTS, rounds: int = ROUNDS) -> Figures:
    """Decode one format by everybody, alternating; BenchmarkError when ours does not find what was sent."""
    format, schema, make = cases()[name]
    source = Source(topic="formats", record=Sale, key="key", event_time="at", identity="id", format=format)
    registry, values = OneSchema(schema), [make(n) for n in range(count)]
    block, other = pa.array(values, pa.binary()), peer(schema)
    decoded = DECODERS[type(format)](source, block, registry)
    for n in range(min(1000, count)):
        ours = {column: array[n].as_py() for column, array in decoded.columns.items()}
        if ours != event(n):
            raise BenchmarkError(f"{name}: we find {ours} in event {n}, which is {event(n)}")
    best = {"ours": float("inf"), "peer": float("inf")}
    for round in range(rounds):
        timed(best, "ours", lambda: DECODERS[type(format)](source, block, registry))
        if other is not None and round < 3:  # it is slow, and its figures hardly vary
            timed(best, "peer", partial(deque, map(other[1], values), 0))
    rates = {who: count / seconds / 1000 for who, seconds in best.items()}
    found = (other[0], rates["peer"]) if other is not None else ("", None)
    return Figures(name, sum(map(len, values)) // count, rates["ours"], *found, decoded.asked)


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about = machine()
    rows = [asdict(measure(name)) for name in cases()]
    note = f"decode alone, one core, best of {ROUNDS}; we find what was sent"
    table(f"Decoding by format, {EVENTS:,} events each", rows, note)
    save(given.out, "formats", about, {"events": EVENTS, "rounds": ROUNDS}, {"formats": rows, "note": note})
