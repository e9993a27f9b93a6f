"""A definition is a value: equal ones are equal and have one fingerprint, in every process and after every pickle.

a == b  <=>  fingerprint(a) == fingerprint(b)        a == unpickle(pickle(a))
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import cloudpickle
import pyarrow.compute as pc
import pytest

import pipeline
import pipeline.definition.fingerprints
from pipeline import (
    At,
    Between,
    Clip,
    Count,
    Default,
    Derived,
    Epoch,
    First,
    Length,
    Max,
    Mean,
    Nullable,
    OneOf,
    Pattern,
    Scale,
    Source,
    StdDev,
    View,
    tumbling,
)
from pipeline import kernels as kernels_module
from pipeline.base.errors import DefinitionError
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from tests.pipeline.definition.public import PUBLIC
from tests.support.definitions import Reading, record, source, view
from views import VIEWS

CELSIUS = pc.field("celsius")
ROOT = Path(__file__).resolve().parents[3]


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
    ("no identity", view(source=source(identity=None))),
    (
        "event time",
        view(source=source(record=record(celsius=Reading.__annotations__["celsius"], at=datetime), event_time="at")),
    ),
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
        (
            Annotated[Decimal, Scale(2), Between(-80, 140)],
            Annotated[Decimal, Scale(2), Between(Decimal("-80.0"), Decimal("1.4E+2"))],
        ),
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


@pytest.mark.parametrize(
    "original", [view(), rich_view(), source(), *VIEWS], ids=lambda v: getattr(v, "name", "source")
)
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
from pipeline.definition.fingerprints import view_fingerprint
for view in pickle.load(sys.stdin.buffer):
    print(view_fingerprint(view), view.name, cloudpickle.dumps(view).hex())
"""


def run_fresh(code: str, stdin: bytes = b"", **environment: str) -> list[str]:
    """The lines that the code prints in a Python of its own, which has not seen these tests."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], input=stdin, capture_output=True, env=env, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def test_a_view_pickled_by_value_means_the_same_in_another_process() -> None:
    @dataclass(frozen=True)
    class Local:  # cloudpickle carries a class that cannot be imported along with the view, as from a notebook
        id: str
        station: str
        observed_at: datetime
        celsius: Annotated[Decimal | None, Scale(2), Between(-80, 60), Nullable()]

    local = view(
        source=source(record=Local), derive={"x": Derived(CELSIUS + 1, Scale(2))}, where=pc.field("station") != "LGA"
    )
    given = [*VIEWS, local]
    lines = [line.split() for line in run_fresh(IN_A_FRESH_PROCESS, cloudpickle.dumps(given), PYTHONHASHSEED="1")]
    assert [line[:2] for line in lines] == [[view_fingerprint(v), v.name] for v in given]
    assert [pickle.loads(bytes.fromhex(line[2])) for line in lines] == given


CANONICAL = {  # written into every deployment's rows and manifests: a change here refuses everybody's data until a rebuild
    "pipeline.aggregates.counts.Count(None)": Count(),
    "pipeline.aggregates.counts.CountNonNull('x')": pipeline.CountNonNull("x"),
    "pipeline.aggregates.extremes.First('x')": First("x"),
    "pipeline.aggregates.extremes.Last('x')": pipeline.Last("x"),
    "pipeline.aggregates.extremes.Max('x')": Max("x"),
    "pipeline.aggregates.extremes.Min('x')": pipeline.Min("x"),
    "pipeline.aggregates.sketches.DistinctCount('x') precision=12": pipeline.DistinctCount("x"),
    "pipeline.aggregates.sketches.Quantile('x', Decimal('0.99')) buckets=64": pipeline.Quantile("x", 0.99),
    "pipeline.aggregates.sums.Mean('x')": Mean("x"),
    "pipeline.aggregates.sums.StdDev('x')": StdDev("x"),
    "pipeline.aggregates.sums.Sum('x')": pipeline.Sum("x"),
    "pipeline.aggregates.sums.Variance('x')": pipeline.Variance("x"),
}


@pytest.mark.parametrize("canonical", CANONICAL)
def test_an_aggregates_canonical_form_is_what_it_has_always_been(canonical: str) -> None:
    assert CANONICAL[canonical].canonical() == canonical


def test_the_fingerprints_of_the_shipped_views_are_what_they_have_been_since_format_2(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A newer pyarrow changes them, and is meant to
    monkeypatch.setattr(pipeline.definition.fingerprints.pa, "__version__", "26.0.1")
    assert {v.name: (source_fingerprint(v.source), view_fingerprint(v)) for v in VIEWS} == {
        "hourly_weather": ("460c53df693a517a", "9fc42b2272279b78"),
        "daily_weather": ("460c53df693a517a", "81cae8d603358fea"),
    }


def test_where_an_aggregates_class_stands_is_not_in_a_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [view_fingerprint(v) for v in VIEWS]
    for kind in (Count, Max, Mean):
        monkeypatch.setattr(kind, "__module__", "elsewhere")
    assert [view_fingerprint(v) for v in VIEWS] == before


def test_a_subclass_does_not_take_its_parents_canonical_name_and_a_version_is_told_apart() -> None:
    @dataclass(frozen=True)
    class Second(Mean):
        canonical_name = "own.Second"
        version = 2

    assert MeanTo("x").canonical() == f"{__name__}.MeanTo('x', 3)"
    assert Second("x").canonical() == "own.Second/2('x')"


def test_fingerprints_do_not_depend_on_the_process() -> None:
    code = "from views import VIEWS; from pipeline.definition.fingerprints import *\nfor v in VIEWS: print(view_fingerprint(v))"
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
    assert run_fresh(
        "import own_views; print(own_views.VIEWS[0].name)", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"
    ) == ["v"]


# --- the public names, and the views that are shipped ----------------------------------------------------------------------


def test_a_path_and_a_unit_are_part_of_the_fingerprint_and_a_columns_own_name_is_not() -> None:
    def fingerprint(n: Any, at: Any = datetime) -> str:
        record = make_dataclass("R", [("id", str), ("n", n), ("at", at)], frozen=True)
        return source_fingerprint(Source("t", record, key="id", event_time="at", identity="id"))

    plain = fingerprint(int)
    assert fingerprint(Annotated[int, At("n")]) == fingerprint(Annotated[int, At('"n"')]) == plain
    others = {fingerprint(Annotated[int, At(path)]) for path in ("a.n", '"a.n"', "a[0]", "a[1]")}
    others |= {fingerprint(int, Annotated[datetime, Epoch(unit)]) for unit in ("s", "ms", "us", "ns")}
    assert len(others | {plain}) == 9


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
