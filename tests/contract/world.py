"""Events without Kafka: a log per partition as a Python list, and f on it, by Measure.lift and Measure.merge alone.

expected(log, positions) = present( ⊕ over p of lift(log_p[0, positions_p)) )
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from sqlalchemy.engine import Engine

from pipeline import Count, Last, Mean, Min, Scale, Source, StdDev, Sum, View, tumbling
from pipeline.aggregates.base import Rows
from pipeline.columns.arrays import chunk
from pipeline.definition.window import Tumbling
from pipeline.fold.states import group_columns, present, state_of, state_schema
from pipeline.handover import Claim, Commit, Counts, Staged, Vector, ViewCounts
from pipeline.handover.replacement import Plan
from serving.ops.tables import SCHEMAS
from serving.postgres.connection import engine, transaction
from tests.support.aggregates import of_every_kind

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Payment:
    """An event with a column of every type."""

    id: str
    account: str
    region: int
    paid_at: datetime
    amount: Annotated[Decimal | None, Scale(2)]
    fine: Annotated[Decimal | None, Scale(12)]
    items: int | None
    weight: float | None
    note: str | None
    gift: bool | None
    seen_at: datetime | None
    due: date | None


COLUMNS = ("amount", "fine", "items", "weight", "note", "gift", "seen_at", "due")
NUMBERS = ("amount", "fine", "items")
payments = Source(topic="payments", record=Payment, key="account", event_time="paid_at", identity="id")
by_account = View(
    name="by_account",
    source=payments,
    key=("account",),
    window=tumbling(hours=1),
    aggregates={"events": Count(), "total": Sum("amount"), "last_note": Last("note")},
)
by_region = View(
    name="by_region",
    source=payments,
    key=("region", "account"),
    window=tumbling(days=1),
    aggregates={"events": Count(), "mean": Mean("amount"), "spread": StdDev("amount"), "least": Min("note")},
)
every_aggregate = View(
    name="every_aggregate",
    source=payments,
    key=("account", "region"),
    window=tumbling(hours=1),
    aggregates=of_every_kind(COLUMNS, [c for c in COLUMNS if c != "gift"], NUMBERS),
)
VIEWS = (by_account, by_region)


def plan(starts: Vector = (0, 0), views: Sequence[View] = VIEWS, topic_id: str = "id-1") -> Plan:
    """A plan for `payments`."""
    return Plan(payments, topic_id, starts, tuple(views))


@dataclass(frozen=True)
class Event:
    """A record that was accepted: its values, and its place."""

    partition: int
    offset: int
    values: dict[str, Any]


def event(partition: int, offset: int, account: str = "a", *, hour: int = 0, **more: Any) -> Event:
    """An event with nulls for what is not given."""
    at = datetime(2013, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    nulls: dict[str, Any] = dict.fromkeys(COLUMNS)
    return Event(
        partition,
        offset,
        nulls | {"id": f"{partition}-{offset}", "account": account, "region": 1, "paid_at": at} | more,
    )


def group_of(view: View, one: Event) -> tuple[Any, ...]:
    """(key…, window_start) of an event."""
    us = (one.values["paid_at"] - EPOCH) // timedelta(microseconds=1)
    assert isinstance(view.window, Tumbling)  # spelled out here: the contract holds stores to an answer of its own
    start = EPOCH + timedelta(microseconds=us - us % view.window.size_us)
    return (*(one.values[name] for name in view.key), start)


def states(view: View, events: Sequence[Event]) -> pa.Table:
    """One row per group of the events: lift, by group, in the order of first appearance."""
    groups: dict[tuple[Any, ...], int] = {}
    group = np.array([groups.setdefault(group_of(view, one), len(groups)) for one in events], np.int64)
    times = np.array([(one.values["paid_at"] - EPOCH) // timedelta(microseconds=1) for one in events], np.int64)
    places = [np.array([getattr(one, name) for one in events], np.int64) for name in ("partition", "offset")]
    schema = state_schema(view)
    columns = (
        [pa.array(values, schema.field(i).type) for i, values in enumerate(zip(*groups, strict=True))] if groups else []
    )
    if not groups:
        return schema.empty_table()
    for measure in view.measures.values():
        cells = tuple(
            pa.array([one.values[name] for one in events], type.arrow)
            for name, type in zip(measure.aggregate.columns, measure.types, strict=True)
        )
        columns += measure.lift(Rows(cells, times, *places), group, len(groups))
    return pa.Table.from_arrays(columns, schema=schema)


def merge(view: View, tables: Sequence[pa.Table]) -> pa.Table:
    """⊕ of all rows, by group."""
    table = pa.concat_tables([state_schema(view).empty_table(), *tables])
    keys = [chunk(table.column(name)).to_pylist() for name in group_columns(view)]
    groups: dict[tuple[Any, ...], int] = {}
    group = np.array([groups.setdefault(key, len(groups)) for key in zip(*keys, strict=True)], np.int64)
    if not groups:
        return table
    columns = [pa.array(values, table.schema.field(i).type) for i, values in enumerate(zip(*groups, strict=True))]
    for name, measure in view.measures.items():
        columns += measure.merge(state_of(table, name, measure), group, len(groups))
    return pa.Table.from_arrays(columns, schema=table.schema)


def values(view: View, table: pa.Table) -> list[dict[str, Any]]:
    """What a user should see of a table of states, ordered by group."""
    return ordered(view, present(view, table).to_pylist())


def ordered(view: View, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by group."""
    return sorted((dict(row) for row in rows), key=lambda row: tuple(row[name] for name in group_columns(view)))


def served(engine: Engine, view: View) -> list[dict[str, Any]]:
    """serving.<view>, ordered by group."""
    with transaction(engine) as connection:
        rows = connection.exec_driver_sql(f'SELECT * FROM serving."{view.name}"').mappings().all()
    return ordered(view, [dict(row) for row in rows])


def touched(view: View, before: Sequence[Event], new: Sequence[Event]) -> pa.Table:
    """The states, after `before` and `new`, of the groups that `new` touched."""
    groups = {group_of(view, one) for one in new}
    return states(view, [one for one in (*before, *new) if group_of(view, one) in groups])


def commit_of(claim: Claim, log: Sequence[Event], end: int, views: Sequence[View] = VIEWS) -> Commit:
    """The commit of [claim.position, end) by a worker that holds the segment's states; every offset has an event."""
    new, before = log[claim.position : end], log[claim.segment : claim.position]
    changed = {view.name: touched(view, before, new) for view in views}
    counts = {view.name: ViewCounts(folded=len(new)) for view in views}
    return Commit(claim, end, Counts(accepted=len(new)), changed, counts)


def staged_of(
    logs: Sequence[Sequence[Event]],
    cut: Vector,
    base: Vector | None,
    views: Sequence[View] = VIEWS,
    source: str = "digest",
) -> Staged:
    """What a night stages: the groups touched in [base, cut), or all with base None."""
    everything = [one for p, log in enumerate(logs) for one in log[: cut[p]]]
    new = everything if base is None else [one for p, log in enumerate(logs) for one in log[base[p] : cut[p]]]
    old = [one for one in everything if one not in new]
    counts = [Counts(accepted=n) for n in cut]
    rows = {view.name: [touched(view, old, new)] for view in views}
    return Staged(counts, {view.name: [ViewCounts(folded=n) for n in cut] for view in views}, rows, source)


def drop_everything(engine: Engine) -> None:
    """Back to an empty database."""
    with transaction(engine) as connection:
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {', '.join(reversed(SCHEMAS))} CASCADE")


@contextmanager
def connected(url: str, **options: Any) -> Iterator[Engine]:
    """An engine that leaves no connection behind."""
    made = engine(url, application_name=f"test-{uuid.uuid4().hex[:8]}", **options)
    try:
        yield made
    finally:
        made.dispose()
