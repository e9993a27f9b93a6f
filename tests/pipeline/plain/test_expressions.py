"""Expressions of the reference against a second opinion: pyarrow's own kernels, on single rows and boundary values.

call_function(f, [one row], explicit casts) = call(f, values), and raises exactly where that fails
"""

from __future__ import annotations

import itertools
import math
import struct
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base.types import ColumnType
from pipeline.definition.expressions import CASTS, FUNCTIONS, kind_of, parse
from pipeline.plain.expression import Failed, call, cast, compile_node, derived
from tests.support.strategies import expressions, pool

INF, NAN = math.inf, math.nan
MORE: dict[str, list[Any]] = {
    "int": [None, 0, 1, -1, 2, -7, 3, 2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 2**62, -(2**62), 2**63 - 1, -(2**63)],
    "float": [
        None,
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        -7.5,
        3.0,
        1e308,
        -1e308,
        5e-324,
        2.0**53,
        2.0**63,
        -(2.0**63),
        2.0**63 - 1024,
        1e18,
        INF,
        -INF,
        NAN,
    ],
    "str": [None, *pool(ColumnType("str"))],
    "bool": [None, True, False],
    "date": [None, *pool(ColumnType("date"))],
    "datetime": [None, *pool(ColumnType("datetime"))],
}


def same(one: Any, other: Any) -> bool:
    """Equal to the bit; NaNs are alike."""
    if isinstance(one, float) and isinstance(other, float):
        return (one != one and other != other) or struct.pack(">d", one) == struct.pack(">d", other)
    return type(one) is type(other) and bool(one == other)


def pyarrow_says(
    function: str, kind: tuple[str, ...], values: tuple[Any, ...], options: Any = None
) -> tuple[bool, Any]:
    """(failed, value) of one row."""
    arrays = [pa.array([v], ColumnType(k).arrow) for v, k in zip(values, kind, strict=True)]
    try:
        return False, pc.call_function(function, arrays, options)[0].as_py()
    except pa.ArrowInvalid:
        return True, None


def reference_says(function: str, values: tuple[Any, ...], options: dict[str, Any]) -> tuple[bool, Any]:
    try:
        return False, call(function, list(values), options)
    except Failed:
        return True, None


def check(
    function: str, kinds: tuple[str, ...], options: Any = None, given_options: dict[str, Any] | None = None
) -> None:
    """Every combination of boundary values."""
    seen = 0
    for values in itertools.product(*(MORE[k] for k in kinds)):
        theirs, ours = (
            pyarrow_says(function, kinds, values, options),
            reference_says(function, values, given_options or {}),
        )
        assert theirs[0] == ours[0] and same(theirs[1], ours[1]), (function, values, theirs, ours)
        seen += 1
    assert seen >= 3


ONE = {
    "negate_checked": ("int", "float"),
    "abs_checked": ("int", "float"),
    **dict.fromkeys(("sqrt", "sqrt_checked", "floor", "ceil", "trunc", "is_nan", "is_finite"), ("float",)),
    "invert": ("bool",),
    "utf8_length": ("str",),
    "is_null": tuple(MORE),
    "is_valid": tuple(MORE),
}
TWO = {
    **dict.fromkeys(("add_checked", "subtract_checked", "multiply_checked", "divide_checked"), ("int", "float")),
    **dict.fromkeys(("equal", "not_equal"), tuple(MORE)),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal"), ("int", "float", "str", "date", "datetime")),
    **dict.fromkeys(("and_kleene", "or_kleene"), ("bool",)),
    "coalesce": tuple(MORE),
}
PATTERNS = ("starts_with", "ends_with", "match_substring")


@pytest.mark.parametrize(("function", "kind"), [(f, k) for f, kinds in ONE.items() for k in kinds])
def test_functions_of_one_argument_equal_pyarrow(function: str, kind: str) -> None:
    check(function, (kind,))


@pytest.mark.parametrize(("function", "kind"), [(f, k) for f, kinds in TWO.items() for k in kinds])
def test_functions_of_two_arguments_equal_pyarrow(function: str, kind: str) -> None:
    check(function, (kind, kind))


@pytest.mark.parametrize("kind", ["int", "float", "str", "bool", "date", "datetime"])
def test_if_else_equals_pyarrow(kind: str) -> None:
    check("if_else", ("bool", kind, kind))


@pytest.mark.parametrize("function", PATTERNS)
@pytest.mark.parametrize("pattern", ["", "a", "E", "\n", "é", "\u0301", "x" * 70])
def test_text_functions_equal_pyarrow(function: str, pattern: str) -> None:
    check(function, ("str",), pc.MatchSubstringOptions(pattern), {"pattern": pattern})


@pytest.mark.parametrize("kind", ["int", "str", "date", "datetime"])
def test_is_in_equals_pyarrow(kind: str) -> None:
    members = MORE[kind][1:4]
    options = pc.SetLookupOptions(pa.array(members, ColumnType(kind).arrow))
    check("is_in", (kind,), options, {"value_set": tuple(members)})


@pytest.mark.parametrize(("kind", "to"), sorted(CASTS))
def test_casts_equal_pyarrow(kind: str, to: str) -> None:
    for value in MORE[kind]:
        theirs = pyarrow_says("cast", (kind,), (value,), pc.CastOptions(target_type=ColumnType(to).arrow))
        try:
            ours = False, cast(value, kind, to)
        except Failed:
            ours = True, None
        assert theirs[0] == ours[0] and same(theirs[1], ours[1]), (value, theirs, ours)


def test_every_allowed_function_is_held_against_pyarrow() -> None:
    assert {*ONE, *TWO, *PATTERNS, "if_else", "is_in", "cast"} == set(FUNCTIONS)


# ---------------------------------------------------------------- whole trees, by hand

KINDS = {"i": "int", "f": "float", "s": "str", "b": "bool", "at": "datetime", "d": "date"}
ROW: dict[str, Any] = dict.fromkeys(KINDS)


def value(expression: pc.Expression, **row: Any) -> Any:
    """The expression's value on one row, or "failed"; columns not given are null."""
    try:
        return compile_node(parse(expression, "test"), KINDS)(ROW | row)
    except Failed:
        return "failed"


N, F, B, S, AT = (pc.field(name) for name in ("i", "f", "b", "s", "at"))


@pytest.mark.parametrize(
    ("expression", "row", "wanted"),
    [
        (N / 2, {"i": -7}, -3),
        (N / 0, {"i": 1}, "failed"),
        (N / 0, {}, None),
        (N / -1, {"i": -(2**63)}, "failed"),
        (N + 1, {"i": 2**63 - 1}, "failed"),
        (N + 1, {"i": 2**63 - 2}, 2**63 - 1),
        (F / 0, {"f": 0.0}, "failed"),
        (F / F, {"f": -0.0}, "failed"),
        (F * 10, {"f": 1e308}, INF),
        (F + N, {"f": 0.5, "i": 2**53}, 9007199254740992.0),
        (F + N, {"f": 0.5, "i": 2**53 + 1}, "failed"),
        (F + N, {"f": None, "i": 2**53 + 1}, "failed"),
        (F + N, {"f": 0.5}, None),
        (pc.coalesce(F, N), {"f": 1.0, "i": 2**53 + 1}, "failed"),
        (pc.coalesce(N, F), {"i": 3}, 3.0),
        (F == N, {"f": 3.0, "i": 3}, True),
        (F != F, {"f": NAN}, True),
        (F <= F, {"f": NAN}, False),
        (pc.if_else(B, N / 0, N), {"b": False, "i": 1}, "failed"),
        (pc.if_else(B, N, N + 1), {"i": 1}, None),
        (pc.if_else(B, N, F), {"b": True, "i": 1}, 1.0),
        (B & (N > 0), {"b": False}, False),
        (B & (N > 0), {"b": True}, None),
        (B | (N > 0), {"b": True}, True),
        (B & (N / 0 > 0), {"b": False, "i": 1}, "failed"),
        (~B, {}, None),
        (S.isin(["a"]), {}, False),
        (S.isin(["a"]), {"s": "a"}, True),
        (S.is_null(), {}, True),
        (pc.is_nan(F), {}, None),
        (pc.is_nan(F), {"f": NAN}, True),
        (pc.sqrt(F), {"f": 2.25}, 1.5),
        (pc.sqrt_checked(F), {"f": -1.0}, "failed"),
        (F.cast(pa.int64()), {"f": 2.5}, "failed"),
        (F.cast(pa.int64()), {"f": -3.0}, -3),
        (F.cast(pa.int64()), {"f": 2.0**63}, "failed"),
        (B.cast(pa.int64()), {"b": True}, 1),
        (AT.cast(pa.date32()), {"at": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)}, date(1969, 12, 31)),
        (pc.utf8_length(S), {"s": "e\u0301\U0001d11e"}, 3),
        (S < "b", {"s": "\uffff"}, False),
        (AT.is_valid(), {"at": None}, False),
    ],
)
def test_expressions_by_hand(expression: pc.Expression, row: dict[str, Any], wanted: Any) -> None:
    assert same(value(expression, **row), wanted)


def result(given_value: Any, kind: str, type: ColumnType) -> Any:
    try:
        return derived(given_value, kind, type)
    except Failed:
        return "failed"


@pytest.mark.parametrize(
    ("given_value", "scale", "shown"),
    [
        (2.675, 2, "2.67"),  # the double is 2.67499999999999982236431605997495353221893310546875
        (2.5, 0, "2"),
        (3.5, 0, "4"),
        (-2.5, 0, "-2"),
        (0.125, 2, "0.12"),
        (0.375, 2, "0.38"),
        (-0.0, 1, "0.0"),
        (-0.001, 2, "0.00"),
        (1e-320, 12, "0E-12"),
        (3, 2, "3.00"),
        (999999999999999999, 0, "999999999999999999"),
        (1e18, 0, "failed"),
        (10**18, 0, "failed"),
        (9999999999999999, 2, "9999999999999999.00"),
        (10**16, 2, "failed"),
        (NAN, 2, "failed"),
        (-INF, 2, "failed"),
        (None, 2, "None"),
    ],
)
def test_a_derived_decimal_is_the_exact_float_rounded_half_even(given_value: Any, scale: int, shown: str) -> None:
    kind = "int" if isinstance(given_value, int) else "float"
    assert str(result(given_value, kind, ColumnType("decimal", scale))) == shown


def test_a_derived_value_becomes_its_type_or_fails() -> None:
    to = ColumnType
    assert same(result(-0.0, "float", to("float")), 0.0)
    assert result(NAN, "float", to("float")) == "failed" and result(INF, "float", to("float")) == "failed"
    assert same(result(3, "int", to("float")), 3.0) and result(2**53 + 1, "int", to("float")) == "failed"
    assert same(result(3.0, "float", to("int")), 3) and result(3.5, "float", to("int")) == "failed"
    assert result(datetime(1, 12, 31, tzinfo=UTC), "datetime", to("datetime")) == "failed"
    assert same(result(True, "bool", to("bool")), True) and result("", "str", to("str")) == ""
    assert all(result(None, k, to(k)) is None for k in ("int", "float", "str", "bool", "date", "datetime"))


# ---------------------------------------------------------------- whole trees, against pyarrow

LITTLE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@LITTLE
@given(st.data())
def test_whole_trees_equal_pyarrow_evaluating_the_expression_itself(data: st.DataObject) -> None:
    """pyarrow binds and runs the user's own Expression on a table of one row, with its own casts and promotions."""
    kind = data.draw(st.sampled_from(["int", "float", "bool", "str", "date", "datetime"]))
    expression = data.draw(expressions(kind, KINDS, depth=3))
    tree = parse(expression, "test")
    assert kind_of(tree, KINDS, "test") == kind
    rows = [{name: data.draw(st.sampled_from(MORE[k])) for name, k in KINDS.items()} for _ in range(3)]
    evaluate = compile_node(tree, KINDS)
    for row in rows:
        table = pa.table({name: pa.array([row[name]], ColumnType(k).arrow) for name, k in KINDS.items()})
        try:
            theirs: Any = pc.cast(project(table, expression), ColumnType(kind).arrow)[0].as_py()
        except pa.ArrowInvalid:
            theirs = "failed"
        try:
            ours: Any = evaluate(row)
        except Failed:
            ours = "failed"
        assert same(theirs, ours), (row, theirs, ours)


def project(table: pa.Table, expression: pc.Expression) -> pa.ChunkedArray:
    """pyarrow's own evaluation of an expression."""
    from pyarrow.acero import Declaration, ProjectNodeOptions, TableSourceNodeOptions

    plan = Declaration.from_sequence(
        [
            Declaration("table_source", TableSourceNodeOptions(table)),
            Declaration("project", ProjectNodeOptions([expression], ["found"])),
        ]
    )
    return plan.to_table(use_threads=False).column("found")
