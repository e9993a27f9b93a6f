"""Count and CountNonNull: n ∈ ℕ under addition."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from pipeline.aggregates.base import Aggregate, Measure, Rows, State, StateField
from pipeline.base.errors import DefinitionError
from pipeline.base.types import INT, ColumnType
from pipeline.columns.arrays import Ints, codes, valid
from pipeline.kernels import reduce

N = StateField("n", pa.int64(), "bigint")


def add_counts(counts: pa.Array, group: Ints, groups: int) -> pa.Array:
    """The sums of int64 counts by group."""
    wide = reduce.sum_ints_by_group(codes(counts, INT), np.ones(len(group), np.bool_), group, groups)
    return pa.array(wide[:, 0].view(np.int64))


class CountMeasure(Measure):
    """n = the rows whose column is not null, or all rows where there is no column."""

    fields = (N,)

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        mask = valid(rows.column) if rows.columns else np.ones(len(rows), np.bool_)
        return (pa.array(reduce.count_by_group(mask, group, groups)),)

    def merge(self, states: State, group: Ints, groups: int) -> State:
        return (add_counts(states[0], group, groups),)

    def sql(self, fields: Mapping[str, str]) -> str:
        return f"sum({fields['n']})::bigint"


@dataclass(frozen=True)
class CountNonNull(Aggregate):
    """Number of records that have a value in the column: SQL's count(column), never null."""

    measure = CountMeasure
    canonical_name: ClassVar[str] = "pipeline.aggregates.counts.CountNonNull"
    ordered: ClassVar[bool] = False

    def check(self, types: tuple[ColumnType, ...], what: str) -> None:
        if not types:
            raise DefinitionError(f"{what} names no column; give one, or use Count()")


@dataclass(frozen=True)
class Count(CountNonNull):
    """Number of records in the group: SQL's count(*), never null."""

    canonical_name: ClassVar[str] = "pipeline.aggregates.counts.Count"
    column: None = None

    def check(self, types: tuple[ColumnType, ...], what: str) -> None:
        if self.column is not None:
            raise DefinitionError(f"{what}: Count() takes no column; use CountNonNull({self.column!r})")
