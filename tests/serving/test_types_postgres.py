"""Aggregates of wide decimals, bytes, UUIDs and times in Postgres: SQL(states) = present(⊕ states), on both major versions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import time
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy.engine import Connection, Engine

from pipeline import (
    CountNonNull,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Precision,
    Quantile,
    StdDev,
    Sum,
    Variance,
)
from pipeline.aggregates.base import Aggregate, Rows
from pipeline.columns.arrays import limbs
from pipeline.kernels.wide import wide_buckets_of
from pipeline.laws import boundaries, column_types
from pipeline.plain.sketches import bucket, middle
from serving.postgres.connection import transaction
from serving.postgres.copy import copy_in, copy_out
from tests.contract.world import connected
from tests.pipeline.aggregates.test_laws import name

WIDE = (Precision(38, 18), Precision(38, 38), Precision(5, 5))
PAIRS: list[tuple[Aggregate, Any]] = [
    *((kind("x"), of) for kind in (Sum, Mean, Variance, StdDev, Quantile) for of in WIDE),
    *((kind("x"), Precision(38, 0)) for kind in (Sum, Mean, StdDev, Quantile)),
    *((Quantile("x", q), WIDE[0]) for q in (0, 0.99, 1)),
    *(
        (kind("x"), of)
        for kind in (Min, Max, First, Last, DistinctCount, CountNonNull)
        for of in (WIDE[0], bytes, UUID, time)
    ),
]
GROUPS, ROWS = 9, 300


@pytest.fixture(params=["postgres_url", "embedded_postgres_url"])
def database(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The machine's Postgres, and the embedded one of another major version."""
    with connected(request.getfixturevalue(request.param)) as engine:
        with transaction(engine) as connection:
            connection.exec_driver_sql("CREATE SCHEMA serving")
        yield engine


def states_of(aggregate: Aggregate, of: Any) -> tuple[Any, list[pa.Array], Any]:
    """(measure, the states of several batches one below the other, the group of each); group 0 has no value."""
    rng, measure = random.Random(repr((aggregate, of))), aggregate.over(*column_types(of))
    pool = [None, *boundaries(of)]
    parts, groups = [], []
    for batch in range(3):
        group = np.array([rng.randrange(GROUPS) for _ in range(ROWS)], np.int64)
        values = [None if g == 0 or rng.random() < 0.4 else rng.choice(pool) for g in group]
        place = np.arange(ROWS, dtype=np.int64)
        times = np.array([rng.randrange(50) for _ in range(ROWS)], np.int64)
        rows = Rows((pa.array(values, column_types(of)[0].arrow),), times, place * 0 + batch, place)
        parts.append(measure.lift(rows, group, GROUPS))
        groups.append(np.arange(GROUPS, dtype=np.int64))
    return measure, [pa.concat_arrays(list(field)) for field in zip(*parts, strict=True)], np.concatenate(groups)


def presented(connection: Connection, measure: Any, states: list[pa.Array], group: Any) -> pa.Array:
    """Value of each group as Postgres presents the states, through COPY there and back."""
    for statement in measure.sql_support() * 2:
        connection.exec_driver_sql(statement)
    columns = ", ".join(f'"{field.name}" {field.postgres}' for field in measure.fields)
    connection.exec_driver_sql(f"CREATE TEMPORARY TABLE states (g bigint, {columns}) ON COMMIT DROP")
    table = pa.table({"g": pa.array(group)} | {f.name: a for f, a in zip(measure.fields, states, strict=True)})
    copy_in(connection, "pg_temp.states", table.column_names, [table])
    sql = measure.sql({field.name: f'"{field.name}"' for field in measure.fields})
    query = f"SELECT g, ({sql})::{measure.value.postgres} AS value FROM pg_temp.states GROUP BY g ORDER BY g"
    return copy_out(connection, query, pa.schema([("g", pa.int64()), ("value", measure.value.arrow)])).column("value")


def test_postgres_merges_and_presents_to_the_same_bits(database: Engine) -> None:
    for aggregate, of in PAIRS:
        measure, states, group = states_of(aggregate, of)
        wanted = measure.present(measure.merge(tuple(states), group, GROUPS))
        with transaction(database) as connection:
            found = presented(connection, measure, states, group)
        what = (name(aggregate), name(of), found.to_pylist(), wanted.to_pylist())
        assert found.combine_chunks().equals(wanted), what
        assert wanted.null_count < GROUPS - 2, what


def test_every_bucket_of_a_wide_decimal_is_presented_in_sql_as_in_python(database: Engine) -> None:
    """The least number of each of the buckets, on both sides of zero, a group each."""
    numbers = [*range(128), *(s << k for k in range(1, 120) for s in range(64, 128))]
    numbers = [n for n in numbers if n < 10**38]
    numbers += [-n for n in numbers] + [10**38 - 1, 1 - 10**38]
    (type,) = column_types(Precision(38, 0))
    column = pa.array([_decimal(n) for n in numbers], type.arrow)
    measure = Quantile("x").over(type)
    place = np.arange(len(numbers), dtype=np.int64)
    state = measure.lift(Rows((column,), place, place * 0, place), place, len(numbers))
    with transaction(database) as connection:
        found = presented(connection, measure, list(state), place)
    assert found.combine_chunks().equals(measure.present(state))
    assert [Fraction(v) for v in found.to_pylist()] == [middle(bucket(n)) for n in numbers]
    assert wide_buckets_of(limbs(column)).tolist() == [bucket(n) for n in numbers]


def test_min_and_max_of_uuids_and_bytes_order_by_bytes_in_postgres_too(database: Engine) -> None:
    found = [UUID(int=n << 100 | n) for n in range(0, 2**27, 2**22 + 12345)]
    with transaction(database) as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE ordered (u uuid, b bytea) ON COMMIT DROP")
        for one in random.Random(1).sample(found, len(found)):
            connection.exec_driver_sql("INSERT INTO ordered VALUES (%s, %s)", (str(one), one.bytes))
        by_uuid = [row[0] for row in connection.exec_driver_sql("SELECT u::text FROM ordered ORDER BY u")]
        by_bytes = [row[0] for row in connection.exec_driver_sql("SELECT u::text FROM ordered ORDER BY b")]
    assert by_uuid == by_bytes == [str(one) for one in sorted(found, key=lambda one: one.bytes)]


def _decimal(number: int) -> Decimal:
    return Decimal((int(number < 0), tuple(map(int, str(abs(number)))), 0))
