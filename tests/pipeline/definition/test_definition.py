"""A wrong definition fails where it is written, and says what, where, and what is allowed."""

import dataclasses
from collections.abc import Callable
from dataclasses import make_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline import (
    Between,
    Clip,
    Count,
    CountNonNull,
    Default,
    Derived,
    First,
    Length,
    Max,
    Mean,
    Min,
    Nullable,
    OneOf,
    Pattern,
    Scale,
    Sum,
    tumbling,
)
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.definition.expressions import kind_of, parse
from pipeline.definition.record import columns
from pipeline.definition.view import reads
from tests.support.definitions import Reading, record, source, view


def field(hint: Any) -> Callable[[], object]:
    return lambda: source(record=record(x=hint))


# --- what is wrong fails where it is written -----------------------------------------------------------------------------

WRONG_SOURCES: list[tuple[str, Callable[[], object], list[str]]] = [
    ("topic", lambda: source(topic="a b"), ["topic 'a b'", "allowed are letters, digits"]),
    ("dots", lambda: source(topic=".."), ["topic '..'"]),
    ("empty topic", lambda: source(topic=""), ["topic ''"]),
    (
        "key",
        lambda: source(key="staton"),
        ["Source(readings): key", "'staton'", "Reading does not have", "Did you mean 'station'?"],
    ),
    ("event time", lambda: source(event_time="day"), ["event_time", "'day' of type date", "allowed: datetime"]),
    ("identity", lambda: source(identity="ratio"), ["identity", "'ratio' of type float", "allowed: str, int"]),
    ("null identity", lambda: source(identity="note"), ["'note'", "may be null", "without `| None`"]),
    ("horizon", lambda: source(identity_horizon=timedelta(seconds=-1)), ["identity_horizon", "from 0 to 36500 days"]),
    ("horizon type", lambda: source(identity_horizon=7), ["identity_horizon=7", "a timedelta"]),
    ("no dataclass", lambda: source(record=int), ["no dataclass", "@dataclass(frozen=True)"]),
    ("an instance", lambda: source(record=record()("1", "EWR", datetime(2020, 1, 1))), ["no dataclass"]),  # noqa: DTZ001
    ("no columns", lambda: source(record=make_dataclass("Empty", [])), ["Empty has no columns"]),
]

WRONG_COLUMNS: list[tuple[str, Callable[[], object], list[str]]] = [
    ("no scale", field(Decimal), ["Own.x", "Decimal without a scale", "Annotated[Decimal, Scale(2)]"]),
    (
        "type",
        field(complex),
        ["Own.x", "allowed are int, float, str, bool, datetime, date, bytes, UUID, time, Decimal"],
    ),
    ("list", field(list[int]), ["Own.x", "allowed are int"]),
    ("union", field(int | str), ["Own.x", "a union is allowed only with None"]),
    ("unknown mark", field(Annotated[int, "positive"]), ["Own.x", "'positive' is no constraint of pipeline"]),
    (
        "two of one",
        field(Annotated[int, Between(0, 1), Between(2, 3)]),
        ["Own.x", "two Between constraints", "give one"],
    ),
    (
        "two remedies",
        field(Annotated[int | None, Between(0, 1), Clip(), Nullable()]),
        ["Own.x", "2 remedies", "only one"],
    ),
    (
        "scale of int",
        field(Annotated[int, Scale(2)]),
        ["Scale(digits=2)", "type int", "binds only columns of type decimal"],
    ),
    ("pattern of int", field(Annotated[int, Pattern("a")]), ["Pattern", "binds only columns of type str"]),
    ("length of int", field(Annotated[int, Length(1)]), ["Length", "binds only columns of type str"]),
    ("option of float", field(Annotated[float, OneOf(1.0)]), ["OneOf", "type float"]),
    ("between of bool", field(Annotated[bool, Between(False, True)]), ["Between", "type bool"]),
    (
        "bound",
        field(Annotated[Decimal, Scale(1), Between(0, Decimal("0.25"))]),
        ["Decimal('0.25') is no value of type decimal(18, 1)"],
    ),
    (
        "long bound",
        field(Annotated[Decimal, Scale(2), Between(0, Decimal("1." + "0" * 40 + "1"))]),
        ["is no value of type decimal(18, 2)"],
    ),
    ("float bound", field(Annotated[Decimal, Scale(1), Between(0, 0.5)]), ["0.5 is no value of type decimal(18, 1)"]),
    ("wide bound", field(Annotated[int, Between(0, 2**63)]), [f"{2**63} is no value of type int"]),
    ("inexact bound", field(Annotated[float, Between(0, 2**53 + 1)]), [f"{2**53 + 1} is no value of type float"]),
    ("naive bound", field(Annotated[datetime, Between(datetime(2013, 1, 1))]), ["is no value of type datetime"]),  # noqa: DTZ001
    ("option", field(Annotated[str, OneOf("a", 1)]), ["1 is no value of type str"]),
    ("NUL option", field(Annotated[str, OneOf("\x00")]), ["is no value of type str"]),
    (
        "nullable",
        field(Annotated[int, Between(0, 1), Nullable()]),
        ["Own.x", "Nullable() sets null", "declare it `| None`"],
    ),
    ("clip", field(Annotated[int, OneOf(1), Clip()]), ["Own.x", "Clip() needs a Between"]),
    ("clip of text", field(Annotated[str, Between("a", "b"), Clip()]), ["Own.x", "no meaning for text"]),
    ("default type", field(Annotated[int, Default("0")]), ["Default('0') is no value of type int"]),
    ("default bool", field(Annotated[int, Default(True)]), ["Default(True) is no value of type int"]),
    ("default breaks", field(Annotated[int, Between(1, 9), Default(0)]), ["Default(0) breaks a constraint"]),
    ("default pattern", field(Annotated[str, Pattern("[a-z]+"), Default("A")]), ["Default('A') breaks a constraint"]),
    ("capitals", lambda: source(record=record(Total=int)), ["'Total'", "lower-case letters"]),
    ("two underscores", lambda: source(record=record(a__b=int)), ["'a__b'", "single underscores"]),
    ("long", lambda: source(record=record(**{"a" * 41: int})), ["at most 40 characters"]),
    (
        "dataclass default",
        lambda: source(record=make_dataclass("Own", [("x", int, dataclasses.field(default=1))])),
        ["Own.x", "dataclass default", "Default(value)"],
    ),
]

WRONG_CONSTRAINTS: list[tuple[str, Callable[[], object], list[str]]] = [
    ("scale below", lambda: Scale(-1), ["Scale(-1)", "from 0 to 12"]),
    ("scale above", lambda: Scale(13), ["Scale(13)", "from 0 to 12"]),
    ("scale of text", lambda: Scale("2"), ["Scale('2')"]),  # type: ignore[arg-type]
    ("scale of bool", lambda: Scale(True), ["Scale(True)"]),
    ("no bounds", lambda: Between(), ["without a bound", "give low, high or both"]),
    ("bounds turned", lambda: Between(2, 1), ["Between(2, 1) allows nothing"]),
    ("bounds unlike", lambda: Between(0, "z"), ["Between(0, 'z')", "do not compare"]),
    ("NaN", lambda: Between(Decimal("NaN"), 1), ["Between(Decimal('NaN'), 1)"]),
    ("zones", lambda: Between(datetime(2013, 1, 1), datetime(2014, 1, 1, tzinfo=UTC)), ["do not compare"]),  # noqa: DTZ001
    ("pattern", lambda: Pattern("("), ["Pattern('(') is no regular expression"]),
    ("pattern of int", lambda: Pattern(1), ["Pattern(1) is no regular expression"]),  # type: ignore[arg-type]
    ("length", lambda: Length(3, 2), ["Length(3, 2) allows nothing", "0 <= min <= max"]),
    ("length of text", lambda: Length("1"), ["Length('1', None)", "whole numbers"]),  # type: ignore[arg-type]
    ("no options", lambda: OneOf(), ["OneOf() without options"]),
    ("no window", lambda: tumbling(), ["tumbling()", "1 second to 366 days"]),
    ("long window", lambda: tumbling(days=367), ["tumbling(days=367)", "366 days"]),
    ("window of text", lambda: tumbling(hours="1"), ["tumbling(hours='1')", "allowed are whole numbers"]),  # type: ignore[arg-type]
    ("endless window", lambda: tumbling(seconds=float("inf")), ["tumbling(seconds=inf)", "366 days"]),  # type: ignore[arg-type]
    ("part of a second", lambda: tumbling(seconds=1.5), ["whole seconds"]),  # type: ignore[arg-type]
]

CELSIUS = pc.field("celsius")
WRONG_VIEWS: list[tuple[str, Callable[[], object], list[str]]] = [
    ("name", lambda: view(name="Hourly"), ["View is named 'Hourly'", "lower-case"]),
    ("injection", lambda: view(name="x; drop table y"), ["View is named"]),
    (
        "serving's own",
        lambda: view(name="freshness"),
        ["View is named 'freshness'", "serving.freshness is Watershed's own"],
    ),
    ("derive type", lambda: view(derive=["x"]), ["derive=['x']", "allowed is a mapping of names"]),
    ("aggregates type", lambda: view(aggregates=None), ["aggregates=None", "allowed is a mapping of names"]),
    ("source", lambda: view(source="readings"), ["View(hourly)", "'readings' is no Source"]),
    ("window", lambda: view(window=timedelta(hours=1)), ["View(hourly)", "window=", "tumbling(hours=1)"]),
    ("key type", lambda: view(key="station"), ["key='station'", "a tuple of column names"]),
    ("no key", lambda: view(key=()), ["key=()", "a tuple"]),
    ("key twice", lambda: view(key=("station", "station")), ["names a column twice"]),
    (
        "key name",
        lambda: view(key=("stations",)),
        ["View(hourly): key", "'stations'", "it has id, station", "Did you mean 'station'?"],
    ),
    ("float key", lambda: view(key=("ratio",)), ["'ratio' is a float", "Scale it"]),
    (
        "reserved key",
        lambda: view(derive={"partition": Derived(pc.field("count") + 1, int)}, key=("partition",)),
        ["View(hourly): key column 'partition' has a name that the views use themselves", "segment", "give it another"],
    ),
    ("no aggregates", lambda: view(aggregates={}), ["View(hourly) has no aggregates", '{"events": Count()}']),
    ("no aggregate", lambda: view(aggregates={"n": "count"}), ["aggregates['n'] is 'count'", "Count()"]),
    ("aggregate class", lambda: view(aggregates={"n": Count}), ["aggregates['n']", "allowed is Count()"]),
    ("aggregate name", lambda: view(aggregates={"a__b": Count()}), ["'a__b'"]),
    (
        "aggregate is key",
        lambda: view(aggregates={"station": Count()}),
        ["aggregate 'station' has the name of a key column"],
    ),
    (
        "window_start",
        lambda: view(aggregates={"window_start": Count()}),
        ["'window_start' has a name that the views use"],
    ),
    (
        "column",
        lambda: view(aggregates={"m": Max("celsuis")}),
        ["m=Max('celsuis')", "'celsuis'", "Reading does not have", "'celsius'?"],
    ),
    ("no column", lambda: view(aggregates={"m": Sum()}), ["m=Sum() names no column"]),
    ("count of column", lambda: view(aggregates={"n": Count("note")}), ["use CountNonNull('note')"]),  # type: ignore[arg-type]
    ("count of none", lambda: view(aggregates={"n": CountNonNull()}), ["names no column", "use Count()"]),
    ("float sum", lambda: view(aggregates={"s": Sum("ratio")}), ["s=Sum('ratio')", "type float", "depends on order"]),
    ("text mean", lambda: view(aggregates={"s": Mean("note")}), ["type str", "allowed are int, decimal"]),
    ("bool min", lambda: view(aggregates={"s": Min("good")}), ["type bool", "min(boolean)"]),
    (
        "derived hides",
        lambda: view(derive={"count": Derived(pc.field("count") + 1, int)}),
        ["'count' hides a column of Reading"],
    ),
    ("derived name", lambda: view(derive={"X": Derived(CELSIUS, Scale(2))}), ["derived column is named 'X'"]),
    ("derived value", lambda: view(derive={"x": CELSIUS * 2}), ["derive['x']", "allowed is Derived(expression, type)"]),
    ("derived type", lambda: Derived(CELSIUS, Decimal), ["has type", "Scale(n), int"]),
    ("derived type unhashable", lambda: Derived(CELSIUS, [int]), ["has type [", "Scale(n), int"]),
    (
        "derived from text",
        lambda: view(derive={"x": Derived(pc.field("note"), int)}),
        ["gives str, which cannot become int"],
    ),
    (
        "derived column",
        lambda: view(derive={"x": Derived(pc.field("celcius") * 2, int)}),
        ["derive['x']", "'celcius'", "'celsius'?"],
    ),
    (
        "derived reads derived",
        lambda: view(derive={"x": Derived(CELSIUS, int), "y": Derived(pc.field("x"), int)}),
        ["names column 'x'"],
    ),
    ("no expression", lambda: Derived("celsius * 2", int), ["Derived is 'celsius * 2'", "pyarrow.compute expression"]),
    ("constant", lambda: Derived(pc.scalar(1), int), ["reads no column"]),
    (
        "function",
        lambda: Derived(pc.utf8_upper(pc.field("note")), str),
        ["calls utf8_upper", "row-wise functions allowed"],
    ),
    ("whole column", lambda: Derived(pc.rank(pc.field("count")), int), ["calls rank", "row-wise"]),
    ("wrapping", lambda: Derived(pc.add(pc.field("count"), 1), int), ["calls add", "Use +"]),
    ("types", lambda: view(where=pc.field("note") > 1), ["where", "cannot take arguments of type str, int"]),
    ("where type", lambda: view(where=pc.field("count") + 1), ["is of type int", "a condition (bool)"]),
    (
        "where column",
        lambda: view(where=pc.field("statoin") == "EWR"),
        ["where", "'statoin'", "Did you mean 'station'?"],
    ),
    ("by position", lambda: view(where=pc.field(0) == "EWR"), ["names a column by position", "pc.field('x')"]),
    ("nested", lambda: view(where=pc.field("a", "b", "c") == "EWR"), ["columns by name"]),
    ("no lookup", lambda: view(where=pc.field("a", "b") == "EWR"), ["names column 'a.b', which it cannot read"]),
    ("isin nothing", lambda: view(where=pc.field("station").isin([])), ["isin() needs at least one value"]),
    ("isin null", lambda: view(where=pc.field("station").isin(["EWR", None])), ["isin()", "none of them null"]),
    ("isin float", lambda: view(where=pc.field("ratio").isin([0.5])), ["cannot take arguments of type float"]),
    (
        "decimal constant",
        lambda: view(where=Decimal("1.5") < CELSIUS),
        ["constant", "decimal columns enter expressions as floats"],
    ),
    ("null constant", lambda: view(where=pc.field("note") == pc.scalar(None)), ["constant None"]),
    ("NaN constant", lambda: view(where=float("nan") < CELSIUS), ["constant nan"]),
    ("infinite constant", lambda: view(where=float("inf") < CELSIUS), ["constant inf", "finite"]),
    ("naive constant", lambda: view(where=pc.field("observed_at") > datetime(2013, 1, 1)), ["with zone UTC"]),  # noqa: DTZ001
    ("unsafe cast", lambda: Derived(CELSIUS.cast(pa.int64(), safe=False), int), ["safe=False", "use safe=True"]),
    (
        "cast",
        lambda: view(derive={"x": Derived(CELSIUS.cast(pa.int32()), int)}),
        ["cannot take arguments of type float"],
    ),
    (
        "ignore case",
        lambda: view(where=pc.match_substring(pc.field("note"), "a", ignore_case=True)),
        ["Unicode version"],
    ),
]


@pytest.mark.parametrize(
    ("make", "texts"),
    [case[1:] for case in WRONG_SOURCES + WRONG_COLUMNS + WRONG_CONSTRAINTS + WRONG_VIEWS],
    ids=[case[0] for case in WRONG_SOURCES + WRONG_COLUMNS + WRONG_CONSTRAINTS + WRONG_VIEWS],
)
def test_a_wrong_definition_fails_at_construction_and_says_what_where_and_what_is_allowed(
    make: Callable[[], object], texts: list[str]
) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    for text in texts:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_message_of_the_design_is_given_word_for_word() -> None:
    with pytest.raises(
        DefinitionError,
        match="names column 'temprature_c', which Reading does not have; it has id, station, observed_at",
    ):
        view(aggregates={"m": Max("temprature_c")})


def test_definitions_cannot_be_changed_afterwards() -> None:
    one = view()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        one.aggregates["more"] = Count()  # type: ignore[index]
    given = {"n": Count()}
    two = view(aggregates=given)
    given["m"] = Count()
    assert list(two.aggregates) == ["n"]


def test_columns_are_those_of_the_record_in_its_order() -> None:
    found = columns(Reading)
    assert [c.name for c in found] == [
        "id",
        "station",
        "observed_at",
        "celsius",
        "ratio",
        "count",
        "day",
        "note",
        "good",
    ]
    assert [c.name for c in found if c.nullable] == ["celsius", "note"]
    assert [str(c.type) for c in found] == [
        "str",
        "str",
        "datetime",
        "decimal(18, 2)",
        "float",
        "int",
        "date",
        "str",
        "bool",
    ]


def test_none_may_stand_inside_or_outside_of_annotated() -> None:
    inside = columns(record(x=Annotated[int | None, Between(0, 1)]))[-1]
    outside = columns(record(x=Annotated[int, Between(0, 1)] | None))[-1]
    assert inside == outside
    assert inside.nullable


def test_reads_names_every_column_that_the_view_needs_and_no_other() -> None:
    one = view(
        derive={"x": Derived(pc.field("ratio") * 2, float)},
        where=pc.field("good") & (pc.field("x") > 0),
        aggregates={"a": First("note"), "m": Max("x")},
    )
    assert reads(one) == {"station", "observed_at", "ratio", "good", "note"}


def test_a_call_with_too_few_or_too_many_arguments_is_refused() -> None:
    call = pc.Expression._call("if_else", [pc.field("a"), pc.field("b")])
    with pytest.raises(DefinitionError, match="cannot take arguments"):
        kind_of(parse(call, "where"), {"a": "bool", "b": "int"}, "where")


def test_text_constants_that_postgres_cannot_hold_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"U\+0000"):
        parse(pc.field("a") == "x\x00", "where")
    for text in ("\x00", "\ud800"):
        assert not ColumnType("str").accepts(text)
