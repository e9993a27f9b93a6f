"""What a worker asks of Postgres: leases, states, and the commit that moves a position.

    commit lands  <=>  the row still has my epoch, owner, start and segment, and no chosen cut is strictly in [start, end)
    position = chosen cut  =>  segment = position, in the same transaction

The commit copies first and locks after: a client that stalls inside COPY holds no lock. After the lock come short
statements only. Times are Postgres' own. Any exception leaves the outcome unknown: throw away everything in memory and
reload.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
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
from pipeline.handover import Claim, Commit, Committed, Cut, Fenced, Generation, LeaseRow, Outcome, Split, WorkerSnapshot
from serving.merged_view import relation
from serving.ops import leases
from serving.ops.cuts import read_cuts
from serving.ops.generations import active_generation
from serving.ops.tables import RECORD_COUNTS, VIEW_COUNTS, segment_views, segments, speed_table, state_columns, table_name
from serving.postgres.connection import transaction
from serving.postgres.copy import copy_csv, copy_out, quote, to_csv

# The first locking statement. `generations` is read by the statement's snapshot: retiring one also raises the epoch.
# It prolongs the lease: RENEW skips rows that are locked, and with commits back to back it may find them so every time.
ADVANCE = sa.text("""
UPDATE ops.positions SET position = :end, position_at = clock_timestamp(),
  lease_until = greatest(lease_until, clock_timestamp() + make_interval(secs => :lease_s)),
  watermark_ms = greatest(watermark_ms, :watermark_ms),
  witness_offset = coalesce(:witness_offset, witness_offset), witness_hash = coalesce(:witness_hash, witness_hash)
WHERE topic = :topic AND generation = :generation AND partition = :partition
  AND epoch = :epoch AND owner = :owner AND position = :start AND segment = :segment
  AND EXISTS (SELECT FROM ops.generations g WHERE g.topic = :topic AND g.number = :generation AND g.status <> 'retired')
""")
CHOSEN_CUTS = sa.text("""
SELECT DISTINCT c.offsets[:partition + 1] AS cut FROM ops.cuts c JOIN ops.batches b USING (topic, generation, number)
WHERE c.topic = :topic AND c.generation = :generation AND b.status = 'chosen'
  AND c.offsets[:partition + 1] > :start AND c.offsets[:partition + 1] <= :end
ORDER BY cut
""")
OPEN_SEGMENT = sa.text("""
UPDATE ops.positions SET segment = position WHERE topic = :topic AND generation = :generation AND partition = :partition
""")


RECORD_SNAPSHOT = sa.text("""
INSERT INTO ops.snapshots (topic, generation, partition, epoch, position, path)
SELECT topic, generation, partition, epoch, :position, :path FROM ops.positions
WHERE topic = :topic AND generation = :generation AND partition = :partition AND epoch = :epoch AND owner = :owner
ON CONFLICT (topic, generation, partition, path) DO UPDATE SET created_at = clock_timestamp()
""")
SNAPSHOTS = sa.text("""
SELECT position, path FROM ops.snapshots
WHERE topic = :topic AND generation = :generation AND partition = :partition AND position <= :position
ORDER BY position DESC, epoch DESC
""")
# Not those of a later takeover: whoever was stopped for long must not delete what its successor wrote.
SUPERSEDED = sa.text("""
SELECT path FROM ops.snapshots WHERE topic = :topic AND partition = :partition AND path <> :path
  AND (generation < :generation OR generation = :generation AND epoch <= :epoch)
""")
FORGET_SNAPSHOT = sa.text("DELETE FROM ops.snapshots WHERE topic = :topic AND partition = :partition AND path = :path")


class PostgresSpeedStore:
    """pipeline.handover.SpeedStore and SnapshotStore on Postgres; `require` has compared the views' definitions before."""

    def __init__(self, engine: Engine, views: Sequence[View], crash: CrashPoints | None = None) -> None:
        self._engine = engine
        self._crash = crash or NoCrash()
        self._views: Mapping[str, View] = {view.name: view for view in views}

    def active(self, topic: str) -> Generation | None:
        with transaction(self._engine) as connection:
            return active_generation(connection, topic)

    def heartbeat(self, topic: str, worker: str, ttl_s: float) -> list[str]:
        with transaction(self._engine) as connection:
            return leases.heartbeat(connection, topic, worker, ttl_s)

    def farewell(self, topic: str, worker: str) -> None:
        with transaction(self._engine) as connection:
            leases.farewell(connection, topic, worker)

    def leases(self, generation: Generation) -> list[LeaseRow]:
        """Every partition's lease, by partition; Refused when the generation is retired."""
        with transaction(self._engine) as connection:
            return leases.leases(connection, generation)

    def take(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim | None:
        """Take a free or expired lease; None when somebody holds or is changing it. Refused for a retired generation."""
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
        with transaction(self._engine) as connection:
            return leases.reload(connection, claim)

    def load_states(self, claim: Claim, view: str) -> pa.Table:
        """The states of the claim's segment: state_schema(view), in no order; empty when the segment has none."""
        definition = self._view(view)
        table = speed_table(definition, claim.generation)
        columns = ", ".join(quote(name) for name in state_schema(definition).names)
        query = f"SELECT {columns} FROM {relation('speed', table.name)}"  # noqa: S608 -- quoted names and two integers
        query += f" WHERE partition = {int(claim.partition)} AND segment = {int(claim.segment)}"
        with transaction(self._engine) as connection:
            return copy_out(connection, query, state_schema(definition))

    def snapshot_below(self, claim: Claim) -> Cut | None:
        with transaction(self._engine) as connection:
            below = [
                cut
                for cut in read_cuts(connection, claim.topic, claim.generation)
                if cut.status == "published" and cut.offsets[claim.partition] <= claim.position
            ]
        return max(below, key=lambda cut: (cut.offsets[claim.partition], cut.number), default=None)

    def record_snapshot(self, claim: Claim, path: str) -> bool:
        row = {**leases.row_of(claim), "epoch": claim.epoch, "owner": claim.owner, "position": claim.position, "path": path}
        with transaction(self._engine) as connection:
            return bool(connection.execute(RECORD_SNAPSHOT, row).rowcount)

    def snapshots(self, claim: Claim) -> list[WorkerSnapshot]:
        with transaction(self._engine) as connection:
            rows = connection.execute(SNAPSHOTS, {**leases.row_of(claim), "position": claim.position})
            return [WorkerSnapshot(row.position, row.path) for row in rows]

    def superseded(self, claim: Claim, path: str) -> list[str]:
        with transaction(self._engine) as connection:
            return list(connection.scalars(SUPERSEDED, {**leases.row_of(claim), "epoch": claim.epoch, "path": path}))

    def forget_snapshot(self, claim: Claim, path: str) -> None:
        with transaction(self._engine) as connection:
            connection.execute(FORGET_SNAPSHOT, {**leases.row_of(claim), "path": path})

    def commit(self, work: Commit) -> Outcome:
        """Move the position to work.end with its states and counts, or change nothing; an exception: nobody knows which."""
        claim = work.claim
        if work.end <= claim.position:
            raise ValueError(f"a commit of [{claim.position}, {work.end}) moves nothing")
        row = self._row_of(work)
        # Before the transaction: while others fold it takes long, and Postgres ends a transaction in which nothing is asked.
        rows = {view: to_csv(table.select(_columns(self._view(view)))) for view, table in work.states.items() if table.num_rows}
        with transaction(self._engine) as connection:
            for view in work.states:
                _copy_changed(connection, self._view(view), claim.generation, rows.get(view))
            self._crash.reach("speed.copied")
            if connection.execute(ADVANCE, row).rowcount != 1:
                connection.rollback()
                return Fenced()
            self._crash.reach("speed.locked")
            cuts = [int(found.cut) for found in connection.execute(CHOSEN_CUTS, row)]
            if cuts and cuts[0] < work.end:
                connection.rollback()
                return Split(at=cuts[0])
            if cuts:  # then cuts == [end]
                connection.execute(OPEN_SEGMENT, row)
            _add_counts(connection, work)
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

    @staticmethod
    def _row_of(work: Commit) -> dict[str, Any]:
        claim, witness = work.claim, work.witness
        return {
            **leases.row_of(claim),
            "epoch": claim.epoch,
            "owner": claim.owner,
            "start": claim.position,
            "segment": claim.segment,
            "end": work.end,
            "lease_s": work.lease_s,
            "watermark_ms": work.watermark_ms,
            "witness_offset": witness.offset if witness else None,
            "witness_hash": witness.hash if witness else None,
        }


@cache
def _changed(view: View, generation: int) -> sa.Table:
    """The connection's temporary table of one view's changed states; it outlives the transaction, its rows do not."""
    name = table_name(view.name, generation)
    return sa.Table(
        name,
        sa.MetaData(schema="pg_temp"),
        *state_columns(view),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DELETE ROWS",
    )


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
    connection.execute(
        statement.on_conflict_do_update(index_elements=[c.name for c in target.primary_key], set_=states)
    )


def _add_counts(connection: Connection, work: Commit) -> None:
    claim = work.claim
    where = {**leases.row_of(claim), "start": claim.segment}
    counts = {name: getattr(work.counts, name) for name in RECORD_COUNTS}
    new = insert(segments).values(**where, end=work.end, **counts)
    added = {name: segments.c[name] + new.excluded[name] for name in RECORD_COUNTS}
    connection.execute(new.on_conflict_do_update(index_elements=list(where), set_={"end": new.excluded.end, **added}))
    rows = [
        {**where, "view": view, **{name: getattr(found, name) for name in VIEW_COUNTS}}
        for view, found in sorted(work.view_counts.items())
    ]
    if rows:
        many = insert(segment_views).values(rows)
        summed = {name: segment_views.c[name] + many.excluded[name] for name in VIEW_COUNTS}
        connection.execute(many.on_conflict_do_update(index_elements=[*where, "view"], set_=summed))
