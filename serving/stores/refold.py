"""Refolded segments in place of the live ones of one partition, in one transaction.

    replace lands  =>  the new segments tile [cut visible, position), the row is still the claim's, and nobody's memory outlives it

Until then the old ones are served. The states are copied before the first lock; after it come short statements only.
"""

# ruff: noqa: S608 -- names of tables and columns come from checked definitions alone, and every identifier is quoted

from collections.abc import Sequence

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable

from pipeline.definition.view import View
from pipeline.fold.states import group_columns, state_fields
from pipeline.handover import Claim, Generation
from pipeline.handover.coverage import Untiled, check_tiling
from pipeline.handover.replacement import Segment, Standing
from serving.ops import leases
from serving.ops.cuts import cut_in, read_cuts
from serving.ops.generations import refuse_retired
from serving.ops.keys import row_of
from serving.ops.positions import begin_segment, fence, lock_claimed, position_of
from serving.ops.segments import delete_from, insert_segments
from serving.ops.tables import table_name, temporary_table
from serving.ops.visible import lock_visible, visible_number
from serving.postgres.copy import copy_in
from serving.postgres.quoting import quote, relation
from serving.stores.store import PostgresStore


class PostgresRefoldStore(PostgresStore):
    """pipeline.handover.replacement.RefoldStore on Postgres."""

    def standing(self, generation: Generation, partition: int) -> Standing:
        def read(connection: Connection) -> Standing:
            position = position_of(connection, generation, partition)
            return _standing(connection, generation, partition, visible_number(connection, generation), position)

        return self._transactions.read(read)

    def seize(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim:
        return self._transactions.patiently(
            lambda connection: leases.seize(connection, generation, partition, worker, lease_s), again=True
        )

    def replace(self, generation: Generation, claim: Claim, number: int, new: Sequence[Segment]) -> bool:
        return self._transactions.patiently(
            lambda connection: self._replace(connection, generation, claim, number, new)
        )

    def _replace(
        self, connection: Connection, generation: Generation, claim: Claim, number: int, new: Sequence[Segment]
    ) -> bool:
        self._transactions.limit_waits(connection)
        for name in generation.views:
            self._copy(connection, self._views[name], generation.number, new)
        visible = lock_visible(connection, generation)
        position = lock_claimed(connection, claim)
        refuse_retired(connection, generation)
        if visible.number != number or position != claim.position:
            connection.rollback()
            return False
        now = _standing(connection, generation, claim.partition, number, claim.position)
        _check_refolded(claim.topic, claim.partition, now, new)
        for name in generation.views:
            self._switch(connection, self._views[name], claim, now.cut)
        delete_from(connection, claim, now.cut)
        insert_segments(connection, claim, new)
        segment = claim.position if not new or claim.position in now.chosen else new[-1].start
        begin_segment(connection, row_of(claim), segment)
        fence(connection, generation, claim.partition)
        self._crash.reach("rebuild.written")
        return True

    def _copy(self, connection: Connection, view: View, generation: int, new: Sequence[Segment]) -> None:
        target = _temporary(view, generation)
        connection.execute(CreateTable(target))
        tables = (
            table.append_column("segment", pa.array([one.start] * table.num_rows, pa.int64()))
            for one, table in ((one, one.states[view.name]) for one in new)
        )
        copy_in(
            connection, relation("pg_temp", target.name), [*group_columns(view), *state_fields(view), "segment"], tables
        )

    def _switch(self, connection: Connection, view: View, claim: Claim, cut: int) -> None:
        target = relation("speed", table_name(view.name, claim.generation))
        row = {"partition": claim.partition, "cut": cut}
        columns = ", ".join(quote(name) for name in [*group_columns(view), *state_fields(view), "segment"])
        copied = relation("pg_temp", _temporary(view, claim.generation).name)
        connection.execute(sa.text(f"DELETE FROM {target} WHERE partition = :partition AND segment >= :cut"), row)
        order = ", ".join(quote(name) for name in group_columns(view))
        insert = (
            f"INSERT INTO {target} ({columns}, partition) SELECT {columns}, :partition FROM {copied} ORDER BY {order}"
        )
        connection.execute(sa.text(insert), row)


def _check_refolded(topic: str, partition: int, now: Standing, new: Sequence[Segment]) -> None:
    """The new segments tile [cut, position), and none straddles a chosen cut; Untiled names the first that does not."""
    try:
        check_tiling(now.cut, now.position, [(one.start, one.end) for one in new], now.chosen)
    except Untiled as wrong:
        raise Untiled(
            f"topic {topic}, partition {partition}, as refolded: {wrong}; run `watershed rebuild` again",
            repair="watershed rebuild",
        ) from None


def _standing(connection: Connection, generation: Generation, partition: int, visible: int, position: int) -> Standing:
    cuts = read_cuts(connection, generation.topic, generation.number)
    seen = cut_in(cuts, generation, visible)
    cut = seen.offsets[partition]
    chosen = {c.offsets[partition] for c in cuts if c.splits and c.offsets[partition] >= cut}
    return Standing(seen, cut, position, tuple(sorted(chosen)))


def _temporary(view: View, generation: int) -> sa.Table:
    return temporary_table(view, generation, "_refolded", sa.Column("segment", sa.BigInteger, nullable=False))
