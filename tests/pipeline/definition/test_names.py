"""Names: each that a definition accepts is taken by Postgres, by init, a commit, a night and a select; the others are refused at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow.compute as pc
import pytest
import sqlalchemy as sa

from pipeline import Count, Derived, First, Max, View
from pipeline.base.errors import DefinitionError
from pipeline.definition.names import NAME_LIMIT, OUR_COLUMNS, OUR_VIEWS, SYSTEM_COLUMNS, check_name
from pipeline.fold.states import group_columns, state_fields
from pipeline.handover.replacement import Plan
from serving.generations.create import install
from serving.ops.tables import batch_table, speed_table, table_name
from serving.postgres.connection import engine
from tests.support.definitions import source, view
from tests.support.system import System

LONG = "a" * NAME_LIMIT
ODD_VIEWS = ["select", "pg_class", "round_div", LONG]
ODD_COLUMNS = [
    LONG,
    "a",
    "number",
    "offset",
    "position",
    "topic",
    "generation",
    "cut",
    "states",
    "newest",
    "v",
    "c",
    "oid",
    "limit",
]

VIEWS = """
from dataclasses import dataclass
from datetime import datetime
import pyarrow.compute as pc
from pipeline import Count, Derived, First, Max, Source, View, tumbling

@dataclass(frozen=True)
class Event:
    id: int
    at: datetime
    ctid: int
    window_start: int

events = Source(topic={topic!r}, record=Event, key="id", event_time="at", identity="id")
def over(name, key, aggregates):
    derive = {{k: Derived(pc.field("id") + 1, int) for k in key}}
    return View(name=name, source=events, derive=derive, key=tuple(key), window=tumbling(days=1), aggregates=aggregates)

COLUMNS, KEYS = {columns!r}, {keys!r}
VIEWS = (
    *(over(name, ["select"], {{"from": Count(), "first": First("ctid"), "max": Max("window_start")}}) for name in {views!r}),
    over("every_aggregate", ["one_key"], {{name: Max("ctid") for name in COLUMNS}}),
    *(over(f"keys_from_{{n}}", KEYS[n : n + 28], {{"events": Count()}}) for n in range(0, len(KEYS), 28)),
)
"""


@pytest.mark.slow
def test_every_name_that_is_accepted_takes_init_commits_nights_and_selects(system: System) -> None:
    """Every keyword of this Postgres, and names of ours, as aggregates; those that need quotes as key columns; some as views."""
    words = system.query("SELECT word, catcode::text <> 'U' AS reserved FROM pg_get_keywords() ORDER BY word")
    usable = [row for row in words if accepted(row["word"]) and row["word"] not in ("at", "id", "events")]
    columns = list(dict.fromkeys([*ODD_COLUMNS, *(row["word"] for row in usable)]))
    keys = list(dict.fromkeys([*ODD_COLUMNS, *(row["word"] for row in usable if row["reserved"])]))
    assert len(columns) > 400 and len(keys) > 120
    system.define(VIEWS.format(topic=system.topic, columns=columns, keys=keys, views=ODD_VIEWS))
    system.run("init", "--partitions", "1")
    events = [{"id": n, "at": 86_400_000 * (n % 2), "ctid": n, "window_start": -n} for n in range(6)]
    system.produce((0, None, json.dumps(e).encode()) for e in events[:4])
    system.catch_up()
    system.night("2013-01-02")
    system.produce((0, None, json.dumps(e).encode()) for e in events[4:])
    system.catch_up()
    for name in ODD_VIEWS:
        rows = system.query(f'SELECT "select", "from", first, max FROM serving."{name}" ORDER BY "select"')
        assert rows == [{"select": n + 1, "from": 1, "first": n, "max": -n} for n in range(6)], name
    (top,) = system.query("SELECT * FROM serving.every_aggregate ORDER BY one_key DESC LIMIT 1")
    assert [top[name] for name in columns] == [5] * len(columns)
    assert [
        (v["view"], v["differences"], v["counts"]) for v in system.audit()["views"] if v["differences"] or v["counts"]
    ] == []


def accepted(name: str) -> bool:
    try:
        view(aggregates={name: Count()})
    except DefinitionError:
        return False
    return True


def as_key(name: str) -> View:
    return view(derive={name: Derived(pc.field("count") + 1, int)}, key=(name,), aggregates={"n": Count()})


USES: dict[str, Callable[[str], object]] = {
    "key": as_key,
    "aggregate": lambda name: view(aggregates={name: Max("count")}),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", sorted(SYSTEM_COLUMNS))
def test_a_system_column_of_postgres_is_refused_where_it_would_be_a_column(name: str, use: str) -> None:
    with pytest.raises(
        DefinitionError, match=rf"{use}.*'{name}' has the name of a system column of Postgres \(cmax, cmin, ctid"
    ):
        USES[use](name)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", sorted(OUR_COLUMNS))
def test_a_column_of_our_own_tables_is_refused_where_it_would_be_a_second_one(name: str, use: str) -> None:
    with pytest.raises(DefinitionError, match=rf"{use}.*'{name}' has a name that the views use themselves"):
        USES[use](name)


@pytest.mark.parametrize("name", sorted(SYSTEM_COLUMNS | OUR_COLUMNS))
def test_a_derived_column_that_never_reaches_postgres_may_have_any_name(name: str) -> None:
    """xmin and xmax are the sides of a box to others; such views were accepted before, and are."""
    view(derive={name: Derived(pc.field("count") + 1, int)}, aggregates={"most": Max(name)})


@pytest.mark.parametrize("name", sorted(OUR_VIEWS))
def test_the_names_of_serving_s_own_views_are_refused_at_construction(name: str) -> None:
    with pytest.raises(
        DefinitionError, match=rf"serving\.{name} is Watershed's own, as are accounting, freshness, view_accounting"
    ):
        view(name=name)


REFUSED = [
    "Select",
    "sélect",
    "a b",
    'a"b',
    "a'b",
    "a;b",
    "a.b",
    "a-b",
    "a__b",
    "_a",
    "a_",
    "1a",
    "",
    LONG + "a",
    "ß",
    "a\n",
    None,
    1,
]


@pytest.mark.parametrize("name", REFUSED, ids=repr)
def test_what_would_need_quoting_or_more_room_is_refused_everywhere(name: Any) -> None:
    derived = Derived(pc.field("count"), int)
    for make in (
        lambda: view(name=name),
        lambda: view(aggregates={name: Count()}),
        lambda: view(derive={name: derived}),
    ):
        with pytest.raises(DefinitionError, match="allowed are lower-case letters, digits and single underscores"):
            make()


def test_no_name_that_we_make_of_a_longest_one_is_beyond_postgres_s_63_bytes() -> None:
    widest = view(name=check_name(LONG, "View"), aggregates={LONG: First("note")}, derive={})
    number = 10**9  # generations
    table = speed_table(widest, number)
    names = [table.name, table_name(LONG, number), *(index.name for index in table.indexes), *table.columns.keys()]
    assert all(len(str(name).encode()) <= 63 for name in names), names


def test_our_columns_are_those_that_the_tables_of_states_have_beside_the_view_s_own() -> None:
    one = view()
    own = {*group_columns(one), *state_fields(one)} - {"window_start"}
    found = {*batch_table(one, 1).columns.keys(), *speed_table(one, 1).columns.keys()}
    assert found - own == OUR_COLUMNS


def test_the_lists_of_names_are_those_of_the_database(postgres_url: str) -> None:
    """What init makes in schema serving beside the views, and the system columns of this Postgres."""
    with engine(postgres_url).connect() as connection:
        system = set(connection.scalars(sa.text("SELECT DISTINCT attname FROM pg_attribute WHERE attnum < 0")))
    assert system == SYSTEM_COLUMNS
    database = engine(postgres_url)
    install(database, [Plan(source(), "id-of-the-topic", (0,), (view(name="only"),))])
    relations = (
        """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'serving'"""
    )
    with database.connect() as connection:
        assert set(connection.scalars(sa.text(relations))) - {"only"} == OUR_VIEWS
