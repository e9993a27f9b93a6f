"""Constraints stand beside the column they bind: Annotated[Decimal | None, Scale(2), Between(-80, 140), Nullable()].

    kept(value) = value              if it keeps every constraint of its column
                = the remedy's value else: none -> the record is rejected, Nullable -> null, Clip -> the nearest bound,
                                     Default(v) -> v (which also stands in for a missing value)

A value of the wrong JSON type (or NaN, a naive time, text with U+0000) breaks its column's *type*, not a constraint: no remedy
applies, the record is rejected. Scale counts as a constraint. Clip mends Between alone.
"""

import re
from dataclasses import dataclass
from typing import Any

from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError
from pipeline.base.types import WIDE_DIGITS, ColumnType


class Constraint(metaclass=Declared):
    """A predicate on one column's values."""

    def check(self, column: str, type: ColumnType) -> None:
        """Raise DefinitionError when this constraint cannot bind a column of that type."""


class Remedy(metaclass=Declared):
    """Treatment of a value that breaks a constraint of its column; without one, its record is rejected."""


def _is_for(constraint: object, column: str, type: ColumnType, kinds: tuple[str, ...]) -> None:
    if type.kind not in kinds:
        raise DefinitionError(
            f"{constraint} stands beside column {column!r} of type {type}; it binds only columns of type {', '.join(kinds)}"
        )


@dataclass(frozen=True)
class Scale(Constraint):
    """A Decimal has at most `digits` decimals, 0 to 12, trailing zeros aside, and 18 digits in all; this or Precision is beside each."""

    digits: int

    def __post_init__(self) -> None:
        if type(self.digits) is not int or not 0 <= self.digits <= 12:
            raise DefinitionError(f"Scale({self.digits!r}): allowed are whole numbers from 0 to 12")

    def check(self, column: str, type: ColumnType) -> None:
        _is_for(self, column, type, ("decimal",))


@dataclass(frozen=True)
class Precision(Constraint):
    """A Decimal has at most `digits` digits in all, 1 to 38, `decimals` of them behind the point, trailing zeros aside.

    As SQL's numeric(digits, decimals). The usual mistake: to take it where Scale(n) would do, which is computed in half the width.
    """

    digits: int
    decimals: int

    def __post_init__(self) -> None:
        if type(self.digits) is not int or not 1 <= self.digits <= WIDE_DIGITS:
            raise DefinitionError(f"{self}: allowed are whole numbers of digits in all from 1 to {WIDE_DIGITS}")
        if type(self.decimals) is not int or not 0 <= self.decimals <= self.digits:
            raise DefinitionError(f"{self}: allowed are whole numbers of decimals from 0 to the digits in all")

    def check(self, column: str, type: ColumnType) -> None:
        _is_for(self, column, type, ("wide",))


@dataclass(frozen=True)
class Between(Constraint):
    """low <= value <= high: closed on both ends, as SQL's BETWEEN. Either end may be None (open)."""

    low: Any = None
    high: Any = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise DefinitionError("Between() without a bound allows everything; give low, high or both")
        try:
            ordered = self.low is None or self.high is None or self.low <= self.high
        except (TypeError, ArithmeticError):
            # A date beside a number, a naive time beside one with a zone, Decimal("NaN")
            raise DefinitionError(
                f"Between({self.low!r}, {self.high!r}): the bounds do not compare; give two of one type"
            ) from None
        if not ordered:
            raise DefinitionError(f"Between({self.low!r}, {self.high!r}) allows nothing; low must not be above high")

    def check(self, column: str, type: ColumnType) -> None:
        _is_for(self, column, type, ("int", "decimal", "wide", "float", "datetime", "date", "time", "str"))
        for bound in (self.low, self.high):
            if bound is not None and not type.accepts(bound):
                raise DefinitionError(f"{self} on column {column!r}: {bound!r} is no value of type {type}")


@dataclass(frozen=True)
class Pattern(Constraint):
    """The whole text matches the regular expression (Python's re, fullmatch). ASCII classes only: \\d is [0-9]."""

    regex: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.regex, re.ASCII)
        except (re.error, TypeError) as error:
            raise DefinitionError(f"Pattern({self.regex!r}) is no regular expression: {error}") from None

    def check(self, column: str, type: ColumnType) -> None:
        _is_for(self, column, type, ("str",))


@dataclass(frozen=True)
class Length(Constraint):
    """min <= number of code points (of bytes: of bytes) <= max, both ends included; max None is no upper end."""

    min: int = 0
    max: int | None = None

    def __post_init__(self) -> None:
        if type(self.min) is not int or (self.max is not None and type(self.max) is not int):
            raise DefinitionError(
                f"Length({self.min!r}, {self.max!r}): allowed are whole numbers, and None for no upper end"
            )
        if self.min < 0 or (self.max is not None and self.max < self.min):
            raise DefinitionError(f"Length({self.min}, {self.max}) allows nothing; needed is 0 <= min <= max")

    def check(self, column: str, type: ColumnType) -> None:
        _is_for(self, column, type, ("str", "bytes"))


@dataclass(frozen=True, init=False)
class OneOf(Constraint):
    """The value is one of those listed: OneOf("EWR", "JFK", "LGA")."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any) -> None:
        if not options:
            raise DefinitionError("OneOf() without options allows nothing; list at least one")
        object.__setattr__(self, "options", options)

    def check(self, column: str, type: ColumnType) -> None:
        _is_for(self, column, type, ("str", "int", "decimal", "wide", "date", "datetime", "time", "uuid", "bytes"))
        for option in self.options:
            if not type.accepts(option):
                raise DefinitionError(f"OneOf on column {column!r}: {option!r} is no value of type {type}")


@dataclass(frozen=True)
class Nullable(Remedy):
    """A value that breaks a constraint becomes null; the column must be declared `| None`."""


@dataclass(frozen=True)
class Clip(Remedy):
    """A value outside Between becomes the nearest bound; needs a Between beside it."""


@dataclass(frozen=True)
class Default(Remedy):
    """A missing or null value, and one that breaks a constraint, becomes `value` (which must keep the constraints itself)."""

    value: Any


def keeps(value: Any, constraints: tuple[Constraint, ...]) -> bool:
    """True when one Python value of the right type keeps every constraint; for checking defaults, not for events."""
    for constraint in constraints:
        match constraint:
            case Between(low, high):
                ok = (low is None or low <= value) and (high is None or value <= high)
            case Pattern(regex):
                ok = re.fullmatch(regex, value, re.ASCII) is not None
            case Length(low, high):
                ok = low <= len(value) and (high is None or len(value) <= high)
            case OneOf(options):
                ok = value in options
            case _:  # Scale and Precision are kept by type.accepts()
                ok = True
        if not ok:
            return False
    return True


__all__ = [
    "Between",
    "Clip",
    "Constraint",
    "Default",
    "Length",
    "Nullable",
    "OneOf",
    "Pattern",
    "Precision",
    "Remedy",
    "Scale",
    "keeps",
]
