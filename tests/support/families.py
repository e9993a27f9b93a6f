"""Six families of events as people have them, made up and seeded: what a topic of each holds, and what each of its records is meant to be.

    records = good + again + broken + tombstones, by intent        a family's first part is what `watershed new` looks at

What is broken in the first part is broken in form, for a draft takes whatever can be read; later parts break types too.
"""

from __future__ import annotations

import base64
import io
import json
import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import fastavro

from pipeline import Protobuf
from tests.support.avro import framed
from tests.support.protobufs import class_of

START = datetime(2024, 3, 1, 8, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PARTS = (200, 60, 40)  # good events before the night, after it, and late ones
Register = Callable[[str, str], int]  # (subject, schema) -> its id
Event = tuple[bytes, bytes]  # key, value


class Sent(NamedTuple):
    """One record, and what it is meant to be: "good", "again", "broken" or "tombstone"."""

    partition: int
    key: bytes | None
    value: bytes | None
    meant: str


@dataclass
class Family:
    """Three parts of records. `options` are those of `watershed new`, `files` what stands beside the module; `identified`: events have an
    identity, so that one that is sent again is a duplicate.
    """

    name: str
    parts: list[list[Sent]]
    options: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    identified: bool = True

    def meant(self, what: str) -> Counter[bytes | None]:
        """The values that are meant to be that, with how often they were sent."""
        return Counter(one.value for part in self.parts for one in part if one.meant == what)


def families(register: Register) -> list[Family]:
    """The six; `register` gives the ids of schemas that records name."""
    avro = _Device(register)
    payments, proto = _payments()
    return [
        Family("hooks", _parts(1, _webhook, _broken_json, {"createdAt": [], "repository": "acme/shop"})),
        Family("pages", _parts(2, _track, _broken_json, {"messageId": 7, "timestamp": "yesterday", "context": []})),
        Family("orders", _parts(3, _change, _broken_change, {}), identified=False),
        Family("readings", _parts(4, avro.event, avro.broken, {}), ("--format", "avro")),
        Family(
            "accesses",
            _parts(5, _request, _broken_json, {"status": "teapot", "time": "01/Mar/2024:10:00:00 +0000", "ip": None}),
            identified=False,
        ),
        Family(
            "payments",
            _parts(6, payments, _broken_message, {}),
            ("--format", "protobuf", "--schema", "payment.proto", "--message", "shop.Payment"),
            {"payment.proto": proto},
        ),
    ]


def _parts(
    seed: int,
    make: Callable[[int, datetime, random.Random], Event],
    broken: Callable[[bytes, random.Random], bytes],
    misfits: dict[str, Any],
) -> list[list[Sent]]:
    rng, found, n = random.Random(seed), list[list[Sent]](), 0
    for part, many in enumerate(PARTS):
        records: list[Sent] = []
        for _ in range(many):
            n += 1
            at = START + timedelta(days=-2 if part == 2 else part, minutes=7 * n, milliseconds=rng.randrange(60_000))
            key, value = make(n, at - timedelta(minutes=rng.randrange(90)), rng)
            place = sum(key) % 2
            records.append(Sent(place, key, value, "good"))
            if n % 12 == 5:
                records.append(records[-1]._replace(meant="again"))
            if n % 15 == 7:
                records.append(Sent(place, key, broken(value, rng), "broken"))
            if n % 15 == 11 and part and misfits:
                name = rng.choice(list(misfits))
                wrong = json.dumps(json.loads(value) | {name: misfits[name]})
                records.append(Sent(place, key, wrong.encode(), "broken"))
            if n % 20 == 9:
                records.append(Sent(place, key, None, "tombstone"))
        found.append(records)
    return found


def _json(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def _broken_json(value: bytes, rng: random.Random) -> bytes:
    return rng.choice([value[:-1], value[:30], b"", b"[]", b"\xff" + value, value + b"}", b'"text"', b'{"a":NaN}'])


def _webhook(n: int, at: datetime, rng: random.Random) -> Event:
    """A repository host's webhook: nested, camelCase, epoch seconds, arrays of objects."""
    owner = rng.choice(["acme", "umbrella", "initech"])
    repository = {
        "id": 100 + len(owner),
        "fullName": f"{owner}/shop",
        "private": owner == "acme",
        "owner": {"login": owner, "type": "Organization"},
        "topics": ["etl", "kafka"][: rng.randrange(3)],
        "defaultBranch": "main",
    }
    commits = [
        {"sha": f"{rng.getrandbits(160):040x}", "message": 'fix "it"\nat last ü \U0001d11e', "added": []}
        for _ in range(rng.randrange(4))
    ]
    event = {
        "deliveryId": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "action": rng.choice(["opened", "closed", "synchronize"]),
        "createdAt": int(at.timestamp()),
        "repository": repository,
        "sender": {"id": rng.randrange(40), "login": f"user{rng.randrange(40)}", "siteAdmin": False},
        "installation": {"id": 3} if n % 3 else None,
        "commits": commits,
        "size": len(commits),
    }
    return repository["fullName"].encode(), _json(event)  # type: ignore[attr-defined]


def _track(n: int, at: datetime, rng: random.Random) -> Event:
    """A track call of web analytics: a page in a context, ISO times with milliseconds, ids of users known and unknown."""

    def shown(time: datetime) -> str:
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    path = rng.choice(["/", "/pricing", "/docs/größe"])
    user = f"u-{rng.randrange(30)}" if n % 3 else None
    event = {
        "messageId": f"ajs-{rng.getrandbits(64):016x}",
        "type": "track",
        "event": rng.choice(["Product Viewed", "Product Added", "Order Completed"]),
        "anonymousId": None if user and n % 2 else str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "userId": user,
        "context": {
            "page": {"path": path, "url": f'https://example.org{path}?q="a"', "referrer": "" if n % 2 else None},
            "library": {"name": "analytics.js", "version": "2.11.1"},
            "userAgent": "Mozilla/5.0 (X11; Linux)",
            "ip": f"10.0.0.{rng.randrange(256)}",
        },
        "properties": {"price": rng.randrange(10_000) / 100, "quantity": rng.randrange(5), "sku": f"s-{n % 9}"},
        "timestamp": shown(at),
        "sentAt": shown(at + timedelta(seconds=1)),
    }
    return (user or "nobody").encode(), _json(event)


def _request(n: int, at: datetime, rng: random.Random) -> Event:
    """A line of an access log: statuses as numbers and as text, offsets without a colon, agents with escapes; nothing identifies it."""
    status = rng.choice([200, 200, 301, 404, 503])
    event = {
        "ip": f"192.0.2.{rng.randrange(256)}",
        "method": rng.choice(["GET", "POST", "HEAD"]),
        "path": rng.choice(["/", "/a?b=c&d=\u20ac", "/login"]),
        "status": str(status) if n % 4 == 0 else status,
        "bytes": rng.randrange(100_000),
        "time": at.strftime("%Y-%m-%dT%H:%M:%S+0000"),
        "referer": "-" if n % 2 else None,
        "userAgent": 'curl/8.0 \\ "quoted"\t\u00fc\U0001f600',
    }
    return event["ip"].encode(), _json(event)  # type: ignore[attr-defined]


# --- CDC ---------------------------------------------------------------------------------------------------------------------

ROW = [
    {"type": "int64", "field": "id"},
    {"type": "string", "field": "customer"},
    {"type": "string", "field": "state"},
    {"type": "int64", "name": "io.debezium.time.MicroTimestamp", "field": "updated_at"},
    {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}, "field": "total"},
    {"type": "int32", "name": "io.debezium.time.Date", "field": "due", "optional": True},
    {"type": "double", "field": "weight", "optional": True},
]
ENVELOPE = {
    "type": "struct",
    "fields": [
        {"type": "struct", "fields": ROW, "optional": True, "field": "before"},
        {"type": "struct", "fields": ROW, "optional": True, "field": "after"},
        {"type": "string", "field": "op"},
    ],
}


def _change(n: int, at: datetime, rng: random.Random) -> Event:
    """A change of a row of orders, in Kafka Connect's wrapper."""
    cents = rng.randrange(-500, 100_000)
    row = {
        "id": rng.randrange(60),
        "customer": f"c{n % 7}",
        "state": rng.choice(["new", "paid", "shipped"]),
        "updated_at": (at - EPOCH) // timedelta(microseconds=1),
        "total": base64.b64encode(cents.to_bytes(4, "big", signed=True)).decode(),
        "due": None if n % 5 == 0 else 19_800 + n % 30,
        "weight": rng.random() * 10,
    }
    op = rng.choice(["c", "u", "u", "r"])
    source = {"version": "3.0", "connector": "postgresql", "db": "shop", "table": "orders", "lsn": 10_000 + n}
    before = row | {"state": "new"} if op == "u" else None
    payload = {"before": before, "after": row, "op": op, "source": source, "ts_ms": int(at.timestamp() * 1000)}
    return _json({"id": row["id"]}), _json({"schema": ENVELOPE, "payload": payload})


def _broken_change(value: bytes, rng: random.Random) -> bytes:
    event = json.loads(value)
    event["payload"] |= rng.choice([{"op": "x"}, {"after": []}, {"op": 7}, {"op": None}])
    return rng.choice([_json(event), value[:-1], b"{}", b""])


# --- Avro --------------------------------------------------------------------------------------------------------------------

FIELDS: list[dict[str, Any]] = [
    {"name": "readingId", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "device", "type": {"type": "enum", "name": "Device", "symbols": ["cellar", "roof", "garden"]}},
    {"name": "measuredAt", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "celsius", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}]},
    {"name": "pressure", "type": "double"},
    {"name": "battery", "type": "float"},
    {"name": "installed", "type": {"type": "int", "logicalType": "date"}},
    {"name": "raw", "type": "bytes"},
    {"name": "alarms", "type": {"type": "array", "items": "string"}},
    {
        "name": "about",
        "type": {"type": "record", "name": "About", "fields": [{"name": "firmware", "type": ["null", "string"]}]},
    },
]
MORE = {"name": "signal", "type": ["null", "int"], "default": None}
FIRST = {"type": "record", "name": "Reading", "fields": FIELDS}
SECOND = {"type": "record", "name": "Reading", "fields": [MORE, *reversed(FIELDS)]}


class _Device:
    """Telemetry of devices, in the registry's framing; those that were updated write by a second schema."""

    def __init__(self, register: Register) -> None:
        self._schemas = [
            (register("readings-value", json.dumps(one)), fastavro.parse_schema(one)) for one in (FIRST, SECOND)
        ]

    def event(self, n: int, at: datetime, rng: random.Random) -> Event:
        id, schema = self._schemas[n > PARTS[0] and n % 2]
        device = rng.choice(["cellar", "roof", "garden"])
        out = io.BytesIO()
        event = {
            "readingId": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "device": device,
            "measuredAt": at,
            "celsius": None if n % 6 == 0 else Decimal(rng.randrange(-2000, 4000)) / 100,
            "pressure": 1000 + rng.random(),
            "battery": 0.5,
            "installed": at.date(),
            "raw": rng.randbytes(4),
            "alarms": ["hot"] * (n % 3),
            "about": {"firmware": None if n % 4 == 0 else f"v{n % 5}"},
            "signal": n,
        }
        fastavro.schemaless_writer(out, schema, event)
        return device.encode(), framed(id, out.getvalue())

    def broken(self, value: bytes, rng: random.Random) -> bytes:
        bad = [value[:-1], value + b"\0", b"\1" + value[1:], framed(0, value[5:]), framed(999, value[5:]), value[:4]]
        return rng.choice(bad)


# --- Protobuf ----------------------------------------------------------------------------------------------------------------

PAYMENT = """syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";

message Payment {
  enum State { NEW = 0; PAID = 1; REFUNDED = 2; }
  message Customer { string name = 1; string country = 2; }
  message Item { string sku = 1; int32 count = 2; }
  string payment_id = 1;
  google.protobuf.Timestamp paid_at = 2;
  string amount = 3;
  State state = 4;
  Customer customer = 5;
  repeated Item items = 6;
  oneof method { string card = 7; string iban = 8; }
  double rate = 9;
  int64 tenant = 10;
  bool test = 11;
  bytes signature = 12;
}
"""


def _payments() -> tuple[Callable[[int, datetime, random.Random], Event], str]:
    """Payments as bare messages, and their .proto."""
    schema = Protobuf("shop.Payment", PAYMENT).schema
    assert isinstance(schema, bytes)
    make = class_of(schema, "shop.Payment")

    def event(n: int, at: datetime, rng: random.Random) -> Event:
        country = rng.choice(["CH", "DE", "AT"])
        one = make(
            payment_id=f"p-{rng.getrandbits(64):016x}",
            amount=f"{rng.randrange(10_000)}.{rng.randrange(100):02}",
            state=n % 3,
            rate=rng.random(),
            tenant=n % 4,
            test=n % 9 == 0,
            signature=rng.randbytes(5),
        )
        one.paid_at.FromDatetime(at)
        one.customer.name, one.customer.country = f"Ann {n}", country
        for k in range(n % 3):
            one.items.add(sku=f"sku-{k}", count=k)
        if n % 2:
            one.card = "4111"
        else:
            one.iban = "CH93"
        return country.encode(), one.SerializeToString()

    return event, PAYMENT


def _broken_message(value: bytes, rng: random.Random) -> bytes:
    return rng.choice([value + b"\0", value + b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\x07", value + b"\x0b", b"\6"])
