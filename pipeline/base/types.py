"""Column types: what a value is in a record, in Arrow, in Postgres.

Invariant: the type of a column decides its equality, order and bytes; no two values that compare equal have different bytes
(-0.0 is stored as 0.0; NaN and infinities do not exist; a decimal is an integer of at most 18 digits at a fixed scale).
"""

import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import cache
from typing import Any

import pyarrow as pa

DECIMAL_DIGITS = 18
DECIMAL_LIMIT = 10**DECIMAL_DIGITS  # |unscaled| < DECIMAL_LIMIT: fits int64, and 2**63 of them fit 128 bits
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
KEY_BYTES = 2000  # UTF-8 bytes of all text key columns of a group together: a Postgres index entry holds 2,704
# Windows of up to a year align below their event, and Python's datetime ends at 9999: both ends stay inside it.
TIME_MIN = datetime(2, 1, 1, tzinfo=UTC)
TIME_MAX = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
TEXT = 'text COLLATE "C"'  # order by code point, as Arrow and Python do

EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)  # decimal's default of 28 digits would round
KINDS = {"int", "decimal", "float", "str", "bool", "datetime", "date"}


def is_text(value: str) -> bool:
    """True when Postgres and UTF-8 can hold it: no U+0000, no half of a surrogate pair."""
    return "\x00" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


@cache
def _arrow(kind: str, scale: int) -> pa.DataType:
    types: dict[str, pa.DataType] = {
        "int": pa.int64(),
        "decimal": pa.decimal128(DECIMAL_DIGITS, scale),
        "float": pa.float64(),
        "str": pa.string(),
        "bool": pa.bool_(),
        "datetime": pa.timestamp("us", "UTC"),
        "date": pa.date32(),
    }
    return types[kind]


@dataclass(frozen=True)
class ColumnType:
    """`kind` is one of int, decimal, float, str, bool, datetime, date; `scale` is the number of decimals (decimal only, else 0)."""

    kind: str
    scale: int = 0

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type in typed batches and in the lake."""
        return _arrow(self.kind, self.scale)

    @property
    def postgres(self) -> str:
        """The SQL type of a column that holds such values."""
        return {
            "int": "bigint",
            "decimal": f"numeric({DECIMAL_DIGITS}, {self.scale})",
            "float": "double precision",
            "str": TEXT,
            "bool": "boolean",
            "datetime": "timestamptz",
            "date": "date",
        }[self.kind]

    def accepts(self, value: Any) -> bool:
        """True when a Python value (a bound, an option, a default) is a value of this type, exactly."""
        if isinstance(value, bool):
            return self.kind == "bool"
        if self.kind == "int":
            return isinstance(value, int) and INT_MIN <= value <= INT_MAX
        if self.kind == "decimal":
            return isinstance(value, (int, Decimal)) and self._fits_decimal(Decimal(value))
        if self.kind == "float":
            return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max and float(value) == value
        if self.kind == "datetime":
            return isinstance(value, datetime) and value.tzinfo is not None and TIME_MIN <= value <= TIME_MAX
        if self.kind == "date":
            return isinstance(value, date) and not isinstance(value, datetime)
        return isinstance(value, str) and self.kind == "str" and is_text(value)

    def _fits_decimal(self, value: Decimal) -> bool:
        if not value.is_finite() or value.adjusted() > DECIMAL_DIGITS:
            return False
        scaled = value.scaleb(self.scale, EXACT)
        return scaled == scaled.to_integral_value() and abs(scaled) < DECIMAL_LIMIT

    def __str__(self) -> str:
        return f"decimal({DECIMAL_DIGITS}, {self.scale})" if self.kind == "decimal" else self.kind


INT = ColumnType("int")
TIME = ColumnType("datetime")
