# ruff: noqa: E501 -- the columns and pieces are tables
"""Protobuf for tests: a message with every kind of field, its columns, its bytes made by hand, and what the library protobuf finds in it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, make_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Annotated, Any, get_type_hints

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from pipeline import At, Epoch, Protobuf, Scale, Source

PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message Payment {
  enum State { NEW = 0; DONE = 1; LOST = 5; REFUNDED = -1; }
  message Customer {
    message Address { string city = 1; repeated string lines = 2; }
    string name = 1;
    Address address = 2;
    int32 level = 3;
  }
  message Item { string sku = 1; int32 count = 2; repeated sint64 sizes = 3; }
  message Transfer { string iban = 1; }
  string id = 1;
  int64 n = 2;
  sint32 delta = 3;
  uint64 size = 4;
  fixed32 checksum = 5;
  sfixed64 offset = 6;
  optional int32 maybe = 7;
  bool ok = 8;
  State state = 9;
  double real = 10;
  float small = 11;
  google.protobuf.Timestamp created_at = 12;
  string price = 13;
  Customer customer = 14;
  repeated Item items = 15;
  repeated int32 marks = 16;
  google.protobuf.Int64Value wrapped = 17;
  google.protobuf.StringValue title = 18;
  oneof method { string card = 19; Transfer transfer = 20; int32 cash = 21; }
  map<string, int64> more = 22;
  sint64 large = 23;
  repeated fixed64 wide = 24 [packed = false];
  repeated State states = 25;
  int64 sent = 200;
  optional string day = 3000;
}
"""


@dataclass(frozen=True)
class Payment:
    """A column of every type, from every type of field."""

    id: str
    n: int
    delta: int
    size: int | None
    checksum: int
    offset: Annotated[Decimal, Scale(4)]
    maybe: float | None
    ok: bool
    state: str
    code: Annotated[int, At("states[1]")] | None
    real: float
    small: float
    at: Annotated[datetime, At("createdAt")]
    price: Annotated[Decimal | None, Scale(2)]
    name: Annotated[str | None, At("customer.name")]
    city: Annotated[str | None, At("customer.address.city")]
    second_line: Annotated[str | None, At("customer.address.lines[1]")]
    sku: Annotated[str | None, At("items[0].sku")]
    last_count: Annotated[int | None, At("items[2].count")]
    last_size: Annotated[int | None, At("items[2].sizes[1]")]
    mark: Annotated[int | None, At("marks[2]")]
    other_state: Annotated[str | None, At("states[0]")]
    wide: Annotated[int | None, At("wide[1]")]
    wrapped: int | None
    title: str | None
    card: str | None
    iban: Annotated[str | None, At("transfer.iban")]
    large: datetime | None
    sent: Annotated[datetime, Epoch("ns")]
    day: date | None


SOURCE = Source("payments", Payment, key="id", event_time="at", identity="id", format=Protobuf("shop.Payment", PROTO))


def of_columns(*names: str) -> Source:
    """The same messages, and of their columns these."""
    hints = get_type_hints(Payment, include_extras=True)
    record = make_dataclass("Some", [(name, hints[name]) for name in names], frozen=True)
    return replace(SOURCE, record=record)


# What is fuzzed: the columns of scalars, and those of what has something inside or is there more than once.
FLAT = of_columns(
    "id",
    "n",
    "delta",
    "size",
    "checksum",
    "offset",
    "maybe",
    "ok",
    "state",
    "real",
    "small",
    "at",
    "price",
    "large",
    "sent",
    "day",
)
NESTED = of_columns("id", "at", *(c.name for c in SOURCE.columns if c.name not in {c.name for c in FLAT.columns}))


def library(source: Source) -> Any:
    """The library's class for a source's messages."""
    assert isinstance(source.format, Protobuf) and isinstance(source.format.schema, bytes)
    return class_of(source.format.schema, source.format.message)


@cache
def class_of(descriptors: bytes, message: str) -> Any:
    """The library's class for a message of a serialized FileDescriptorSet."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)  # type: ignore[no-untyped-call]
    return GetMessageClass(pool.FindMessageTypeByName(message))


class Rejected(Exception):
    """A value that its column cannot hold."""


def by_library(source: Source, message: Any) -> dict[str, Any] | None:
    """The columns of a message that the library parsed; None where one cannot hold its value."""
    try:
        return {c.name: _at(message, c.path, c) for c in source.columns}
    except Rejected:
        return None


def _at(message: Any, path: tuple[str | int, ...], column: Any) -> Any:
    for n, part in enumerate(path):
        if isinstance(part, int):
            continue
        field = _field(message.DESCRIPTOR, part)
        value = getattr(message, field.name)
        if field.is_repeated:
            index = path[n + 1]
            if len(value) <= index:
                return None
            value = value[index]
        elif not message.HasField(field.name) if field.has_presence else value == "" and column.type.kind != "str":
            return None
        message = value
    return _value(message, field, column)


@cache
def _field(descriptor: Any, name: str) -> Any:
    return next(f for f in descriptor.fields if name in (f.name, f.json_name))


def _value(value: Any, field: Any, column: Any) -> Any:
    kind = column.type.kind
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
        if not 0 <= value.nanos < 10**9:
            raise Rejected
        return _time(value.seconds * 10**6 + value.nanos // 1000)
    if field.message_type is not None:  # one that stands for a scalar
        field = field.message_type.fields_by_name["value"]
        value = value.value
        if field.type == field.TYPE_STRING and kind != "str" and value == "":
            return None
    if field.enum_type is not None and kind == "str":
        names = [v.name for v in field.enum_type.values if v.number == value]
        if not names:
            raise Rejected
        return names[0]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 2**63:
        raise Rejected
    if kind == "float":
        if not math.isfinite(value):
            raise Rejected
        return float(value) + 0.0
    if kind == "decimal":
        return _decimal(value, column.type.scale)
    if kind == "datetime" and isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            raise Rejected from None
        return found if found.tzinfo else _reject()
    if kind == "datetime":
        scale = {"": 1000, "ms": 1000, "s": 10**6, "us": 1}.get(column.epoch)
        return _time(value * scale if scale else value // 1000)
    if kind == "date":
        try:
            return date.fromisoformat(value) if len(value) == 10 else _reject()
        except ValueError:
            raise Rejected from None
    if kind == "str" and "\0" in value:
        raise Rejected
    return value


def _reject() -> Any:
    raise Rejected


def _time(us: int) -> datetime:
    try:
        found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    except OverflowError:
        raise Rejected from None
    return found if found.year >= 2 else _reject()


def _decimal(value: Any, scale: int) -> Decimal:
    try:
        found = Decimal(value)
        if isinstance(value, str) and (value != value.strip() or value.startswith("+") or "_" in value):
            raise Rejected
        unscaled = int(found.scaleb(scale)) if found.is_finite() else 10**18
    except (InvalidOperation, ValueError, OverflowError):
        raise Rejected from None
    if abs(unscaled) >= 10**18 or Decimal(unscaled).scaleb(-scale) != found:
        raise Rejected
    return Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -scale))


# --- bytes by hand ---------------------------------------------------------------------------------------------------------


def varint(n: int) -> bytes:
    """A varint of the low 64 bits."""
    n &= 2**64 - 1
    found = b""
    while n >= 128:
        found += bytes([n & 127 | 128])
        n >>= 7
    return found + bytes([n])


def zigzag(n: int) -> bytes:
    return varint(n << 1 ^ n >> 63)


def number(field: int, n: int) -> bytes:
    """A varint field."""
    return varint(field << 3) + varint(n)


def sized(field: int, data: bytes) -> bytes:
    """A delimited field."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def fixed(field: int, data: bytes) -> bytes:
    """A fixed field of 4 or 8 bytes."""
    return varint(field << 3 | (5 if len(data) == 4 else 1)) + data


def group(field: int, inside: bytes) -> bytes:
    return varint(field << 3 | 3) + inside + varint(field << 3 | 4)


def framed(id: int, message: bytes, indexes: bytes = b"\0") -> bytes:
    """A registry's frame."""
    return b"\0" + id.to_bytes(4, "big") + indexes + message


INTS = [0, 1, -1, 7, 127, 128, 300, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**32, 2**53 + 1, 10**14, -(10**14), 10**15, 10**18, 2**63 - 1, -(2**63), 2**64 - 1]  # fmt: skip
TEXTS = [b"", b"a", b"k-17", b"x" * 130, "Zürich — 東京 𝄞".encode(), b"12345678\xc3\xa9", b"nul\0", b"\xff", b"\xed\xa0\x80", b"1234567\xc3", b"1.25", b"-0.5", b"1e2", b"1.255", b"99999999999999999.99", b"1e30", b" 1", b"2024-02-29", b"2023-02-29"]  # fmt: skip
FLOATS = ["0000000000000000", "0000000000000080", "000000000000f03f", "9a9999999999b93f", "000000000000f07f", "000000000000f87f", "000000000000f0ff", "0100000000000000", "ffffffffffffef7f"]  # fmt: skip
SMALL = ["00000000", "00000080", "0000803f", "cdcccc3d", "0000807f", "0000c07f", "01000000", "ffff7f7f"]
TIMES = [b"", number(1, 1709251200), number(1, 1709251200) + number(2, 123456789), number(2, 999), number(1, -1) + number(2, 999999999), number(2, 10**9), number(2, -1), number(1, 253402300799) + number(2, 999999999), number(1, 253402300800), number(1, -62135596800), number(1, -62104060800), number(1, -62104060801) + number(2, 5), number(1, 2**62), number(1, 1) + number(1, 2), number(2, 1) + number(9, 1), b"\x08", sized(1, b"x"), group(3, number(1, 5)) + number(1, 3)]  # fmt: skip
ADDRESSES = [b"", sized(1, b"Bern"), sized(1, b"Bern") + sized(2, b"one") + sized(2, "zwö".encode()), sized(2, b"\xff") + sized(2, b"b"), sized(2, b"a") + sized(2, b"\xff"), sized(1, b"\xff"), number(1, 4), sized(2, b"a") + b"\x12"]  # fmt: skip
CUSTOMERS = [b"", sized(1, b"Ann"), sized(3, b""), number(3, 4), *(sized(1, b"Bob") + sized(2, a) for a in ADDRESSES), b"\x0a\x05Bo", sized(2, ADDRESSES[1]) + sized(2, ADDRESSES[2])]  # fmt: skip
ITEMS = [b"", sized(1, b"sku-1"), number(2, 5), number(2, -5) + sized(3, zigzag(5) + zigzag(-6) + zigzag(2**63 - 1)), number(3, 3) + number(3, 2**64 - 1), sized(3, b"\x80"), sized(1, b"\xff"), sized(3, b"\x01") + number(3, 9), b"\x0b"]  # fmt: skip
# Values of each field, good ones and others, as they are written.
PIECES: dict[int, list[bytes]] = {
    1: [sized(1, t) for t in TEXTS],
    **{f: [number(f, n) for n in INTS] for f in (2, 3, 4, 7, 8, 21, 23, 200)},
    5: [fixed(5, (n & 2**32 - 1).to_bytes(4, "little")) for n in INTS],
    6: [fixed(6, (n & 2**64 - 1).to_bytes(8, "little")) for n in INTS],
    9: [number(9, n) for n in (0, 1, 5, -1, 2, 2**32 + 1, 2**32 - 1)],
    10: [fixed(10, bytes.fromhex(h)) for h in FLOATS],
    11: [fixed(11, bytes.fromhex(h)) for h in SMALL],
    12: [sized(12, t) for t in TIMES],
    13: [sized(13, t) for t in TEXTS],
    14: [sized(14, c) for c in CUSTOMERS],
    15: [sized(15, i) for i in ITEMS],
    16: [number(16, 5), sized(16, b"\1\2\3"), sized(16, b""), sized(16, varint(-1) * 3), sized(16, b"\1\x80"), number(16, 2**40)],
    17: [sized(17, b""), sized(17, number(1, 4)), sized(17, number(1, -1) + number(1, 3)), sized(17, b"\x08"), sized(17, sized(1, b"x"))],
    18: [sized(18, b""), sized(18, sized(1, b"title")), sized(18, sized(1, b"\xff")), sized(18, number(1, 1))],
    19: [sized(19, t) for t in TEXTS],
    20: [sized(20, b""), sized(20, sized(1, b"CH93")), sized(20, sized(1, b"\0"))],
    22: [sized(22, sized(1, b"a") + number(2, 4)), sized(22, b"\xff")],
    24: [fixed(24, n.to_bytes(8, "little")) for n in (0, 7, 2**63, 2**63 - 1)] + [sized(24, bytes(16)), sized(24, bytes(range(16))), sized(24, bytes(9))],
    25: [number(25, 1), number(25, 3), sized(25, b"\0\1\5"), sized(25, varint(-1) + b"\7")],
    3000: [sized(3000, t) for t in TEXTS],
}  # fmt: skip
GOOD: dict[int, bytes] = {
    1: sized(1, b"p-1"), 2: number(2, 42), 3: number(3, 5), 4: number(4, 9), 5: fixed(5, b"\1\2\3\4"), 6: fixed(6, bytes([1, 2, *[0] * 6])), 7: number(7, 3), 8: number(8, 1),
    9: number(9, 1), 10: fixed(10, bytes.fromhex("9a9999999999b93f")), 11: fixed(11, bytes.fromhex("cdcccc3d")), 12: sized(12, TIMES[2]), 13: sized(13, b"12.50"),
    14: sized(14, sized(1, b"Ann") + sized(2, ADDRESSES[2])), 15: sized(15, ITEMS[1]) + sized(15, ITEMS[2]) + sized(15, ITEMS[3]), 16: sized(16, b"\1\2\3"), 17: sized(17, number(1, 4)),
    18: sized(18, sized(1, b"title")), 19: sized(19, b"4111"), 22: sized(22, sized(1, b"a") + number(2, 4)), 23: number(23, 2 * 1709251200000), 24: fixed(24, bytes(8)) + fixed(24, b"\7" + bytes(7)),
    25: number(25, 1) + number(25, 5), 200: number(200, 1709251200123456789), 3000: sized(3000, b"2024-02-29"),
}  # fmt: skip
# Fields that nobody declared, wire types that nobody expects, and what is broken wherever it stands.
STRANGE = [
    *(number(99, 5), sized(99, b"\xff\xff"), fixed(99, bytes(4)), fixed(99, bytes(8)), group(99, b""), group(99, number(1, 5) + group(7, sized(1, b"x")) + fixed(3, bytes(8)))),
    *(group(1, b""), sized(2, b"\1"), number(1, 3), fixed(2, bytes(4)), fixed(2, bytes(8)), number(14, 4), fixed(16, bytes(4)), number(12, 4), number(24, 3), sized(9, b"\1"), number(10, 1), fixed(10, bytes(4))),
    *(b"\x88\x00\x05", b"\x90\x80\x00\x05", b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", b"\x0a\x81\x80\x80\x80\x00A", b"\x10\x80\x00"),
]  # fmt: skip
BROKEN = [
    *(b"\0", b"\0\1", b"\6", b"\7", b"\x0e\0", b"\x0f\0", b"\x0c", b"\x0b", b"\x9b\6", b"\x9b\6\x9c\6\x9c\6", group(4, varint(5 << 3 | 4)), b"\x08", b"\x10" + b"\xff" * 9 + b"\2", b"\x10" + b"\xff" * 20),
    *(b"\x98\6" + b"\xff" * 9 + b"\x7f", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\x07", b"\x0a" + varint(2**62), b"\x0a" + varint(2**64 - 1), b"\x9a\6" + varint(2**31), b"\x8a\x80\x80\x80\x10", b"\x8a\x80\x80\x80\x80\0", b"\x2d\1\2\3"),
    *(b"\x31" + bytes(7), b"\x9b\6" * 64 + b"\x9c\6" * 64, b"\x9b\6" * 10_000, group(99, b"\0"), b"\x0a\x80\x80\x80\x80\x80\x00"),
]  # fmt: skip


def made(rng: random.Random) -> bytes:
    """A message as most are, or with anything in it."""
    share = rng.choice([0.2, 0.4, 0.95])
    parts = [GOOD[f] for f in GOOD if rng.random() < share]
    how = rng.random()
    if how < 0.5:
        return b"".join(parts)
    for _ in range(rng.randint(1, 3)):
        pieces = rng.choice(list(PIECES.values())) if rng.random() < 0.75 else STRANGE
        parts.insert(rng.randint(0, len(parts)), rng.choice(pieces))
    if how > 0.9:
        rng.shuffle(parts)
    if how > 0.97:
        parts.insert(rng.randint(0, len(parts)), rng.choice(BROKEN))
    return b"".join(parts)


def mutated(value: bytes, rng: random.Random) -> bytes:
    """A byte changed, put in or left out, or cut off."""
    at = rng.randrange(len(value) + 1)
    how = rng.random()
    if how < 0.4:
        return value[:at] + bytes([rng.choice([0, 1, 8, 10, 127, 128, 255, rng.randrange(256)])]) + value[at + 1 :]
    if how < 0.6:
        return value[:at] + rng.choice([b"\x80", b"\xff", b"\0", b"\x0a", rng.choice(STRANGE)]) + value[at:]
    return value[:at] if how < 0.8 else value[:at] + value[at + rng.randint(1, 4) :]
