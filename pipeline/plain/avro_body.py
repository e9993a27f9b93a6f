"""One Avro body, read whole: every value in it, declared or not, and then the columns out of what was read.

    record(body, schema)[path] = the value of a column        Invalid where the bytes are no such record, or a column cannot read its value

Undeclared strings are not looked into, and neither are undeclared numbers beyond their size.
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import time, timedelta
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any

from pipeline.base.types import INT_MAX, INT_MIN
from pipeline.definition.marks import FromText, Zone
from pipeline.definition.paths import Path
from pipeline.definition.record import Column
from pipeline.plain.avro_schema import LOCAL, TIMES, Resolved
from pipeline.plain.json_text import MAX_DEPTH, Invalid, Number
from pipeline.plain.values import EPOCH, TOO_FINE, TooFine, date_of_day, decimal_of, time_of, utc_of

UNITS_US = {"s": Fraction(1_000_000), "ms": Fraction(1000), "us": Fraction(1), "ns": Fraction(1, 1000)}
WIDTHS = {"boolean": 1, "float": 4, "double": 8}


@dataclass(slots=True)
class Value:
    """One value as it stands in the body.

    `held`: of int, long, enum the number; of a record its fields; of a map its entries, of an array (how many, the value) one after the
    other; None of null; of all others their bytes.
    """

    type: Resolved
    held: Any


class Body:
    """The bytes, and how far they are read."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def whole(self, type: Resolved) -> Value:
        """The value that all bytes together are."""
        found = self._value(type, 1)
        if self._at < len(self._body):
            raise Invalid("bytes behind the record")
        return found

    def _bytes(self, size: int) -> bytes:
        found = self._body[self._at : self._at + size] if size >= 0 else b""
        if len(found) != size:
            raise Invalid("the record ends too early")
        self._at += size
        return found

    def _long(self) -> int:
        digits: list[int] = []
        while not digits or digits[-1] >= 128:
            if len(digits) == 10:
                raise Invalid("a number without end")
            digits.append(self._bytes(1)[0])
        found = sum((digit % 128) << 7 * place for place, digit in enumerate(digits))
        if found >= 2**64:
            raise Invalid("a number of more than 64 bits")
        return -(found + 1) // 2 if found % 2 else found // 2

    def _value(self, type: Resolved, level: int) -> Value:
        kind = type["kind"]
        if kind in ("record", "array", "map") and level > MAX_DEPTH:
            raise Invalid(f"nested deeper than {MAX_DEPTH}")
        if kind == "union":
            branch = self._long()
            if branch not in range(len(type["branches"])):
                raise Invalid(f"no branch {branch} in a union")
            return self._value(type["branches"][branch], level)
        if kind == "record":
            return Value(type, {name: self._value(one, level + 1) for name, one in type["fields"].items()})
        if kind in ("array", "map"):
            return Value(type, self._items(type, level))
        if kind == "null":
            return Value(type, None)
        if kind in ("int", "long", "enum"):
            return Value(type, self._long())
        if kind in WIDTHS:
            return Value(type, self._bytes(WIDTHS[kind]))
        return Value(type, self._bytes(type["size"] if kind == "fixed" else self._long()))

    def _items(self, type: Resolved, level: int) -> list[tuple[Any, Value]]:
        found: list[tuple[Any, Value]] = []
        while (count := self._long()) != 0:
            end = None
            if count < 0:
                size = self._long()
                end, count = self._at + size, -count
                if size < 0 or end > len(self._body) or count > INT_MAX:
                    raise Invalid("a block larger than the record")
            while count:
                began = self._at
                key = self._bytes(self._long()) if type["kind"] == "map" else None
                item = self._value(type["items"], level + 1)
                many = count if self._at == began else 1  # items of no bytes are all alike
                found.append((many if key is None else key, item))
                count -= many
            if end not in (None, self._at):
                raise Invalid("a block that does not end where it says")
        return found


def at(found: Value | None, path: Path) -> Value | None:
    """The value that the path leads to, None where it ends early. Raises Invalid where it leads through something else."""
    for part in path:
        if found is None or found.type["kind"] == "null":
            return None
        kind = found.type["kind"]
        if isinstance(part, int) and kind == "array":
            found = _element(found.held, part)
        elif isinstance(part, str) and kind == "record":
            found = found.held.get(part)
        elif isinstance(part, str) and kind == "map":
            same = [value for key, value in found.held if key == part.encode()]
            if len(same) > 1:
                raise Invalid(f"key {part!r} twice in a map")
            found = same[0] if same else None
        else:
            raise Invalid(f"{kind} where {part!r} is declared in it")
    return None if found is None or found.type["kind"] == "null" else found


def _element(runs: list[tuple[int, Value]], place: int) -> Value | None:
    for many, value in runs:
        if place < many:
            return value
        place -= many
    return None


def is_json(value: Value, column: Column) -> bool:
    """True for text, a number or a bool in a column that reads those as JSON's, whatever Avro could say of them."""
    text = value.type["kind"] == "string" and column.type.kind in ("wide", "bytes", "uuid", "time")
    plain = value.type["kind"] in ("string", "int", "long", "boolean") and "logical" not in value.type
    return text or (plain and (column.mark(FromText) is not None or column.type.kind == "wide"))


def as_json(value: Value) -> Any:
    """A text, a number or a bool as a JSON value."""
    kind, held = value.type["kind"], value.held
    if kind == "string":
        return _text(held)
    if kind == "boolean":
        if held not in (b"\0", b"\1"):
            raise Invalid("a byte that is neither true nor false")
        return held == b"\1"
    if kind == "int" and not -(2**31) <= held < 2**31:
        raise Invalid("out of the range of Avro's int")
    return Number(str(held))


def read_avro(value: Value, column: Column, read_text: Callable[[str, Column], Any]) -> Any:
    """The value (not null) as one of the column's type, or TOO_FINE; a text by `read_text`, as JSON's is. Raises Invalid."""
    kind, logical, held = value.type["kind"], value.type.get("logical", ""), value.held
    match kind, column.type.kind:
        case "boolean", "bool" if held in (b"\0", b"\1"):
            return held == b"\1"
        case (("float" | "double"), "float"):
            (real,) = struct.unpack("<f" if kind == "float" else "<d", held)
            if isfinite(real):
                return real + 0.0
        case (("int" | "long"), ("int" | "float" | "decimal" | "datetime" | "date")) if (
            kind == "long" or -(2**31) <= held < 2**31
        ):
            return _number(held, logical, column)
        case "enum", "str" if held in range(len(value.type["symbols"])):
            return value.type["symbols"][held]
        case (("bytes" | "fixed"), "bytes"):
            return held
        case "fixed", "uuid" if logical == "uuid":
            return held
        case "int", "time" if logical == "time-millis":
            return _time_of_day(held * 1000)
        case "long", "time" if logical == "time-micros":
            return _time_of_day(held)
        case (("bytes" | "fixed"), ("decimal" | "int" | "wide")) if logical == "decimal" and held:
            return _decimal(Fraction(int.from_bytes(held, "big", signed=True), 10 ** value.type["scale"]), column)
        case "fixed", "str" if logical == "uuid":
            return str(uuid.UUID(bytes=held))
        case (("bytes" | "string"), "str") if logical != "decimal":
            return read_text(_text(held), column)
        case "string", ("decimal" | "datetime" | "date") if logical != "uuid":
            return read_text(_text(held), column)
    raise Invalid(f"Avro's {logical or kind} does not go into a column of type {column.type}, or not this one")


def _time_of_day(us: int) -> time:
    if not 0 <= us < 86_400_000_000:
        raise Invalid("no time of day")
    return (EPOCH + timedelta(microseconds=us)).time()


def _text(held: bytes) -> str:
    try:
        return held.decode()
    except UnicodeDecodeError:
        raise Invalid("invalid UTF-8") from None


def _number(held: int, logical: str, column: Column) -> Any:
    kind = column.type.kind
    if kind == "int":
        return held
    if kind == "float" and not logical:
        return float(held)
    if kind == "decimal" and not logical:
        return _decimal(Fraction(held), column)
    if kind == "date" and logical == "date":
        return date_of_day(held)
    zone = column.mark(Zone)
    if kind == "datetime" and logical in LOCAL and zone is not None:
        shown = int(held * UNITS_US[{"millis": "ms", "micros": "us", "nanos": "ns"}[logical.rpartition("-")[2]]] // 1)
        return time_of(utc_of(shown, zone.key))
    if kind == "datetime" and (not logical or logical in TIMES):
        unit = {"timestamp-millis": "ms", "timestamp-micros": "us", "timestamp-nanos": "ns"}.get(
            logical, column.epoch or "ms"
        )
        return time_of(int(held * UNITS_US[unit] // 1))
    raise Invalid(f"{'a local time' if logical in LOCAL else logical or 'a number'} where {kind} is declared")


def _decimal(value: Fraction, column: Column) -> int | Decimal | TooFine:
    """The exact value in a column of decimals or ints."""
    if column.type.kind == "int":
        if value.denominator != 1 or not INT_MIN <= value <= INT_MAX:
            raise Invalid("no 64-bit integer")
        return int(value)
    if abs(value) >= 10 ** (column.type.digits - column.type.scale):
        raise Invalid(f"out of the range of {column.type}")
    scaled = value * 10**column.type.scale
    return decimal_of(int(scaled), column.type.scale) if scaled.denominator == 1 else TOO_FINE
