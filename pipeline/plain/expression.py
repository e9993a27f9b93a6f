"""Expressions on one row of Python values: what pyarrow.compute's call gives on that row alone.

    compile_node(tree, kinds)(row) = the value, None for null         or Failed, which rejects the row

Arguments are all computed first, in order, so an error in either branch of an if_else counts. An int beside a float is
brought to float before the call, by the same checked cast that one can write, also where the float is null.
"""

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pipeline.base.types import DECIMAL_LIMIT, INT_MAX, INT_MIN, TIME_MAX, TIME_MIN, ColumnType
from pipeline.definition.expressions import Call, Field, Literal, Node, common_kind, kind_of
from pipeline.plain.values import decimal_of

Kinds = dict[str, str]  # column -> kind, decimals being float
Row = Mapping[str, Any]
Evaluate = Callable[[Row], Any]
WHOLE_FLOATS = 2**53


class Failed(Exception):
    """The expression cannot be computed on this row; the text says why."""


def compile_node(node: Node, kinds: Kinds) -> Evaluate:
    """A function from a row (decimals already floats) to the tree's value; `kinds` gives each column's kind."""
    match node:
        case Field(name):
            return lambda row: row[name]
        case Literal(_, _, constant):
            return lambda row: constant
        case Call(function, arguments, options):
            return _compile_call(function, arguments, dict(options), kinds)


def _compile_call(function: str, arguments: tuple[Node, ...], options: dict[str, Any], kinds: Kinds) -> Evaluate:
    given = tuple(kind_of(a, kinds, function) for a in arguments)
    compiled = [compile_node(a, kinds) for a in arguments]
    if function == "cast":
        to = options["to_type"]
        return lambda row: cast(compiled[0](row), given[0], CAST_TO[to])
    free = 1 if function == "if_else" else 0  # the condition keeps its type
    wanted = given[:free] + (common_kind(given[free:]) or "",) * (len(given) - free)

    def evaluate(row: Row) -> Any:
        values = [compute(row) for compute in compiled]
        values = [cast(v, kind, to) for v, kind, to in zip(values, given, wanted, strict=True)]
        return call(function, values, options)

    return evaluate


CAST_TO = {
    "int64": "int",
    "double": "float",
    "string": "str",
    "bool": "bool",
    "date32[day]": "date",
    "timestamp[us, tz=UTC]": "datetime",
}


def call(function: str, values: list[Any], options: dict[str, Any]) -> Any:
    """One call on values of the same kind (if_else: the last two). Raises Failed."""
    if function in OF_NULLS:
        return OF_NULLS[function](values, options)
    if any(v is None for v in values):
        return None
    if function in OF_TEXT:
        return OF_TEXT[function](values[0], options["pattern"])
    return OF_VALUES[function](*values)


def _and(values: list[Any], options: dict[str, Any]) -> bool | None:
    if any(v is False for v in values):
        return False
    return None if any(v is None for v in values) else True


def _or(values: list[Any], options: dict[str, Any]) -> bool | None:
    if any(v is True for v in values):
        return True
    return None if any(v is None for v in values) else False


def _if_else(values: list[Any], options: dict[str, Any]) -> Any:
    condition, then, otherwise = values
    if condition is None:
        return None
    return then if condition else otherwise


OF_NULLS: dict[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "and_kleene": _and,
    "or_kleene": _or,
    "is_null": lambda values, options: values[0] is None,
    "is_valid": lambda values, options: values[0] is not None,
    "coalesce": lambda values, options: next((v for v in values if v is not None), None),
    "if_else": _if_else,
    "is_in": lambda values, options: values[0] is not None and values[0] in options["value_set"],
}
OF_TEXT: dict[str, Callable[[str, str], bool]] = {
    "starts_with": lambda text, pattern: text.startswith(pattern),
    "ends_with": lambda text, pattern: text.endswith(pattern),
    "match_substring": lambda text, pattern: pattern in text,
}


def _in_int64(value: Any) -> Any:
    if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        raise Failed("integer overflow")
    return value


def _divide(a: Any, b: Any) -> Any:
    if b == 0:
        raise Failed("division by zero")
    if isinstance(a, int):
        quotient = abs(a) // abs(b)  # toward zero
        return _in_int64(quotient if (a < 0) == (b < 0) else -quotient)
    return a / b


def _sqrt(value: float) -> float:
    return math.nan if value < 0 else math.sqrt(value)


def _sqrt_checked(value: float) -> float:
    if value < 0:
        raise Failed("square root of a negative number")
    return math.sqrt(value)


def _whole(round_: Callable[[float], int], value: float) -> float:
    """floor, ceil and trunc leave NaN and infinities, and keep the sign of zero."""
    return math.copysign(float(round_(value)), value) if math.isfinite(value) else value


OF_VALUES: dict[str, Callable[..., Any]] = {
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "add_checked": lambda a, b: _in_int64(a + b),
    "subtract_checked": lambda a, b: _in_int64(a - b),
    "multiply_checked": lambda a, b: _in_int64(a * b),
    "divide_checked": _divide,
    "negate_checked": lambda a: _in_int64(-a),
    "abs_checked": lambda a: _in_int64(abs(a)),
    "sqrt": _sqrt,
    "sqrt_checked": _sqrt_checked,
    "floor": lambda a: _whole(math.floor, a),
    "ceil": lambda a: _whole(math.ceil, a),
    "trunc": lambda a: _whole(math.trunc, a),
    "invert": lambda a: not a,
    "is_nan": math.isnan,
    "is_finite": math.isfinite,
    "utf8_length": len,
}


def cast(value: Any, kind: str, to: str) -> Any:
    """A safe cast: the same value in another type, or Failed. A datetime becomes its day in UTC."""
    if value is None or kind == to:
        return value
    match kind, to:
        case "int", "float":
            if abs(value) > WHOLE_FLOATS:
                raise Failed(f"{value} as a float would lose digits")
            return float(value)
        case "float", "int":
            if not math.isfinite(value) or value != math.trunc(value):
                raise Failed(f"{value} is no whole number")
            return _in_int64(int(value))
        case "bool", ("int" | "float"):
            return int(value) if to == "int" else float(value)
        case "datetime", "date":
            return value.date()
    raise AssertionError((kind, to))


def enters(value: Any) -> Any:
    """A column's value as expressions see it: a decimal is the nearest float."""
    return float(value) if isinstance(value, Decimal) else value


def derived(value: Any, kind: str, type: ColumnType) -> Any:
    """An expression's value as a value of the derived column's type. Raises Failed when it cannot be one."""
    if value is None:
        return None
    if type.kind == "decimal":
        return _derived_decimal(value, type.scale)
    found = cast(value, kind, type.kind)
    if isinstance(found, float):
        if not math.isfinite(found):
            raise Failed(f"the result is {found}")
        return found + 0.0  # -0.0 + 0.0 = 0.0
    if isinstance(found, datetime) and not TIME_MIN <= found <= TIME_MAX:
        raise Failed(f"{found} is outside of {TIME_MIN.isoformat()} to {TIME_MAX.isoformat()}")
    assert isinstance(found, int | str | date)
    return found


def _derived_decimal(value: int | float, scale: int) -> Decimal:
    if isinstance(value, float) and not math.isfinite(value):
        raise Failed(f"the result is {value}")
    rounded = round(Fraction(value) * 10**scale)  # of a Fraction: half to even, exactly
    if abs(rounded) >= DECIMAL_LIMIT:
        raise Failed(f"{value} is out of the range of decimal(18, {scale})")
    return decimal_of(rounded, scale)
