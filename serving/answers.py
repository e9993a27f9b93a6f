"""Reading answers together with what they are answers up to.

    snapshot: rows(view) = f(log[0, position))  for exactly the positions in its freshness     (REPEATABLE READ)

The rows are copied to files and the transaction ends, so that however long the reader computes, nothing in Postgres
waits for it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipeline.definition.view import View
from pipeline.fold.states import group_columns, state_schema, value_schema
from pipeline.handover import Counts, Generation, ViewCounts
from serving.merged_view import batch_states, merged_view
from serving.ops.generations import active_generation
from serving.postgres.connection import reading
from serving.postgres.copy import copy_to_file, read_csv
from serving.postgres.quoting import quote, relation


class Freshness(NamedTuple):
    """One partition: the batch answers for [start, cut), both layers together for [start, position)."""

    partition: int
    cut: int
    position: int


@dataclass(frozen=True)
class Snapshot:
    """One instant of the serving layer. All lists are by partition; `generations` are those in force at that instant.

    Compare their fingerprints with the definitions loaded before believing the rows: `serving.generations.create.require` does so
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
    with reading(engine) as connection:
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


@dataclass(frozen=True)
class BatchPart:
    """Answer of the batch layer alone at one instant: `answer` is f(log[0, cut)), its positions being the visible cut.

    `number` is the visible batch of each topic; `states(view)` are the states that the rows present, in the same order.
    """

    answer: Snapshot
    number: Mapping[str, int]
    state_files: Mapping[str, Path]

    def states(self, view: str) -> Iterator[pa.RecordBatch]:
        """state_schema(view) of the newest batch row of every group at or below the visible number."""
        return read_csv(self.state_files[view], state_schema(self.answer.views[view]))


BATCH_FRESHNESS = sa.text("""
SELECT v.topic, b.partition, v.number, c.offsets[b.partition + 1] AS cut, b.accepted, b.duplicates, b.rejected, b.tombstones
FROM ops.visible v JOIN ops.generations g ON g.topic = v.topic AND g.number = v.generation AND g.status = 'active'
JOIN ops.cuts c ON c.topic = v.topic AND c.generation = v.generation AND c.number = v.number
JOIN ops.batch_counts b ON b.topic = v.topic AND b.generation = v.generation AND b.number = v.number
ORDER BY v.topic, b.partition
""")
BATCH_VIEWS = sa.text("""
SELECT b.view, b.folded, b.filtered, b.rejected
FROM ops.visible v JOIN ops.generations g ON g.topic = v.topic AND g.number = v.generation AND g.status = 'active'
JOIN ops.batch_views b ON b.topic = v.topic AND b.generation = v.generation AND b.number = v.number
ORDER BY b.view, b.partition
""")


def batch_part(engine: Engine, views: Sequence[View], folder: Path) -> BatchPart:
    """Copy what the visible batches answer into `folder`, rows and states, with the cuts and counts of the same instant."""
    files = {view.name: folder / f"{view.name}.batch.csv" for view in views}
    state_files = {view.name: folder / f"{view.name}.states.csv" for view in views}
    freshness: dict[str, list[Freshness]] = defaultdict(list)
    accounting: dict[str, list[Counts]] = defaultdict(list)
    view_accounting: dict[str, list[ViewCounts]] = defaultdict(list)
    numbers: dict[str, int] = {}
    with reading(engine) as connection:
        _begin_reading(connection, [view.name for view in views])
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        for row in connection.execute(BATCH_FRESHNESS):
            numbers[row.topic] = row.number
            freshness[row.topic].append(Freshness(row.partition, row.cut, row.cut))
            accounting[row.topic].append(Counts(row.accepted, row.duplicates, row.rejected, row.tombstones))
        for row in connection.execute(BATCH_VIEWS):
            view_accounting[row.view].append(ViewCounts(row.folded, row.filtered, row.rejected))
        active = [active_generation(connection, topic) for topic in freshness]
        generations = {generation.topic: generation for generation in active if generation is not None}
        for view in views:
            number = generations[view.source.topic].number
            with files[view.name].open("wb") as file:
                copy_to_file(
                    connection,
                    _by_group(view, f"({merged_view(view, number, part='batch')}) AS part", value_schema(view)),
                    file,
                )
            with state_files[view.name].open("wb") as file:
                copy_to_file(
                    connection, _by_group(view, f"({batch_states(view, number)}) AS states", state_schema(view)), file
                )
    answer = Snapshot(
        generations, dict(freshness), dict(accounting), dict(view_accounting), files, {v.name: v for v in views}
    )
    return BatchPart(answer, numbers, state_files)


def _begin_reading(connection: Connection, names: Sequence[str]) -> None:
    """LOCK TABLE takes no snapshot: the views' definitions are fixed first, so that the data is not older than they."""
    locked = ", ".join(relation("serving", name) for name in names)
    connection.exec_driver_sql(f"LOCK TABLE {locked} IN ACCESS SHARE MODE")


def _ordered(view: View) -> str:
    return _by_group(view, relation("serving", view.name), value_schema(view))


def _by_group(view: View, source: str, schema: pa.Schema) -> str:
    columns = ", ".join(quote(name) for name in schema.names)
    group = ", ".join(quote(name) for name in group_columns(view))
    return f"SELECT {columns} FROM {source} ORDER BY {group}"  # noqa: S608 -- quoted names


@dataclass(frozen=True)
class ByLayer:
    """The same groups as the batch layer, the speed layer and both together answer; rows as mappings, newest first."""

    batch: list[dict[str, Any]]
    speed: list[dict[str, Any]]
    merged: list[dict[str, Any]]
    freshness: list[Freshness]


def by_layer(engine: Engine, view: View, *, limit: int = 1000, **equal: Any) -> ByLayer:
    """The newest `limit` groups whose key columns (or window_start) equal these values, part by part at one instant."""
    if unknown := equal.keys() - set(group_columns(view)):
        raise ValueError(
            f"view {view.name} has no key column {', '.join(sorted(unknown))}; it has {', '.join(group_columns(view))}"
        )
    with reading(engine) as connection:
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
    return ByLayer(found["batch"], found["speed"], found["both"], fresh)


def _selected(source: str, view: View, equal: Mapping[str, Any]) -> sa.TextClause:
    conditions = (
        " AND ".join(f"{quote(n)} = :{n}" if v is not None else f"{quote(n)} IS NULL" for n, v in equal.items())
        or "true"
    )
    order = ", ".join(["window_start DESC", *(quote(name) for name in view.key)])
    return sa.text(f"SELECT * FROM {source} WHERE {conditions} ORDER BY {order} LIMIT :limit")  # noqa: S608 -- quoted names
