"""DistinctCount and Quantile in Postgres: merged and presented in SQL to the same bits as in Python, on both major versions.

SQL(states) = present(⊕ states)        copy_out(copy_in(binary)) = binary
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Context
from fractions import Fraction
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from pipeline import Count, DistinctCount, Quantile, View, tumbling
from pipeline.base.errors import StoreError
from pipeline.base.types import INT_MAX, INT_MIN
from pipeline.kernels.sketches import MAX_RANK, REGISTERS
from pipeline.laws import column_types
from pipeline.plain.sketches import bucket, estimate, middle
from sandbox.weather import encode, readings
from serving.generations.create import install
from serving.ops.tables import batch_table, speed_table
from serving.postgres.connection import transaction
from serving.postgres.copy import copy_in, copy_out, from_hex, to_hex
from tests.contract.world import COLUMNS, connected, event, merge, payments, plan, served, states, values
from tests.support.sketches import QS, SIGMA, VALUES, decimals, lifted, registers_of, whole
from tests.support.system import System


@pytest.fixture(params=["postgres_url", "embedded_postgres_url"])
def database(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The machine's Postgres, and the embedded one of another major version."""
    with connected(request.getfixturevalue(request.param)) as engine:
        yield engine


sketched = View(
    name="sketched",
    source=payments,
    key=("account",),
    window=tumbling(hours=1),
    aggregates={
        "events": Count(),
        **{f"{c}_distinct": DistinctCount(c) for c in COLUMNS if c != "weight"},
        **{f"{c}_q{n}": Quantile(c, q) for c in ("amount", "fine", "items") for n, q in enumerate(QS)},
    },
)
one_event = st.builds(
    lambda place, account, more: event(place[0], place[1], account, **more),
    st.tuples(st.integers(0, 1), st.integers(0, 2**40)),
    st.sampled_from(["a", "b"]),
    st.fixed_dictionaries(
        {
            "amount": st.none() | decimals,
            "fine": st.none() | decimals.map(lambda d: d.scaleb(-10, Context(prec=30))),
            "items": st.none() | whole,
            "note": st.none() | VALUES[str],
            "gift": st.none() | st.booleans(),
            "seen_at": st.none() | VALUES[datetime],
            "due": st.none() | st.dates(date(2, 1, 1)),
        }
    ),
)
homes = st.sampled_from(["batch", "speed 0/0", "speed 0/10", "speed 1/0"])


def stored(engine: Engine, home: str, table: pa.Table) -> None:
    """Rows of states where their home is."""
    if home == "batch":
        target, more = batch_table(sketched, 1), {"batch": 0}
    else:
        partition, segment = home.split()[1].split("/")
        target, more = speed_table(sketched, 1), {"partition": int(partition), "segment": int(segment)}
    for name, value in more.items():
        table = table.append_column(name, [[value] * table.num_rows])
    with transaction(engine) as connection:
        copy_in(connection, f'{target.schema}."{target.name}"', table.column_names, [table])


@pytest.fixture
def installed(database: Engine) -> Engine:
    install(database, [plan(views=(sketched,))])
    install(database, [plan(views=(sketched,))])  # safe to run again
    return database


def emptied(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.exec_driver_sql("TRUNCATE batch.sketched__g1, speed.sketched__g1")


def assert_served(engine: Engine, tables: list[pa.Table]) -> None:
    wanted, found = values(sketched, merge(sketched, tables)), served(engine, sketched)
    assert found == wanted
    # The digits too
    assert [[str(v) for v in row.values()] for row in found] == [[str(v) for v in row.values()] for row in wanted]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    found=st.lists(st.tuples(homes, one_event), max_size=40, unique_by=lambda pair: (pair[1].partition, pair[1].offset))
)
def test_postgres_merges_and_presents_to_the_same_bits(installed: Engine, found: list[Any]) -> None:
    emptied(installed)
    bundles = {home: states(sketched, [one for at, one in found if at == home]) for home in {at for at, _ in found}}
    for home, table in bundles.items():
        stored(installed, home, table)
    assert_served(installed, list(bundles.values()))


def test_postgres_merges_long_states_with_short_ones(installed: Engine) -> None:
    random, tables = np.random.default_rng(5), []
    for home, size in (("batch", 20_000), ("speed 0/0", 3_000), ("speed 0/10", 40), ("speed 1/0", 1)):
        numbers = random.integers(INT_MIN, INT_MAX, size).tolist()
        at = datetime(2013, 1, 1, tzinfo=UTC)
        more = [
            {"items": n, "note": f"note {n % 5000}", "seen_at": at + timedelta(microseconds=n % 10**9)} for n in numbers
        ]
        tables.append(states(sketched, [event(0, offset, "a", **m) for offset, m in enumerate(more)]))
        stored(installed, home, tables[-1])
    assert_served(installed, tables)
    (row,) = served(installed, sketched)
    assert abs(row["items_distinct"] / 23_041 - 1) < 5 * SIGMA


def random_registers(random: np.random.Generator, filled: int, least: int, most: int) -> bytes:
    return registers_of(random.choice(REGISTERS, filled, replace=False), random.integers(least, most + 1, filled))


def ranks_of(state: Any) -> dict[int, int]:
    """Register -> rank, read in the plain way."""
    if len(state) == REGISTERS:
        return {register: rank for register, rank in enumerate(state) if rank}
    return {int.from_bytes(state[at : at + 2], "big"): state[at + 2] for at in range(0, len(state), 3)}


def test_any_registers_are_presented_in_sql_as_in_python(database: Engine) -> None:
    """Ones that no test can reach by counting: full ones, all at rank 53, all at rank 1."""
    random = np.random.default_rng(11)
    shapes = [
        (0, 1, 1),
        (1, 1, 53),
        (1, 53, 53),
        (4096, 1, 1),
        (4096, 53, 53),
        (4095, 53, 53),
        (4096, 1, 53),
        (4095, 30, 40),
    ]
    shapes += [(int(random.integers(0, REGISTERS + 1)), 1, int(random.integers(1, MAX_RANK + 1))) for _ in range(60)]
    states_of = [random_registers(random, *shape) for shape in shapes]
    measure = DistinctCount("x").over(*column_types(str))
    # Some merged with others
    pairs = [(g, state) for g in range(len(states_of)) for state in (states_of[g], states_of[g - g % 3])]
    group = np.array([g for g, _ in pairs])
    given_states = pa.array([state for _, state in pairs], pa.binary())
    merged = measure.merge((given_states,), group, len(states_of))
    with transaction(database) as connection:
        connection.exec_driver_sql("CREATE SCHEMA serving")
        for statement in measure.sql_support() * 2:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("CREATE TABLE public.states (g bigint, state bytea)")
        copy_in(connection, "public.states", ["g", "state"], [pa.table({"g": pa.array(group), "state": given_states})])
        query = f"SELECT {measure.sql({'registers': 'state'})} FROM public.states GROUP BY g ORDER BY g"
        found = [row[0] for row in connection.exec_driver_sql(query)]
    assert found == measure.present(merged).to_pylist()
    assert found == [estimate(ranks_of(state.as_py())) for state in merged[0]]
    assert found[0] == 0 and found[4] == INT_MAX and 0 < found[3] < REGISTERS * 2


def test_every_bucket_is_presented_in_sql_as_in_python(database: Engine) -> None:
    """The least number of each of the 7425 buckets, a group each."""
    magnitudes = np.array([*range(128), *((s << k) for k in range(1, 56) for s in range(64, 128))], np.int64)
    numbers = np.concatenate([magnitudes, ~magnitudes + 1, [INT_MIN, INT_MAX]])
    aggregate = Quantile("x", 0.5)
    measure = aggregate.over(*column_types(int))
    (state,) = lifted(aggregate, int, pa.array(numbers), np.arange(len(numbers)).tolist(), len(numbers))
    with transaction(database) as connection:
        connection.exec_driver_sql("CREATE SCHEMA serving")
        for statement in measure.sql_support() * 2:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("CREATE TABLE public.states (g bigint, state bytea)")
        table = pa.table({"g": pa.array(np.arange(len(numbers))), "state": state})
        copy_in(connection, "public.states", ["g", "state"], [table])
        query = f"SELECT {measure.sql({'buckets': 'state'})} FROM public.states GROUP BY g ORDER BY g"
        found = [row[0] for row in connection.exec_driver_sql(query)]
    assert [str(v) for v in found] == [str(v) for v in measure.present((state,)).to_pylist()]
    assert [Fraction(v) for v in found] == [middle(bucket(int(n))) for n in numbers]


def test_the_functions_are_immutable_and_parallel_safe(installed: Engine) -> None:
    with transaction(installed) as connection:
        query = "SELECT proname, provolatile, proparallel FROM pg_proc WHERE pronamespace = 'serving'::regnamespace"
        made = {row.proname: (row.provolatile, row.proparallel) for row in connection.exec_driver_sql(query)}
    assert made == dict.fromkeys(("distinct_count", "quantile", "round_div"), ("i", "s"))


OWN_VIEWS = """
from dataclasses import replace
from pipeline import Count, DistinctCount, Quantile, View, tumbling
from views.weather import observations as base
observations = replace(base, topic={topic!r})
sketches = View(name="sketches", source=observations, key=("station",), window=tumbling(days=30), aggregates={{
    "readings": Count(), "ids": DistinctCount("id"), "temperatures": DistinctCount("temperature_f"),
    "hours": DistinctCount("observed_at"), "median": Quantile("temperature_f"), "cold": Quantile("temperature_f", 0.01),
}})
VIEWS = (sketches,)
"""


@pytest.mark.slow
def test_a_view_of_sketches_stays_exact_through_nights_and_live_rows(embedded_system: System) -> None:
    def send(start: int, end: int) -> None:
        events = [encode(row) for row in readings()[start:end]]
        embedded_system.produce((crc32(e.key or b"") % 2, e.key, e.value) for e in events)

    embedded_system.define(OWN_VIEWS.format(topic=embedded_system.topic))
    embedded_system.run("init", "--partitions", "2")
    for date_of_night, start, end in (("2013-01-02", 0, 3000), ("2013-01-03", 2900, 5000)):
        send(start, end)
        embedded_system.night(date_of_night)
    send(4900, 5600)
    embedded_system.catch_up()
    embedded_system.assert_exact()
    rows = embedded_system.query("SELECT readings, ids, hours FROM serving.sketches")
    assert sum(row["readings"] for row in rows) == 5600
    for row in rows:
        assert abs(row["ids"] / row["readings"] - 1) < 5 * SIGMA and abs(row["hours"] / row["readings"] - 1) < 5 * SIGMA


# ---------------------------------------------------------------- binary through COPY


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=40), max_size=20), st.integers(0, 5))
def test_hex_and_back_is_the_same_from_any_slice(drawn: list[bytes | None], start: int) -> None:
    array = pa.array(drawn, pa.binary()).slice(min(start, len(drawn)))
    text = to_hex(array)
    assert text.to_pylist() == [None if b is None else f"\\x{b.hex()}" for b in array.to_pylist()]
    back = from_hex(text.cast(pa.string()))
    back.validate(full=True)
    assert back.equals(array)


def test_binary_in_another_form_is_refused() -> None:
    with pytest.raises(StoreError, match="bytea_output"):
        from_hex(pa.array(["\\x00", "\\000abc"]))


def test_what_is_copied_in_as_binary_comes_out(database: Engine) -> None:
    fields: Any = {"line": pa.int64(), "state": pa.binary(), "note": pa.string()}
    schema = pa.schema(fields)
    with transaction(database) as connection:
        connection.exec_driver_sql("CREATE TABLE public.trip (line bigint, state bytea, note text)")
        connection.commit()

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.none() | st.binary(max_size=50), st.none() | VALUES[str]), max_size=12))
    @example([(None, None), (b"", ""), (b"\\x", "\\x")])
    def there_and_back(rows: list[tuple[bytes | None, str | None]]) -> None:
        sent = pa.Table.from_pylist([{"line": n, "state": b, "note": t} for n, (b, t) in enumerate(rows)], schema)
        with transaction(database) as connection:
            connection.exec_driver_sql("TRUNCATE public.trip")
            copy_in(connection, "public.trip", schema.names, [pa.concat_tables([sent.slice(0, 1), sent.slice(1)])])
            got = copy_out(connection, "SELECT * FROM public.trip ORDER BY line", schema)
        assert got.equals(sent)

    there_and_back()
    long = pa.table({"line": [0], "state": [bytes(range(256)) * 20_000], "note": ["long"]}, schema)
    with transaction(database) as connection:
        connection.exec_driver_sql("TRUNCATE public.trip")
        copy_in(connection, "public.trip", schema.names, [long])
        assert copy_out(connection, "SELECT * FROM public.trip", schema).equals(long)
