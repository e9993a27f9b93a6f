"""Sum, Mean, Variance, StdDev: power sums of unscaled integers.

    n = Σ 1, s1 = Σ x, s2 = Σ x²   over the non-null x, in integers of 128 (s1) and 256 (s2) bits: no overflow below 2**63 rows
    of wide decimals in 256 and 320 bits: s2 = square_high 2^128 + square_low, 0 <= square_low < 2^128, so that each has one form

    sum = s1 / 10^s      mean = s1 / (n 10^s)      variance = (n s2 - s1²) / (n (n - 1) 10^2s)      stddev = sqrt(variance)

where s is the column's scale. Mean, variance and stddev are rounded once, from the exact value, half away from zero, to s + 6
decimals; Python and SQL compute the same integers. Empty groups are null, as in SQL; variance and stddev (sample) need n >= 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from math import isqrt
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipeline.aggregates.base import Aggregate, Measure, Rows, State, StateField
from pipeline.aggregates.counts import N, add_counts
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.columns.arrays import Ints, Limbs, Mask, codes, from_integers, from_limbs, integers, limbs, valid
from pipeline.kernels import reduce, wide

WIDE, WIDER = pa.decimal128(38, 0), pa.decimal256(76, 0)
EXACT = Context(prec=90)  # wider than any state; decimal's default of 28 digits would round
S1 = StateField("s1", WIDE, "numeric")
S2 = StateField("s2", WIDER, "numeric")
WIDER_S1 = StateField("s1", WIDER, "numeric")
SQUARES = (StateField("square_high", WIDER, "numeric"), StateField("square_low", WIDER, "numeric"))
MORE_DIGITS = 6
MOST_DIGITS = 76  # of the widest decimal that Arrow has
ROUND_DIV = """CREATE OR REPLACE FUNCTION serving.round_div(numerator numeric, denominator numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURNS NULL ON NULL INPUT AS
$$ SELECT sign(numerator) * div(2 * abs(numerator) + denominator, 2 * denominator) $$"""
ISQRT = """CREATE OR REPLACE FUNCTION serving.isqrt(n numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURNS NULL ON NULL INPUT AS
$$ SELECT CASE WHEN r * r > n THEN r - 1 WHEN (r + 1) * (r + 1) <= n THEN r + 1 ELSE r END FROM (SELECT trunc(sqrt(n)) AS r) AS root $$"""


def round_div(numerator: int, denominator: int) -> int:
    """numerator / denominator (> 0), rounded half away from zero."""
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def at_scale(unscaled: int | None, scale: int) -> Decimal | None:
    """unscaled / 10^scale with exactly `scale` decimals."""
    return None if unscaled is None else Decimal(unscaled).scaleb(-scale, EXACT)


def unit(scale: int) -> str:
    """10^-scale as an exact numeric literal: multiplying an integer by it sets the display scale."""
    return "1" if scale == 0 else f"0.{'0' * (scale - 1)}1"


class SumMeasure(Measure):
    """n and s1; presented at the column's scale."""

    @property
    def fields(self) -> tuple[StateField, ...]:
        return (N, WIDER_S1 if self._wide else S1)

    @property
    def value(self) -> StateField:
        return self._value(0)

    @property
    def _wide(self) -> bool:
        return self.type.kind == "wide"

    def _value(self, more: int) -> StateField:
        """A value with so many decimals more than the column."""
        scale = self.type.scale + more
        return StateField(
            "value", pa.decimal256(MOST_DIGITS, scale) if self._wide else pa.decimal128(38, scale), "numeric"
        )

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        mask = valid(rows.column)
        n = pa.array(reduce.count_by_group(mask, group, groups))
        if self._wide:
            sums = reduce.sum_limbs_by_group(_doubled(limbs(rows.column)), mask, group, groups)
            return (n, from_limbs(sums, WIDER))
        return (n, from_limbs(reduce.sum_ints_by_group(codes(rows.column, self.type), mask, group, groups), WIDE))

    def merge(self, states: State, group: Ints, groups: int) -> State:
        everyone = np.ones(len(group), np.bool_)
        sums = reduce.sum_limbs_by_group(limbs(states[1]), everyone, group, groups)
        return (add_counts(states[0], group, groups), from_limbs(sums, WIDER if self._wide else WIDE))

    def present(self, state: State) -> pa.Array:
        empty = np.asarray(state[0].to_numpy()) == 0
        return from_limbs(limbs(state[1]), self.value.arrow, empty)

    def sql(self, fields: Mapping[str, str]) -> str:
        return f"CASE WHEN sum({fields['n']}) > 0 THEN sum({fields['s1']}) * {unit(self.type.scale)} END"


class MeanMeasure(SumMeasure):
    """s1 / n."""

    @property
    def value(self) -> StateField:
        return self._value(MORE_DIGITS)

    def present(self, state: State) -> pa.Array:
        rows: Any = zip(state[0].to_pylist(), integers(state[1]), strict=True)
        means = [round_div(s1 * 10**MORE_DIGITS, n) if n else None for n, s1 in rows]
        return from_integers(means, self.value.arrow)

    def sql(self, fields: Mapping[str, str]) -> str:
        n, s1 = f"sum({fields['n']})", f"sum({fields['s1']})"
        return f"serving.round_div({s1} * {10**MORE_DIGITS}, nullif({n}, 0)) * {unit(self.type.scale + MORE_DIGITS)}"

    def sql_support(self) -> tuple[str, ...]:
        return (ROUND_DIV,)


class VarianceMeasure(SumMeasure):
    """n, s1 and s2."""

    @property
    def fields(self) -> tuple[StateField, ...]:
        return (*super().fields, *(SQUARES if self._wide else (S2,)))

    @property
    def value(self) -> StateField:
        return StateField("value", pa.decimal256(MOST_DIGITS, self.type.scale + MORE_DIGITS), "numeric")

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        return (*super().lift(rows, group, groups), *self._squares(rows.column, valid(rows.column), group, groups))

    def _squares(self, column: pa.Array, mask: Mask, group: Ints, groups: int) -> State:
        if self._wide:
            return _parted(wide.sum_wide_squares_by_group(limbs(column), mask, group, groups))
        return (from_limbs(reduce.sum_squares_by_group(codes(column, self.type), mask, group, groups), WIDER),)

    def merge(self, states: State, group: Ints, groups: int) -> State:
        everyone = np.ones(len(group), np.bool_)
        given = _joined(*states[2:]) if self._wide else limbs(states[2])
        sums = reduce.sum_limbs_by_group(given, everyone, group, groups)
        squares = _parted(sums) if self._wide else (from_limbs(sums, WIDER),)
        return (*super().merge(states[:2], group, groups), *squares)

    def present(self, state: State) -> pa.Array:
        squares = integers(state[-1])
        if self._wide:
            squares = [(high << 128) + low for high, low in zip(integers(state[2]), squares, strict=True)]
        rows: Any = zip(state[0].to_pylist(), integers(state[1]), squares, strict=True)
        return from_integers([self._unscaled(n, s1, s2) if n > 1 else None for n, s1, s2 in rows], self.value.arrow)

    def _unscaled(self, n: int, s1: int, s2: int) -> int:
        """The value in units of 10^-(s + 6), of n > 1 values."""
        up, down = _powers(MORE_DIGITS - self.type.scale)
        return round_div((n * s2 - s1 * s1) * up, n * (n - 1) * down)

    def sql(self, fields: Mapping[str, str]) -> str:
        up, down = _powers(MORE_DIGITS - self.type.scale)
        n, s1, s2 = self._sums(fields)
        top = f"({n} * {s2} - {s1} * {s1}) * {up}"
        return f"serving.round_div({top}, nullif({n} * ({n} - 1), 0) * {down}) * {unit(self.type.scale + MORE_DIGITS)}"

    def _sums(self, fields: Mapping[str, str]) -> tuple[str, str, str]:
        """The SQL of n, s1 and s2."""
        n, s1 = f"sum({fields['n']})", f"sum({fields['s1']})"
        if self._wide:
            return n, s1, f"(sum({fields['square_high']}) * {2**128} + sum({fields['square_low']}))"
        return n, s1, f"sum({fields['s2']})"

    def sql_support(self) -> tuple[str, ...]:
        return (ROUND_DIV,)


class StdDevMeasure(VarianceMeasure):
    """The root of the exact variance."""

    @property
    def value(self) -> StateField:
        return self._value(MORE_DIGITS)

    def _unscaled(self, n: int, s1: int, s2: int) -> int:
        # round(sqrt(x)) half up = (isqrt(floor(4 x)) + 1) // 2, with x = variance * 10^2(s + 6): the scale cancels to 10^12
        return (isqrt(4 * (n * s2 - s1 * s1) * 10 ** (2 * MORE_DIGITS) // (n * (n - 1))) + 1) // 2

    def sql(self, fields: Mapping[str, str]) -> str:
        n, s1, s2 = self._sums(fields)
        four = f"div(4 * ({n} * {s2} - {s1} * {s1}) * {10 ** (2 * MORE_DIGITS)}, nullif({n} * ({n} - 1), 0))"
        return f"div(serving.isqrt({four}) + 1, 2) * {unit(self.type.scale + MORE_DIGITS)}"

    def sql_support(self) -> tuple[str, ...]:
        return (ISQRT,)


@dataclass(frozen=True)
class Sum(Aggregate):
    """The exact sum of an int or Decimal column, at the column's scale; null when the group has no value."""

    measure = SumMeasure
    kinds = ("int", "decimal", "wide")
    why = "a float sum depends on order: declare Annotated[Decimal, Scale(n)], or derive with Scale"
    canonical_name: ClassVar[str] = "pipeline.aggregates.sums.Sum"
    ordered: ClassVar[bool] = False


@dataclass(frozen=True)
class Mean(Sum):
    """The mean of an int or Decimal column, rounded once to the column's scale + 6; null when the group has no value."""

    measure = MeanMeasure
    canonical_name: ClassVar[str] = "pipeline.aggregates.sums.Mean"


@dataclass(frozen=True)
class Variance(Sum):
    """The sample variance (n - 1), rounded once to the column's scale + 6; null below two values."""

    measure = VarianceMeasure
    canonical_name: ClassVar[str] = "pipeline.aggregates.sums.Variance"

    def check(self, types: tuple[ColumnType, ...], what: str) -> None:
        super().check(types, what)
        type = types[0]
        needed = 2 * type.digits + 1 - type.scale + MORE_DIGITS  # of 2 (10^digits)^2, at scale + 6
        if type.kind == "wide" and needed > MOST_DIGITS:
            most = (MOST_DIGITS - 1 + type.scale - MORE_DIGITS) // 2
            raise DefinitionError(
                f"{what}: the variance of {type} has up to {needed} digits at scale + {MORE_DIGITS}, allowed are {MOST_DIGITS};"
                f" declare Precision({most}, {type.scale}), or take StdDev"
            )


@dataclass(frozen=True)
class StdDev(Variance):
    """The sample standard deviation, the root of the exact variance rounded once to the column's scale + 6; null below two values."""

    measure = StdDevMeasure
    canonical_name: ClassVar[str] = "pipeline.aggregates.sums.StdDev"

    def check(self, types: tuple[ColumnType, ...], what: str) -> None:
        Sum.check(self, types, what)  # a root has half the digits


def _doubled(words: Limbs) -> Limbs:
    """The same integers in twice as many limbs."""
    found = np.empty((len(words), 2 * words.shape[1]), np.uint64)
    found[:, : words.shape[1]] = words
    found[:, words.shape[1] :] = (words[:, -1:].view(np.int64) >> 63).view(np.uint64)
    return found


def _parted(sums: Limbs) -> State:
    """(square_high, square_low) of sums of squares in five limbs."""
    high, low = np.zeros((len(sums), 4), np.uint64), np.zeros((len(sums), 4), np.uint64)
    low[:, :2], high[:, :3] = sums[:, :2], sums[:, 2:]
    return from_limbs(high, WIDER), from_limbs(low, WIDER)


def _joined(high: pa.Array, low: pa.Array) -> Limbs:
    """The five limbs again."""
    found: Limbs = np.concatenate((limbs(low)[:, :2], limbs(high)[:, :3]), axis=1)
    return np.ascontiguousarray(found)


def _powers(exponent: int) -> tuple[int, int]:
    """(up, down) with up / down = 10^exponent, both whole."""
    return (10**exponent, 1) if exponent >= 0 else (1, 10**-exponent)
