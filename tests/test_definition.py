"""A definition is a value: wrong ones fail where they are written, equal ones are equal, and the fingerprint tells the rest.

    a == b  <=>  fingerprint(a) == fingerprint(b)        a == unpickle(pickle(a))
"""

import dataclasses
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import cloudpickle
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import pipeline
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
    Source,
    StdDev,
    Sum,
    View,
    tumbling,
)
from pipeline import kernels as kernels_module
from pipeline.definition import reads
from pipeline.errors import DefinitionError
from pipeline.fingerprints import source_fingerprint, view_fingerprint
from pipeline.record import columns
from views import VIEWS

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = """Between Clip Count CountNonNull Default Derived First Last Length Max Mean Min Nullable OneOf Pattern Scale
Source StdDev Sum Variance View tumbling""".split()


@dataclass(frozen=True)
class Reading:
    id: str
    station: Annotated[str, OneOf("EWR", "JFK")]
    observed_at: datetime
    celsius: Annotated[Decimal | None, Scale(2), Between(-80, 60)]
    ratio: float
    count: int
    day: date
    note: str | None
    good: bool


def source(**changes: Any) -> Source:
    given = {"topic": "readings", "record": Reading, "key": "station", "event_time": "observed_at", "identity": "id"}
    return Source(**given | changes)


def view(**changes: Any) -> View:
    given: dict[str, Any] = {
        "name": "hourly",
        "source": source(),
        "key": ("station",),
        "window": tumbling(hours=1),
        "aggregates": {"readings": Count(), "mean": Mean("celsius")},
    }
    return View(**given | changes)


def record(**fields: Any) -> type:
    """A record class with the columns that every Source needs, and these."""
    own = {"id": str, "station": str, "observed_at": datetime} | fields
    return make_dataclass("Own", own.items(), frozen=True)


def field(hint: Any) -> Callable[[], object]:
    return lambda: source(record=record(x=hint))


# --- what is wrong fails where it is written -----------------------------------------------------------------------------

WRONG_SOURCES: list[tuple[str, Callable[[], object], list[str]]] = [
    ("topic", lambda: source(topic="a b"), ["topic 'a b'", "allowed are letters, digits"]),
    ("dots", lambda: source(topic=".."), ["topic '..'"]),
    ("empty topic", lambda: source(topic=""), ["topic ''"]),
    ("key", lambda: source(key="staton"), ["Source(readings): key", "'staton'", "Reading does not have", "Did you mean 'station'?"]),
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
    ("type", field(complex), ["Own.x", "allowed are int, float, str, bool, datetime, date, Decimal"]),
    ("list", field(list[int]), ["Own.x", "allowed are int"]),
    ("union", field(int | str), ["Own.x", "a union is allowed only with None"]),
    ("unknown mark", field(Annotated[int, "positive"]), ["Own.x", "'positive' is no constraint of pipeline"]),
    ("two of one", field(Annotated[int, Between(0, 1), Between(2, 3)]), ["Own.x", "two Between constraints", "give one"]),
    ("two remedies", field(Annotated[int | None, Between(0, 1), Clip(), Nullable()]), ["Own.x", "2 remedies", "only one"]),
    ("scale of int", field(Annotated[int, Scale(2)]), ["Scale(digits=2)", "type int", "binds only columns of type decimal"]),
    ("pattern of int", field(Annotated[int, Pattern("a")]), ["Pattern", "binds only columns of type str"]),
    ("length of int", field(Annotated[int, Length(1)]), ["Length", "binds only columns of type str"]),
    ("option of float", field(Annotated[float, OneOf(1.0)]), ["OneOf", "type float"]),
    ("between of bool", field(Annotated[bool, Between(False, True)]), ["Between", "type bool"]),
    ("bound", field(Annotated[Decimal, Scale(1), Between(0, Decimal("0.25"))]), ["Decimal('0.25') is no value of type decimal(18, 1)"]),
    ("long bound", field(Annotated[Decimal, Scale(2), Between(0, Decimal("1." + "0" * 40 + "1"))]), ["is no value of type decimal(18, 2)"]),
    ("float bound", field(Annotated[Decimal, Scale(1), Between(0, 0.5)]), ["0.5 is no value of type decimal(18, 1)"]),
    ("wide bound", field(Annotated[int, Between(0, 2**63)]), [f"{2**63} is no value of type int"]),
    ("inexact bound", field(Annotated[float, Between(0, 2**53 + 1)]), [f"{2**53 + 1} is no value of type float"]),
    ("naive bound", field(Annotated[datetime, Between(datetime(2013, 1, 1))]), ["is no value of type datetime"]),  # noqa: DTZ001
    ("option", field(Annotated[str, OneOf("a", 1)]), ["1 is no value of type str"]),
    ("NUL option", field(Annotated[str, OneOf("\x00")]), ["is no value of type str"]),
    ("nullable", field(Annotated[int, Between(0, 1), Nullable()]), ["Own.x", "Nullable() sets null", "declare it `| None`"]),
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
    ("no window", lambda: tumbling(), ["tumbling(0:00:00)", "1 second to 366 days"]),
    ("long window", lambda: tumbling(days=367), ["tumbling(367 days", "366 days"]),
    ("part of a second", lambda: tumbling(seconds=1.5), ["whole seconds"]),  # type: ignore[arg-type]
]

CELSIUS = pc.field("celsius")
WRONG_VIEWS: list[tuple[str, Callable[[], object], list[str]]] = [
    ("name", lambda: view(name="Hourly"), ["View is named 'Hourly'", "lower-case"]),
    ("injection", lambda: view(name="x; drop table y"), ["View is named"]),
    ("source", lambda: view(source="readings"), ["View(hourly)", "'readings' is no Source"]),
    ("window", lambda: view(window=timedelta(hours=1)), ["View(hourly)", "window=", "tumbling(hours=1)"]),
    ("key type", lambda: view(key="station"), ["key='station'", "a tuple of column names"]),
    ("no key", lambda: view(key=()), ["key=()", "a tuple"]),
    ("key twice", lambda: view(key=("station", "station")), ["names a column twice"]),
    ("key name", lambda: view(key=("stations",)), ["View(hourly): key", "'stations'", "it has id, station", "Did you mean 'station'?"]),
    ("float key", lambda: view(key=("ratio",)), ["'ratio' is a float", "Scale it"]),
    ("null key", lambda: view(key=("note",)), ["'note' may be null", "without `| None`"]),
    (
        "reserved key",
        lambda: view(derive={"partition": Derived(pc.field("count") + 1, int)}, key=("partition",)),
        ["'partition' has a name that the views use themselves"],
    ),
    ("no aggregates", lambda: view(aggregates={}), ["View(hourly) has no aggregates", '{"events": Count()}']),
    ("no aggregate", lambda: view(aggregates={"n": "count"}), ["aggregates['n'] is 'count'", "Count()"]),
    ("aggregate class", lambda: view(aggregates={"n": Count}), ["aggregates['n']", "allowed is Count()"]),
    ("aggregate name", lambda: view(aggregates={"a__b": Count()}), ["'a__b'"]),
    ("aggregate is key", lambda: view(aggregates={"station": Count()}), ["'station' has the name of a key column"]),
    ("window_start", lambda: view(aggregates={"window_start": Count()}), ["'window_start' has the name"]),
    ("column", lambda: view(aggregates={"m": Max("celsuis")}), ["m=Max('celsuis')", "'celsuis'", "Reading does not have", "'celsius'?"]),
    ("no column", lambda: view(aggregates={"m": Sum()}), ["m=Sum() names no column"]),
    ("count of column", lambda: view(aggregates={"n": Count("note")}), ["use CountNonNull('note')"]),  # type: ignore[arg-type]
    ("count of none", lambda: view(aggregates={"n": CountNonNull()}), ["names no column", "use Count()"]),
    ("float sum", lambda: view(aggregates={"s": Sum("ratio")}), ["s=Sum('ratio')", "type float", "depends on order"]),
    ("text mean", lambda: view(aggregates={"s": Mean("note")}), ["type str", "allowed are int, decimal"]),
    ("bool min", lambda: view(aggregates={"s": Min("good")}), ["type bool", "min(boolean)"]),
    ("derived hides", lambda: view(derive={"count": Derived(pc.field("count") + 1, int)}), ["'count' hides a column of Reading"]),
    ("derived name", lambda: view(derive={"X": Derived(CELSIUS, Scale(2))}), ["derived column is named 'X'"]),
    ("derived value", lambda: view(derive={"x": CELSIUS * 2}), ["derive['x']", "allowed is Derived(expression, type)"]),
    ("derived type", lambda: Derived(CELSIUS, Decimal), ["has type", "Scale(n), int"]),
    ("derived type unhashable", lambda: Derived(CELSIUS, [int]), ["has type [", "Scale(n), int"]),
    ("derived from text", lambda: view(derive={"x": Derived(pc.field("note"), int)}), ["gives str, which cannot become int"]),
    ("derived column", lambda: view(derive={"x": Derived(pc.field("celcius") * 2, int)}), ["derive['x']", "'celcius'", "'celsius'?"]),
    ("derived reads derived", lambda: view(derive={"x": Derived(CELSIUS, int), "y": Derived(pc.field("x"), int)}), ["names column 'x'"]),
    ("no expression", lambda: Derived("celsius * 2", int), ["Derived is 'celsius * 2'", "pyarrow.compute expression"]),
    ("constant", lambda: Derived(pc.scalar(1), int), ["reads no column"]),
    ("function", lambda: Derived(pc.utf8_upper(pc.field("note")), str), ["calls utf8_upper", "row-wise functions allowed"]),
    ("whole column", lambda: Derived(pc.rank(pc.field("count")), int), ["calls rank", "row-wise"]),
    ("wrapping", lambda: Derived(pc.add(pc.field("count"), 1), int), ["calls add", "Use +"]),
    ("types", lambda: view(where=pc.field("note") > 1), ["where", "cannot take arguments of type str, int"]),
    ("where type", lambda: view(where=pc.field("count") + 1), ["is of type int", "a condition (bool)"]),
    ("where column", lambda: view(where=pc.field("statoin") == "EWR"), ["where", "'statoin'", "Did you mean 'station'?"]),
    ("by position", lambda: view(where=pc.field(0) == "EWR"), ["names a column by position", "pc.field('x')"]),
    ("nested", lambda: view(where=pc.field("a", "b") == "EWR"), ["columns by name"]),
    ("isin nothing", lambda: view(where=pc.field("station").isin([])), ["isin() needs at least one value"]),
    ("isin null", lambda: view(where=pc.field("station").isin(["EWR", None])), ["isin()", "none of them null"]),
    ("isin float", lambda: view(where=pc.field("ratio").isin([0.5])), ["cannot take arguments of type float"]),
    ("decimal constant", lambda: view(where=CELSIUS > Decimal("1.5")), ["constant", "decimal columns enter expressions as floats"]),
    ("null constant", lambda: view(where=pc.field("note") == pc.scalar(None)), ["constant None"]),
    ("NaN constant", lambda: view(where=CELSIUS > float("nan")), ["constant nan"]),
    ("infinite constant", lambda: view(where=CELSIUS > float("inf")), ["constant inf", "finite"]),
    ("naive constant", lambda: view(where=pc.field("observed_at") > datetime(2013, 1, 1)), ["with zone UTC"]),  # noqa: DTZ001
    ("unsafe cast", lambda: Derived(CELSIUS.cast(pa.int64(), safe=False), int), ["safe=False", "use safe=True"]),
    ("cast", lambda: view(derive={"x": Derived(CELSIUS.cast(pa.int32()), int)}), ["cannot take arguments of type float"]),
    ("ignore case", lambda: view(where=pc.match_substring(pc.field("note"), "a", ignore_case=True)), ["Unicode version"]),
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
    with pytest.raises(DefinitionError, match="names column 'temprature_c', which Reading does not have; it has id, station, observed_at"):
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
    assert [c.name for c in found] == ["id", "station", "observed_at", "celsius", "ratio", "count", "day", "note", "good"]
    assert [c.name for c in found if c.nullable] == ["celsius", "note"]
    assert [str(c.type) for c in found] == ["str", "str", "datetime", "decimal(18, 2)", "float", "int", "date", "str", "bool"]


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


# --- equality, pickles, fingerprints -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanTo(Mean):
    """An aggregate of one's own with a parameter."""

    digits: int = 3


def rich_view() -> View:
    return view(
        derive={"fahrenheit": Derived(CELSIUS * 9 / 5 + 32, Scale(2)), "hour": Derived(pc.field("count") / 2, int)},
        where=pc.field("station").isin(["EWR", "JFK"]) & ~pc.field("good"),
        key=("station", "hour"),
        aggregates={"n": Count(), "max": Max("fahrenheit"), "first": First("note"), "mean": MeanTo("celsius")},
    )


CHANGES: list[tuple[str, View]] = [
    ("name", view(name="other")),
    ("topic", view(source=source(topic="other"))),
    ("source key", view(source=source(key="id"))),
    ("identity", view(source=source(identity="count"))),
    ("event time", view(source=source(record=record(celsius=Reading.__annotations__["celsius"], at=datetime), event_time="at"))),
    ("horizon", view(source=source(identity_horizon=timedelta(days=6)))),
    ("key", view(key=("id",))),
    ("key order", view(key=("id", "station"))),
    ("key order, turned", view(key=("station", "id"))),
    ("window", view(window=tumbling(minutes=59))),
    ("aggregate name", view(aggregates={"readings": Count(), "avg": Mean("celsius")})),
    ("aggregate", view(aggregates={"readings": Count(), "mean": StdDev("celsius")})),
    ("aggregate column", view(aggregates={"readings": Count(), "mean": Mean("count")})),
    ("aggregate order", view(aggregates={"mean": Mean("celsius"), "readings": Count()})),
    ("aggregate dropped", view(aggregates={"readings": Count()})),
    ("parameter", view(aggregates={"readings": Count(), "mean": MeanTo("celsius", 3)})),
    ("other parameter", view(aggregates={"readings": Count(), "mean": MeanTo("celsius", 4)})),
    ("where", view(where=CELSIUS > 1)),
    ("where constant", view(where=CELSIUS > 2)),
    ("where constant type", view(where=CELSIUS > 2.0)),
    ("where zero", view(where=CELSIUS > 0.0)),
    ("where minus zero", view(where=CELSIUS > -0.0)),
    ("where comparison", view(where=CELSIUS >= 1)),
    ("where list", view(where=pc.field("station").isin(["EWR"]))),
    ("where longer list", view(where=pc.field("station").isin(["EWR", *map(str, range(200))]))),
    ("where list changed in its middle", view(where=pc.field("station").isin(["EWR", *map(str, range(199)), "x"]))),
    ("where pattern", view(where=pc.starts_with(pc.field("note"), "a"))),
    ("derive", view(derive={"x": Derived(CELSIUS + 1, Scale(2))})),
    ("derive name", view(derive={"y": Derived(CELSIUS + 1, Scale(2))})),
    ("derive scale", view(derive={"x": Derived(CELSIUS + 1, Scale(3))})),
    ("derive type", view(derive={"x": Derived(CELSIUS + 1, float)})),
    ("derive expression", view(derive={"x": Derived(CELSIUS + 1.5, Scale(2))})),
]

RECORDS: list[tuple[str, type]] = [
    ("plain", record(x=int)),
    ("name", record(y=int)),
    ("type", record(x=float)),
    ("nullable", record(x=int | None)),
    ("order", make_dataclass("Own", [("x", int), ("id", str), ("station", str), ("observed_at", datetime)])),
    ("between", record(x=Annotated[int, Between(0, 1)])),
    ("bound", record(x=Annotated[int, Between(0, 2)])),
    ("open", record(x=Annotated[int, Between(0)])),
    ("option", record(x=Annotated[int, OneOf(0, 1)])),
    ("clip", record(x=Annotated[int, Between(0, 1), Clip()])),
    ("default", record(x=Annotated[int, Between(0, 1), Default(1)])),
    ("other default", record(x=Annotated[int, Between(0, 1), Default(0)])),
    ("nullable remedy", record(x=Annotated[int | None, Between(0, 1), Nullable()])),
    ("scale 2", record(x=Annotated[Decimal, Scale(2)])),
    ("scale 3", record(x=Annotated[Decimal, Scale(3)])),
    ("pattern", record(x=Annotated[str, Pattern("a")])),
    ("other pattern", record(x=Annotated[str, Pattern("b")])),
    ("length", record(x=Annotated[str, Length(1)])),
    ("bounded length", record(x=Annotated[str, Length(1, 9)])),
]


def test_any_change_of_a_view_changes_its_fingerprint_and_its_equality() -> None:
    views = [("as it was", view()), *CHANGES]
    for i, (what, one) in enumerate(views):
        for other_what, other in views[i + 1 :]:
            assert one != other, f"{what} = {other_what}"
            assert view_fingerprint(one) != view_fingerprint(other), f"{what} = {other_what}"


def test_any_change_of_a_record_changes_the_fingerprint_of_its_source() -> None:
    sources = [(what, source(record=own)) for what, own in RECORDS]
    assert len({source_fingerprint(s) for _, s in sources}) == len(RECORDS)
    assert len({s for _, s in sources}) == len(RECORDS)


@pytest.mark.parametrize("make", [view, rich_view, source, lambda: Derived(CELSIUS + 1, Scale(2)), lambda: VIEWS])
def test_what_is_declared_twice_is_equal_and_hashes_alike(make: Callable[[], object]) -> None:
    assert make() == make()
    assert hash(make()) == hash(make())


def test_the_name_of_the_record_class_is_in_nothing() -> None:
    first, second = record(x=int), make_dataclass("Renamed", record(x=int).__annotations__.items())
    assert first is not second
    assert source(record=first) == source(record=second)
    assert hash(source(record=first)) == hash(source(record=second))
    assert source_fingerprint(source(record=first)) == source_fingerprint(source(record=second))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Annotated[Decimal, Scale(2), Between(-80, 140)], Annotated[Decimal, Scale(2), Between(Decimal("-80.0"), Decimal("1.4E+2"))]),
        (Annotated[Decimal, Scale(2), Default(0)], Annotated[Decimal, Scale(2), Default(Decimal("0.00"))]),
        (Annotated[float, Between(0)], Annotated[float, Between(-0.0)]),
        (Annotated[float, Between(1)], Annotated[float, Between(1.0)]),
        (
            Annotated[datetime, Between(datetime(2013, 1, 1, tzinfo=UTC))],
            Annotated[datetime, Between(datetime(2013, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))],
        ),
    ],
)
def test_one_bound_written_in_two_ways_is_one_definition(one: Any, other: Any) -> None:
    a, b = source(record=record(x=one)), source(record=record(x=other))
    assert a == b
    assert source_fingerprint(a) == source_fingerprint(b)


def test_the_version_of_the_kernels_is_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_fingerprint(source()), view_fingerprint(view())
    monkeypatch.setattr(kernels_module, "VERSION", kernels_module.VERSION + 1)
    after = source_fingerprint(source()), view_fingerprint(view())
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_fingerprints_are_16_hex_digits_and_none_is_shared() -> None:
    found = [view_fingerprint(v) for v in VIEWS] + [source_fingerprint(VIEWS[0].source)]
    assert all(len(f) == 16 and int(f, 16) >= 0 for f in found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("original", [view(), rich_view(), source(), *VIEWS], ids=lambda v: getattr(v, "name", "source"))
@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_a_definition_comes_back_from_a_pickle_equal(original: View | Source, pickler: Any) -> None:
    copy = pickle.loads(pickler.dumps(original))
    assert copy == original
    assert hash(copy) == hash(original)
    assert type(copy) is type(original)
    if isinstance(original, View):
        assert view_fingerprint(copy) == view_fingerprint(original)
        assert copy.types == original.types


IN_A_FRESH_PROCESS = """
import cloudpickle, pickle, sys
from pipeline.fingerprints import view_fingerprint
for view in pickle.load(sys.stdin.buffer):
    print(view_fingerprint(view), view.name, cloudpickle.dumps(view).hex())
"""


def run_fresh(code: str, stdin: bytes = b"", **environment: str) -> list[str]:
    """The lines that the code prints in a Python of its own, which has not seen these tests."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run([sys.executable, "-c", code], input=stdin, capture_output=True, env=env, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def test_a_view_pickled_by_value_means_the_same_in_another_process() -> None:
    @dataclass(frozen=True)
    class Local:  # cloudpickle carries a class that cannot be imported along with the view, as from a notebook
        id: str
        station: str
        observed_at: datetime
        celsius: Annotated[Decimal | None, Scale(2), Between(-80, 60), Nullable()]

    local = view(source=source(record=Local), derive={"x": Derived(CELSIUS + 1, Scale(2))}, where=pc.field("station") != "LGA")
    given = [*VIEWS, local]
    lines = [line.split() for line in run_fresh(IN_A_FRESH_PROCESS, cloudpickle.dumps(given), PYTHONHASHSEED="1")]
    assert [line[:2] for line in lines] == [[view_fingerprint(v), v.name] for v in given]
    assert [pickle.loads(bytes.fromhex(line[2])) for line in lines] == given


def test_fingerprints_do_not_depend_on_the_process() -> None:
    code = "from views import VIEWS; from pipeline.fingerprints import *\nfor v in VIEWS: print(view_fingerprint(v))"
    want = [view_fingerprint(v) for v in VIEWS]
    assert run_fresh(code, PYTHONHASHSEED="0", TZ="Asia/Tokyo") == want
    assert run_fresh(code, PYTHONHASHSEED="7", TZ="UTC") == want


def test_the_record_survives_from_future_import_annotations(tmp_path: Path) -> None:
    module = tmp_path / "own_views.py"
    module.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\nfrom datetime import datetime\nfrom pipeline import *\n"
        "@dataclass(frozen=True)\nclass R:\n    id: str\n    at: datetime\n    n: int | None\n"
        "VIEWS = (View(name='v', source=Source(topic='t', record=R, key='id', event_time='at', identity='id'), key=('id',),"
        " window=tumbling(hours=1), aggregates={'s': Sum('n')}),)\n"
    )
    assert run_fresh("import own_views; print(own_views.VIEWS[0].name)", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}") == ["v"]


# --- the public names, and the views that are shipped ----------------------------------------------------------------------


def test_the_public_names_are_these_and_no_others() -> None:
    space: dict[str, Any] = {}
    exec("from pipeline import *", space)
    assert sorted(set(space) - {"__builtins__"}) == sorted(PUBLIC)
    assert sorted(pipeline.__all__) == sorted(PUBLIC)


def test_every_public_name_has_a_docstring() -> None:
    for public in PUBLIC:
        assert (getattr(pipeline, public).__doc__ or "").strip(), public


def test_the_shipped_views_share_a_source_and_have_names_of_their_own() -> None:
    assert [v.name for v in VIEWS] == ["hourly_weather", "daily_weather"]
    assert len({v.source for v in VIEWS}) == 1
    used = {type(a) for v in VIEWS for a in v.aggregates.values()}
    assert len(used) == 10, "the shipped views show every aggregate"


def test_replace_checks_the_new_definition_too() -> None:
    with pytest.raises(DefinitionError, match="identity"):
        replace(source(), identity="ratio")
