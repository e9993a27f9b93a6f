"""Inputs of the laws of an aggregate: values at which sums, orders and encodings are known to break, and strategies around them.

inputs(type) reaches: ties in time, nulls, boundaries, empty groups, empty parts
"""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.aggregates.base import Rows
from pipeline.base.errors import DefinitionError
from pipeline.base.types import DECIMAL_LIMIT, INT_MAX, INT_MIN, TIME_MAX, TIME_MIN, ColumnType
from pipeline.columns.arrays import Ints
from pipeline.definition.constraints import Precision, Scale
from pipeline.definition.record import MORE_TYPES, PYTHON_TYPES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def column_type(type: Any) -> ColumnType | None:
    """The ColumnType that Scale(n), Precision(n, m), int, float, str, bytes, UUID, bool, date, datetime or time declares.

    None and a ColumnType stay.
    """
    if type is None or isinstance(type, ColumnType):
        return type
    if isinstance(type, Scale):
        return ColumnType("decimal", type.digits)
    if isinstance(type, Precision):
        return ColumnType("wide", type.decimals, type.digits)
    kinds = PYTHON_TYPES | MORE_TYPES
    if type not in kinds:
        allowed = ", ".join(t.__name__ for t in kinds)
        raise DefinitionError(
            f"{type!r} is no type of a column; allowed are Scale(n), Precision(n, m), {allowed}, and None for no column"
        )
    return ColumnType(kinds[type])


def column_types(type: Any) -> tuple[ColumnType, ...]:
    """The types of an aggregate's columns: of one type, of None for no column, or of a tuple for several."""
    found = [column_type(t) for t in (type if isinstance(type, tuple) else (type,))]
    return tuple(t for t in found if t is not None)


BOUNDARIES: dict[str, tuple[Any, ...]] = {
    "int": (INT_MIN, INT_MIN + 1, -1, 0, 1, 2**31, 2**32, INT_MAX - 1, INT_MAX),
    "decimal": (1 - DECIMAL_LIMIT, -(2**53) - 1, -1, 0, 1, 5, 2**32, DECIMAL_LIMIT - 1),
    "float": (-1.7976931348623157e308, -1e16, -0.1, 0.0, 5e-324, 0.1, 0.2, 0.3, 1.0, 1e16, 1.7976931348623157e308),
    "str": ("", " ", "A", "a", "aa", "é", "\uffff", "\U0001f327", "0" * 40),
    "bool": (False, True),
    "datetime": (TIME_MIN, EPOCH - MICROSECOND, EPOCH, datetime(2013, 1, 31, 13, 5, tzinfo=UTC), TIME_MAX),
    "wide": (-(10**36), -(2**64) - 1, -(2**63), -1, 0, 1, 2**32, 2**63, 2**64, 10**36),
    "bytes": (b"", b"\x00", b"\x00\x00", b"a", b"\x7f", b"\x80", b"\xff" * 40),
    "uuid": (bytes(16), bytes(15) + b"\x01", b"\x7f" + bytes(15), b"\x80" + bytes(15), b"\xff" * 16),
    "time": (time.min, time(0, 0, 0, 1), time(12), time(23, 59, 59, 999_999)),
    "date": (date.min, date(1969, 12, 31), date(1970, 1, 1), date(2000, 2, 29), date.max),
}


def boundaries(type: Any) -> list[Any]:
    """Values of a column type at which sums, orders and encodings are known to break, as pa.array(..., type.arrow) takes them."""
    wanted = column_type(type)
    if wanted is None:
        return [None]
    found = [_of_type(wanted, v) for v in BOUNDARIES[wanted.kind]]
    if wanted.kind != "wide":
        return found
    most = 10**wanted.digits - 1
    return [_of_type(wanted, v) for v in (-most, most)] + [v for v in found if wanted.accepts(v)]


def _of_type(type: ColumnType, value: Any) -> Any:
    return Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -type.scale)) if type.is_decimal else value


def inputs(type: Any, max_rows: int = 12) -> Any:
    """A hypothesis strategy of (rows, group, groups, splits) for check(): ties in time, nulls, boundaries, empty groups and cuts."""
    st = hypothesis_here().strategies
    wanted = column_types(type)
    values = st.tuples(*(st.none() | st.sampled_from(boundaries(t)) | _values(st, t) for t in wanted))
    times = st.sampled_from((0, 0, 1, -1, 2**40, (TIME_MIN - EPOCH) // MICROSECOND, (TIME_MAX - EPOCH) // MICROSECOND))
    place = st.tuples(st.integers(0, 2), st.sampled_from((*range(8), INT_MAX)))
    row = st.tuples(values, times, place, st.integers(0, 2))

    def build(drawn: list[Any], groups: int, fractions: list[float]) -> tuple[Rows, Ints, int, list[int]]:
        columns = tuple(pa.array([cells[n] for cells, *_ in drawn], t.arrow) for n, t in enumerate(wanted))
        event_time, partition, offset = (
            np.array(cells, np.int64)
            for cells in ([r[1] for r in drawn], [r[2][0] for r in drawn], [r[2][1] for r in drawn])
        )
        group = np.array([r[3] for r in drawn], np.int64) * (groups > 2)
        return Rows(columns, event_time, partition, offset), group, groups, [int(f * len(drawn)) for f in fractions]

    rows = st.lists(row, max_size=max_rows, unique_by=lambda r: r[2])
    return st.builds(build, rows, st.integers(1, 4), st.lists(st.sampled_from((0.0, 0.2, 0.4, 0.6, 0.8)), max_size=4))


def _values(st: Any, type: ColumnType) -> Any:
    limit = DECIMAL_LIMIT - 1
    match type.kind:
        case "int":
            return st.integers(INT_MIN, INT_MAX) | st.integers(-9, 9)
        case "decimal":
            return (st.integers(-limit, limit) | st.integers(-99, 99)).map(lambda v: _of_type(type, v))
        case "float":
            return st.floats(allow_nan=False, allow_infinity=False).map(lambda v: v + 0.0)
        case "str":
            return st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
        case "wide":
            most = 10**type.digits - 1
            return (st.integers(-most, most) | st.integers(-most, most).map(lambda v: v // 10**20)).map(
                lambda v: _of_type(type, v)
            )
        case "bytes":
            return st.binary(max_size=20)
        case "uuid":
            return st.binary(min_size=16, max_size=16)
        case "time":
            return st.times()
        case "bool":
            return st.booleans()
        case "date":
            return st.dates()
    return st.integers(0, (TIME_MAX - TIME_MIN) // MICROSECOND).map(lambda us: TIME_MIN + us * MICROSECOND)


def hypothesis_here() -> Any:
    """The module hypothesis; DefinitionError, with what to install, where there is none."""
    try:
        import hypothesis
        import hypothesis.strategies
    except ImportError:
        raise DefinitionError(
            "pipeline.laws.hold draws its inputs with hypothesis, which is not installed: run `pip install hypothesis`,"
            " or call pipeline.laws.check on rows of your own",
            repair="pip install hypothesis",
        ) from None
    return hypothesis
