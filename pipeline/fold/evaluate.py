"""Expressions over whole columns that mean what they mean on one row.

    evaluate(tree, rows)[i] = evaluate(tree, rows[i]),  and where that raises, row i alone fails

pyarrow's checked kernels raise for a whole array, so a block that fails is halved until the failing rows stand alone.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.base.types import DECIMAL_LIMIT, INT, TIME_MAX, TIME_MIN, ColumnType
from pipeline.columns.arrays import Ints, Mask, chunk, codes, decimals, integers, valid
from pipeline.definition.expressions import Call, Field, Literal, Node

ARROW: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date32[day]": pa.date32(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"),
}
ALIKE = {"if_else": 1}  # the first argument that is brought to the common type; all of them for the other functions
EXACT_FLOAT = 2**53


def enter(column: pa.Array, type: ColumnType) -> pa.Array:
    """A column as expressions see it: a decimal as the nearest float64, anything else as it is."""
    if type.kind == "wide":
        unit = 10**type.scale  # the quotient of two ints is the nearest float
        return pa.array([v / unit for v in integers(column)], pa.float64(), mask=~valid(column))
    if type.kind != "decimal":
        return column
    unscaled = codes(column, type)
    found = unscaled / np.float64(10**type.scale)
    # The division of two exact doubles is rounded once; beyond 2**53 it would be twice
    far = np.abs(unscaled) > EXACT_FLOAT
    if far.any():
        found[far] = [int(v) / 10**type.scale for v in unscaled[far]]
    return pa.array(found, mask=~valid(column))


def evaluate(node: Node, columns: dict[str, pa.Array], rows: int) -> tuple[pa.Array, Mask]:
    """(values, failed): failed rows are null in values. `columns` as expressions see them, all of length `rows` (> 0)."""
    failed = np.zeros(rows, np.bool_)
    values = _halve(node, columns, 0, rows, failed)
    return values, failed


def _halve(node: Node, columns: dict[str, pa.Array], start: int, stop: int, failed: Mask) -> pa.Array:
    part = {name: column.slice(start, stop - start) for name, column in columns.items()}
    try:
        found = _value(node, part)
        return chunk(found)
    except pa.ArrowInvalid:
        if stop - start == 1:
            failed[start] = True
            return pa.nulls(1)
    middle = (start + stop) // 2
    halves = [_halve(node, columns, start, middle, failed), _halve(node, columns, middle, stop, failed)]
    types = [h.type for h in halves if h.type != pa.null()]
    return pa.concat_arrays([h.cast(types[0]) if types else h for h in halves])


def _value(node: Node, columns: dict[str, pa.Array]) -> Any:
    match node:
        case Field(name):
            return columns[name]
        case Literal(type, _, value):
            return pa.scalar(value, ARROW[type])
        case Call(function, arguments, options):
            return _call(function, [_value(a, columns) for a in arguments], dict(options))


def _call(function: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    if function == "cast":
        return pc.cast(arguments[0], ARROW[options["to_type"]])
    if function == "is_in":
        return pc.is_in(arguments[0], pa.array(options["value_set"], ARROW[options["type"]]))
    if function in ("starts_with", "ends_with", "match_substring"):
        return pc.call_function(function, arguments, pc.MatchSubstringOptions(options["pattern"]))
    first = ALIKE.get(function, 0)
    types = {a.type for a in arguments[first:]}
    if types == {pa.int64(), pa.float64()}:
        # Explicit, so that an int a double cannot hold raises here, and nowhere else
        arguments = arguments[:first] + [
            pc.cast(a, pa.float64()) if a.type == pa.int64() else a for a in arguments[first:]
        ]
    found = pc.call_function(function, arguments)
    return pc.cast(found, pa.int64()) if function == "utf8_length" else found


def as_condition(node: Node, columns: dict[str, pa.Array], rows: int) -> tuple[Mask, Mask]:
    """(kept, failed) of a `where`: null is not kept."""
    values, failed = evaluate(node, columns, rows)
    if values.type == pa.null():
        return np.zeros(rows, np.bool_), failed
    return np.asarray(values.fill_null(False).to_numpy(zero_copy_only=False), np.bool_), failed


def derive(node: Node, to: ColumnType, columns: dict[str, pa.Array], rows: int) -> tuple[pa.Array, Mask]:
    """(values of type `to`, failed): the expression, rounded to the derived column's type."""
    values, failed = evaluate(node, columns, rows)
    if values.type == pa.null():
        return pa.array([None] * rows, to.arrow), failed
    result, lost = _convert(values, to)
    return result, failed | lost


def _convert(values: pa.Array, to: ColumnType) -> tuple[pa.Array, Mask]:
    null = ~valid(values)
    if to.kind == "decimal" and values.type == pa.int64():
        return _int_to_decimal(codes(values, INT), to.scale, null)
    if to.kind == "decimal":
        return _float_to_decimal(
            np.asarray(values.fill_null(0.0).to_numpy(zero_copy_only=False), np.float64), to.scale, null
        )
    if to.kind == "float":
        return _to_float(values, null)
    if to.kind == "int" and values.type == pa.float64():
        plain = np.asarray(values.fill_null(0.0).to_numpy(zero_copy_only=False), np.float64)
        with np.errstate(invalid="ignore"):
            lost = ~((plain >= -(2.0**63)) & (plain < 2.0**63) & (plain == np.trunc(plain)))
        whole = np.where(lost, 0.0, plain).astype(np.int64)
        return pa.array(whole, mask=null | lost), lost
    if to.kind == "datetime":
        have = codes(values, to)
        ends = codes(pa.array([TIME_MIN, TIME_MAX], to.arrow), to)
        lost = ((have < ends[0]) | (have > ends[1])) & ~null
        return pc.if_else(pa.array(lost), pa.scalar(None, to.arrow), values), lost
    return values.cast(to.arrow), np.zeros(len(values), np.bool_)


def _to_float(values: pa.Array, null: Mask) -> tuple[pa.Array, Mask]:
    if values.type == pa.int64():
        whole = codes(values, INT)
        lost = (whole > EXACT_FLOAT) | (whole < -EXACT_FLOAT)
        return pa.array(np.where(lost, 0, whole).astype(np.float64), mask=null | lost), lost
    plain = np.asarray(values.fill_null(0.0).to_numpy(zero_copy_only=False), np.float64)
    lost = ~np.isfinite(plain)
    return pa.array(np.where(lost, 0.0, plain) + 0.0, mask=null | lost), lost


def _int_to_decimal(whole: Ints, scale: int, null: Mask) -> tuple[pa.Array, Mask]:
    limit = DECIMAL_LIMIT // 10**scale
    lost = (whole >= limit) | (whole <= -limit)
    return decimals(np.where(lost, 0, whole) * 10**scale, scale, null | lost), lost


def _float_to_decimal(plain: Ints, scale: int, null: Mask) -> tuple[pa.Array, Mask]:
    """The one rounding kernel: pyarrow's cast, the exact double rounded half-even (2.675 -> 2.67)."""
    limit = DECIMAL_LIMIT / 10**scale
    with np.errstate(invalid="ignore"):
        lost = ~(np.abs(plain) < limit)
    near = pa.array(np.where(lost, 0.0, plain))
    wide = near.cast(pa.decimal128(38, scale))
    unscaled = codes(chunk(wide), ColumnType("decimal", scale))
    over = (unscaled >= DECIMAL_LIMIT) | (unscaled <= -DECIMAL_LIMIT)  # rounded up to the limit
    return decimals(np.where(over, 0, unscaled), scale, null | lost | over), lost | over
