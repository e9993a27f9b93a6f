"""The value of each aggregate for one group, kept while its rows arrive one by one, in any order.

    value() after add(r1), add(r2), ...   = the aggregate's definition applied to {r1, r2, ...}

A row is (event time, partition, offset, number in its record, value); memory is per group, except for an aggregate of the user's own.
"""

from abc import ABC, abstractmethod
from collections import Counter
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from math import floor, isqrt
from typing import Any

from pipeline.aggregates import (
    Aggregate,
    Count,
    CountNonNull,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    StdDev,
    Sum,
    Variance,
)
from pipeline.base.errors import WatershedError
from pipeline.base.types import ColumnType
from pipeline.plain.sketches import bucket, bucket_at, estimate, middle, register_and_rank
from pipeline.plain.values import decimal_of, unscaled

Place = tuple[datetime, int, int, int]  # event time, partition, offset, number of the row in its record
MORE_DIGITS = 6


class Group(ABC):
    """One aggregate of one group. `scale` is that of its column, 0 for other than decimals; its numbers have `width` bytes."""

    width = 8

    def __init__(self, aggregate: Aggregate, scale: int) -> None:
        self.aggregate = aggregate
        self.scale = scale

    @abstractmethod
    def add(self, place: Place, value: Any) -> None:
        """One more row, with the `value_of` it; None is null, and always for an aggregate without a column."""

    @abstractmethod
    def value(self) -> Any:
        """Value as the user sees it."""


class Rows(Group):
    """Count."""

    def __init__(self, aggregate: Aggregate, scale: int) -> None:
        super().__init__(aggregate, scale)
        self.rows = 0

    def add(self, place: Place, value: Any) -> None:
        self.rows += 1

    def value(self) -> int:
        return self.rows


class NonNull(Rows):
    """CountNonNull."""

    def add(self, place: Place, value: Any) -> None:
        if value is not None:
            self.rows += 1


class Sums(Group):
    """Sum, and what Mean, Variance and StdDev need: exact, in units of the column's scale."""

    def __init__(self, aggregate: Aggregate, scale: int) -> None:
        super().__init__(aggregate, scale)
        self.n = self.sum = self.squares = 0

    def add(self, place: Place, value: Any) -> None:
        if value is not None:
            x = unscaled(value, self.scale)
            self.n += 1
            self.sum += x
            self.squares += x * x

    def value(self) -> Decimal | None:
        return decimal_of(self.sum, self.scale) if self.n else None

    def variance(self) -> Fraction:
        """Exact, in the column's own unit; needs two values."""
        mean = Fraction(self.sum, self.n)
        found: Fraction = (self.squares - self.n * mean * mean) / (self.n - 1)
        return found / int(100**self.scale)


class MeanOf(Sums):
    """Mean."""

    def value(self) -> Decimal | None:
        return rounded(Fraction(self.sum, self.n * 10**self.scale), self.scale + MORE_DIGITS) if self.n else None


class VarianceOf(Sums):
    """Variance."""

    def value(self) -> Decimal | None:
        return rounded(self.variance(), self.scale + MORE_DIGITS) if self.n > 1 else None


class StdDevOf(Sums):
    """StdDev."""

    def value(self) -> Decimal | None:
        return rounded_root(self.variance(), self.scale + MORE_DIGITS) if self.n > 1 else None


class Least(Group):
    """Min."""

    best: Any = None

    def add(self, place: Place, value: Any) -> None:
        if value is not None and (self.best is None or self.better(value)):
            self.best = value

    def better(self, value: Any) -> bool:
        return bool(value < self.best)

    def value(self) -> Any:
        return self.best


class Greatest(Least):
    """Max."""

    def better(self, value: Any) -> bool:
        return bool(value > self.best)


class Earliest(Group):
    """First."""

    best: tuple[Place, Any] | None = None

    def add(self, place: Place, value: Any) -> None:
        if value is not None and (self.best is None or self.better(place, self.best[0])):
            self.best = (place, value)

    def better(self, place: Place, best: Place) -> bool:
        return place < best

    def value(self) -> Any:
        return self.best[1] if self.best else None


class Latest(Earliest):
    """Last."""

    def better(self, place: Place, best: Place) -> bool:
        return place > best


class Distinct(Group):
    """DistinctCount."""

    def __init__(self, aggregate: Aggregate, scale: int) -> None:
        super().__init__(aggregate, scale)
        self.registers: dict[int, int] = {}

    def add(self, place: Place, value: Any) -> None:
        if value is not None:
            register, rank = register_and_rank(value, self.scale, self.width)
            self.registers[register] = max(rank, self.registers.get(register, 0))

    def value(self) -> int:
        return estimate(self.registers)


class QuantileOf(Group):
    """Quantile."""

    def __init__(self, aggregate: Aggregate, scale: int) -> None:
        super().__init__(aggregate, scale)
        assert isinstance(aggregate, Quantile)
        self.q = Fraction(aggregate.q)
        self.counts: Counter[int] = Counter()

    def add(self, place: Place, value: Any) -> None:
        if value is not None:
            self.counts[bucket(unscaled(value, self.scale))] += 1

    def value(self) -> Decimal | None:
        if not self.counts:
            return None
        found = bucket_at(self.counts, floor(self.q * (self.counts.total() - 1)))
        return rounded(middle(found) / 10**self.scale, self.scale + MORE_DIGITS)


class Own(Group):
    """An aggregate of the user's own, by its method `reference`; holds every row."""

    def __init__(self, aggregate: Aggregate, scale: int) -> None:
        super().__init__(aggregate, scale)
        self.values: list[tuple[datetime, int, int, Any]] = []

    def add(self, place: Place, value: Any) -> None:
        self.values.append((*place[:3], value))

    def value(self) -> Any:
        return self.aggregate.reference(list(self.values))  # type: ignore[attr-defined]


GROUPS: dict[type[Aggregate], type[Group]] = {
    Count: Rows,
    CountNonNull: NonNull,
    Sum: Sums,
    Mean: MeanOf,
    Variance: VarianceOf,
    StdDev: StdDevOf,
    Min: Least,
    Max: Greatest,
    First: Earliest,
    Last: Latest,
    DistinctCount: Distinct,
    Quantile: QuantileOf,
}


def group_class(aggregate: Aggregate, what: str) -> type[Group]:
    """The Group that computes `aggregate`; WatershedError (beginning with `what`) when none can.

    By exact class: a subclass of Mean is an aggregate of the user's own, and may mean anything.
    """
    if type(aggregate) in GROUPS:
        return GROUPS[type(aggregate)]
    if callable(getattr(aggregate, "reference", None)):
        return Own
    raise WatershedError(
        f"{what}: {type(aggregate).__module__}.{type(aggregate).__qualname__} cannot be computed by the reference;"
        f" give it a method reference(self, values: list[tuple[event_time, partition, offset, value]]) -> value,"
        f" or audit without --reference"
    )


def value_of(aggregate: Aggregate, row: dict[str, Any]) -> Any:
    """Value of a row for a group: that of the aggregate's column, None without one, the tuple of them with several."""
    values = tuple(row[column] for column in aggregate.columns)
    return values if len(values) > 1 else next(iter(values), None)


def new_group(kind: type[Group], aggregate: Aggregate, type: ColumnType | None) -> Group:
    """An empty group."""
    group = kind(aggregate, type.scale if type else 0)
    group.width = 16 if type and type.kind == "wide" else 8
    return group


def rounded(value: Fraction, scale: int) -> Decimal:
    """Half away from zero."""
    magnitude = floor(abs(value) * 10**scale + Fraction(1, 2))
    return decimal_of(magnitude if value >= 0 else -magnitude, scale)


def rounded_root(value: Fraction, scale: int) -> Decimal:
    """The square root of value >= 0, rounded once, half up."""
    square = value * 10 ** (2 * scale)
    root = isqrt(floor(square))  # root <= sqrt(square) < root + 1
    return decimal_of(root + 1 if square >= (root + Fraction(1, 2)) ** 2 else root, scale)
