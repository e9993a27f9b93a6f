"""Protobuf messages to columns, record by record: what decides where pipeline.decode.protobuf_blocks is not certain.

    in = decoded + rejected + tombstones        a message is what protobuf's own parser makes of it; then its fields are read as columns

Of a value given twice the last one counts, a message given twice is merged, a oneof has the member that came last. What nobody declared
is skipped by its wire type, as is a declared field with another wire type than its own. At most DEPTH_LIMIT levels of messages and groups.
"""

import base64
import math
import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.base.types import INT_MAX
from pipeline.decode.by_record import decoded_by_record
from pipeline.decode.decoded import Decoded
from pipeline.decode.json_records import DEPTH_LIMIT
from pipeline.decode.parsers import parser
from pipeline.decode.protobuf_frames import bare, format_of, frame, framed
from pipeline.decode.schemas import Schemas
from pipeline.decode.values import TIME_MAX_US, TIME_MIN_US, Broken
from pipeline.definition.protobuf_binding import (
    DELIMITED,
    END_GROUP,
    FIXED32,
    FIXED64,
    START_GROUP,
    VARINT,
    Array,
    Bound,
    Leaf,
    wire_of,
)
from pipeline.definition.protobuf_schema import Field
from pipeline.definition.record import in_event
from pipeline.definition.source import Source

FIXED = {"fixed32": "<I", "sfixed32": "<i", "float": "<f", "fixed64": "<Q", "sfixed64": "<q", "double": "<d"}
SECONDS_MIN, SECONDS_MAX = -62_135_596_800, 253_402_300_799
SECONDS, NANOS = 1, 2
State = dict[int, Any]  # what is known of a message, by the numbers of its fields


class _Wire:
    """The bytes of a record that are not read yet."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def varint(self, most: int = 10) -> int:
        found = 0
        for place in range(most):
            byte = self.take(1, "a varint")[0]
            found |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if found >> 64:
                    break
                return found
        raise Broken(f"a varint of more than {64 if most == 10 else 32} bits at byte {self.at}")

    def take(self, size: int, what: str) -> bytes:
        if size > len(self.data) - self.at:
            raise Broken(f"cut off: {what} of {size} bytes at byte {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def delimited(self) -> bytes:
        size = self.varint(5)
        if size >= 2**31:
            raise Broken(f"a length of {size} at byte {self.at}")
        return self.take(size, "a value")

    def tag(self) -> tuple[int, int]:
        """(number, wire type)."""
        found = self.varint(5)
        if found >> 32 or found < 8:
            raise Broken(f"field number {found >> 3} at byte {self.at}")
        return found >> 3, found & 7

    def skip(self, number: int, wire: int, depth: int) -> None:
        """Skip a value whose tag was read, in a message at level `depth`."""
        if wire == VARINT:
            self.varint()
        elif wire == DELIMITED:
            self.delimited()
        elif wire in (FIXED32, FIXED64):
            self.take(4 if wire == FIXED32 else 8, "a number")
        elif wire == START_GROUP:
            self._group(number, depth)
        else:
            raise Broken(f"field {number} has wire type {wire} at byte {self.at}")

    def _group(self, number: int, depth: int) -> None:
        open_groups = [number]
        while open_groups:
            if depth + len(open_groups) > DEPTH_LIMIT:
                raise Broken(f"nested deeper than {DEPTH_LIMIT} levels")
            number, wire = self.tag()
            if wire == START_GROUP:
                open_groups.append(number)
            elif wire == END_GROUP:
                if open_groups.pop() != number:
                    raise Broken(f"group {number} ends at byte {self.at}, and another is open")
            else:
                self.skip(number, wire, depth)

    def value(self, field: Field) -> Any:
        """One value of a field that is no message, as its type says."""
        if field.type in FIXED:
            form = FIXED[field.type]
            return struct.unpack(form, self.take(struct.calcsize(form), "a number"))[0]
        if wire_of(field.type) == VARINT:
            return _integer(self.varint(), field.type)
        held = self.delimited()
        if field.type == "bytes":
            return held
        try:
            return held.decode()
        except UnicodeDecodeError as error:
            raise Broken(f"{field.name}: invalid UTF-8 at byte {error.start} of it") from None


def _integer(raw: int, type: str) -> int | bool:
    if type == "bool":
        return raw != 0
    if type in ("uint64", "int64", "sint64"):
        bits = 64
    else:
        raw, bits = raw & 0xFFFFFFFF, 32
    if type.startswith("sint"):
        return raw >> 1 ^ -(raw & 1)
    return raw if type.startswith("uint") or raw < 1 << bits - 1 else raw - (1 << bits)


def _merge(state: State, bound: Bound, wire: _Wire, depth: int) -> None:
    """Put what is written of a message into what is known of it."""
    members = {field.number: fields for fields in bound.oneofs.values() for field in fields}
    while wire.at < len(wire.data):
        number, how = wire.tag()
        one = bound.fields.get(number)
        own = members.get(number, ())
        if any(how == wire_of(field.type) for field in own if field.number == number):
            for field in own:
                if field.number != number:
                    state.pop(field.number, None)
        if isinstance(one, Array):
            _elements(state.setdefault(number, {}), one, wire, how, depth)
        elif one is None or how != (DELIMITED if isinstance(one, Bound) else wire_of(one.field.type)):
            wire.skip(number, how, depth)
        else:
            state[number] = _value(state.get(number), one, wire, depth)


def _value(before: Any, one: Leaf | Bound, wire: _Wire, depth: int) -> Any:
    """The value, with what was known of it before."""
    if isinstance(one, Leaf) and one.field.type != "message":
        return wire.value(one.field)
    known: State = {} if before is None else before
    inside = _Wire(wire.delimited(), 0)
    if isinstance(one, Bound):
        _merge(known, one, inside, depth + 1)
        return known
    while inside.at < len(inside.data):  # a Timestamp
        number, how = inside.tag()
        if how == VARINT and number in (SECONDS, NANOS):
            known[number] = _integer(inside.varint(), "int64" if number == SECONDS else "int32")
        else:
            inside.skip(number, how, depth + 1)
    return known


def _elements(known: State, array: Array, wire: _Wire, how: int, depth: int) -> None:
    """One element of a repeated field, or many that are packed; known: the values at declared places, and under -1 how many there were."""
    alone = wire_of(array.field.type)
    if how == alone:
        known[-1] = known.get(-1, 0) + 1
        _element(known, array, wire, how, depth)
    elif how == DELIMITED:
        inside = _Wire(wire.delimited(), 0)
        while inside.at < len(inside.data):
            known[-1] = known.get(-1, 0) + 1
            _element(known, array, inside, alone, depth)
    else:
        wire.skip(array.field.number, how, depth)


def _element(known: State, array: Array, wire: _Wire, how: int, depth: int) -> None:
    place = known[-1] - 1
    if place in array.elements:
        known[place] = _value(None, array.elements[place], wire, depth)
    else:
        wire.skip(array.field.number, how, depth)


def _found(state: State, bound: Bound | Array) -> Iterator[tuple[Leaf, Any]]:
    """The values that are there, or have a default."""
    for key, one in (bound.fields if isinstance(bound, Bound) else bound.elements).items():
        if isinstance(one, Leaf):
            if key in state:
                yield one, state[key]
            elif isinstance(bound, Bound) and one.default:
                yield (
                    one,
                    {"string": "", "bool": False, "float": 0.0, "double": 0.0, "bytes": b""}.get(one.field.type, 0),
                )
        elif key in state:
            yield from _found(state[key], one)


def _read(leaf: Leaf, value: Any) -> Any:
    """A value as its column's Python form; Broken."""
    kind, type = leaf.field.type, leaf.column.type.kind
    if value == "" and leaf.empty_is_null:
        return None
    if kind == "message":
        return _time(value.get(SECONDS, 0), value.get(NANOS, 0))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Broken(f"{value} where a float is declared")
        return value + 0.0
    if kind in ("uint64", "fixed64") and value > INT_MAX:
        raise Broken(f"{value} is out of range for 64 bits with a sign")
    if kind == "enum" and type != "int":
        name = dict(leaf.field.enum).get(value)
        if name is None:
            raise Broken(
                f"{value} is no number of the enumeration; it has {', '.join(n for _, n in leaf.field.enum[:20])}"
            )
        value = name
    if isinstance(value, bytes):
        value = base64.b64encode(value).decode()  # as in JSON
    return parser(leaf.column)(value)


def _time(seconds: int, nanos: int) -> int:
    if not SECONDS_MIN <= seconds <= SECONDS_MAX or not 0 <= nanos < 10**9:
        raise Broken(f"{seconds} seconds and {nanos} nanoseconds are no google.protobuf.Timestamp")
    found = seconds * 1_000_000 + nanos // 1000
    if not TIME_MIN_US <= found <= TIME_MAX_US:
        raise Broken(f"{seconds} seconds from 1970 are out of range: allowed are the years 2 to 9999 in UTC")
    return found


def cells(source: Source, value: bytes, schemas: Schemas, count: int) -> list[Any]:
    """One record's values in the columns of its event; Broken with the reason."""
    bound: Bound | str
    if format_of(source).schema is not None:
        bound, at = bare(source), 0
    else:
        id, indexes, at = frame(value)
        bound = framed(source, id, indexes, schemas)
    if isinstance(bound, str):
        raise Broken(bound)
    state: State = {}
    _merge(state, bound, _Wire(value, at), 1)
    found: list[Any] = [None] * count
    for leaf, given in sorted(_found(state, bound), key=lambda one: one[0].number):
        try:
            found[leaf.number] = _read(leaf, given)
        except Broken as broken:
            raise Broken(f"{leaf.column.name}: {broken}") from None
    return found


def decode_records(source: Source, values: pa.Array, schemas: Schemas) -> Decoded:
    """Decode a binary array of messages (null: tombstone, neither decoded nor rejected)."""
    declared = in_event(source.columns)
    return decoded_by_record(declared, values, lambda value: cells(source, value, schemas, len(declared)))
