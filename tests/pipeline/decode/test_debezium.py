"""Debezium's envelopes: in JSON with and without Kafka Connect's schema, and in Avro; held to the plain reference.

decode(envelopes) = the reference's        image, tombstone or rejection of each, on made and broken ones
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pyarrow as pa
import pytest

from pipeline import At, Avro, Debezium, Epoch, Json, Precision, Scale, Source
from pipeline.base.errors import DefinitionError
from pipeline.decode.decode import DECODERS
from pipeline.decode.decoded import Decoded
from pipeline.plain.debezium import NoImage
from pipeline.plain.json_text import Invalid
from pipeline.plain.reference import Reference
from pipeline.plain.validation import NOTHING_AROUND, rows_of
from tests.support.avro import Registry, framed, sized, zigzag

FUZZED = int(os.environ.get("WATERSHED_TEST_FUZZED", "100000")) // 25


@dataclass(frozen=True)
class Order:
    """A row of a table of orders; all may be null, so that decoding alone decides."""

    id: int | None
    price: Annotated[Decimal | None, Scale(2)]
    rate: Annotated[Decimal | None, Precision(38, 18)]
    day: date | None
    at: Annotated[datetime | None, Epoch("us")]
    opens: time | None
    note: Annotated[str | None, At("more.note")]
    key: str
    moment: datetime


def source(inner: Json | Avro = Json()) -> Source:  # noqa: B008 -- a value
    return Source("orders", Order, key="key", event_time="moment", identity=None, format=Debezium(inner))


CONNECT = "org.apache.kafka.connect.data."
TYPES: dict[str, list[dict[str, Any]]] = {
    "id": [{"type": "int64"}, {"type": "bytes", "name": CONNECT + "Decimal", "parameters": {"scale": "0"}}],
    "price": [
        {"type": "bytes", "name": CONNECT + "Decimal", "parameters": {"scale": "2"}},
        {"type": "bytes", "name": CONNECT + "Decimal", "parameters": {"scale": "4"}},
        {"type": "string"},
        {"type": "double"},
    ],
    "rate": [
        {"type": "bytes", "name": CONNECT + "Decimal", "parameters": {"scale": "20"}},
        {"type": "string"},
        {"type": "float"},
    ],
    "day": [
        {"type": "int32", "name": "io.debezium.time.Date"},
        {"type": "int32", "name": CONNECT + "Date"},
        {"type": "string"},
    ],
    "at": [
        {"type": "int64", "name": "io.debezium.time.MicroTimestamp"},
        {"type": "int64", "name": "io.debezium.time.NanoTimestamp"},
        {"type": "int64", "name": "io.debezium.time.Timestamp"},
        {"type": "string", "name": "io.debezium.time.ZonedTimestamp"},
    ],
    "opens": [
        {"type": "int64", "name": "io.debezium.time.MicroTime"},
        {"type": "int32", "name": "io.debezium.time.Time"},
    ],
    "key": [{"type": "string"}],
    "moment": [{"type": "int64", "name": "io.debezium.time.Timestamp"}],
}


def b64(value: int) -> str:
    return base64.b64encode(value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)).decode()


def schema_of(types: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Kafka Connect's schema of envelopes of a row with those fields."""
    row = {"type": "struct", "fields": [{**one, "optional": True, "field": name} for name, one in types.items()]}
    return {
        "type": "struct",
        "fields": [{**row, "field": "before"}, {**row, "field": "after"}, {"type": "string", "field": "op"}],
        "name": "server.public.orders.Envelope",
    }


def wrapped(schema: Any, payload: Any) -> bytes:
    return json.dumps({"schema": schema, "payload": payload}, separators=(",", ":")).encode()


SOME = [0, 1, -1, 7, 12345, 10**6, 10**9, -(10**12), 10**15, 10**18, 2**70]


def clean(rng: random.Random, type: dict[str, Any]) -> Any:
    """A value as that type is written, which every column can hold."""
    name = type.get("name", "")
    if name.endswith("Decimal"):
        return b64(rng.choice([0, 100, -1200]) * 10 ** int(type["parameters"]["scale"]))
    if "Zoned" in name:
        return "2024-03-01T00:00:00.123456789Z"
    return {"string": "1.25", "double": None, "float": None}.get(type["type"], rng.randrange(86_400))


def dirty(rng: random.Random, type: dict[str, Any]) -> Any:
    """A value that may be of that type, or not, or out of range."""
    name = type.get("name", "")
    if rng.random() < 0.2:
        return rng.choice([None, "x", 5, 1.5, True, "AZA=", "AZA", "12.50", [], {}])
    if name.endswith("Decimal"):
        return b64(rng.choice(SOME))
    if name.endswith("Date"):
        return rng.randrange(-800_000, 3_000_000)
    if "Time" in name and type["type"] != "string":
        return rng.choice([*SOME, 1_709_251_200_123, 1_709_251_200_123_456, 1_709_251_200_123_456_789])
    return rng.choice(["1.25", "0.000000000000000001", "2024-03-01", "a", *SOME, 1.25])


def envelope(rng: random.Random, types: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spoilt = rng.choice([*types, *types, ""]) if rng.random() < 0.4 else ""
    row = {name: dirty(rng, type) if name == spoilt else clean(rng, type) for name, type in types.items()}
    row |= {"key": "k", "moment": 1_709_251_200_000}
    op = rng.choice(["c", "r", "u", "u", "u", "d", "t", "x", None]) if rng.random() < 0.3 else "c"
    return {"before": None, "after": None if op == "d" else row, "op": op, "ts_ms": 5}


def decode(of: Source, values: list[bytes | None], registry: Registry | None = None) -> Decoded:
    return DECODERS[Debezium](of, pa.array(values, pa.binary()), registry or Registry())


def differs(of: Source, values: list[bytes | None], registry: Registry | None = None) -> str:
    """What the layers and the reference make differently of the values; "" when nothing."""
    found = decode(of, values, registry)
    place = {row: n for n, row in enumerate(found.rows.tolist())}
    rejected = dict(zip(found.rejected.tolist(), found.reasons, strict=True))
    cells = {name: array.to_pylist() for name, array in found.columns.items()}
    tombstones = 0
    for row, value in enumerate(values):
        try:
            if value is None:
                raise NoImage
            record, _ = rows_of(value, of, NOTHING_AROUND, registry or Registry())
        except NoImage:
            tombstones += 1
            if row in place or row in rejected:
                return f"{value!r}: the reference has no image there, {rejected.get(row, 'a row')}"
            continue
        except Invalid as reason:
            breaks = any(word in str(reason) for word in ("breaks", "null or missing"))
            if row not in rejected and not (breaks and row in place):
                return f"{value!r}: the reference rejects it, {reason}"
            continue
        if row not in place:
            return f"{value!r}: the reference takes it, {rejected.get(row, 'a tombstone')}"
        for name, cell in record.items():
            mine = cells[name][place[row]]
            mine = mine.bytes if isinstance(mine, UUID) else mine
            if mine != cell or type(mine) is not type(cell):
                return f"{name} of {value!r}: {mine!r}, in plain {cell!r}"
    return "" if tombstones == found.tombstones else f"{found.tombstones} tombstones, in plain {tombstones}"


def test_both_agree_on_fuzzed_envelopes(say: Callable[[str], None]) -> None:
    rng, events, rejected = random.Random(5), 0, 0
    while events < FUZZED:
        values: list[bytes | None] = []
        for _ in range(rng.randrange(1, 4)):
            types = {name: rng.choice(among) for name, among in TYPES.items()}
            types["day"] = rng.choice(TYPES["day"][:2])
            schema = schema_of(types) if rng.random() < 0.9 else None
            for _ in range(100):
                event = envelope(rng, types)
                value = wrapped(schema, event) if rng.random() < 0.9 else json.dumps(event).encode()
                if rng.random() < 0.1:
                    cut = rng.randrange(len(value))
                    value = value[:cut] + rng.choice([b"", b"}", b" ", b"x", b"\xff"]) + value[cut + rng.randrange(3) :]
                values.append(value + rng.choice([b"", b"", b" ", b"\n"]))
        values += [
            wrapped(None, None),
            None,
            b"",
            b'{"schema":',
            b'{"schema":{}',
            b'{"schema":{}}',
            b'{"schema":{},"payload":',
            b'{"schema":1,"payload":{}}',
        ]
        rng.shuffle(values)
        assert differs(source(), values) == ""
        events, rejected = events + len(values), rejected + len(decode(source(), values).rejected)
    say(f"{events:,} fuzzed envelopes, 0 differences; {rejected:,} rejected")
    assert 0.1 * events < rejected < 0.8 * events


ROW = {name: among[0] for name, among in TYPES.items()}


def test_each_value_is_read_as_its_schema_says() -> None:
    row = {
        "id": 7,
        "price": b64(1250),
        "rate": b64(10**20),
        "day": 19_783,
        "at": 1_709_251_200_123_456,
        "opens": 3_600_000_000,
    }
    row |= {"key": "k", "moment": 1_709_251_200_000}
    found = decode(source(), [wrapped(schema_of(ROW), {"op": "c", "after": row})])
    assert found.reasons == []
    assert {name: array[0].as_py() for name, array in found.columns.items()} == {
        "id": 7, "price": Decimal("12.50"), "rate": Decimal(1), "day": date(2024, 3, 1), "opens": time(1), "note": None, "key": "k",
        "at": datetime(2024, 3, 1, 0, 0, 0, 123456, UTC), "moment": datetime(2024, 3, 1, tzinfo=UTC),
    }  # fmt: skip
    doubles = decode(
        source(), [wrapped(schema_of(ROW | {"price": {"type": "double"}}), {"op": "c", "after": row | {"price": 1.5}})]
    )
    assert doubles.reasons == [
        "price: a double where a decimal is declared; decimal.handling.mode=precise sends decimals"
    ]


def test_what_has_no_image_is_a_tombstone() -> None:
    values = [wrapped(schema_of(ROW), {"op": op, "before": {}, "after": None}) for op in ("d", "t", "m")]
    values += [wrapped(None, None), b'{"op":"d","before":{"id":1},"after":null}', None, b'{"op":"q","after":{}}', b"{}"]
    assert differs(source(), [*values]) == ""
    found = decode(source(), [*values])
    assert found.tombstones == 6 and len(found.rows) == 0
    assert found.reasons[0].startswith("op: 'q' is no operation; allowed are c, r, u") and found.reasons[1].startswith(
        "op: None"
    )


def test_many_schemas_in_one_block_are_told_apart() -> None:
    values: list[bytes | None] = []
    for n in range(150):
        types = ROW | {f"x{n}": {"type": "string"}, "price": TYPES["price"][n % 3]}
        price = [b64(125), b64(12500), "1.25"][n % 3]
        values.append(wrapped(schema_of(types), {"op": "c", "after": {"price": price, "key": "k", "moment": 0}}))
    assert differs(source(), values) == ""
    assert set(decode(source(), values).columns["price"].to_pylist()) == {Decimal("1.25")}


def test_avro_envelopes_carry_their_own_types() -> None:
    row = {
        "type": "record", "name": "Value", "fields": [
            {"name": "id", "type": "long"}, {"name": "key", "type": "string"},
            {"name": "moment", "type": {"type": "long", "connect.name": "io.debezium.time.NanoTimestamp"}},
            {"name": "day", "type": {"type": "int", "connect.name": "io.debezium.time.Date"}},
        ],
    }  # fmt: skip
    whole = {
        "type": "record", "name": "Envelope", "fields": [
            {"name": "before", "type": ["null", row]}, {"name": "after", "type": ["null", "Value"]}, {"name": "op", "type": "string"},
        ],
    }  # fmt: skip
    image = zigzag(7) + sized(b"k") + zigzag(1_709_251_200_123_456_789) + zigzag(19_783)
    values = [
        framed(1, b"\0\2" + image + sized(b"c")),
        framed(1, b"\2" + image + b"\0" + sized(b"d")),
        framed(1, b"\0\0" + sized(b"?")),
        framed(9, b""),
    ]
    assert differs(source(Avro()), [*values, None], Registry(whole)) == ""
    found = decode(source(Avro()), [*values, None], Registry(whole))
    assert found.columns["moment"].to_pylist() == [datetime(2024, 3, 1, 0, 0, 0, 123456, UTC)] and found.tombstones == 2
    assert found.columns["day"].to_pylist() == [date(2024, 3, 1)] and found.columns["id"].to_pylist() == [7]
    assert len(found.reasons) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"inner": Json(), "rows": "latest"}, "it comes with views of latest rows"),
        ({"inner": Json(), "rows": "before"}, 'allowed is "after"'),
        ({"inner": Json(), "version": "source.lsn"}, "a version orders"),
        ({"inner": Debezium(Json())}, "allowed are Json() and Avro()"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(arguments: dict[str, Any], said: str) -> None:
    import re

    with pytest.raises(DefinitionError, match=re.escape(said)):
        Debezium(**arguments)


def test_the_reference_counts_them_so_too() -> None:
    from datetime import timedelta

    from pipeline import Count, View, tumbling

    view = View(name="orders", source=source(), key=("key",), window=tumbling(days=1), aggregates={"changes": Count()})
    assert timedelta(days=1)
    f = Reference([view])
    image = wrapped(schema_of(ROW), {"op": "u", "after": {"key": "k", "moment": 0}})
    f.feed(
        0,
        [
            (0, 0, None, image),
            (1, 0, None, wrapped(None, None)),
            (2, 0, None, b'{"op":"d"}'),
            (3, 0, None, None),
            (4, 0, None, b"{}"),
        ],
    )
    assert f.counts == {0: (1, 0, 1, 3)}
