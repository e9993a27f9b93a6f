"""An aggregate of a user's own: two small classes, refused with a hint where wrong, exact in both layers where right.

view.measures = {name: aggregate.over(types of its columns)}, bound once, left out by equality, fingerprint and pickle
"""

import importlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from pipeline import Count, First, Max, Scale, Sum, View
from pipeline.aggregates import Aggregate, Measure, Rows, State, StateField
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.columns.arrays import Ints, valid
from pipeline.definition.fingerprints import view_fingerprint
from pipeline.definition.view import reads
from pipeline.fold.fold import columns_of, combine, fold
from pipeline.fold.states import state_fields
from pipeline.laws import LawBroken, hold
from pipeline.plain.groups import group_class, new_group, value_of
from serving.postgres.connection import transaction
from serving.postgres.copy import copy_in
from tests.contract.world import connected
from tests.support.readings import ROWS, batch, rows_of, view

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/AGGREGATES.md").read_text()


class BothMeasure(Measure):
    """n of the rows in which both columns have a value."""

    fields = (StateField("n", pa.int64(), "bigint"),)

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        x, y = rows.columns
        return (pa.array(np.bincount(group[valid(x) & valid(y)], minlength=groups)),)

    def merge(self, states: State, group: Ints, groups: int) -> State:
        n = np.zeros(groups, np.int64)
        np.add.at(n, group, states[0].to_numpy())
        return (pa.array(n),)

    def sql(self, fields: Mapping[str, str]) -> str:
        return f"sum({fields['n']})::bigint"


@dataclass(frozen=True)
class Both(Aggregate):
    """An aggregate of two columns."""

    measure = BothMeasure
    kinds = ("int", "decimal")
    by: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return (str(self.column), self.by)

    def reference(self, values: list[tuple[Any, ...]]) -> int:
        return sum(x is not None and y is not None for *_, (x, y) in values)


# --- the page -------------------------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's Python as a module that can be imported, as its classes would be."""
    (tmp_path / "page_on_aggregates.py").write_text("\n\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)))
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("page_on_aggregates")


def test_the_aggregate_of_the_page_keeps_the_laws_and_folds_as_its_reference_says(page: Any, postgres_url: str) -> None:
    page.test_count_true_is_exact()
    one = view(aggregates={"good": page.CountTrue("good")})
    assert page.CountTrue("good").canonical() == "shop.CountTrue('good')"
    goods, stations = (True, False, None, True), ("EWR", "JFK")
    rows: list[dict[str, Any]] = [{"good": good, "station": station} for good in goods for station in stations]
    states = combine(one, [fold(one, batch(rows[:3])).states, fold(one, batch(rows[3:])).states])
    (measure,) = one.measures.values()
    group = new_group(group_class(page.CountTrue("good"), "test"), page.CountTrue("good"), ColumnType("bool"))
    for number, row in enumerate(rows):
        group.add((row, 0, number), row["good"])  # type: ignore[arg-type]
    assert measure.present((states.column("good__n"),)).to_pylist() == [2, 2]  # type: ignore[arg-type]
    assert group.value() == 4
    with connected(postgres_url) as engine, transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE public.states (n bigint)")
        copy_in(connection, "public.states", ["n"], [pa.table({"n": states.column("good__n")})])
        query = f"SELECT {measure.sql({'n': 'n'})} FROM public.states"
        assert connection.exec_driver_sql(query).scalar_one() == 4


def test_the_page_names_every_member_that_there_is() -> None:
    for kind in (Measure, Aggregate):
        section = PAGE.split(f"## What a{'n' if kind is Aggregate else ''} {kind.__name__} has")[1].split("\n## ")[0]
        named = set(re.findall(r"`(\w+)", section))
        members = {n for n in dir(kind) if not n.startswith("_")} | set(getattr(kind, "__annotations__", {}))
        own = {"aggregate", "types", "type"} if kind is Measure else {"column", "over", "canonical"}
        assert members - named <= own, kind
        assert members - own <= named, kind


# --- bound once -----------------------------------------------------------------------------------------------


def test_a_views_measures_are_its_aggregates_bound_to_the_types_of_their_columns() -> None:
    one = view(aggregates={"rows": Count(), "sum": Sum("a"), "both": Both("a", "n")})
    assert list(one.measures) == ["rows", "sum", "both"]
    assert [m.types for m in one.measures.values()] == [
        (),
        (ColumnType("decimal", 2),),
        (ColumnType("decimal", 2), ColumnType("int")),
    ]
    assert [str(m) for m in one.measures.values()] == [
        "Count()",
        "Sum('a') over decimal(18, 2)",
        "Both('a') over decimal(18, 2), int",
    ]
    assert one.measures is one.measures
    with pytest.raises(TypeError):
        one.measures["rows"] = one.measures["sum"]  # type: ignore[index]


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_measures_pickle_and_are_no_part_of_a_views_equality_or_fingerprint(pickler: Any) -> None:
    used, fresh = (view(aggregates={"rows": Count(), "sum": Sum("a"), "first": First("note")}) for _ in range(2))
    before = pickler.dumps(fresh), hash(fresh), view_fingerprint(fresh)
    assert dict(used.measures) == pickler.loads(pickler.dumps(dict(used.measures)))
    assert used == fresh
    assert (pickler.dumps(used), hash(used), view_fingerprint(used)) == before
    assert pickler.loads(pickler.dumps(used)).measures == used.measures


# --- more than one column -------------------------------------------------------------------------------------


def test_an_aggregate_of_two_columns_is_held_to_the_laws() -> None:
    hold(Both("a", "n"), (Scale(2), int), examples=50)
    with pytest.raises(DefinitionError, match="the column is of type str; allowed are int, decimal"):
        hold(Both("a", "n"), (Scale(2), str))


def test_the_laws_see_an_aggregate_that_mistakes_one_of_its_columns() -> None:
    class SliceBlind(BothMeasure):
        def lift(self, rows: Rows, group: Ints, groups: int) -> State:
            second: Any = rows.columns[1]
            whole = np.frombuffer(second.buffers()[1], np.int64)[: len(rows)] if len(rows) else np.empty(0, np.int64)
            return (pa.array(np.bincount(group[(whole > 0) & valid(second)], minlength=groups)),)

    @dataclass(frozen=True)
    class Wrong(Both):
        measure = SliceBlind

    for local in (SliceBlind, Wrong):
        local.__qualname__ = local.__name__
        globals()[local.__name__] = local
    with pytest.raises(LawBroken, match="breaks concatenation"):
        hold(Wrong("a", "n"), (int, int), examples=200)


@settings(max_examples=50, deadline=None, database=None)
@given(ROWS)
def test_a_view_of_two_columns_folds_as_its_reference_says(rows: list[dict[str, Any]]) -> None:
    one = view(aggregates={"both": Both("a", "n")})
    assert reads(one) == {"station", "at", "a", "n"} == columns_of([one])
    both = Both("a", "n")
    kind, wanted = group_class(both, "test"), {}
    for number, row in enumerate(rows):
        group = (row["station"], row["at"].replace(minute=0, second=0, microsecond=0))
        wanted.setdefault(group, new_group(kind, both, None)).add((row["at"], 0, number), value_of(both, row))
    found = {(r["station"], r["window_start"]): r["both"] for r in rows_of(one, fold(one, batch(rows)))}
    assert found == {group: of.value() for group, of in wanted.items()}


def test_a_column_that_an_aggregate_of_two_does_not_find_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"both=Both\('a'\) names column 'nn', which Reading does not have"):
        view(aggregates={"both": Both("a", "nn")})


# --- what is refused ------------------------------------------------------------------------------------------


def test_an_aggregate_written_for_the_version_before_is_refused_where_it_is_defined() -> None:
    hint = r"Old defines lift, .* `class OldMeasure\(Measure\)`.*`measure = OldMeasure`"
    with pytest.raises(DefinitionError, match=hint):

        class Old(Aggregate):
            def lift(self, type: Any, rows: Rows, group: Ints, groups: int) -> State:
                return ()

    with pytest.raises(DefinitionError, match=r"Least defines _order, .* `class LeastMeasure\(MaxMeasure\)`"):

        class Least(Max):  # a member of its parent's, which would be silently left out
            def _order(self, rank: Ints) -> Ints:
                return rank

    with pytest.raises(DefinitionError, match="Typed defines value"):

        class Typed(Sum):
            @property
            def value(self) -> StateField:
                return StateField("value", pa.int64(), "bigint")


def test_a_parameter_may_have_the_name_of_a_measures_member() -> None:
    @dataclass(frozen=True)
    class Weighted(Sum):
        value: int = 3

    assert Weighted("a").canonical().endswith("Weighted('a', 3)")


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (None, r"Partial\('a'\): it names no Measure; docs/AGGREGATES.md"),
        (type("Half", (Measure,), {"fields": (), "lift": lambda *_: ()}), "its Measure lacks merge, sql"),
    ],
    ids=["none", "half"],
)
def test_an_aggregate_without_a_whole_measure_is_refused_when_the_view_is_made(measure: Any, text: str) -> None:
    @dataclass(frozen=True)
    class Partial(Aggregate):
        pass

    if measure is not None:
        Partial.measure = measure
    with pytest.raises(DefinitionError, match=text):
        view(aggregates={"partial": Partial("a")})


def test_rows_of_one_array_are_refused() -> None:
    place = np.zeros(1, np.int64)
    with pytest.raises(TypeError, match="columns is a Int64Array; needed is a tuple of arrays"):
        Rows(pa.array([1]), place, place, place)  # type: ignore[arg-type]


def test_the_state_columns_are_named_as_ever() -> None:
    one: View = view(aggregates={"sum": Sum("a"), "first": First("note")})
    first = ["first__at", "first__partition", "first__offset", "first__value"]
    assert list(state_fields(one)) == ["sum__n", "sum__s1", *first]
