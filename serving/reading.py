"""Reading answers together with what they are answers up to.

    snapshot: rows(view) = f(log[0, position))  for exactly the positions in its freshness     (REPEATABLE READ)

The rows are copied to files and the transaction ends, so that however long the reader computes, nothing in Postgres
waits for it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipeline.definition import View
from pipeline.handover import Counts, Cut, Generation, ViewCounts
from pipeline.states import group_columns, value_schema
from serving.arrow_copy import copy_to_file, quote, read_csv
from serving.connection import transaction
from serving.generations import active_generation
from serving.ledger import read_cuts
from serving.merge import merged_view, relation


class Freshness(NamedTuple):
    """One partition: the batch answers for [start, cut), both layers together for [start, position)."""

    partition: int
    cut: int
    position: int


@dataclass(frozen=True)
class Snapshot:
    """One instant of the serving layer. All lists are by partition; `generations` are those in force at that instant.

    Compare their fingerprints with the definitions loaded before believing the rows: `serving.setup.require` does so
    for now, not for then.
    """

    generations: Mapping[str, Generation]
    freshness: Mapping[str, list[Freshness]]
    accounting: Mapping[str, list[Counts]]
    view_accounting: Mapping[str, list[ViewCounts]]
    files: Mapping[str, Path]
    views: Mapping[str, View]

    def rows(self, view: str) -> Iterator[pa.RecordBatch]:
        """The rows of serving.<view> at that instant: value_schema(view), ordered by key columns and window_start."""
        return read_csv(self.files[view], value_schema(self.views[view]))


def snapshot(engine: Engine, views: Sequence[View], folder: Path) -> Snapshot:
    """Copy the views into `folder`, one file each, with the freshness and counts of the same instant; bounded memory."""
    files = {view.name: folder / f"{view.name}.csv" for view in views}
    with transaction(engine, isolation="REPEATABLE READ") as connection:
        _begin_reading(connection, [*files, "freshness", "accounting", "view_accounting"])
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        freshness: dict[str, list[Freshness]] = defaultdict(list)
        for row in connection.execute(sa.text("SELECT * FROM serving.freshness ORDER BY topic, partition")):
            freshness[row.topic].append(Freshness(row.partition, row.cut, row.position))
        accounting: dict[str, list[Counts]] = defaultdict(list)
        for row in connection.execute(sa.text("SELECT * FROM serving.accounting ORDER BY topic, partition")):
            accounting[row.topic].append(Counts(row.accepted, row.duplicates, row.rejected, row.tombstones))
        view_accounting: dict[str, list[ViewCounts]] = defaultdict(list)
        for row in connection.execute(sa.text("SELECT * FROM serving.view_accounting ORDER BY view, partition")):
            view_accounting[row.view].append(ViewCounts(row.folded, row.filtered, row.rejected))
        topics = [active_generation(connection, topic) for topic in freshness]
        for view in views:
            with files[view.name].open("wb") as file:
                copy_to_file(connection, _ordered(view), file)
    generations = {generation.topic: generation for generation in topics if generation is not None}
    return Snapshot(
        generations,
        dict(freshness),
        dict(accounting),
        dict(view_accounting),
        files,
        {view.name: view for view in views},
    )


def _begin_reading(connection: Connection, names: Sequence[str]) -> None:
    """LOCK TABLE takes no snapshot: the views' definitions are fixed first, so that the data is not older than they."""
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    locked = ", ".join(relation("serving", name) for name in names)
    connection.exec_driver_sql(f"LOCK TABLE {locked} IN ACCESS SHARE MODE")


def _ordered(view: View) -> str:
    columns = ", ".join(quote(name) for name in value_schema(view).names)
    group = ", ".join(quote(name) for name in group_columns(view))
    return f"SELECT {columns} FROM {relation('serving', view.name)} ORDER BY {group}"  # noqa: S608 -- quoted names


@dataclass(frozen=True)
class Parts:
    """The same groups as the batch layer, the speed layer and both together answer; rows as mappings, newest first."""

    batch: list[dict[str, Any]]
    speed: list[dict[str, Any]]
    merged: list[dict[str, Any]]
    freshness: list[Freshness]


def parts(engine: Engine, view: View, *, limit: int = 1000, **equal: Any) -> Parts:
    """The newest `limit` groups whose key columns (or window_start) equal these values, part by part at one instant."""
    if unknown := equal.keys() - set(group_columns(view)):
        raise ValueError(
            f"view {view.name} has no key column {', '.join(sorted(unknown))}; it has {', '.join(group_columns(view))}"
        )
    with transaction(engine, isolation="REPEATABLE READ") as connection:
        _begin_reading(connection, [view.name, "freshness"])
        generation = active_generation(connection, view.source.topic)
        number = generation.number if generation is not None else 0
        found = {}
        for part in ("batch", "speed", "both"):
            query = _selected(f"({merged_view(view, number, part=part)}) AS part", view, equal)
            found[part] = [dict(row) for row in connection.execute(query, {**equal, "limit": limit}).mappings()]
        where = sa.text(
            "SELECT partition, cut, position FROM serving.freshness WHERE topic = :topic ORDER BY partition"
        )
        fresh = [Freshness(*row) for row in connection.execute(where, {"topic": view.source.topic})]
    return Parts(found["batch"], found["speed"], found["both"], fresh)


def _selected(source: str, view: View, equal: Mapping[str, Any]) -> sa.TextClause:
    conditions = " AND ".join(f"{quote(name)} = :{name}" for name in equal) or "true"
    order = ", ".join(["window_start DESC", *(quote(name) for name in view.key)])
    return sa.text(f"SELECT * FROM {source} WHERE {conditions} ORDER BY {order} LIMIT :limit")  # noqa: S608 -- quoted names


@dataclass(frozen=True)
class PartitionStatus:
    """One partition of an active generation. `lease_s` is what is left of the lease: None when nobody holds one."""

    topic: str
    generation: int
    partition: int
    batch: int
    cut: int
    position: int
    worker: str | None
    lease_s: float | None
    cut_at: datetime
    position_at: datetime
    watermark_ms: int


@dataclass(frozen=True)
class Status:
    """What `watershed status` shows: every partition, the ledger of every topic, and the living workers by topic."""

    partitions: list[PartitionStatus]
    ledger: Mapping[str, list[Cut]]
    workers: Mapping[str, list[str]]


STATUS = sa.text("""
SELECT f.topic, p.generation, f.partition, v.number AS batch, f.cut, f.position, p.worker,
  extract(epoch FROM p.lease_until - clock_timestamp())::float8 AS lease_s, f.cut_at, f.position_at, p.watermark_ms
FROM serving.freshness f
JOIN ops.generations g ON g.topic = f.topic AND g.status = 'active'
JOIN ops.positions p ON p.topic = f.topic AND p.generation = g.number AND p.partition = f.partition
JOIN ops.visible v ON v.topic = f.topic AND v.generation = g.number
ORDER BY f.topic, f.partition
""")


def status(engine: Engine) -> Status:
    """All of it at one instant."""
    with transaction(engine, isolation="REPEATABLE READ") as connection:
        rows = [PartitionStatus(**row) for row in connection.execute(STATUS).mappings()]
        ledger = {
            topic: read_cuts(connection, topic, number) for topic, number in {(r.topic, r.generation) for r in rows}
        }
        workers: dict[str, list[str]] = {topic: [] for topic in sorted(ledger)}
        living = sa.text(
            "SELECT topic, worker FROM ops.workers WHERE alive_until > clock_timestamp() ORDER BY topic, worker"
        )
        for row in connection.execute(living):
            workers.setdefault(row.topic, []).append(row.worker)
    return Status(rows, ledger, workers)
