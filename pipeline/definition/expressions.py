"""pyarrow.compute expressions as values: parsed to a tree that compares, hashes, prints and is checked.

    parse(e1) == parse(e2)  <=>  e1 and e2 are the same calls on the same fields, literals and options

Substrait would lose the difference between checked and unchecked arithmetic and cannot hold a safe cast (tried on pyarrow 26.0.1),
so the tree is read from the form in which pyarrow pickles an Expression: a record batch of literals and options, whose schema
metadata lists the calls in pre-order.
"""

from dataclasses import dataclass
from datetime import date, datetime
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.base.errors import DefinitionError, did_you_mean
from pipeline.base.types import is_text

COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
ARITHMETIC = ("add_checked", "subtract_checked", "multiply_checked", "divide_checked", "negate_checked", "abs_checked")
MATH = ("sqrt", "sqrt_checked", "floor", "ceil", "trunc")
BOOLEAN = ("and_kleene", "or_kleene", "invert")
NULLS = ("is_null", "is_valid", "is_nan", "is_finite", "coalesce", "if_else")
TEXT = ("starts_with", "ends_with", "match_substring", "utf8_length")
FUNCTIONS = (*COMPARISONS, *ARITHMETIC, *MATH, *BOOLEAN, *NULLS, *TEXT, "is_in", "cast")
INSTEAD = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "negate": "pc.negate_checked",
    "abs": "pc.abs_checked",
    "and": "&",
    "or": "|",
    "power": "x * x",
}
# (from, to): the casts that mean the same on one row and on a block, and in Python
CASTS = {("int", "float"), ("float", "int"), ("bool", "int"), ("bool", "float"), ("datetime", "date")}
KIND_OF_ARROW = {
    "int64": "int",
    "double": "float",
    "string": "str",
    "bool": "bool",
    "date32[day]": "date",
    "timestamp[us, tz=UTC]": "datetime",
}
LITERALS = {
    "int64": int,
    "double": float,
    "string": str,
    "bool": bool,
    "date32[day]": date,
    "timestamp[us, tz=UTC]": datetime,
}


@dataclass(frozen=True)
class Field:
    """A column."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Literal:
    """A constant; `type` is the Arrow type's name. Floats are held by their bits, so that 0.0 and -0.0 differ."""

    type: str
    text: str
    value: Any

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Call:
    """A function of FUNCTIONS; `options` are (name, value) pairs: is_in's value_set, a pattern, cast's to_type."""

    function: str
    arguments: tuple["Node", ...]
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        shown = [str(a) for a in self.arguments] + [f"{k}={v}" for k, v in self.options]
        return f"{self.function}({', '.join(shown)})"


Node = Field | Literal | Call


def parse(expression: pc.Expression, what: str) -> Node:
    """The tree of `expression`; DefinitionError (beginning with `what`) for anything that is not allowed in a view."""
    if not isinstance(expression, pc.Expression):
        raise DefinitionError(
            f"{what} is {expression!r}; allowed is a pyarrow.compute expression, as pc.field('x') > 0"
        )
    try:
        reduced: Any = expression.__reduce__()
        _, (buffer,) = reduced
    except pa.ArrowNotImplementedError:
        raise DefinitionError(f"{what} names a column by position; allowed are names, as pc.field('x')") from None
    batch = pa.ipc.open_file(pa.BufferReader(buffer)).get_batch(0)
    # Schema.metadata is a dict and loses repeated keys; the text form keeps them, in order.
    lines = batch.schema.to_string(show_schema_metadata=True, truncate_metadata=False, show_field_metadata=False)
    marker = "-- schema metadata --\n"
    pairs = [line.split(": ", 1) for line in lines.partition(marker)[2].splitlines()]
    steps = [(key, value[1:-1]) for key, value in pairs]
    node, rest = _node(steps, batch, what)
    if rest or not fields(node):
        raise DefinitionError(f"{what}: {expression} reads no column")
    return node


def fields(node: Node) -> frozenset[str]:
    """The names of the columns that the tree reads."""
    match node:
        case Field(name):
            return frozenset((name,))
        case Call(_, arguments, _):
            return frozenset().union(*(fields(a) for a in arguments))
    return frozenset()


def _node(steps: list[tuple[str, str]], batch: pa.RecordBatch, what: str) -> tuple[Node, list[tuple[str, str]]]:
    (kind, value), rest = steps[0], steps[1:]
    if kind == "field_ref":
        return Field(value), rest
    if (kind, value) == ("nested_field_ref", "2") and [step for step, _ in rest[:2]] == ["field_ref"] * 2:
        return Field(f"{rest[0][1]}.{rest[1][1]}"), rest[2:]  # a column of a lookup
    if kind == "literal":
        return _literal(batch.column(int(value))[0], what), rest
    if kind != "call":
        raise DefinitionError(
            f"{what} uses a nested or positional field; allowed are columns by name, as pc.field('x'), and pc.field('lookup', 'x')"
        )
    _check_function(value, what)
    arguments: list[Node] = []
    options: tuple[tuple[str, Any], ...] = ()
    while rest[0] != ("end", value):
        if rest[0][0] == "options":
            options = _options(value, batch.column(int(rest[0][1])), what)
            rest = rest[1:]
        else:
            argument, rest = _node(rest, batch, what)
            arguments.append(argument)
    call = Call(value, tuple(arguments), options)
    if all(isinstance(a, Literal) for a in arguments):
        raise DefinitionError(f"{what}: {call} reads no column; write its value instead")
    if value in BOOLEAN and any(isinstance(a, Literal) for a in arguments):
        raise DefinitionError(f"{what}: {call} has a constant operand; leave it out")
    return call, rest[1:]


def _check_function(name: str, what: str) -> None:
    if name not in FUNCTIONS:
        instead = (
            f" Use {INSTEAD[name]}: it rejects the record on overflow instead of wrapping." if name in INSTEAD else ""
        )
        raise DefinitionError(
            f"{what} calls {name}, which is not among the row-wise functions allowed: {', '.join(FUNCTIONS)}."
            f"{instead or did_you_mean(name, list(FUNCTIONS))}"
        )


def _literal(scalar: pa.Scalar, what: str) -> Literal:
    type, value = str(scalar.type), scalar.as_py()
    if type not in LITERALS or value is None or (isinstance(value, float) and not isfinite(value)):
        raise DefinitionError(
            f"{what} holds the constant {value!r} of type {type}; allowed are int, finite float, str, bool, date and"
            f" datetime with zone UTC in microseconds (decimal columns enter expressions as floats)"
        )
    if isinstance(value, str) and not is_text(value):
        raise DefinitionError(f"{what} holds a text constant with U+0000, which Postgres cannot hold")
    return Literal(type, value.hex() if isinstance(value, float) else repr(value), value)


def _options(function: str, column: pa.Array, what: str) -> tuple[tuple[str, Any], ...]:
    given = column[0]
    if function == "is_in":
        values = given["value_set"].as_py()
        if not values or any(v is None for v in values):
            raise DefinitionError(f"{what}: isin() needs at least one value, none of them null")
        type = str(given["value_set"].type.value_type)
        return (("type", type), ("value_set", tuple(values)))
    if function == "cast":
        options = dict(zip(column.type.names, given.values(), strict=True)) if hasattr(given, "values") else {}
        to_type = column.type.field("to_type").type
        if any(options[k].as_py() for k in options if k.startswith("allow_")):
            raise DefinitionError(f"{what}: a cast with safe=False can change values silently; use safe=True")
        return (("to_type", str(to_type)),)
    if function in ("starts_with", "ends_with", "match_substring"):
        if given["ignore_case"].as_py():
            raise DefinitionError(f"{what}: {function} with ignore_case depends on a Unicode version; leave it out")
        return (("pattern", given["pattern"].as_py()),)
    if function == "is_null" and given["nan_is_null"].as_py():
        raise DefinitionError(f"{what}: is_null(nan_is_null=True) mixes two questions; use is_null() | is_nan()")
    return ()


def kind_of(node: Node, columns: dict[str, str], what: str) -> str:
    """The kind (int, float, str, bool, date, datetime) of the tree's value; DefinitionError where a function cannot take its arguments.

    `columns` maps each readable column to its kind (decimals enter as float). An int beside a float becomes a float by a safe
    cast: a value beyond 2**53 then rejects its record.
    """
    match node:
        case Field(name):
            if name not in columns:
                raise DefinitionError(
                    f"{what} names column {name!r}, which it cannot read; it has {', '.join(columns)}."
                    f"{did_you_mean(name, list(columns))}"
                )
            return columns[name]
        case Literal(type, _, _):
            return KIND_OF_ARROW[type]
        case Call(function, arguments, options):
            kinds = tuple(kind_of(a, columns, what) for a in arguments)
            found = _result(function, kinds, dict(options))
            if found is None:
                raise DefinitionError(
                    f"{what}: {node} cannot take arguments of type {', '.join(kinds)}; cast or compare like with like"
                )
            return found


def common_kind(kinds: tuple[str, ...]) -> str | None:
    """The kind to which arguments are brought before a call: equal kinds stay, int beside float is float, else None."""
    distinct = set(kinds)
    if len(distinct) == 1:
        return kinds[0]
    return "float" if distinct == {"int", "float"} else None


def _arity(function: str) -> tuple[int, int]:
    """The least and the greatest number of arguments of a function."""
    if function in ("negate_checked", "abs_checked", "invert", "cast", "is_in", *MATH, *TEXT) or function.startswith(
        "is_"
    ):
        return 1, 1
    if function == "coalesce":
        return 1, 2**31
    return (3, 3) if function == "if_else" else (2, 2)


def _result(function: str, kinds: tuple[str, ...], options: dict[str, Any]) -> str | None:
    least, greatest = _arity(function)
    if not least <= len(kinds) <= greatest:
        return None
    common = common_kind(kinds)
    number = common in ("int", "float")
    one = len(kinds) == 1
    if function in ("equal", "not_equal"):
        return "bool" if common else None
    if function in COMPARISONS:
        return "bool" if common and common != "bool" else None
    if function in ARITHMETIC:
        return common if number else None
    if function in MATH or function in ("is_nan", "is_finite"):
        return ("float" if function in MATH else "bool") if kinds == ("float",) else None
    if function in BOOLEAN:
        return "bool" if common == "bool" else None
    if function in ("is_null", "is_valid"):
        return "bool"
    if function == "coalesce":
        return common
    if function == "if_else":
        return common_kind(kinds[1:]) if kinds[0] == "bool" else None
    if function in TEXT:
        return ("int" if function == "utf8_length" else "bool") if kinds == ("str",) else None
    if function == "is_in":
        member = KIND_OF_ARROW.get(options["type"])
        return "bool" if one and member == kinds[0] and member not in ("float", "bool") else None
    to = KIND_OF_ARROW.get(options["to_type"])
    return to if one and to and ((kinds[0], to) in CASTS or kinds[0] == to) else None
