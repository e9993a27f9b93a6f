"""Marks stand beside the column that they explain: where its value lies, and how it is written there. They restrict nothing.

    value(column) = read(marks, event or record)        two columns with equal marks and types read alike

At says where in the event; RecordKey, RecordTime and Header say that it is not in the event at all.
"""

from dataclasses import dataclass

from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.definition.paths import parse
from pipeline.definition.zones import Clock, clock, zone_info

UNITS = {"s": 6, "ms": 3, "us": 0, "ns": -3}  # unit -> how many decimal places a microsecond is away


class Mark(metaclass=Declared):
    """A place or a way in which a column is read; no predicate on its values."""

    def check(self, column: str, type: ColumnType) -> None:
        """Raise DefinitionError when this mark cannot stand beside a column of that type."""

    def canonical(self) -> str:
        """Canonical form in a fingerprint: equal where two marks read alike."""
        return repr(self)


def is_for(mark: Mark, column: str, type: ColumnType, *kinds: str) -> None:
    """DefinitionError unless the column is of one of these kinds."""
    if type.kind not in kinds:
        raise DefinitionError(f"{column}: {mark} stands beside a column of type {type}; it is for {', '.join(kinds)}")


@dataclass(frozen=True)
class At(Mark):
    """A path to the value: names with dots between them, [n] for the n-th element of an array, from 0.

    The usual mistake: a name that has a dot itself, without quotes.
    """

    path: str

    def __post_init__(self) -> None:
        parse(self.path)


@dataclass(frozen=True)
class Epoch(Mark):
    """A datetime that is sent as a number counts from 1970 in this unit: "s", "ms", "us" or "ns"; decimals and digits as text too.

    Finer than a microsecond is floored. Without the mark a number is whole milliseconds, and seconds would land in January 1970.
    """

    unit: str

    def __post_init__(self) -> None:
        if not isinstance(self.unit, str) or self.unit not in UNITS:
            raise DefinitionError(f"Epoch({self.unit!r}): allowed are {', '.join(map(repr, UNITS))}")

    def check(self, column: str, type: ColumnType) -> None:
        is_for(self, column, type, "datetime")


@dataclass(frozen=True)
class Zone(Mark):
    """A datetime that is sent as text without an offset is what a clock in this zone shows: Zone("Europe/Berlin").

    A time that a change of the clocks skips or repeats rejects its record. One that has its offset is taken as it is.
    """

    key: str

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            raise DefinitionError(f'Zone({self.key!r}): allowed is the name of a zone, as Zone("Europe/Berlin")')
        zone_info(self.key)

    @property
    def clock(self) -> Clock:
        """The zone's clock."""
        return clock(self.key)

    def check(self, column: str, type: ColumnType) -> None:
        is_for(self, column, type, "datetime")

    def canonical(self) -> str:
        return f"{self!r} {self.clock.version}"


@dataclass(frozen=True)
class Lenient(Mark):
    """A datetime that is sent as text may have a second 60, a leap second: it is the next minute's 0."""

    def check(self, column: str, type: ColumnType) -> None:
        is_for(self, column, type, "datetime")


class FromRecord(Mark):
    """A place outside of the event: the Kafka record that carries it."""


@dataclass(frozen=True)
class RecordKey(FromRecord):
    """The record's key, as UTF-8 text, or as the digits of an int. No key is null.

    The usual mistake: a key that is JSON or Avro itself, which then stands in the column with its quotes.
    """

    def check(self, column: str, type: ColumnType) -> None:
        is_for(self, column, type, "str", "int")


@dataclass(frozen=True)
class RecordTime(FromRecord):
    """The record's timestamp, to the millisecond; a record without one (-1) is null."""

    def check(self, column: str, type: ColumnType) -> None:
        is_for(self, column, type, "datetime")


@dataclass(frozen=True)
class Header(FromRecord):
    """The record's last header of that name, as UTF-8 text, or as the digits of an int. None of it, or one without a value, is null."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise DefinitionError(f'Header({self.name!r}): allowed is the name of a header, as Header("trace-id")')

    def check(self, column: str, type: ColumnType) -> None:
        is_for(self, column, type, "str", "int")
