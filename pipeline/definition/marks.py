"""Marks stand beside the column that they explain: where its value lies, and how it is written there. They restrict nothing.

    value(column) = read(marks, event or record)        two columns with equal marks and types read alike

At says where in the event; RecordKey, RecordTime and Header say that it is not in the event at all.
"""

import unicodedata
from dataclasses import dataclass

from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.definition.paths import parse
from pipeline.definition.zones import Clock, clock, zone_info

# Unicode's White_Space, which does not change from version to version
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
UNITS = {"s": 6, "ms": 3, "us": 0, "ns": -3}  # unit -> how many decimal places a microsecond is away


CASES = (None, "lower", "upper")
FORMS = (None, "NFC", "NFD", "NFKC", "NFKD")


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
class FromText(Mark):
    """A number or a bool that may be written as text: "12", " 1.50 ", "true", "no", and a bool as 0 or 1.

    A number as text has the form of JSON's, a bool is true, t, yes, y, on, 1, or false, f, no, n, off, 0 in any case; blanks around
    it are left out, and an empty text is null. The usual mistake: a comma for the point, which is rejected.
    """

    def check(self, column: str, type: ColumnType) -> None:
        is_for(self, column, type, "int", "decimal", "wide", "float", "bool")


@dataclass(frozen=True)
class Text(Mark):
    """Text becomes one form before constraints, keys and identities see it: Text(strip="\\x00", trim=True, case="lower", form="NFC").

    In this order: each character of `strip` is taken out, wherever it stands; `form` is Unicode's NFC, NFD, NFKC or NFKD; `case` is
    "lower" or "upper" as Unicode says, so that ß becomes SS; `trim` leaves out white space at both ends. Only with `strip="\\x00"`
    may an event's text have U+0000. The usual mistake: identities in another case than that of the same source's other producers.
    """

    strip: str = ""
    trim: bool = False
    case: str | None = None
    form: str | None = None

    def __post_init__(self) -> None:
        sound = isinstance(self.strip, str) and not any("\ud800" <= c <= "\udfff" for c in self.strip)
        if not sound or not isinstance(self.trim, bool) or self.case not in CASES or self.form not in FORMS:
            raise DefinitionError(
                f"{self}: allowed are characters to strip, trim=True or False, case {' or '.join(map(repr, CASES[1:]))},"
                f" form {', '.join(map(repr, FORMS[1:]))}"
            )
        if not (self.strip or self.trim or self.case or self.form):
            raise DefinitionError("Text() changes nothing; give strip, trim, case or form")

    def check(self, column: str, type: ColumnType) -> None:
        is_for(self, column, type, "str")

    def canonical(self) -> str:
        """With the version of Unicode where form or case depend on it."""
        return f"{self!r}{f' of Unicode {unicodedata.unidata_version}' if self.form or self.case else ''}"


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
