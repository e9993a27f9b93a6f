"""A worker's store on Postgres: leases, states, and the commit that moves a position.

    commit lands  <=>  the row still has my epoch, owner, start and segment, no chosen cut is strictly in [start, end), and the versions
                       of tables that it was folded with are in force at its start
    position = chosen cut  =>  segment = position, in the same transaction

The commit copies first and locks after: a client that stalls inside COPY holds no lock. After the lock come short
statements only. Times are Postgres' own. Any exception leaves the outcome unknown: throw away everything in memory and
reload.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from uuid import UUID

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.schema import CreateTable

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import StoreError
from pipeline.definition.view import View
from pipeline.fold.states import group_columns, state_fields, state_schema
from pipeline.handover import (
    Claim,
    Commit,
    Committed,
    Cut,
    Fenced,
    Generation,
    LeaseRow,
    Outcome,
    Split,
    WorkerSnapshot,
)
from serving.ops import leases, snapshots, workers
from serving.ops.adoptions import in_force_at
from serving.ops.cuts import chosen_within, read_cuts
from serving.ops.generations import active_generation
from serving.ops.keys import row_of
from serving.ops.positions import advance, begin_segment
from serving.ops.segments import add_counts
from serving.ops.tables import speed_table, temporary_table
from serving.postgres.connection import reading, transaction
from serving.postgres.copy import copy_csv, copy_out, to_csv
from serving.postgres.quoting import quote, relation


class PostgresSpeedStore:
    """pipeline.handover.SpeedStore and SnapshotStore on Postgres; `require` has compared the views' definitions before."""

    def __init__(self, engine: Engine, views: Sequence[View], crash: CrashPoints | None = None) -> None:
        self._engine = engine
        self._crash = crash or NoCrash()
        self._views: Mapping[str, View] = {view.name: view for view in views}

    def active(self, topic: str) -> Generation | None:
        with reading(self._engine) as connection:
            return active_generation(connection, topic)

    def heartbeat(self, topic: str, worker: str, ttl_s: float) -> list[str]:
        with transaction(self._engine) as connection:
            return workers.heartbeat(connection, topic, worker, ttl_s)

    def farewell(self, topic: str, worker: str) -> None:
        with transaction(self._engine) as connection:
            workers.farewell(connection, topic, worker)

    def leases(self, generation: Generation) -> list[LeaseRow]:
        with reading(self._engine) as connection:
            return leases.leases(connection, generation)

    def take(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim | None:
        with transaction(self._engine) as connection:
            return leases.take(connection, generation, partition, worker, lease_s)

    def renew(self, claims: Sequence[Claim], lease_s: float) -> set[UUID]:
        if not claims:
            return set()
        with transaction(self._engine) as connection:
            return leases.renew(connection, claims, lease_s)

    def release(self, claim: Claim) -> None:
        with transaction(self._engine) as connection:
            leases.release(connection, claim)

    def reload(self, claim: Claim) -> Claim | None:
        with reading(self._engine) as connection:
            return leases.reload(connection, claim)

    def load_states(self, claim: Claim, view: str) -> pa.Table:
        definition = self._view(view)
        table = speed_table(definition, claim.generation)
        columns = ", ".join(quote(name) for name in state_schema(definition).names)
        query = f"SELECT {columns} FROM {relation('speed', table.name)}"  # noqa: S608 -- quoted names and two integers
        query += f" WHERE partition = {int(claim.partition)} AND segment = {int(claim.segment)}"
        with reading(self._engine) as connection:
            return copy_out(connection, query, state_schema(definition))

    def versions(self, claim: Claim) -> Mapping[str, int]:
        with reading(self._engine) as connection:
            return in_force_at(connection, claim, claim.position)

    def snapshot_below(self, claim: Claim) -> Cut | None:
        with reading(self._engine) as connection:
            below = [
                cut
                for cut in read_cuts(connection, claim.topic, claim.generation)
                if cut.status == "published" and cut.offsets[claim.partition] <= claim.position
            ]
        return max(below, key=lambda cut: (cut.offsets[claim.partition], cut.number), default=None)

    def record_snapshot(self, claim: Claim, path: str) -> bool:
        with transaction(self._engine) as connection:
            return snapshots.record_snapshot(connection, claim, path)

    def snapshots(self, claim: Claim) -> list[WorkerSnapshot]:
        with reading(self._engine) as connection:
            return snapshots.snapshots(connection, claim)

    def superseded(self, claim: Claim, path: str) -> list[str]:
        with reading(self._engine) as connection:
            return snapshots.superseded(connection, claim, path)

    def forget_snapshot(self, claim: Claim, path: str) -> None:
        with transaction(self._engine) as connection:
            snapshots.forget_snapshot(connection, claim, path)

    def commit(self, work: Commit) -> Outcome:
        claim = work.claim
        if work.end <= claim.position:
            raise ValueError(f"a commit of [{claim.position}, {work.end}) moves nothing")
        # Before the transaction: while others fold it takes long, and Postgres ends a transaction in which nothing is asked.
        rows = {
            view: to_csv(table.select(_columns(self._view(view))))
            for view, table in work.states.items()
            if table.num_rows
        }
        with transaction(self._engine) as connection:
            for view in work.states:
                _copy_changed(connection, self._view(view), claim.generation, rows.get(view))
            self._crash.reach("speed.copied")
            if not advance(connection, work):
                connection.rollback()
                return Fenced()
            self._crash.reach("speed.locked")
            cuts = chosen_within(connection, claim, work.end)  # a new statement: as of now
            if cuts and cuts[0] < work.end:
                connection.rollback()
                return Split(at=cuts[0])
            if work.versions and not _still_in_force(connection, work):
                connection.rollback()
                return Fenced()
            if cuts:  # then cuts == [end]
                begin_segment(connection, row_of(claim), work.end)
            add_counts(connection, work)
            for view in work.states:
                _write_changed(connection, self._view(view), claim)
            self._crash.reach("speed.written")
        return Committed(
            replace(
                claim,
                position=work.end,
                segment=work.end if cuts else claim.segment,
                witness=work.witness or claim.witness,
            )
        )

    def _view(self, name: str) -> View:
        if name not in self._views:
            raise StoreError(f"view {name!r} is not among those this store was made for: {', '.join(self._views)}")
        return self._views[name]


def _still_in_force(connection: Connection, work: Commit) -> bool:
    """True when no version was adopted from the commit's start on since it was folded; an adopted cut inside it has split it before."""
    now = in_force_at(connection, work.claim, work.claim.position)
    return all(now.get(table) == version for table, version in work.versions.items())


@cache
def _changed(view: View, generation: int) -> sa.Table:
    """The connection's temporary table of one view's changed states; it outlives the transaction, its rows do not."""
    return temporary_table(view, generation, "", on_commit="DELETE ROWS")


@cache
def _target(view: View, generation: int) -> sa.Table:
    return speed_table(view, generation)


def _columns(view: View) -> list[str]:
    return [*group_columns(view), *state_fields(view)]


def _copy_changed(connection: Connection, view: View, generation: int, rows: pa.Buffer | None) -> None:
    """Touches nothing that others see."""
    table = _changed(view, generation)
    connection.execute(CreateTable(table, if_not_exists=True))
    if rows is not None:
        copy_csv(connection, relation("pg_temp", table.name), _columns(view), rows)


def _write_changed(connection: Connection, view: View, claim: Claim) -> None:
    """In key order, so that two commits never wait for each other in a circle."""
    target, source = _target(view, claim.generation), _changed(view, claim.generation)
    chosen = sa.select(sa.literal(claim.partition), sa.literal(claim.segment), *source.c)
    statement = insert(target).from_select(
        ["partition", "segment", *_columns(view)], chosen.order_by(*(source.c[name] for name in group_columns(view)))
    )
    states = {name: statement.excluded[name] for name in state_fields(view)}
    key = [
        target.c[name] for name in (*group_columns(view), "partition", "segment")
    ]  # columns know that they are quoted
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=states))
