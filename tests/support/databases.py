"""Databases of every kind with a table to read, and the rows that an origin gives of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ingestion.origin import Origin, Reading

PLANES = "CREATE TABLE planes (id bigint PRIMARY KEY, tailnum varchar(10), seats int, updated_at {time})"
TIME = {"postgresql": "timestamptz", "mysql": "timestamp NULL", "sqlite": "integer"}
KINDS = ("postgresql", "mysql", "sqlite")


class World:
    """A database of one kind, and the statements that a test runs in it as its owner."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url
        drivers = {"postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql", "sqlite": "sqlite"}
        self.engine = sa.create_engine(sa.make_url(url).set(drivername=drivers[kind]), poolclass=sa.pool.NullPool)

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def planes(self, count: int) -> None:
        self.run(PLANES.format(time=TIME[self.kind]))
        times = [None if n % 10 == 9 else n // 2 for n in range(count)]
        at = [
            t if self.kind == "sqlite" or t is None else datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=t)
            for t in times
        ]
        rows = [{"id": n, "tailnum": f"N{n}", "seats": n % 300, "updated_at": at[n]} for n in range(count)]
        with self.engine.begin() as connection:
            if self.kind == "mysql":
                connection.exec_driver_sql("SET time_zone = '+00:00'")
            table = sa.table("planes", *map(sa.column, ("id", "tailnum", "seats", "updated_at")))
            connection.execute(table.insert(), rows)


def read(origin: Origin, reading: Reading) -> list[dict[str, Any]]:
    """All rows of all parts, whose places rise from 1 in each."""
    found = []
    for part in origin.parts(reading):
        numbers: list[int] = []
        for rows in origin.read(part, reading):
            numbers += rows.numbers.tolist()
            found += rows.batch.to_pylist()
            assert rows.batch.num_rows == len(rows.numbers) and not rows.broken
        assert numbers == list(range(1, len(numbers) + 1))
    return found
