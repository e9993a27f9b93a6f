"""Avro as tests make it: schemas at random, bodies of them by an encoder of its own, and columns that read them."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import make_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pipeline import At, Epoch, FromText, Lenient, Precision, Scale, Source, Text, Zone
from pipeline.base.errors import DefinitionError
from pipeline.decode.schemas import Schema
from pipeline.definition.formats import Format
from pipeline.definition.paths import Path, shown

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
LOGICAL = [
    *(
        {"type": "long", "logicalType": name}
        for name in ("timestamp-millis", "timestamp-micros", "local-timestamp-micros")
    ),
    *({"type": "int", "logicalType": name} for name in ("date", "time-millis")),
    {"type": "long", "logicalType": "time-micros"},
    {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 4},
    {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 0},
    {"type": "string", "logicalType": "uuid"},
    {"type": "long", "connect.name": "io.debezium.time.NanoTimestamp"},
]
HINTS: list[Any] = [int, float, str, bool, date, datetime, Annotated[Decimal, Scale(2)], Annotated[Decimal, Scale(12)]]
HINTS += [Annotated[datetime, Epoch(unit)] for unit in ("s", "us", "ns")]
SECOND = [
    bytes,
    UUID,
    time,
    Annotated[Decimal, Precision(38, 18)],
    Annotated[int, FromText()],
    Annotated[bool, FromText()],
]
SECOND += [Annotated[str, Text(strip="\x00")]]
FITTING = {
    "boolean": [bool],
    "int": [int, int, float, Annotated[Decimal, Scale(2)], Annotated[datetime, Epoch("s")]],
    "long": [int, int, float, Annotated[Decimal, Scale(2)], *HINTS[5:6], *HINTS[8:]],
    "float": [float],
    "double": [float],
    "string": [
        str,
        str,
        str,
        Annotated[Decimal, Scale(2)],
        datetime,
        date,
        Annotated[datetime, Epoch("s"), Zone("Europe/Berlin"), Lenient()],
    ],
}
NUMBERS = [
    0,
    1,
    -1,
    63,
    64,
    -65,
    300,
    10**9,
    -(10**9),
    2**31 - 1,
    2**31,
    -(2**31) - 1,
    10**12,
    10**15,
    10**18,
    -(10**18),
    2**63 - 1,
    -(2**63),
]
TEXTS = [
    "",
    "a",
    "é",
    "𝄞x",
    "12.50",
    "-1.255",
    "1e3",
    "2024-03-01T00:00:00Z",
    "2024-03-01",
    "1709251200.5",
    "x" * 70,
    "a\0b",
    "NaN",
]
RAW = [
    b"",
    b"\x00",
    b"\xff",
    b"\xff\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\x7f" * 8,
    b"\x80" + b"\x00" * 8,
    b"\x01" + b"\x00" * 9,
    b"\x05\x34",
]
REALS = [0.0, -0.0, 1.5, -2.25, 1e300, float("nan"), float("inf"), 5e-324]


class Registry:
    """Schemas by the ids that it gives out, from 1 on."""

    def __init__(self, *schemas: Any) -> None:
        self._held = [Schema("AVRO", one if isinstance(one, str) else json.dumps(one)) for one in schemas]
        self.asked: list[int] = []

    def schema(self, id: int) -> Schema | None:
        """The schema of an id."""
        self.asked.append(id)
        return self._held[id - 1] if id <= len(self._held) else None


def framed(id: int, body: bytes) -> bytes:
    """A value in the registry's framing."""
    return b"\0" + id.to_bytes(4, "big") + body


def zigzag(value: int) -> bytes:
    """Avro's int and long."""
    left, found = value << 1 if value >= 0 else (-value << 1) - 1, bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes(found + bytes([left]))


def sized(held: bytes) -> bytes:
    return zigzag(len(held)) + held


class Schemas:
    """Random schemas and bodies of them. Every event is a record with id (text) and at (a time), and whatever else."""

    def __init__(self, rng: random.Random, second: float = 0.0) -> None:
        self.rng, self.second = rng, second
        self._names = 0
        self.named: dict[str, Any] = {}
        self._whole: list[str] = []  # names that may stand anywhere

    def event(self) -> dict[str, Any]:
        """A schema."""
        self.named, self._whole = {}, []
        fields = [{"name": f"f{n}", "type": self.type(3)} for n in range(self.rng.randrange(1, 6))]
        for own in ({"name": "id", "type": "string"}, {"name": "at", "type": LOGICAL[1]}):
            fields.insert(self.rng.randrange(len(fields) + 1), own)
        return self._name({"type": "record", "fields": fields})

    def _name(self, given: dict[str, Any]) -> dict[str, Any]:
        self._names += 1
        given["name"] = f"n{self._names}"
        self.named[given["name"]] = given
        if given["type"] != "record":
            self._whole.append(given["name"])
        return given

    def type(self, depth: int, union: bool = True) -> Any:
        rng = self.rng
        kind = rng.randrange(12 if depth else 5)
        if kind < 3:
            return rng.choice(PRIMITIVES)
        if kind < 5:
            return rng.choice(LOGICAL)
        if kind == 5:
            size = rng.choice([0, 1, 4, 9, 16])
            more = rng.choice([{}, {"logicalType": "decimal", "precision": 9, "scale": 3}, {"logicalType": "uuid"}])
            return self._name({"type": "fixed", "size": size, **more})
        if kind == 6:
            return self._name({"type": "enum", "symbols": ["A", "B", "Ccc"][: rng.randrange(1, 4)]})
        if kind == 7:
            return {"type": "array", "items": self.type(depth - 1)}
        if kind == 8:
            return {"type": "map", "values": self.type(depth - 1)}
        if kind == 9 and self._whole and rng.random() < 0.5:
            return rng.choice(self._whole)
        if kind > 9 and union:
            branches: list[Any] = (
                ["null", self.type(depth - 1, False)]
                if rng.random() < 0.7
                else [self.type(depth - 1, False) for _ in range(3)]
            )
            rng.shuffle(branches)
            called = [b if isinstance(b, str) else b.get("name", b["type"]) for b in branches]
            if len(set(called)) == len(called):
                return branches
            self._whole = []  # one that is left out may have been declared in what is dropped
            return branches[0]
        made = self._name({"type": "record", "fields": []})
        for n in range(rng.randrange(0, 4)):
            made["fields"].append({"name": f"g{n}", "type": self.type(depth - 1)})
        if rng.random() < 0.2:
            made["fields"].append({"name": "again", "type": ["null", made["name"]]})
        self._whole.append(made["name"])
        return made

    def body(self, type: Any, depth: int = 0) -> bytes:
        """A body of the type; what is in it need not go into any column."""
        rng = self.rng
        if isinstance(type, list):
            branch = rng.randrange(len(type))
            if depth > 8 and "null" in type:
                branch = type.index("null")
            return zigzag(branch) + self.body(type[branch], depth)
        if isinstance(type, str) and type in self.named:
            return self.body(self.named[type], depth)
        given = type if isinstance(type, dict) else {"type": type}
        kind = given["type"]
        if kind in ("array", "map"):
            return self._items(given, depth)
        if kind == "record":
            return b"".join(self._field(f, depth + 1) for f in given["fields"])
        if kind in ("int", "long"):
            return zigzag(rng.choice(NUMBERS) if rng.random() < 0.5 else rng.randrange(-(10**6), 2 * 10**12))
        if kind == "enum":
            return zigzag(rng.randrange(len(given["symbols"])) if rng.random() < 0.95 else 7)
        if kind == "string":
            return sized(rng.choice(TEXTS).encode())
        if kind == "bytes":
            return sized(rng.choice(RAW) if rng.random() < 0.5 else rng.randbytes(rng.randrange(1, 12)))
        if kind == "float":
            return struct.pack("<f", rng.choice([*REALS[:4], *REALS[5:7]]))
        if kind == "double":
            return struct.pack("<d", rng.choice(REALS))
        if kind == "boolean":
            return bytes([rng.choice([0, 1, 1, 0, 2])])
        return rng.randbytes(given["size"]) if kind == "fixed" else b""

    def _field(self, given: dict[str, Any], depth: int) -> bytes:
        if given["name"] == "at" and self.rng.random() < 0.98:
            return zigzag(1_709_251_200_000_000 + self.rng.randrange(10**12))
        return self.body(given["type"], depth)

    def _items(self, given: dict[str, Any], depth: int) -> bytes:
        rng, found = self.rng, b""
        for _ in range(rng.choice([0, 1, 1, 2]) if depth < 6 else 0):
            count = rng.randrange(1, 5)
            block = b""
            for _ in range(count):
                key = sized(rng.choice([b"a", b"b", b"key", b"x" * 30])) if given["type"] == "map" else b""
                block += key + self.body(given.get("items", given.get("values")), depth + 1)
            negative = rng.random() < 0.3
            size = len(block) + (rng.choice([-1, 1, 100]) if rng.random() < 0.05 else 0)
            found += (zigzag(-count) + zigzag(size) if negative else zigzag(count)) + block
        return found + b"\0"

    def leaves(self, type: Any, path: Path = ()) -> list[tuple[Path, Any]]:
        """Paths to what the type has, at most one step into what contains itself, and the type there."""
        if isinstance(type, list):
            return [found for branch in type for found in self.leaves(branch, path)]
        if isinstance(type, str) and type in self.named:
            return self.leaves(self.named[type], path)
        kind = type["type"] if isinstance(type, dict) else type
        if len(path) < 6 and kind == "record":
            return [found for f in type["fields"] for found in self.leaves(f["type"], (*path, f["name"]))]
        if len(path) < 6 and kind == "array":
            return self.leaves(type["items"], (*path, self.rng.randrange(4)))
        if len(path) < 6 and kind == "map":
            return self.leaves(type["values"], (*path, self.rng.choice(["a", "b", "nope"])))
        return [(path, type)]

    def _hint(self, type: Any) -> Any:
        """A type of a column that mostly reads such values."""
        kind = type["type"] if isinstance(type, dict) else type
        logical = type.get("logicalType", type.get("connect.name", "")) if isinstance(type, dict) else ""
        if self.rng.random() < 0.1:
            return self.rng.choice(HINTS)
        if self.rng.random() < self.second:
            return self.rng.choice(SECOND)
        if logical == "decimal":
            return self.rng.choice([*HINTS[6:8], int])
        if logical == "date" or "time" in logical.lower():
            local = Annotated[datetime, Zone("Europe/Berlin")] if "local" in logical else datetime
            return self.rng.choice([date if logical == "date" else local, int])
        return self.rng.choice(FITTING.get(kind, [str]))

    def source(self, schema: dict[str, Any], format: Format) -> Source:
        """A source whose columns read some of what such events have, and some of what they do not."""
        rng, fields, used = self.rng, [("id", str), ("at", datetime)], {("id",), ("at",)}
        leaves = [(path, type) for path, type in self.leaves(schema) if path not in used]
        for n, (path, type) in enumerate(rng.sample(leaves, min(len(leaves), 4))):
            at = path if rng.random() < 0.95 else (*path[:-1], rng.choice(["nope", 1]))
            if isinstance(at[0], str):
                hint: Any = Annotated[self._hint(type), At(shown(at))] | None
                fields.append((f"c{n}", hint))
        while True:
            try:
                return Source(
                    "avro",
                    make_dataclass("Made", fields, frozen=True),
                    key="id",
                    event_time="at",
                    identity="id",
                    format=format,
                )
            except DefinitionError:
                assert len(fields) > 2
                fields.pop()  # two paths that cannot both be
