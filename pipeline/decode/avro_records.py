"""An Avro body to the cells of the declared columns, in plain steps: what gives reasons, and decides where the kernel is not certain.

cells(body) = the kernel's answer, wherever that is certain        a body is read to its last byte; what is not declared is stepped over
"""

from collections.abc import Callable, Sequence
from math import isfinite
from struct import unpack_from
from typing import Any
from uuid import UUID

import numpy as np

from pipeline.base.types import INT_MAX, INT_MIN
from pipeline.decode.json_records import DEPTH_LIMIT
from pipeline.decode.parsers import parser
from pipeline.decode.values import BREACH, TIME_MAX_US, TIME_MIN_US, Breach, Broken
from pipeline.definition.avro import Type
from pipeline.definition.avro_columns import LOCAL_UNITS, NUMBERS, TEXTS, TIME_UNITS, is_json, reading
from pipeline.definition.marks import UNITS, Zone
from pipeline.definition.paths import Node, shown, tree
from pipeline.definition.record import Column

LONG_BYTES = 10
DAY_US = 86_400_000_000
CLOCK_US = 2 * 86_400_000_000  # more than any clock is off UTC
DAYS = (-719_162, 2_932_896)  # 0001-01-01 and 9999-12-31


def reader(type: Type, columns: Sequence[Column]) -> Callable[[bytes], list[Any]]:
    """The function from a body of that writer's type to a cell for each column; raises Broken."""
    wanted = tree({column.name: column.path for column in columns})

    def read(body: bytes) -> list[Any]:
        found = _Body(body, columns)
        found.value(type, wanted, 1)
        if found.at != len(body):
            raise Broken(f"{len(body) - found.at} bytes follow the event")
        return found.cells

    return read


class _Body:
    """One body while it is read: the place, and the cells that were found."""

    def __init__(self, body: bytes, columns: Sequence[Column]) -> None:
        self._body = body
        self._columns = columns
        self._seen: set[tuple[int, str]] = set()
        self.at = 0
        self.cells: list[Any] = [None] * len(columns)

    def value(self, type: Type, want: Node | int | None, level: int) -> None:
        """Read a value of which `want` is declared: what is in it, a column's number, or nothing."""
        if type.kind == "union":
            branch = self._long("a union's branch")
            if not 0 <= branch < len(type.items):
                raise Broken(f"branch {branch} of a union of {len(type.items)}")
            self.value(type.items[branch], want, level)
        elif want is None:
            self._skip(type, level)
        elif type.kind == "null":
            return
        elif isinstance(want, int):
            column = self._columns[want]
            try:
                self.cells[want] = self._column(type, column)
            except Broken as broken:
                raise Broken(f"{column.name}: {broken}") from None
        elif type.kind == "record" and not want.is_array:
            for name, one in type.fields.items():
                self.value(one, want.children.get(name), level + 1)
        elif type.kind == ("array" if want.is_array else "map"):
            self._items(type, want, level)
        else:
            column, depth = self._first(want)
            wanted = "an array" if want.is_array else "a record"
            place = shown(column.path[:depth])
            raise Broken(f"{column.name}: Avro's {type.title} at {place!r} where {wanted} is declared")

    def _first(self, want: Node) -> tuple[Column, int]:
        """A column below a declared node, and the level that the node is on."""
        below = 0
        found: Node | int = want
        while isinstance(found, Node):
            found = next(iter(found.children.values()))
            below += 1
        return self._columns[found], len(self._columns[found].path) - below

    def _take(self, size: int, what: str) -> bytes:
        if size < 0 or size > len(self._body) - self.at:
            raise Broken(f"the event ends inside of {what}")
        self.at += size
        return self._body[self.at - size : self.at]

    def _long(self, what: str) -> int:
        found = 0
        for place in range(LONG_BYTES):
            (byte,) = self._take(1, what)
            found |= (byte & 127) << 7 * place
            if byte < 128:
                if found >= 2**64:
                    break
                return found >> 1 ^ -(found & 1)
        raise Broken(f"a number of more than 64 bits as {what}")

    def _sized(self, what: str) -> bytes:
        return self._take(self._long(f"the size of {what}"), what)

    def _items(self, type: Type, want: Node | None, level: int) -> None:
        """Read an array or a map, of which `want` is declared."""
        if level > DEPTH_LIMIT:
            raise Broken(f"nested deeper than {DEPTH_LIMIT} levels")
        (item,), index = type.items, 0
        children: dict[Any, Node | int] = dict(want.children) if want is not None else {}
        places = sorted(place for place in children if isinstance(place, int))
        size = item.fixed_size()
        while count := self._long(f"the count of {type.title}s"):
            ends = -1
            if count < 0:
                said = self._long("a block's size")
                if not 0 <= said <= len(self._body) - self.at or count == INT_MIN:
                    raise Broken(f"a block of {-count} items in {said} bytes, which the event does not have")
                count, ends = -count, self.at + said
            while count:
                run, child = 1, None
                if type.kind == "map":
                    child = self._entry(id(want), children)
                elif index in children:
                    child = children[index]
                else:
                    later = [place for place in places if place > index]
                    run = min(count, later[0] - index) if later else count
                if child is not None:
                    self.value(item, child, level + 1)
                elif size is not None:
                    self._deep(level + item.height())
                    self._take(size * run, f"an item of {type.title}")
                else:
                    run = 1
                    self._skip(item, level + 1)
                index, count = index + run, count - run
            if ends not in (-1, self.at):
                raise Broken(f"a block that says it ends at byte {ends} and ends at byte {self.at}")

    def _entry(self, owner: int, children: dict[Any, Node | int]) -> Node | int | None:
        """The declared part of the map's entry whose key comes next."""
        key = self._sized("a map's key")
        for name, child in children.items():
            if name.encode() == key:
                if (owner, name) in self._seen:
                    raise Broken(f"key {name!r} twice in one map")
                self._seen.add((owner, name))
                return child
        return None

    def _deep(self, level: int) -> None:
        if level > DEPTH_LIMIT:
            raise Broken(f"nested deeper than {DEPTH_LIMIT} levels")

    def _skip(self, type: Type, level: int) -> None:
        size = type.fixed_size()
        if size is not None:
            self._deep(level + type.height() - 1)
            self._take(size, type.title)
        elif type.kind in ("int", "long", "enum"):
            self._long(type.title)
        elif type.kind in TEXTS:
            self._sized(type.title)
        elif type.kind == "union":
            self.value(type, None, level)
        elif type.kind == "record":
            self._deep(level)
            for one in type.fields.values():
                self._skip(one, level + 1)
        else:
            self._items(type, None, level)

    def _json(self, type: Type) -> Any:
        """A string, number or boolean as JSON would have it."""
        if type.kind == "boolean":
            (byte,) = self._take(1, "a boolean")
            if byte > 1:
                raise Broken(f"byte {byte} as a boolean")
            return byte == 1
        if type.kind in NUMBERS:
            found = self._long(type.title)
            if type.kind == "int" and not -(2**31) <= found < 2**31:
                raise Broken(f"{found} is out of range for Avro's int")
            return found
        return _text(self._sized(type.title))

    def _column(self, type: Type, column: Column) -> Any:
        how = reading(type, column)
        if isinstance(how, str):
            raise Broken(how)
        if is_json(type, column):
            return parser(column)(self._json(type))
        if type.kind == "boolean":
            (byte,) = self._take(1, "a boolean")
            if byte > 1:
                raise Broken(f"byte {byte} as a boolean")
            return byte == 1
        if type.kind in ("float", "double"):
            single = type.kind == "float"
            (real,) = unpack_from("<f" if single else "<d", self._take(4 if single else 8, type.kind))
            if not isfinite(real):
                raise Broken(f"{real} where a float is declared")
            return real + 0.0  # -0.0 + 0.0 is 0.0
        if type.kind in NUMBERS:
            return _number(self._long(type.title), type, column)
        if type.kind == "enum":
            number = self._long("an enum's symbol")
            if not 0 <= number < len(type.symbols):
                raise Broken(f"symbol {number} of an enum of {len(type.symbols)}")
            return type.symbols[number]
        held = self._take(type.size, type.title) if type.kind == "fixed" else self._sized(type.title)
        if column.type.kind in ("bytes", "uuid"):
            return held
        if type.logical == "decimal":
            return decimal_cell(held, type.scale, column)
        if type.kind == "fixed":
            return str(UUID(bytes=held))
        return parser(column)(_text(held))


def _text(held: bytes) -> str:
    try:
        return held.decode()
    except UnicodeDecodeError as error:
        raise Broken(f"invalid UTF-8 at byte {error.start}") from None


def _number(value: int, type: Type, column: Column) -> Any:
    """The cell of an int or long."""
    kind = column.type.kind
    if type.kind == "int" and not -(2**31) <= value < 2**31:
        raise Broken(f"{value} is out of range for Avro's int")
    if kind == "float":
        return float(value)
    if kind == "time":
        found = value * (1000 if type.logical == "time-millis" else 1)
        if not 0 <= found < DAY_US:
            raise Broken(f"{value} is no time of day")
        return found
    if kind == "decimal":
        return _scaled(value, column.type.scale, column)
    if kind == "date":
        if not DAYS[0] <= value <= DAYS[1]:
            raise Broken(f"day {value} is out of range: allowed are the years 1 to 9999")
        return value
    if kind == "datetime":
        if type.logical in LOCAL_UNITS:
            return _shown_by_a_clock(value, LOCAL_UNITS[type.logical], column)
        places = TIME_UNITS.get(type.logical, UNITS[column.epoch or "ms"])
        found = _microseconds(value, places)
        if not TIME_MIN_US <= found <= TIME_MAX_US:
            raise Broken(f"{value} is out of range as a time: allowed are the years 2 to 9999 in UTC")
        return found
    return value


def _microseconds(value: int, places: int) -> int:
    return int(value * 10**places if places >= 0 else value // 10**-places)


def _shown_by_a_clock(value: int, places: int, column: Column) -> int:
    """The moment at which a clock of the column's zone shows that time."""
    zone, shown = column.mark(Zone), _microseconds(value, places)
    assert zone is not None
    if TIME_MIN_US - CLOCK_US <= shown <= TIME_MAX_US + CLOCK_US:
        found, known = zone.clock.utc(np.array([shown], np.int64))
        if not known[0]:
            raise Broken(f"{value} is skipped or repeated by a change of the clocks in {zone.key}")
        if TIME_MIN_US <= found[0] <= TIME_MAX_US:
            return int(found[0])
    raise Broken(f"{value} is out of range as a time: allowed are the years 2 to 9999 in UTC")


def decimal_cell(held: bytes, scale: int, column: Column) -> Any:
    """The cell of a big-endian integer with `scale` decimals."""
    if not held:
        raise Broken("a decimal of no bytes")
    value = int.from_bytes(held, "big", signed=True)
    if column.type.is_decimal:
        return _scaled(value, column.type.scale - scale, column)
    whole, rest = divmod(value, 10**scale)
    if rest:
        raise Broken(f"a decimal of {scale} places that is not whole where an int is declared")
    if not INT_MIN <= whole <= INT_MAX:
        raise Broken("a decimal that is out of range for 64 bits")
    return whole


def _scaled(value: int, shift: int, column: Column) -> int | Breach:
    """value * 10^shift, as values.unscaled judges a number's text."""
    if abs(value) * 10 ** max(shift, 0) >= 10 ** (column.type.digits + max(-shift, 0)):
        raise Broken(
            f"a decimal that is out of range: |value| must be below 1e{column.type.digits - column.type.scale}"
        )
    if shift >= 0:
        return int(value * 10**shift)
    found, rest = divmod(value, 10**-shift)
    return BREACH if rest else int(found)
