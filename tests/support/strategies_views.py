"""Hypothesis strategies for whatever View accepts: records, constraints, remedies, expressions, windows, aggregates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from pipeline.aggregates import (
    Aggregate,
    Count,
    CountNonNull,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Quantile,
    StdDev,
    Sum,
    Variance,
)
from pipeline.base.errors import DefinitionError
from pipeline.base.types import KINDS, ColumnType
from pipeline.definition.constraints import (
    Between,
    Clip,
    Constraint,
    Default,
    Length,
    Nullable,
    OneOf,
    Pattern,
    Precision,
    Remedy,
    Scale,
    keeps,
)
from pipeline.definition.derived import Derived
from pipeline.definition.lookup import Lookup
from pipeline.definition.marks import At, Epoch, FromText, Header, Lenient, Mark, RecordKey, RecordTime, Text, Zone
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.definition.window import tumbling
from tests.support.strategies_values import VALUES, pool

Draw = Callable[[st.SearchStrategy[Any]], Any]
Kinds = dict[str, str]
PYTHON = {t.__name__: t for t in (int, float, str, bool, datetime, date)} | {"decimal": Decimal}
PYTHON |= {"wide": Decimal, "bytes": bytes, "uuid": UUID, "time": time}
PRECISIONS = [(38, 18), (38, 0), (20, 2), (38, 38), (5, 5), (19, 12), (1, 0)]
TEXTS = [
    Text(strip="\x00"),
    Text(trim=True),
    Text(strip="\x00aE", case="lower", form="NFC"),
    Text(case="upper", form="NFKD", trim=True),
]
PATTERNS = ["[A-Z]{3}", r"\w*", r"(a|B|x).*", r"\d+", "(?s).*", "a$", r"[^\n]*"]

# ---------------------------------------------------------------- columns


@st.composite
def hints(draw: Draw, kind: str | None = None, nullable: bool | None = None) -> Any:
    """A field's annotation: type, constraints, a remedy."""
    kind = kind or draw(st.sampled_from(["decimal", "str", *KINDS]))
    nullable = draw(st.booleans()) if nullable is None else nullable
    scale = draw(st.sampled_from([2, 0, 1, 5, 12])) if kind == "decimal" else 0
    type = ColumnType("wide", *draw(st.sampled_from(PRECISIONS))[::-1]) if kind == "wide" else ColumnType(kind, scale)
    constraints = draw(_constraints(type))
    of_decimal = {"decimal": [Scale(scale)], "wide": [Precision(type.digits, type.scale)]}
    marks = [*of_decimal.get(kind, []), *constraints, *draw(_written(kind))]
    remedy = draw(st.sampled_from(_remedies(type, constraints, nullable)))
    base = PYTHON[kind] | None if nullable else PYTHON[kind]
    for mark in marks + ([remedy] if remedy else []):
        base = Annotated[base, mark]
    return base


@st.composite
def _written(draw: Draw, kind: str) -> list[Mark]:
    """FromText or Text, or mostly neither."""
    if draw(st.integers(0, 3)):
        return []
    if kind == "str":
        return [draw(st.sampled_from(TEXTS))]
    return [FromText()] if kind in ("int", "float", "decimal", "wide", "bool") else []


@st.composite
def _constraints(draw: Draw, type: ColumnType) -> list[Constraint]:
    possible: list[Callable[[], Constraint]] = []
    values = st.sampled_from(pool(type))
    if type.kind not in ("bool", "bytes", "uuid"):
        possible.append(lambda: _between(draw(values), draw(values), draw(st.integers(0, 5))))
    if type.kind not in ("bool", "float"):
        possible.append(lambda: OneOf(*draw(st.lists(values, min_size=1, max_size=6, unique=True))))
    if type.kind in ("str", "bytes"):
        possible.append(lambda: Length(draw(st.integers(0, 2)), draw(st.sampled_from([None, 2, 3, 70]))))
    if type.kind == "str":
        possible.append(lambda: Pattern(draw(st.sampled_from(PATTERNS))))
    how_many = draw(st.sampled_from([0, 1, 2, 2]))
    chosen = draw(st.permutations(possible))[:how_many] if possible else []
    constraints = tuple(make() for make in chosen)
    return list(constraints) if any(keeps(v, constraints) for v in pool(type)) else []


def _between(one: Any, other: Any, open_end: int) -> Between:
    low, high = min(one, other), max(one, other)
    if open_end == 1:
        return Between(low=low)
    return Between(high=high) if open_end == 2 else Between(low, high)


def _remedies(type: ColumnType, constraints: Sequence[Constraint], nullable: bool) -> list[Remedy | None]:
    found: list[Remedy | None] = [None]
    if constraints or type.is_decimal:
        found += [Nullable()] if nullable else []
        clips = type.kind != "str" and any(isinstance(c, Between) for c in constraints)
        found += [Clip()] * 3 if clips else []
    allowed = [v for v in pool(type) if keeps(v, tuple(constraints))]
    found += [Default(allowed[0])]
    if type.kind == "float" and keeps(-0.0, tuple(constraints)):
        found += [Default(-0.0)]
    return found


@st.composite
def sources(draw: Draw) -> Source:
    """A source whose record has a key, a time, an identity and one to five columns more."""
    fields: list[tuple[str, Any]] = [
        ("id", draw(st.sampled_from([str, int, Annotated[str, Length(1, 64)], UUID, bytes]))),
        ("station", draw(st.one_of(st.just(Annotated[str, OneOf("EWR", "JFK", "é")]), hints(nullable=False)))),
        ("at", draw(st.one_of(st.just(datetime), hints("datetime", nullable=False)))),
    ]
    fields += [(f"c{n}", hint) for n, hint in enumerate(draw(st.lists(hints(), min_size=1, max_size=5)))]
    explode = draw(st.sampled_from([None] * 3 + ["items", "context.items"]))
    fields = [(name, _marked(draw, name, n, hint, explode)) for n, (name, hint) in enumerate(fields)]
    if explode:
        fields.append(("piece", Annotated[draw(hints()), At(f"{explode}[].piece")]))
    fields += draw(st.lists(st.sampled_from(AROUND), max_size=2, unique_by=lambda field: field[0]))
    identity: Any = draw(st.sampled_from(["id"] * 5 + [None, ("id", "part"), ("part", "id")]))
    fields += [("part", draw(st.sampled_from([str, int])))] if isinstance(identity, tuple) else []
    record = dataclasses.make_dataclass("Event", draw(st.permutations(fields)), frozen=True)
    horizon = draw(st.sampled_from([timedelta(days=7), timedelta(0), timedelta(milliseconds=1), timedelta(seconds=10)]))
    event_time = "sent" if "sent" in dict(fields) and draw(st.booleans()) else "at"
    return Source("events", record, "station", event_time, identity, identity_horizon=horizon, explode=explode)


AROUND: list[tuple[str, Any]] = [
    ("sent", Annotated[datetime, RecordTime()]),
    ("sent_maybe", Annotated[datetime | None, RecordTime()]),
    ("record_key", Annotated[str | None, RecordKey()]),
    ("record_number", Annotated[int | None, RecordKey(), Between(-20, 1000), Nullable()]),
    ("trace", Annotated[str | None, Header("trace"), Length(0, 1), Nullable()]),
    ("trace_number", Annotated[int, Header("trace"), Default(5)]),
]


def _marked(draw: Draw, name: str, number: int, hint: Any, explode: str | None) -> Any:
    """The hint with a path or not, in each element or not, and a time with marks or not."""
    paths = [
        f"context.{name}",
        f"context.deep.{name}",
        f'"a.b"."{name}"',
        f"list[{number}]",
        f"rows[{number % 2}].{name}",
    ]
    if explode and name not in ("id", "station"):
        paths += [f"{explode}[].{name}", f"{explode}[].deep.{name}", f"{explode}[].list[{number}]"]
    path = draw(st.sampled_from([None] * 4 + paths))
    marks = [At(path)] if path else []
    if _is_time(hint) and draw(st.integers(0, 2)) == 0:
        marks.append(Epoch(draw(st.sampled_from(["s", "ms", "us", "ns"]))))
    if _is_time(hint) and draw(st.integers(0, 2)) == 0:
        marks += [Zone("Europe/Berlin"), Lenient()][draw(st.integers(0, 1)) :]
    for mark in marks:
        hint = Annotated[hint, mark]
    return hint


def _is_time(hint: Any) -> bool:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return datetime in (bare, *get_args(bare))


# ---------------------------------------------------------------- expressions


def literal(value: Any) -> pc.Expression:
    """A constant of an expression, of the types that definitions allow."""
    return pc.scalar(pa.scalar(value, pa.timestamp("us", "UTC")) if isinstance(value, datetime) else value)


@st.composite
def expressions(draw: Draw, kind: str, columns: Kinds, depth: int = 2) -> pc.Expression:
    """An expression of that kind over the columns; every function that definitions allow comes up."""
    fields = [name for name, k in columns.items() if k == kind]
    if fields and (depth <= 0 or draw(st.integers(0, 3)) == 0):
        return pc.field(draw(st.sampled_from(fields)))
    made = MAKERS[kind] if depth > 0 else LAST[kind]
    found: pc.Expression = draw(st.sampled_from(made))(draw, columns, depth - 1)
    return found


def _expr(draw: Draw, kind: str, columns: Kinds, depth: int) -> pc.Expression:
    return draw(expressions(kind, columns, depth))


def _operand(draw: Draw, kind: str, columns: Kinds, depth: int) -> pc.Expression:
    """An expression or a constant; beside a float also an int."""
    if kind == "float" and draw(st.integers(0, 2)) == 0:
        kind = "int"
    if draw(st.booleans()) and kind != "bool":
        return literal(draw(st.sampled_from(VALUES[kind])))
    return _expr(draw, kind, columns, depth)


def _pair(draw: Draw, kind: str, columns: Kinds, depth: int) -> list[pc.Expression]:
    """Two arguments that can stand beside each other, not both constant, in either order."""
    two = [_expr(draw, kind, columns, depth), _operand(draw, kind, columns, depth)]
    return two[::-1] if draw(st.booleans()) else two


def _binary(kind: str, functions: Sequence[Callable[..., pc.Expression]]) -> Any:
    return lambda draw, columns, depth: draw(st.sampled_from(functions))(*_pair(draw, kind, columns, depth))


def _unary(kind: str, functions: Sequence[Callable[..., pc.Expression]]) -> Any:
    return lambda draw, columns, depth: draw(st.sampled_from(functions))(_expr(draw, kind, columns, depth))


def _choice(kind: str) -> Any:
    def make(draw: Draw, columns: Kinds, depth: int) -> pc.Expression:
        condition = _expr(draw, "bool", columns, depth)
        return pc.if_else(condition, _operand(draw, kind, columns, depth), _operand(draw, kind, columns, depth))

    def make_exactly(draw: Draw, columns: Kinds, depth: int) -> pc.Expression:
        condition = _expr(draw, "bool", columns, depth)
        return pc.if_else(condition, *_pair(draw, kind, columns, depth))

    return make_exactly if kind == "float" else make  # two ints in both branches would be an int


def _coalesce(kind: str) -> Any:
    return lambda draw, columns, depth: pc.coalesce(*_pair(draw, kind, columns, depth))


def _cast(kind: str, to: pa.DataType) -> Any:
    return lambda draw, columns, depth: _expr(draw, kind, columns, depth).cast(to)


def _is_in(kind: str) -> Any:
    def make(draw: Draw, columns: Kinds, depth: int) -> pc.Expression:
        values = draw(st.lists(st.sampled_from(VALUES[kind]), min_size=1, max_size=4))
        return _expr(draw, kind, columns, depth).isin(pa.array(values, ColumnType(kind).arrow))

    return make


def _matches(draw: Draw, columns: Kinds, depth: int) -> pc.Expression:
    function = draw(st.sampled_from([pc.starts_with, pc.ends_with, pc.match_substring]))
    return function(
        _expr(draw, "str", columns, depth), pattern=draw(st.sampled_from(["", "a", "E", "é", "\n", "R", "\u0301"]))
    )


def _is_valid(draw: Draw, columns: Kinds, depth: int) -> pc.Expression:
    field = pc.field(draw(st.sampled_from(sorted(columns))))
    return field.is_valid() if draw(st.booleans()) else field.is_null()


ARITHMETIC = [pc.add_checked, pc.subtract_checked, pc.multiply_checked, pc.divide_checked]
EQUALITY = [pc.equal, pc.not_equal]
ORDER = [pc.less, pc.less_equal, pc.greater, pc.greater_equal]
LAST: dict[str, list[Any]] = {
    "bool": [_is_valid],
    "int": [lambda draw, columns, depth: _is_valid(draw, columns, depth).cast(pa.int64())],
    "float": [lambda draw, columns, depth: _is_valid(draw, columns, depth).cast(pa.float64())],
    "str": [lambda draw, columns, depth: pc.if_else(_is_valid(draw, columns, depth), literal("EWR"), literal("x"))],
    "datetime": [lambda draw, columns, depth: pc.field("at")],
    "date": [lambda draw, columns, depth: pc.field("at").cast(pa.date32())],
}
MAKERS: dict[str, list[Any]] = {
    "int": [
        *[_binary("int", ARITHMETIC)] * 4,
        _unary("int", [pc.negate_checked, pc.abs_checked]),
        *[_unary("str", [pc.utf8_length])] * 2,
        *(_cast("float", pa.int64()), _cast("bool", pa.int64()), _choice("int"), _coalesce("int")),
    ],
    "float": [
        *[_binary("float", ARITHMETIC)] * 4,
        _unary("float", [pc.negate_checked, pc.abs_checked, pc.sqrt, pc.sqrt_checked]),
        _unary("float", [pc.floor, pc.ceil, pc.trunc]),
        *(_cast("int", pa.float64()), _cast("bool", pa.float64()), _choice("float"), _coalesce("float")),
    ],
    "bool": [
        *(_binary(kind, EQUALITY) for kind in ("int", "float", "str", "datetime", "date", "bool")),
        *(_binary(kind, ORDER) for kind in ("int", "float", "str", "datetime", "date")),
        lambda draw, columns, depth: _expr(draw, "bool", columns, depth) & _expr(draw, "bool", columns, depth),
        lambda draw, columns, depth: _expr(draw, "bool", columns, depth) | _expr(draw, "bool", columns, depth),
        _unary("bool", [pc.invert]),
        _unary("float", [pc.is_nan, pc.is_finite]),
        *(_is_in(kind) for kind in ("int", "str", "datetime", "date")),
        *(_matches, _matches, _is_valid, _choice("bool"), _coalesce("bool")),
    ],
    "str": [_choice("str"), _coalesce("str")],
    "datetime": [_choice("datetime"), _coalesce("datetime")],
    "date": [_choice("date"), _coalesce("date"), _cast("datetime", pa.date32())],
}


# ---------------------------------------------------------------- views

FROM = {"decimal": ["float", "int"], "float": ["float", "int"], "int": ["int", "float"]}
NUMBERS = ("int", "decimal", "wide")


def _kind(type: ColumnType) -> str:
    return "float" if type.is_decimal else type.kind


@st.composite
def deriveds(draw: Draw, columns: Kinds) -> Derived:
    """A derived column of any type."""
    to = draw(
        st.sampled_from(["decimal", "int", "float", "decimal", "int", "float", "bool", "str", "datetime", "date"])
    )
    kind = draw(st.sampled_from(FROM.get(to, [to])))
    type = Scale(draw(st.sampled_from([2, 0, 12]))) if to == "decimal" else PYTHON[to]
    return Derived(draw(expressions(kind, columns, depth=3)), type)


def _quantile(draw: Draw) -> Callable[[str], Aggregate]:
    return lambda column: Quantile(column, draw(st.sampled_from([0.5, 0, 0.99, 1])))


@st.composite
def aggregates(draw: Draw, types: dict[str, ColumnType]) -> Aggregate:
    """Any aggregate over any column that it takes."""
    name = draw(st.sampled_from(sorted(types)))
    classes: list[Any] = [CountNonNull, First, Last]
    classes += [Min, Max] if types[name].kind != "bool" else []
    classes += [DistinctCount] if types[name].kind != "float" else []
    classes += [_quantile(draw), Sum, Mean, Variance, StdDev] * 2 if types[name].kind in NUMBERS else []
    found: Aggregate = draw(st.sampled_from(classes))(name)
    try:
        found.check((types[name],), "drawn")
    except DefinitionError:  # a variance of more digits than there are
        return StdDev(name)
    return found


WINDOWS = [
    tumbling(hours=1),
    tumbling(days=1),
    tumbling(seconds=1),
    tumbling(seconds=7),
    tumbling(days=7),
    tumbling(days=366),
]


@st.composite
def views(
    draw: Draw,
    source: Source | None = None,
    name: str = "events_by_key",
    lookups: Mapping[str, Lookup] | None = None,
) -> View:
    """Any view (of `source`, or of a new one): every type, constraint, remedy, expression, window and aggregate."""
    source = source or draw(sources())
    found = {column: type for name, one in (lookups or {}).items() for column, type in one.types(name).items()}
    own = {c.name: c.type for c in source.columns} | found
    kinds = {n: _kind(t) for n, t in own.items()}
    derive = {f"d{n}": d for n, d in enumerate(draw(st.lists(deriveds(kinds), max_size=3)))}
    types = own | {n: d.column_type for n, d in derive.items()}
    where = draw(st.none() | expressions("bool", {n: _kind(t) for n, t in types.items()}))
    solid = [name for name, type in own.items() if type.kind != "float"]
    solid += [n for n, d in derive.items() if d.column_type.kind != "float"] * 2
    key = tuple(draw(st.lists(st.sampled_from(solid), min_size=1, max_size=3, unique=True)))
    chosen = draw(st.lists(aggregates(types), min_size=1, max_size=5))
    return View(
        name=name,
        source=source,
        key=key,
        window=draw(st.sampled_from(WINDOWS)),
        aggregates={"events": Count()} | {f"a{n}": a for n, a in enumerate(chosen)},
        derive=derive,
        where=where,
        lookups=lookups or {},
    )
