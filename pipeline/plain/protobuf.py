"""One Protobuf message as the dict that its JSON form would be, of the fields that columns name; or Invalid with the reason.

    a message written twice is merged, another value written twice is its last, a oneof keeps the member written last

Only what a column's path leads through is looked into. Everything else must be whole on the wire, and is left alone.
"""

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.definition.paths import Path
from pipeline.definition.protobuf_schema import Field, Message, MessageTypes, NoSchema
from pipeline.definition.record import Column
from pipeline.plain.json_text import MAX_DEPTH, Invalid, Number

INTEGERS = {"int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "sfixed32", "fixed64", "sfixed64"}
BYTES_OF = {"fixed32": 4, "sfixed32": 4, "float": 4, "fixed64": 8, "sfixed64": 8, "double": 8}
# Kinds of columns that have their own fields; any other kind reads what may be text or a number in JSON.
READABLE = {
    "int": INTEGERS | {"enum"},
    "decimal": INTEGERS | {"string"},
    "float": INTEGERS | {"float", "double"},
    "str": {"string", "enum"},
    "bool": {"bool"},
    "datetime": INTEGERS | {"string", "google.protobuf.Timestamp"},
    "date": {"string"},
    "bytes": {"bytes"},
}
SCALARS = ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
ANYTHING = INTEGERS | {"string", "enum", "bool"}
Wanted = tuple[Path, Column]  # the rest of a column's path
Raw = tuple[int, int, Any]  # number of a field, wire type, and its varint, bytes, or the end of a group


def unframed(value: bytes) -> tuple[int, tuple[int, ...], bytes]:
    """(schema id, message indexes, message) of a registry's frame. Raises Invalid."""
    if len(value) < 6 or value[0] != 0:
        raise Invalid("no frame of a schema registry")
    id = int.from_bytes(value[1:5], "big")
    if id == 0:
        raise Invalid("schema id 0")
    zigzag, at = _varint(value, 5, 10)
    count = _signed(zigzag)
    if not 0 <= count <= len(value):
        raise Invalid(f"{count} message indexes")
    indexes = []
    for _ in range(count):
        zigzag, at = _varint(value, at, 10)
        indexes.append(_signed(zigzag))
    return id, tuple(indexes) or (0,), value[at:]


def wanted_of(types: MessageTypes, message: Message, columns: Sequence[Column]) -> list[Wanted]:
    """The paths that columns want of a message; raises NoSchema where one cannot have it."""
    wanted = [(column.path, column) for column in columns]
    _check(types, message, wanted)
    return wanted


def fields_of(data: bytes, types: MessageTypes, message: Message, wanted: Sequence[Wanted]) -> dict[str, Any]:
    """The wanted fields of a message, nested as the paths are. Raises Invalid."""
    return _Reading(types, message, wanted).feed(data, 1).shown()


def _check(types: MessageTypes, message: Message, wanted: Sequence[Wanted]) -> None:
    """NoSchema where a path leads to a field that its column cannot hold, or two paths name one field differently."""
    called: dict[tuple[str | int, ...], str] = {}
    for path, column in wanted:
        inside: Message | None = message
        parts, way = list(path), list[str | int]()
        while parts:
            part = parts.pop(0)
            field = inside.names.get(part) if inside is not None and isinstance(part, str) else None
            if inside is None or not isinstance(part, str):
                raise NoSchema(f"{column.name}: the path goes on where nothing is inside")
            if field is None:
                break
            way.append(field.number)
            if called.setdefault(tuple(way), part) != part:
                raise NoSchema(f"{column.name}: {part} is also called {called[tuple(way)]}")
            indexed = bool(parts) and isinstance(parts[0], int)
            if field.is_map or field.type == "group" or field.repeated != indexed or (indexed and parts[0] == -1):
                raise NoSchema(f"{column.name}: the path does not fit field {part}")
            way += [parts.pop(0)] if indexed else []
            inside = types.messages[field.message] if field.type == "message" else None
            if not parts and _leaf_type(types, field) not in READABLE.get(column.type.kind, ANYTHING):
                raise NoSchema(f"{column.name}: a column {column.type} cannot hold field {part}")


def _leaf_type(types: MessageTypes, field: Field) -> str:
    return _wrapped(types, field).type if _is_wrapper(field) else field.message or field.type


def _is_wrapper(field: Field) -> bool:
    return field.message in {f"google.protobuf.{name}Value" for name in SCALARS}


def _wrapped(types: MessageTypes, field: Field) -> Field:
    return types.messages[field.message].names["value"]


class _Reading:
    """Knowledge of one message, while its bytes come in."""

    def __init__(self, types: MessageTypes, message: Message, wanted: Sequence[Wanted], whole: bool = False) -> None:
        self.types, self.whole = types, whole
        self.fields: dict[int, Field] = message.numbers
        self.wanted: dict[int, list[Wanted]] = {}
        self.shown_as: dict[int, str] = {}
        for path, column in wanted:
            field = message.names.get(str(path[0]))
            if field is not None:
                self.wanted.setdefault(field.number, []).append((path[1:], column))
                self.shown_as[field.number] = str(path[0])
        self.held: dict[int, Any] = {}

    def feed(self, data: bytes, depth: int) -> "_Reading":
        for number, wire, payload in _raw(data, depth):
            field = self.fields.get(number)
            if field is None:
                continue
            if wire == _wire(field.type):
                if field.oneof:
                    for other in self.fields.values():
                        if other.oneof == field.oneof and other is not field:
                            self.held.pop(other.number, None)
                if number in self.wanted:
                    self._take(field, payload, depth)
            elif field.repeated and wire == 2 and number in self.wanted:
                for one in _unpacked(payload, field.type):
                    self._take(field, one, depth)
        return self

    def _take(self, field: Field, payload: Any, depth: int) -> None:
        wanted = self.wanted[field.number]
        if not field.repeated:
            self.held[field.number] = self._one(self.held.get(field.number), field, payload, wanted, depth)
            return
        elements = self.held.setdefault(field.number, [])
        inside = [(path[1:], column) for path, column in wanted if path[0] == len(elements)]
        elements.append(self._one(None, field, payload, inside, depth) if inside else None)

    def _one(self, before: Any, field: Field, payload: Any, wanted: list[Wanted], depth: int) -> Any:
        """A value, as far as its bytes say what it is."""
        if field.type == "message":
            if before is None:
                inside = self.types.messages[field.message]
                whole = not wanted[0][
                    0
                ]  # the column reads the message itself: a Timestamp, or one that stands for a scalar
                parts = inside.names if whole else {}
                wanted = [((name,), wanted[0][1]) for name in parts] or wanted
                before = _Reading(self.types, inside, wanted, whole)
            return before.feed(payload, depth + 1)
        if field.type == "string":
            try:
                return payload.decode("utf-8")
            except UnicodeDecodeError:
                raise Invalid(f"{field.name}: invalid UTF-8") from None
        return payload

    def shown(self) -> dict[str, Any]:
        """The values by the names that paths have for them. Raises Invalid where one has no JSON form."""
        found: dict[str, Any] = {}
        for number, wanted in self.wanted.items():
            field, name, column = self.fields[number], self.shown_as[number], wanted[0][1]
            if field.repeated and number in self.held:
                of = {path[0]: column for path, column in wanted}
                found[name] = [
                    None if one is None else _value(field, one, of[n]) for n, one in enumerate(self.held[number])
                ]
            elif number in self.held:
                found[name] = _value(field, self.held[number], column)
            elif field.implicit:
                found[name] = _value(field, {"string": "", "bytes": b""}.get(field.type, 0), column)
        return found


def _value(field: Field, held: Any, column: Column) -> Any:
    if isinstance(held, _Reading):
        if not held.whole:
            return held.shown()
        return _time(held) if field.message == "google.protobuf.Timestamp" else held.shown().get("value")
    if field.type == "string":
        return None if held == "" and field.implicit and column.type.kind != "str" else held
    if field.type == "bytes":
        return b64encode(held).decode()
    if field.type == "bool":
        return held != 0
    if field.type in ("float", "double"):
        return _float(held, field.type)
    number = _integer(held, field.type)
    if field.type == "enum" and column.type.kind != "int":
        if number not in dict(field.enum):
            raise Invalid(f"{field.name}: {number} has no name")
        return dict(field.enum)[number]
    if number > 2**63 - 1:
        raise Invalid(f"{field.name}: out of the range of a 64-bit integer")
    return Number(str(number))


def _wire(type: str) -> int:
    if type in BYTES_OF:
        return 5 if BYTES_OF[type] == 4 else 1
    return 3 if type == "group" else 2 if type in ("string", "bytes", "message") else 0


def _raw(data: bytes, depth: int) -> Iterable[Raw]:
    """Every field of a message, in its order; of a group nothing but that it was there. Raises Invalid where the wire is broken."""
    at = 0
    while at < len(data):
        number, wire, at = _tag(data, at)
        if wire == 4:
            raise Invalid("a group ends that did not begin")
        payload, at = _payload(data, at, number, wire, depth)
        yield number, wire, payload


def _payload(data: bytes, at: int, number: int, wire: int, depth: int) -> tuple[Any, int]:
    if wire == 0:
        return _varint(data, at, 10)
    if wire == 3:
        if depth + 1 > MAX_DEPTH:
            raise Invalid(f"nested deeper than {MAX_DEPTH}")
        while True:
            inner, wire, at = _tag(data, at)
            if wire == 4:
                if inner != number:
                    raise Invalid("another group ends than is open")
                return None, at
            _, at = _payload(data, at, inner, wire, depth + 1)
    if wire == 2:
        size, at = _varint(data, at, 5)
        if size > 2**31 - 1:
            raise Invalid("too long")
    elif wire in (1, 5):
        size = 8 if wire == 1 else 4
    else:
        raise Invalid(f"wire type {wire}")
    if at + size > len(data):
        raise Invalid("cut off")
    return data[at : at + size], at + size


def _tag(data: bytes, at: int) -> tuple[int, int, int]:
    tag, at = _varint(data, at, 5)
    if tag >= 2**32 or tag >> 3 == 0:
        raise Invalid(f"field number {tag >> 3}")
    return tag >> 3, tag & 7, at


def _varint(data: bytes, at: int, most: int) -> tuple[int, int]:
    groups: list[int] = []
    while True:
        if at >= len(data) or len(groups) == most:
            raise Invalid("a varint without an end")
        groups.append(data[at] & 127)
        at += 1
        if data[at - 1] < 128:
            break
    value = sum(group << 7 * place for place, group in enumerate(groups))
    if value >= 2**64:
        raise Invalid("a varint of more than 64 bits")
    return value, at


def _unpacked(payload: bytes, type: str) -> Iterable[Any]:
    at = 0
    while at < len(payload):
        value, at = _payload(payload, at, 0, _wire(type), 1)
        yield value


def _signed(zigzag: int) -> int:
    return -(zigzag + 1) // 2 if zigzag % 2 else zigzag // 2


def _integer(held: Any, type: str) -> int:
    """The integer that a varint, or bytes, are in a field of that type."""
    if isinstance(held, bytes):
        return int.from_bytes(held, "little", signed=type.startswith("s"))
    number = int(held)
    bits: int = 64 if type.endswith("64") else 32
    number -= (number >> bits) << bits
    if type.startswith("sint"):
        return _signed(number)
    return number if type.startswith("uint") or number < 2 ** (bits - 1) else number - 2**bits


def _float(held: Any, type: str) -> Number:
    """The value of IEEE 754's bits, taken apart by hand."""
    bits = int.from_bytes(held, "little") if isinstance(held, bytes) else 0
    digits, width = (23, 8) if type == "float" else (52, 11)
    fraction, exponent = bits % 2**digits, bits >> digits & (1 << width) - 1
    if exponent == (1 << width) - 1:
        raise Invalid("no finite float")
    size = math.ldexp(fraction + (2**digits if exponent else 0), max(exponent, 1) - ((1 << width - 1) - 1) - digits)
    return Number(repr(-size if bits >> digits + width else size))


def _time(held: _Reading) -> str:
    """A Timestamp as an ISO 8601 text, floored to the microsecond."""
    parts = {field.name: held.held.get(field.number, 0) for field in held.fields.values()}
    seconds, nanos = _integer(parts["seconds"], "int64"), _integer(parts["nanos"], "int32")
    if not 0 <= nanos < 10**9:
        raise Invalid(f"{nanos} nanoseconds")
    try:
        found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise Invalid(f"{seconds} seconds from 1970 are beyond every year") from None
    return found.isoformat()
