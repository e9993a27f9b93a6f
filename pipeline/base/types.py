"""Column types: what a value is in a record, in Arrow, in Postgres.

Invariant: the type of a column decides its equality, order and bytes; no two values that compare equal have different bytes
(-0.0 is stored as 0.0; NaN and infinities do not exist; a decimal is an integer of at most 18 digits at a fixed scale, a wide one of at
most 38). Times of day, bytes and UUIDs order alike in Python, Arrow and Postgres: by microseconds, by bytes.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import cache
from typing import Any
from uuid import UUID

import pyarrow as pa

DECIMAL_DIGITS = 18
DECIMAL_LIMIT = 10**DECIMAL_DIGITS  # |unscaled| < DECIMAL_LIMIT: fits int64, and 2**63 of them fit 128 bits
WIDE_DIGITS = 38  # |unscaled| < 10**38 < 2**127
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
KEY_BYTES = (
    2000  # bytes of all keys of text (in UTF-8) and bytes of a group together: a Postgres index entry holds 2,704
)
# Windows of up to a year align below their event, and Python's datetime ends at 9999: both ends stay inside it.
TIME_MIN = datetime(2, 1, 1, tzinfo=UTC)
TIME_MAX = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
TEXT = 'text COLLATE "C"'  # order by code point, as Arrow and Python do

EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)  # decimal's default of 28 digits would round
KINDS = ("int", "decimal", "wide", "float", "str", "bytes", "uuid", "bool", "datetime", "date", "time")
CODED = {"int", "decimal", "bool", "datetime", "date", "time"}  # int64 order and compare as these values do


def is_text(value: str) -> bool:
    """True when Postgres and UTF-8 can hold it: no U+0000, no half of a surrogate pair."""
    return "\x00" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


@cache
def _arrow(kind: str, scale: int, digits: int) -> pa.DataType:
    types: dict[str, pa.DataType] = {
        "int": pa.int64(),
        "decimal": pa.decimal128(DECIMAL_DIGITS, scale),
        "wide": pa.decimal128(digits, scale),
        "float": pa.float64(),
        "str": pa.string(),
        "bytes": pa.binary(),
        "uuid": pa.binary(16),
        "bool": pa.bool_(),
        "datetime": pa.timestamp("us", "UTC"),
        "date": pa.date32(),
        "time": pa.time64("us"),
    }
    return types[kind]


@dataclass(frozen=True)
class ColumnType:
    """`kind` is one of KINDS; `scale` is the number of decimals (decimal and wide only, else 0), `digits` that of all (of a wide one)."""

    kind: str
    scale: int = 0
    digits: int = DECIMAL_DIGITS

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type in typed batches and in the lake."""
        return _arrow(self.kind, self.scale, self.digits)

    @property
    def coded(self) -> bool:
        """True when its values have int64 codes (pipeline.columns.arrays)."""
        return self.kind in CODED

    @property
    def is_decimal(self) -> bool:
        """True for a decimal of either width."""
        return self.kind in ("decimal", "wide")

    @property
    def postgres(self) -> str:
        """The SQL type of a column that holds such values."""
        return {
            "int": "bigint",
            "decimal": f"numeric({self.digits}, {self.scale})",
            "wide": f"numeric({self.digits}, {self.scale})",
            "float": "double precision",
            "str": TEXT,
            "bytes": "bytea",
            "uuid": "uuid",
            "bool": "boolean",
            "datetime": "timestamptz",
            "date": "date",
            "time": "time",
        }[self.kind]

    def accepts(self, value: Any) -> bool:
        """True when a Python value (a bound, an option, a default) is a value of this type, exactly."""
        if isinstance(value, bool):
            return self.kind == "bool"
        if self.kind == "int":
            return isinstance(value, int) and INT_MIN <= value <= INT_MAX
        if self.is_decimal:
            return isinstance(value, (int, Decimal)) and self._fits_decimal(Decimal(value))
        if self.kind == "float":
            return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max and float(value) == value
        if self.kind == "datetime":
            return isinstance(value, datetime) and value.tzinfo is not None and TIME_MIN <= value <= TIME_MAX
        if self.kind == "date":
            return isinstance(value, date) and not isinstance(value, datetime)
        if self.kind == "time":
            return isinstance(value, time) and value.tzinfo is None
        if self.kind in ("bytes", "uuid"):
            return isinstance(value, bytes if self.kind == "bytes" else UUID)
        return isinstance(value, str) and self.kind == "str" and is_text(value)

    def _fits_decimal(self, value: Decimal) -> bool:
        if not value.is_finite() or value.adjusted() > self.digits:
            return False
        scaled = value.scaleb(self.scale, EXACT)
        return scaled == scaled.to_integral_value() and scaled.copy_abs() < 10**self.digits

    def stored(self, value: Any) -> Any:
        """A value that it accepts, as Arrow and the layers hold it: a UUID as its 16 bytes."""
        return value.bytes if isinstance(value, UUID) else value

    def __str__(self) -> str:
        return f"decimal({self.digits}, {self.scale})" if self.is_decimal else self.kind


INT = ColumnType("int")
TIME = ColumnType("datetime")
