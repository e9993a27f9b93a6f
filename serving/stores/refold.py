# ruff: noqa: S608 -- names of tables and columns come from checked definitions alone, and every identifier is quoted
"""Refolded segments in place of the live ones of one partition, in one transaction.

    replace lands  =>  the new segments tile [cut visible, position), the row is still the claim's, and nobody's memory outlives it

Until then the old ones are served. The states are copied before the first lock; after it come short statements only.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable

from pipeline.definition.view import View
from pipeline.fold.states import group_columns, state_fields
from pipeline.handover import Claim, Generation, Witness
from pipeline.handover.coverage import Untiled, check_tiling
from pipeline.handover.replacement import Segment, Standing
from serving.merged_view import relation
from serving.ops.cuts import key_of, read_cuts
from serving.ops.generations import refuse_retired
from serving.ops.tables import RECORD_COUNTS, VIEW_COUNTS, segment_views, segments, state_columns, table_name
from serving.postgres.connection import patiently, transaction
from serving.postgres.copy import copy_in, quote
from serving.stores.night import VISIBLE
from serving.stores.operator import LOCK_VISIBLE
from serving.stores.transactions import PatientStore

ROW = sa.text("SELECT position FROM ops.positions WHERE topic = :topic AND generation = :generation AND partition = :partition")
# Whoever holds the lease is fenced: only so does the position stand still while the last of the log is folded.
SEIZE = sa.text("""
UPDATE ops.positions SET owner = :owner, worker = :worker, epoch = epoch + 1,
  lease_until = clock_timestamp() + make_interval(secs => :lease_s)
WHERE topic = :topic AND generation = :generation AND partition = :partition
RETURNING owner, epoch, position, segment, witness_offset, witness_hash
""")
LOCK_MINE = sa.text("""
SELECT position FROM ops.positions WHERE topic = :topic AND generation = :generation AND partition = :partition
  AND owner = :owner AND epoch = :epoch FOR NO KEY UPDATE
""")
LET_GO = sa.text("""
UPDATE ops.positions SET segment = :segment, epoch = epoch + 1, owner = NULL, worker = NULL, lease_until = NULL
WHERE topic = :topic AND generation = :generation AND partition = :partition
""")


class PostgresRefoldStore(PatientStore):
    """pipeline.handover.replacement.RefoldStore on Postgres. `lock_timeout_s` bounds one try, `patience_s` all tries together."""

    def standing(self, generation: Generation, partition: int) -> Standing:
        with transaction(self._engine, isolation="REPEATABLE READ") as connection:
            row = {**key_of(generation), "partition": partition}
            position = int(connection.execute(ROW, row).scalar_one())
            return _standing(connection, generation, partition, int(connection.execute(VISIBLE, row).scalar_one()), position)

    def seize(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim:
        def call() -> Claim:
            with transaction(self._engine) as connection:
                refuse_retired(connection, generation)
                row = {**key_of(generation), "partition": partition}
                found = connection.execute(SEIZE, {**row, "owner": uuid4(), "worker": worker, "lease_s": lease_s}).one()
                witness = None if found.witness_offset is None else Witness(found.witness_offset, found.witness_hash)
                return Claim(**row, owner=found.owner, epoch=found.epoch, position=found.position, segment=found.segment, witness=witness)

        return patiently(call, patience_s=self._patience_s)

    def replace(self, generation: Generation, claim: Claim, number: int, new: Sequence[Segment]) -> bool:
        return patiently(lambda: self._replace(generation, claim, number, new), patience_s=self._patience_s)

    def _replace(self, generation: Generation, claim: Claim, number: int, new: Sequence[Segment]) -> bool:
        with transaction(self._engine) as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self._lock_timeout_ms}")
            for name in generation.views:
                self._copy(connection, self._views[name], generation.number, new)
            row: dict[str, Any] = {**key_of(generation), "partition": claim.partition, "owner": claim.owner, "epoch": claim.epoch}
            visible = connection.execute(LOCK_VISIBLE, row).one()
            position = connection.execute(LOCK_MINE, row).scalar_one_or_none()
            refuse_retired(connection, generation)
            if visible.number != number or position != claim.position:
                connection.rollback()
                return False
            now = _standing(connection, generation, claim.partition, number, claim.position)
            _check_refolded(claim.topic, claim.partition, now, new)
            row |= {"cut": now.cut, "segment": claim.position if not new or claim.position in now.chosen else new[-1].start}
            for name in generation.views:
                self._switch(connection, self._views[name], row)
            _switch_counts(connection, row, new)
            connection.execute(LET_GO, row)
            self._crash.reach("rebuild.written")
            return True

    def _copy(self, connection: Connection, view: View, generation: int, new: Sequence[Segment]) -> None:
        target = _temporary(view, generation)
        connection.execute(CreateTable(target))
        tables = (
            table.append_column("segment", pa.array([one.start] * table.num_rows, pa.int64()))
            for one, table in ((one, one.states[view.name]) for one in new)
        )
        copy_in(connection, relation("pg_temp", target.name), [*group_columns(view), *state_fields(view), "segment"], tables)

    def _switch(self, connection: Connection, view: View, row: Mapping[str, Any]) -> None:
        target = relation("speed", table_name(view.name, row["generation"]))
        columns = ", ".join(quote(name) for name in [*group_columns(view), *state_fields(view), "segment"])
        copied = relation("pg_temp", _temporary(view, row["generation"]).name)
        connection.execute(sa.text(f"DELETE FROM {target} WHERE partition = :partition AND segment >= :cut"), row)
        order = ", ".join(quote(name) for name in group_columns(view))
        insert = f"INSERT INTO {target} ({columns}, partition) SELECT {columns}, :partition FROM {copied} ORDER BY {order}"
        connection.execute(sa.text(insert), row)


def _check_refolded(topic: str, partition: int, now: Standing, new: Sequence[Segment]) -> None:
    """The new segments tile [cut, position), and none straddles a chosen cut; Untiled names the first that does not."""
    try:
        check_tiling(now.cut, now.position, [(one.start, one.end) for one in new], now.chosen)
    except Untiled as wrong:
        raise Untiled(f"topic {topic}, partition {partition}, as refolded: {wrong}; run `watershed rebuild` again") from None


def _standing(connection: Connection, generation: Generation, partition: int, visible: int, position: int) -> Standing:
    cuts = read_cuts(connection, generation.topic, generation.number)
    seen = next(c for c in cuts if c.number == visible)
    cut = seen.offsets[partition]
    chosen = {c.offsets[partition] for c in cuts if c.status == "chosen" and c.offsets[partition] >= cut}
    return Standing(seen, cut, position, tuple(sorted(chosen)))


def _temporary(view: View, generation: int) -> sa.Table:
    return sa.Table(
        f"{table_name(view.name, generation)}_refolded",
        sa.MetaData(schema="pg_temp"),
        *state_columns(view),
        sa.Column("segment", sa.BigInteger, nullable=False),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )


def _switch_counts(connection: Connection, row: Mapping[str, Any], new: Sequence[Segment]) -> None:
    for table in ("segment_views", "segments"):
        here = f"DELETE FROM ops.{table} WHERE topic = :topic AND generation = :generation AND partition = :partition AND start >= :cut"
        connection.execute(sa.text(here), row)
    key = {name: row[name] for name in ("topic", "generation", "partition")}
    counts = [{**key, "start": s.start, "end": s.end, **{n: getattr(s.counts, n) for n in RECORD_COUNTS}} for s in new]
    views = [
        {**key, "start": s.start, "view": view, **{n: getattr(found, n) for n in VIEW_COUNTS}}
        for s in new
        for view, found in s.view_counts.items()
    ]
    if counts:
        connection.execute(sa.insert(segments), counts)
    if views:
        connection.execute(sa.insert(segment_views), views)
