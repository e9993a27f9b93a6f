"""An operator's store on Postgres: go back a batch, and let go of what no kept batch needs.

    rollback: visible' = previous, position' = min(position, end of the segments that tile [cut previous, ...)), all or nothing
    purge(K): for every batch v >= K and every group, the newest row at or below v stays; segments below cut K go

Locks are taken in one order: ops.visible, the position rows by partition, the batch. The mark of a purge fixes K and gives up every
rollback below it in a transaction of its own, so that whatever happens between mark and delete needs nothing that was marked.

Why a row may go: with K kept, readers look for a group's newest row at or below some v >= K. Of the rows at or below K only the newest
can be that. A batch that is still chosen may be staged again with fewer groups, so its rows neither go nor make others superfluous.
"""

# ruff: noqa: S608 -- names of tables and columns come from checked definitions alone, and every identifier is quoted

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.base.errors import Refused, StoreError
from pipeline.definition.view import View
from pipeline.fold.states import group_columns
from pipeline.handover import Cut, Generation, Purge
from pipeline.handover.coverage import coverage
from serving.ops.batches import chosen_numbers, lock_batch, lock_batches, mark_below, set_purged, set_status
from serving.ops.cuts import cut_in, published_at, read_cuts
from serving.ops.generations import refuse_retired
from serving.ops.positions import lock_positions, lower_position
from serving.ops.segments import any_below, delete_below, delete_beyond, segments_beyond
from serving.ops.tables import table_name
from serving.ops.visible import give_up_rollback, lock_visible, point_back
from serving.postgres.quoting import quote, relation
from serving.stores.store import PostgresStore

# Of the withdrawn ones those that are still `complete`, that is, have rows and counts.
GOES = {"published", "covered"}


class PostgresOperatorStore(PostgresStore):
    """pipeline.handover.OperatorStore on Postgres."""

    # ---- rollback
    def rollback(self, generation: Generation) -> Cut:
        return self._transactions.briefly(lambda connection: self._rollback(connection, generation))

    def _rollback(self, connection: Connection, generation: Generation) -> Cut:
        visible = lock_visible(connection, generation)
        (positions,) = lock_positions(connection, generation)
        lock_batch(connection, generation, visible.number)
        refuse_retired(connection, generation)
        if visible.previous is None:
            raise Refused(_why_not(connection, generation, visible.number))
        cuts = read_cuts(connection, generation.topic, generation.number)  # a new statement: as of now
        cut = cut_in(cuts, generation, visible.previous)
        chosen = [c.offsets for c in cuts if c.splits]
        segments = segments_beyond(connection, generation, cut.offsets)
        for p, position in enumerate(positions):
            end, segment = coverage(cut.offsets[p], segments.get(p, []))
            if end < position:
                if any(offsets[p] == end for offsets in chosen):
                    segment = end
                self._lower(connection, generation, p, end, segment)
        point_back(connection, generation)
        set_status(connection, generation, visible.number, "withdrawn")
        self._crash.reach("rollback.written")
        return cut

    def _lower(self, connection: Connection, generation: Generation, partition: int, end: int, segment: int) -> None:
        """The position goes back to `end`; whoever held it is fenced, and what lies beyond is forgotten."""
        lower_position(connection, generation, partition, end, segment)
        starts = delete_beyond(connection, generation, partition, end)
        if starts:
            for view in generation.views:
                delete = f"DELETE FROM {relation('speed', table_name(view, generation.number))}"
                where = "partition = :partition AND segment = ANY(:starts)"
                connection.execute(sa.text(f"{delete} WHERE {where}"), {"partition": partition, "starts": starts})

    # ---- purge
    def mark_purge(self, generation: Generation, keep: int) -> Purge | None:
        if keep < 1:
            raise ValueError(f"purge keeps at least the visible batch, not {keep}")
        return self._transactions.briefly(lambda connection: self._mark(connection, generation, keep), again=True)

    def _mark(self, connection: Connection, generation: Generation, keep: int) -> Purge | None:
        lock_visible(connection, generation)
        refuse_retired(connection, generation)
        cuts = read_cuts(connection, generation.topic, generation.number)
        kept = [c for c in cuts if c.status == "published"][-keep:][0]
        below = [c for c in cuts if c.number < kept.number]
        batches = tuple(c.number for c in below if c.status in GOES or (c.status == "withdrawn" and c.complete))
        if not batches and not any_below(connection, generation, kept.offsets):
            return None
        give_up_rollback(connection, generation, kept.number)
        mark_below(connection, generation, kept.number)
        return Purge(generation.number, batches, kept.offsets)

    def purge(self, generation: Generation, marked: Purge) -> None:
        if marked.generation != generation.number:
            raise ValueError(f"marked in generation {marked.generation}, purged in {generation.number}")
        if missing := sorted(set(generation.views) - set(self._views)):
            raise StoreError(f"views {missing} of topic {generation.topic} are not among those this store was made for")
        self._transactions.patiently(lambda connection: self._purge(connection, generation, marked), again=True)

    def _purge(self, connection: Connection, generation: Generation, marked: Purge) -> None:
        lock_batches(connection, generation, marked.batches)
        keep = published_at(connection, generation, marked.cut)
        row = {"keep": keep, "chosen": chosen_numbers(connection, generation, keep), "offsets": list(marked.cut)}
        for name in sorted(generation.views):
            _delete_superseded(connection, self._views[name], generation.number, row)
            delete = f"DELETE FROM {relation('speed', table_name(name, generation.number))}"
            below = "segment < (CAST(:offsets AS bigint[]))[partition + 1]"
            connection.execute(sa.text(f"{delete} WHERE {below}"), row)
        delete_below(connection, generation, marked.cut)
        set_purged(connection, generation, marked.batches)
        self._crash.reach("purge.written")


def _delete_superseded(connection: Connection, view: View, generation: int, row: dict[str, Any]) -> None:
    """Rows at or below the kept batch that a later row of their group, at or below it too, has replaced."""
    table = relation("batch", table_name(view.name, generation))
    same = " AND ".join(
        f"newer.{quote(name)} {'IS NOT DISTINCT FROM' if name in view.nullable_keys else '='} old.{quote(name)}"
        for name in group_columns(view)
    )
    connection.execute(
        sa.text(f"""DELETE FROM {table} AS old WHERE old.batch < :keep AND old.batch <> ALL(CAST(:chosen AS integer[]))
  AND EXISTS (SELECT FROM {table} AS newer WHERE {same} AND newer.batch > old.batch AND newer.batch <= :keep
    AND newer.batch <> ALL(CAST(:chosen AS integer[])))"""),
        row,
    )


def _why_not(connection: Connection, generation: Generation, visible: int) -> str:
    here = f"topic {generation.topic} cannot be rolled back"
    if visible == 0:
        return f"{here}: batch 0, the start of the log, is visible; nothing was published after it"
    cuts = read_cuts(connection, generation.topic, generation.number)
    if any(cut.number > visible and cut.status == "withdrawn" for cut in cuts):
        why = "a rollback made it so: only the last publish can be undone, and that once"
    else:
        why = "a purge gave up the one before it (`watershed purge --keep 2` keeps it)"
    return f"{here}: batch {visible} is visible, and {why}; to go on, run the next night, which covers everything"


__all__ = ["PostgresOperatorStore"]
