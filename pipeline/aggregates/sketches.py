"""DistinctCount and Quantile: sketches whose ⊕ is exact, so that only the value is an estimate, and the same one for any cut.

    registers(a ⊕ b) = max(registers(a), registers(b))       HyperLogLog, 4096 registers, by SipHash-2-4-128
    buckets(a ⊕ b)   = buckets(a) + buckets(b)               DDSketch, 64 buckets per power of two

Values come from integers by integers, in Python and in SQL alike: there is no ln, no pow and no float anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipeline.aggregates.base import Aggregate, Measure, Rows, State, StateField
from pipeline.aggregates.sums import EXACT, MORE_DIGITS, ROUND_DIV, at_scale, round_div, unit
from pipeline.base.errors import DefinitionError, WatershedError
from pipeline.base.types import INT_MAX, KINDS
from pipeline.columns.arrays import Ints, codes, limbs, text_buffers, valid
from pipeline.columns.hashing import hash_rows
from pipeline.kernels import sketches as kernels
from pipeline.kernels import wide

REGISTERS_FIELD = StateField("registers", pa.binary(), "bytea")
BUCKETS_FIELD = StateField("buckets", pa.binary(), "bytea")
ALPHA = (
    13306513097844322492  # 2^64 / (2 ln 2), rounded: DistinctCount's estimate is computed in whole multiples of 2^-64
)
Q_DIGITS = 18
MAX_BYTES = 2**31 - 1  # of one Arrow array with 32-bit offsets
DISTINCT_COUNT = """CREATE OR REPLACE FUNCTION serving.distinct_count(states bytea[]) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  one CONSTANT numeric := 18446744073709551616; -- 2^64
  alpha CONSTANT numeric := 13306513097844322492; -- 2^64 / (2 ln 2)
  filled bigint;
  harmonic numeric;
  x numeric;
  y numeric := 1;
  z numeric;
BEGIN
  SELECT count(*), sum(1::bigint << (53 - rank)) INTO filled, harmonic FROM (
    SELECT register, max(rank) AS rank FROM (
      SELECT (get_byte(state, at) << 8) + get_byte(state, at + 1) AS register, get_byte(state, at + 2) AS rank
      FROM unnest(states) AS state, generate_series(0, length(state) - 1, 3) AS at WHERE length(state) <> 4096
      UNION ALL
      SELECT at, get_byte(state, at) FROM unnest(states) AS state, generate_series(0, 4095) AS at WHERE length(state) = 4096
    ) AS every WHERE rank > 0 GROUP BY register
  ) AS merged;
  IF filled = 0 THEN
    RETURN 0;
  END IF;
  x := (4096 - filled) * div(one, 4096);
  z := x;
  WHILE x > 0 LOOP
    x := div(x * x, one);
    z := z + x * y;
    y := y * 2;
  END LOOP;
  RETURN least(serving.round_div(alpha * 4096 * 4096, z * 4096 + harmonic * 2048), 9223372036854775807);
END $$"""
QUANTILE = """CREATE OR REPLACE FUNCTION serving.quantile(states bytea[], q numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT sign(bucket::numeric) * 500000 * CASE WHEN abs(bucket) < 64 THEN 2 * abs(bucket)
    ELSE (129 + 2 * (abs(bucket) & 63))::numeric * (1::bigint << (abs(bucket) / 64 - 1)) - 1 END
  FROM (
    SELECT bucket, sum(sum(n)) OVER (ORDER BY bucket) AS upto, sum(sum(n)) OVER () AS total FROM (
      SELECT (get_byte(state, at) << 8) + get_byte(state, at + 1) - 4096 AS bucket,
        ('x' || encode(substr(state, at + 3, 8), 'hex'))::bit(64)::bigint AS n
      FROM unnest(states) AS state, generate_series(0, length(state) - 1, 10) AS at
    ) AS every GROUP BY bucket
  ) AS merged WHERE upto > floor(q * (total - 1)) ORDER BY bucket LIMIT 1
$$"""


WIDE_QUANTILE = (  # numbers of 127 bits: their buckets lie further from zero, and their powers of two beyond bigint
    QUANTILE.replace("serving.quantile(", "serving.quantile_wide(")
    .replace("get_byte(state, at + 1) - 4096", "get_byte(state, at + 1) - 8192")
    .replace(
        "(1::bigint << (abs(bucket) / 64 - 1))",
        "(1::bigint << ((abs(bucket) / 64 - 1) / 2)) * (1::bigint << ((abs(bucket) / 64) / 2))",
    )
)
WIDER_BIAS = 4096  # of a wide decimal's buckets, beyond that of the kernels


def _binary(offsets: Ints, data: Any) -> pa.Array:
    """A binary array without nulls."""
    if offsets[-1] > MAX_BYTES:
        raise WatershedError(
            f"the sketches of {len(offsets) - 1} groups take {offsets[-1]} bytes in one piece, allowed are {MAX_BYTES}:"
            f" give the view a longer window or fewer key columns"
        )
    ends: Any = offsets.astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, pa.py_buffer(ends), pa.py_buffer(data)])


class DistinctCountMeasure(Measure):
    """4096 registers, in the shorter of two forms."""

    fields = (REGISTERS_FIELD,)

    @property
    def value(self) -> StateField:
        return StateField("value", pa.int64(), "bigint")

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        hashes = hash_rows([(rows.column, self.type)])
        return (_binary(*kernels.lift_registers(hashes, valid(rows.column), *kernels.rows_by_group(group, groups))),)

    def merge(self, states: State, group: Ints, groups: int) -> State:
        return (_binary(*kernels.merge_registers(*text_buffers(states[0]), *kernels.rows_by_group(group, groups))),)

    def present(self, state: State) -> pa.Array:
        return pa.array(
            [_estimate(ranks) for ranks in kernels.count_ranks(*text_buffers(state[0])).tolist()], pa.int64()
        )

    def sql(self, fields: Mapping[str, str]) -> str:
        return f"serving.distinct_count(array_agg({fields['registers']}))"

    def sql_support(self) -> tuple[str, ...]:
        return (ROUND_DIV, DISTINCT_COUNT)


@dataclass(frozen=True)
class DistinctCount(Aggregate):
    """About how many different values the column has: a whole number, never null; standard error 1.04 / sqrt(4096) = 1.6 %.

    HyperLogLog with Ertl's estimator (Ertl 2017, algorithm 6, without its term for saturated registers, which no 2^50 values reach):

        E = m^2 / (2 ln 2 (m σ(V / m) + Σ 2^-rank))      σ(x) = x + Σ_(k >= 1) 2^(k-1) x^(2^k)

    over the m = 4096 registers, V of them not set, Σ over the others. σ is summed in multiples of 2^-64, each square rounded down,
    and E rounded once (and at most 2^63 - 1): whole numbers throughout. Small counts are all but exact, no threshold and no table of
    biases is needed. Not for floats. The usual mistake: adding the values of two groups up; values that are in both count twice.
    The key of the hash is public: whoever chooses the values can skew the estimate if they want to.
    """

    measure = DistinctCountMeasure
    kinds = tuple(kind for kind in KINDS if kind != "float")
    why = "declare a float with Scale to count its values"
    canonical_name: ClassVar[str] = "pipeline.aggregates.sketches.DistinctCount"
    ordered: ClassVar[bool] = False

    def canonical(self) -> str:
        return f"{super().canonical()} precision={kernels.REGISTER_BITS}"


def _estimate(ranks: list[int]) -> int:
    """E of the numbers of registers at each rank from 0."""
    if ranks[0] == kernels.REGISTERS:
        return 0
    x = ranks[0] << (64 - kernels.REGISTER_BITS)
    z, y = x, 1
    while x:
        x = x * x >> 64
        z += x * y
        y *= 2
    harmonic = sum(count << (64 - rank) for rank, count in enumerate(ranks) if rank and count)
    return min(round_div(ALPHA * kernels.REGISTERS**2, z * kernels.REGISTERS + harmonic), INT_MAX)


class QuantileMeasure(Measure):
    """The numbers of values in buckets, those that are not empty."""

    aggregate: "Quantile"
    fields = (BUCKETS_FIELD,)

    @property
    def value(self) -> StateField:
        whole = pa.decimal256(76, self.type.scale + MORE_DIGITS) if self._bias else None
        return StateField("value", whole or pa.decimal128(38, self.type.scale + MORE_DIGITS), "numeric")

    @property
    def _bias(self) -> int:
        return WIDER_BIAS if self.type.kind == "wide" else 0

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        if self._bias:
            buckets = wide.wide_buckets_of(limbs(rows.column)) + self._bias
        else:
            buckets = kernels.buckets_of(codes(rows.column, self.type))
        return (_binary(*kernels.lift_buckets(buckets, valid(rows.column), *kernels.rows_by_group(group, groups))),)

    def merge(self, states: State, group: Ints, groups: int) -> State:
        return (_binary(*kernels.merge_buckets(*text_buffers(states[0]), *kernels.rows_by_group(group, groups))),)

    def present(self, state: State) -> pa.Array:
        offsets, data = text_buffers(state[0])
        up, down = Decimal(self.aggregate.q).as_integer_ratio()
        totals = kernels.count_buckets(offsets, data).tolist()
        ranks = [max(0, up * (n - 1) // down) for n in totals]
        found = kernels.bucket_at_rank(offsets, data, np.array(ranks, np.int64)).tolist()
        scale = self.type.scale + MORE_DIGITS
        values = [
            at_scale(_middle(b - self._bias) * (10**MORE_DIGITS // 2), scale) if n else None
            for b, n in zip(found, totals, strict=True)
        ]
        return pa.array(values, self.value.arrow)

    def sql(self, fields: Mapping[str, str]) -> str:
        scale = unit(self.type.scale + MORE_DIGITS)
        function = "serving.quantile_wide" if self._bias else "serving.quantile"
        return f"{function}(array_agg({fields['buckets']}), {self.aggregate.q:f}) * {scale}"

    def sql_support(self) -> tuple[str, ...]:
        return (WIDE_QUANTILE if self._bias else QUANTILE,)


@dataclass(frozen=True)
class Quantile(Aggregate):
    """A value within 1 % of the q-quantile of an int or Decimal column, at the column's scale + 6; null when the group has no value.

    The q-quantile is the value number floor(q (n - 1)), from 0, of the n values in ascending order: q = 0 is the least, 1 the greatest,
    and there is no interpolation. q in [0, 1] means the decimal as it is written: 0.99 is 99/100. Negative values and zero are covered.

    DDSketch with linear interpolation of the logarithm, on unscaled integers x: |x| < 128 is a bucket of its own; else with k > 0 such
    that s = |x| >> k is in [64, 128), the bucket is [s 2^k, (s + 1) 2^k). Its whole numbers lie at most (2^k - 1) / 2 from their
    middle, which is presented, and are at least 64 · 2^k: the error is below 1/128 = 0.79 % of the value. No bucket is ever collapsed:
    there are at most 7425 (of wide decimals 15617).
    """

    measure = QuantileMeasure
    kinds = ("int", "decimal", "wide")
    why = "buckets are of whole numbers: declare Annotated[Decimal, Scale(n)], or derive with Scale"
    canonical_name: ClassVar[str] = "pipeline.aggregates.sketches.Quantile"
    ordered: ClassVar[bool] = False

    q: Decimal | float = Decimal("0.5")

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", _checked(self.q, f"Quantile({self.column!r}, {self.q!r})"))

    def canonical(self) -> str:
        return f"{super().canonical()} buckets=64"

    def __str__(self) -> str:
        return f"Quantile({self.column!r}, {self.q:f})"


def _checked(q: Any, what: str) -> Decimal:
    """q as a Decimal with one form for each value; DefinitionError when it is no number in [0, 1]."""
    allowed = f"allowed is a number from 0 to 1 with at most {Q_DIGITS} decimals, as 0.99"
    if isinstance(q, bool) or not isinstance(q, int | float | Decimal):
        raise DefinitionError(f"{what}: q={q!r}; {allowed}")
    exact = Decimal(str(q))
    if not exact.is_finite() or not 0 <= exact <= 1 or exact != exact.quantize(Decimal(1).scaleb(-Q_DIGITS)):
        raise DefinitionError(f"{what}: q={q}; {allowed}")
    return abs(exact.normalize(EXACT))


def _middle(bucket: int) -> int:
    """Twice the middle of the whole numbers of a bucket."""
    index = abs(bucket)
    twice = 2 * index if index < 64 else ((129 + 2 * (index % 64)) << (index // 64 - 1)) - 1
    return twice if bucket >= 0 else -twice
