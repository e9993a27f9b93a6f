"""Values of every type that a sketch takes, and their states: what the tests of the sketches share."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from math import sqrt
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from pipeline import Scale
from pipeline.aggregates.base import Aggregate, Rows, State
from pipeline.base.types import INT_MAX, INT_MIN, TIME_MAX, TIME_MIN
from pipeline.kernels.sketches import MAX_RANK, REGISTERS, lift_registers, rows_by_group
from pipeline.laws import column_types

SIGMA = 1.04 / sqrt(REGISTERS)
QS = (0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1)
whole = (
    st.integers(INT_MIN, INT_MAX)
    | st.integers(-300, 300)
    | st.sampled_from([INT_MIN, INT_MAX, 0, 127, 128, -128, 255, 256])
)
unscaled = st.integers(1 - 10**18, 10**18 - 1) | st.integers(-300, 300)
decimals = unscaled.map(lambda n: Decimal(n).scaleb(-2, Context(prec=30)))
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: whole,
    Scale(2): decimals,
    str: st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20),
    bool: st.booleans(),
    datetime: st.datetimes(TIME_MIN.replace(tzinfo=None), TIME_MAX.replace(tzinfo=None)).map(
        lambda t: t.replace(tzinfo=UTC)
    ),
    date: st.dates(),
}


def lifted(
    aggregate: Aggregate, of: Any, given_values: Any, group: Sequence[int] | None = None, groups: int = 1
) -> State:
    measure = aggregate.over(*column_types(of))
    column = given_values if isinstance(given_values, pa.Array) else pa.array(given_values, measure.type.arrow)
    place = np.arange(len(column), dtype=np.int64)
    number = np.zeros(len(column), np.int64) if group is None else np.asarray(group, np.int64)
    return measure.lift(Rows((column,), place, place, place), number, groups)


def registers_of(chosen: Any, ranks: Any) -> bytes:
    """The state of DistinctCount whose registers `chosen` are at `ranks`: of values whose hashes are just so."""
    hashes = np.zeros((len(chosen), 2), np.uint64)
    for i, (register, rank) in enumerate(zip(chosen.tolist(), ranks.tolist(), strict=True)):
        hashes[i, 0] = register | (1 << rank - 1 << 12 if rank < MAX_RANK else 0)
    group = np.zeros(len(chosen), np.int64)
    offsets, data = lift_registers(hashes, np.ones(len(chosen), np.bool_), *rows_by_group(group, 1))
    assert offsets.tolist() == [0, len(data)]
    return bytes(data)
