"""serving.<view> is present(⊕ states), bit for bit, and reads by key and time are index scans."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from pipeline import Count, View, tumbling
from pipeline.base.types import TIME_MAX, TIME_MIN
from pipeline.fold.states import group_columns, value_schema
from pipeline.handover import Generation
from serving.answers import by_layer
from serving.generations.create import install
from serving.merged_view import merged_view, value_columns
from serving.ops.tables import batch_table, speed_table
from serving.postgres.connection import transaction
from serving.postgres.copy import copy_in, copy_out
from tests.contract.world import (
    Event,
    by_account,
    connected,
    event,
    every_aggregate,
    group_of,
    merge,
    ordered,
    payments,
    plan,
    served,
    states,
    values,
)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=3)
times = st.datetimes(TIME_MIN.replace(tzinfo=None), TIME_MAX.replace(tzinfo=None)).map(lambda t: t.replace(tzinfo=UTC))


def decimals(scale: int) -> st.SearchStrategy[Decimal]:
    limit = 10**18 - 1
    edges = st.sampled_from([limit, -limit, 0, 1, -1, 5, -5])
    return (st.integers(-limit, limit) | st.integers(-20, 20) | edges).map(lambda n: Decimal(n).scaleb(-scale))


one_event = st.builds(
    lambda place, account, region, hour, more: event(*place, account, hour=hour, region=region, **more),
    st.tuples(st.integers(0, 1), st.integers(0, 2**40)),
    st.sampled_from(["", "a", "é", "A"]),
    st.integers(0, 1),
    st.integers(0, 1),
    st.fixed_dictionaries(
        {
            "amount": st.none() | decimals(2),
            "fine": st.none() | decimals(12),
            "items": st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
            "weight": st.none() | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
            "note": st.none() | texts,
            "gift": st.none() | st.booleans(),
            "seen_at": st.none() | times,
            "due": st.none() | st.dates(date(2, 1, 1), date(9999, 12, 31)),
        }
    ),
)
# Where a bundle of events is stored: a batch (number), or a speed row (partition, segment); the cut of batch 2 is (10, 20).
homes = st.sampled_from(
    ["batch 1", "batch 2", "batch 3", "live 0/10", "live 0/15", "live 1/20", "dead 0/5", "dead 1/19"]
)
KINDS = {"live 0/10": (0, 10), "live 0/15": (0, 15), "live 1/20": (1, 20), "dead 0/5": (0, 5), "dead 1/19": (1, 19)}


@pytest.fixture
def installed(postgres_url: str) -> Iterator[tuple[Engine, Generation]]:
    with connected(postgres_url) as engine:
        (generation,) = install(engine, [plan(views=(every_aggregate,))])
        with transaction(engine) as connection:
            connection.exec_driver_sql(
                "INSERT INTO ops.cuts SELECT 'payments', 1, n, NULL, ARRAY[5 * n, 10 * n] FROM generate_series(1, 3) n"
            )
            connection.exec_driver_sql("UPDATE ops.visible SET number = 2")
        yield engine, generation


def store(engine: Engine, bundles: dict[str, list[Event]]) -> None:
    """The rows of each bundle where it belongs; several batches may hold a row of one group."""
    view = every_aggregate
    with transaction(engine) as connection:
        connection.exec_driver_sql("TRUNCATE batch.every_aggregate__g1, speed.every_aggregate__g1")
        for home, found in bundles.items():
            table = states(view, found)
            if home.startswith("batch"):
                target, more = batch_table(view, 1), {"batch": int(home[-1])}
            else:
                target, more = speed_table(view, 1), dict(zip(("partition", "segment"), KINDS[home], strict=True))
            for name, value in more.items():
                table = table.append_column(name, [[value] * table.num_rows])
            copy_in(connection, f'{target.schema}."{target.name}"', table.column_names, [table])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    found=st.lists(st.tuples(homes, one_event), max_size=30, unique_by=lambda pair: (pair[1].partition, pair[1].offset))
)
def test_the_merged_view_equals_the_merge_in_memory(
    installed: tuple[Engine, Generation], found: list[tuple[str, Event]]
) -> None:
    engine, _ = installed
    view = every_aggregate
    bundles = {home: [one for at, one in found if at == home] for home in {at for at, _ in found}}
    store(engine, bundles)
    newest = {g: home for home in ("batch 1", "batch 2") for g in groups(bundles.get(home, []))}  # at or below 2
    batch = [
        one for home in ("batch 1", "batch 2") for one in bundles.get(home, []) if newest[group_of(view, one)] == home
    ]
    live = [states(view, bundles[home]) for home in bundles if home.startswith("live")]
    expected = merge(view, [states(view, batch), *live])
    assert served(engine, view) == values(view, expected)
    assert_same_text(engine, values(view, expected))


def groups(events: list[Event]) -> set[tuple[Any, ...]]:
    return {group_of(every_aggregate, one) for one in events}


def assert_same_text(engine: Engine, expected: list[dict[str, Any]]) -> None:
    """Numerics print the same: digits behind the point too. And through COPY they are the same Arrow values."""
    view = every_aggregate
    numeric = [name for name, measure in view.measures.items() if measure.value.postgres.startswith("numeric")]
    columns = ", ".join(f'"{name}"::text' for name in numeric)
    group = ", ".join(f'"{name}"' for name in group_columns(view))
    with transaction(engine) as connection:
        query = f"SELECT {columns} FROM serving.every_aggregate ORDER BY {group}"
        printed = [tuple(row) for row in connection.exec_driver_sql(query)]
        query = f"SELECT * FROM serving.every_aggregate ORDER BY {group}"
        copied = copy_out(connection, query, value_schema(view))
    assert printed == [tuple(None if row[n] is None else f"{row[n]:f}" for n in numeric) for row in expected]
    assert ordered(view, copied.to_pylist()) == expected


def test_columns_have_the_types_they_promise(installed: tuple[Engine, Generation]) -> None:
    engine, _ = installed
    with transaction(engine) as connection:
        found = connection.exec_driver_sql(
            """SELECT attname, format_type(atttypid, atttypmod), coalesce(collname, '') FROM pg_attribute a
               LEFT JOIN pg_collation c ON c.oid = a.attcollation
               WHERE attrelid = 'serving.every_aggregate'::regclass ORDER BY attnum"""
        ).all()
    promised = dict(value_columns(every_aggregate))
    assert [row[0] for row in found] == list(promised) == value_schema(every_aggregate).names
    long = {"timestamptz": "timestamp with time zone", 'text COLLATE "C"': "text"}
    for name, type, collation in found:
        assert type.replace(" ", "") == long.get(promised[name], promised[name]).replace(" ", "")
        assert collation == ("C" if type == "text" else "")


def test_no_function_of_the_merged_view_is_volatile(installed: tuple[Engine, Generation]) -> None:
    engine, _ = installed
    sql = merged_view(every_aggregate, 1)
    with transaction(engine) as connection:
        found = connection.exec_driver_sql(
            """SELECT p.proname, p.provolatile FROM pg_rewrite r, pg_proc p
               WHERE r.ev_class = 'serving.every_aggregate'::regclass
                 AND r.ev_action::text LIKE '%%:funcid ' || p.oid || ' %%'"""
        ).all()
        made = connection.exec_driver_sql(
            "SELECT proname, provolatile FROM pg_proc WHERE pronamespace = 'serving'::regnamespace"
        ).all()
    assert {row.proname for row in found} >= {"round_div"} and "round_div" in sql
    assert {row.provolatile for row in (*found, *made)} == {"i"}


def plan_nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from plan_nodes(child)


@pytest.mark.parametrize(
    "where",
    [
        "account = 'account 77' AND window_start >= '2013-01-02' AND window_start < '2013-01-03'",
        "account = 'account 77'",
        "account IN ('account 7', 'account 8') AND window_start = '2013-01-02'",
    ],
)
def test_a_read_by_key_and_time_is_an_index_scan_on_both_tables(postgres_url: str, where: str) -> None:
    with connected(postgres_url) as engine:
        install(engine, [plan(views=(by_account,))])
        with transaction(engine) as connection:
            group = "'account ' || k, timestamptz '2013-01-01' + h * interval '1 hour'"
            state = "1, 1, 100, timestamptz '2013-01-01', 0, h, 'note'"
            source = "generate_series(1, 400) k, generate_series(0, 239) h"
            connection.exec_driver_sql(f"INSERT INTO batch.by_account__g1 SELECT {group}, {state}, 0 FROM {source}")
            connection.exec_driver_sql(
                f"INSERT INTO speed.by_account__g1 SELECT {group}, {state}, k %% 2, 0 FROM {source}"
            )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE batch.by_account__g1")
            connection.exec_driver_sql("VACUUM ANALYZE speed.by_account__g1")
        with transaction(engine) as connection:
            query = f"SELECT * FROM serving.by_account WHERE {where}"
            (explained,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT json) {query}").scalar_one()
            scans = [n for n in plan_nodes(explained["Plan"]) if n.get("Relation Name") == "by_account__g1"]
            rows = connection.exec_driver_sql(query).mappings().all()
        assert len(scans) == 2
        for scan in scans:
            assert scan["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Heap Scan"), scan
        conditions = [n.get("Index Cond", "") for n in plan_nodes(explained["Plan"])]
        assert sum("account" in c for c in conditions) == 2
        if "window_start" in where:
            assert sum("window_start" in c for c in conditions) == 2
        assert rows and all(row["events"] == 2 and row["total"] == Decimal("2.00") for row in rows)


def test_parts_add_up_to_the_answer(installed: tuple[Engine, Generation]) -> None:
    engine, _ = installed
    old, new = [event(0, 1, "a", amount=Decimal("1.50")), event(0, 2, "b")], [event(0, 11, "a", amount=Decimal("0.25"))]
    store(engine, {"batch 1": old, "live 0/10": new})
    found = by_layer(engine, every_aggregate, account="a")
    assert [[row["amount_sum"] for row in rows] for rows in (found.batch, found.speed, found.merged)] == [
        [Decimal("1.50")],
        [Decimal("0.25")],
        [Decimal("1.75")],
    ]
    assert [f.cut for f in found.freshness] == [10, 20]
    hour = datetime(2013, 1, 1, tzinfo=UTC)
    assert len(by_layer(engine, every_aggregate, window_start=hour).merged) == 2
    assert by_layer(engine, every_aggregate, window_start=hour + timedelta(hours=1)).merged == []
    assert len(by_layer(engine, every_aggregate, limit=1).merged) == 1
    with pytest.raises(ValueError, match="has no key column account_id; it has account, region, window_start"):
        by_layer(engine, every_aggregate, account_id="a")


def test_a_view_with_keys_of_every_type_reads_back(postgres_url: str) -> None:
    view = View(
        name="keys",
        source=payments,
        key=("account", "region", "paid_at", "id"),
        window=tumbling(days=366),
        aggregates={"n": Count()},
    )
    events = [
        event(0, o, account, region=r) for o, (account, r) in enumerate([("", -5), ("Z", 5), ("a", 5), ("é", 2**62)])
    ]
    with connected(postgres_url) as engine:
        install(engine, [plan(views=(view,))])
        with transaction(engine) as connection:
            rows = states(view, events).append_column("batch", [[0] * len(events)])
            copy_in(connection, 'batch."keys__g1"', rows.column_names, [rows])
        assert served(engine, view) == values(view, states(view, events))
