"""Sum, Mean, Variance, StdDev: power sums of unscaled integers.

    n = Σ 1, s1 = Σ x, s2 = Σ x²   over the non-null x, in integers of 128 (s1) and 256 (s2) bits: no overflow below 2**63 rows

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
from pipeline.columns.arrays import Ints, codes, from_integers, from_limbs, integers, limbs, valid
from pipeline.kernels import reduce

WIDE, WIDER = pa.decimal128(38, 0), pa.decimal256(76, 0)
EXACT = Context(prec=90)  # wider than any state; decimal's default of 28 digits would round
S1 = StateField("s1", WIDE, "numeric")
S2 = StateField("s2", WIDER, "numeric")
MORE_DIGITS = 6
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

    fields: tuple[StateField, ...] = (N, S1)

    @property
    def value(self) -> StateField:
        return StateField("value", pa.decimal128(38, self.type.scale), "numeric")

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        mask, values = valid(rows.column), codes(rows.column, self.type)
        n = pa.array(reduce.count_by_group(mask, group, groups))
        return (n, from_limbs(reduce.sum_ints_by_group(values, mask, group, groups), WIDE))

    def merge(self, states: State, group: Ints, groups: int) -> State:
        everyone = np.ones(len(group), np.bool_)
        sums = reduce.sum_limbs_by_group(limbs(states[1]), everyone, group, groups)
        return (add_counts(states[0], group, groups), from_limbs(sums, WIDE))

    def present(self, state: State) -> pa.Array:
        empty = np.asarray(state[0].to_numpy()) == 0
        return from_limbs(limbs(state[1]), self.value.arrow, empty)

    def sql(self, fields: Mapping[str, str]) -> str:
        return f"CASE WHEN sum({fields['n']}) > 0 THEN sum({fields['s1']}) * {unit(self.type.scale)} END"


class MeanMeasure(SumMeasure):
    """s1 / n."""

    @property
    def value(self) -> StateField:
        return StateField("value", pa.decimal128(38, self.type.scale + MORE_DIGITS), "numeric")

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

    fields = (N, S1, S2)

    @property
    def value(self) -> StateField:
        return StateField("value", pa.decimal256(76, self.type.scale + MORE_DIGITS), "numeric")

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        mask, values = valid(rows.column), codes(rows.column, self.type)
        return (
            *super().lift(rows, group, groups),
            from_limbs(reduce.sum_squares_by_group(values, mask, group, groups), WIDER),
        )

    def merge(self, states: State, group: Ints, groups: int) -> State:
        everyone = np.ones(len(group), np.bool_)
        s2 = from_limbs(reduce.sum_limbs_by_group(limbs(states[2]), everyone, group, groups), WIDER)
        return (*super().merge(states[:2], group, groups), s2)

    def present(self, state: State) -> pa.Array:
        rows: Any = zip(state[0].to_pylist(), integers(state[1]), integers(state[2]), strict=True)
        return from_integers([self._unscaled(n, s1, s2) if n > 1 else None for n, s1, s2 in rows], self.value.arrow)

    def _unscaled(self, n: int, s1: int, s2: int) -> int:
        """The value in units of 10^-(s + 6), of n > 1 values."""
        up, down = _powers(MORE_DIGITS - self.type.scale)
        return round_div((n * s2 - s1 * s1) * up, n * (n - 1) * down)

    def sql(self, fields: Mapping[str, str]) -> str:
        up, down = _powers(MORE_DIGITS - self.type.scale)
        n, s1, s2 = (f"sum({fields[f]})" for f in ("n", "s1", "s2"))
        top = f"({n} * {s2} - {s1} * {s1}) * {up}"
        return f"serving.round_div({top}, nullif({n} * ({n} - 1), 0) * {down}) * {unit(self.type.scale + MORE_DIGITS)}"

    def sql_support(self) -> tuple[str, ...]:
        return (ROUND_DIV,)


class StdDevMeasure(VarianceMeasure):
    """The root of the exact variance."""

    @property
    def value(self) -> StateField:
        return StateField("value", pa.decimal128(38, self.type.scale + MORE_DIGITS), "numeric")

    def _unscaled(self, n: int, s1: int, s2: int) -> int:
        # round(sqrt(x)) half up = (isqrt(floor(4 x)) + 1) // 2, with x = variance * 10^2(s + 6): the scale cancels to 10^12
        return (isqrt(4 * (n * s2 - s1 * s1) * 10 ** (2 * MORE_DIGITS) // (n * (n - 1))) + 1) // 2

    def sql(self, fields: Mapping[str, str]) -> str:
        n, s1, s2 = (f"sum({fields[f]})" for f in ("n", "s1", "s2"))
        four = f"div(4 * ({n} * {s2} - {s1} * {s1}) * {10 ** (2 * MORE_DIGITS)}, nullif({n} * ({n} - 1), 0))"
        return f"div(serving.isqrt({four}) + 1, 2) * {unit(self.type.scale + MORE_DIGITS)}"

    def sql_support(self) -> tuple[str, ...]:
        return (ISQRT,)


@dataclass(frozen=True)
class Sum(Aggregate):
    """The exact sum of an int or Decimal column, at the column's scale; null when the group has no value."""

    measure = SumMeasure
    kinds = ("int", "decimal")
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


@dataclass(frozen=True)
class StdDev(Variance):
    """The sample standard deviation, the root of the exact variance rounded once to the column's scale + 6; null below two values."""

    measure = StdDevMeasure
    canonical_name: ClassVar[str] = "pipeline.aggregates.sums.StdDev"


def _powers(exponent: int) -> tuple[int, int]:
    """(up, down) with up / down = 10^exponent, both whole."""
    return (10**exponent, 1) if exponent >= 0 else (1, 10**-exponent)
