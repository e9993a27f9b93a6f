# ruff: noqa: S608 -- names of tables and columns come from checked definitions alone, and every identifier is quoted
"""What an operator asks of Postgres: go back a batch, and let go of what no kept batch needs.

    rollback: visible' = previous, position' = min(position, end of the segments that tile [cut previous, ...)), all or nothing
    purge(K): for every batch v >= K and every group, the newest row at or below v stays; segments below cut K go

Locks are taken in one order: ops.visible, the position rows by partition, the batch. The mark of a purge fixes K and gives up every
rollback below it in a transaction of its own, so that whatever happens between mark and delete needs nothing that was marked.

Why a row may go: with K kept, readers look for a group's newest row at or below some v >= K. Of the rows at or below K only the newest
can be that. A batch that is still chosen may be staged again with fewer groups, so its rows neither go nor make others superfluous.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.base.errors import Refused, StoreError
from pipeline.definition.view import View
from pipeline.fold.states import group_columns
from pipeline.handover import Cut, Generation, Purge
from pipeline.handover.coverage import coverage
from serving.merged_view import relation
from serving.ops.cuts import key_of, read_cuts
from serving.ops.generations import refuse_retired
from serving.ops.tables import table_name
from serving.postgres.connection import brief_transaction, patiently, transaction
from serving.postgres.copy import quote
from serving.stores.night import LOCK_BATCH, LOCK_POSITIONS
from serving.stores.transactions import PatientStore

LOCK_VISIBLE = sa.text("""
SELECT number, previous FROM ops.visible WHERE topic = :topic AND generation = :generation FOR NO KEY UPDATE
""")
SEGMENTS_FROM = sa.text("""
SELECT partition, start, "end" FROM ops.segments WHERE topic = :topic AND generation = :generation
  AND start >= (CAST(:offsets AS bigint[]))[partition + 1] ORDER BY partition, start
""")
LOWER_POSITION = sa.text("""
UPDATE ops.positions SET position = :end, segment = :segment, epoch = epoch + 1, owner = NULL, worker = NULL, lease_until = NULL,
  position_at = clock_timestamp(), watermark_ms = -1, witness_offset = NULL, witness_hash = NULL
WHERE topic = :topic AND generation = :generation AND partition = :partition
""")
DELETE_BEYOND = sa.text("""
DELETE FROM ops.segments WHERE topic = :topic AND generation = :generation AND partition = :partition AND "end" > :end
RETURNING start
""")
DELETE_VIEWS_OF = sa.text("""
DELETE FROM ops.segment_views WHERE topic = :topic AND generation = :generation AND partition = :partition AND start = ANY(:starts)
""")
POINT_BACK = sa.text("""
UPDATE ops.visible SET number = :previous, previous = NULL WHERE topic = :topic AND generation = :generation
""")
WITHDRAW = sa.text("""
UPDATE ops.batches SET status = 'withdrawn' WHERE topic = :topic AND generation = :generation AND number = :number
""")
GIVE_UP_ROLLBACK = sa.text("""
UPDATE ops.visible SET previous = NULL WHERE topic = :topic AND generation = :generation AND previous < :keep
""")
MARK = sa.text("""
UPDATE ops.batches SET rollback_given_up = true
WHERE topic = :topic AND generation = :generation AND number < :keep AND NOT rollback_given_up
""")
ANY_BELOW = sa.text("""
SELECT EXISTS (SELECT FROM ops.segments WHERE topic = :topic AND generation = :generation
  AND start < (CAST(:offsets AS bigint[]))[partition + 1])
""")
# The batch that the mark kept: the one published at that cut, or purged since; not a withdrawn one, though it may have the same cut.
KEPT = sa.text("""
SELECT max(c.number) FROM ops.cuts c JOIN ops.batches b USING (topic, generation, number)
WHERE c.topic = :topic AND c.generation = :generation AND c.offsets = CAST(:offsets AS bigint[])
  AND b.status IN ('published', 'purged')
""")
LOCK_MARKED = sa.text("""
SELECT number FROM ops.batches WHERE topic = :topic AND generation = :generation AND number = ANY(:batches)
ORDER BY number FOR NO KEY UPDATE
""")
CHOSEN = sa.text("""
SELECT number FROM ops.batches WHERE topic = :topic AND generation = :generation AND number <= :keep AND status = 'chosen'
""")
# A batch rolled back stays withdrawn, so that its date goes on being refused.
PURGED = sa.text("""
UPDATE ops.batches SET complete = false, status = CASE status WHEN 'withdrawn' THEN status ELSE 'purged' END
WHERE topic = :topic AND generation = :generation AND number = ANY(:batches)
""")
# Of the withdrawn ones those that are still `complete`, that is, have rows and counts.
GOES = {"published", "covered"}


class PostgresOperatorStore(PatientStore):
    """pipeline.handover.OperatorStore on Postgres. `lock_timeout_s` bounds one try, `patience_s` all tries together."""

    # ---- rollback
    def rollback(self, generation: Generation) -> Cut:
        """Make the batch before the visible one visible again; the cut that is visible now. Refused when there is none.

        Exact at once: where publish had raised a position above what the segments cover, it goes back, and workers go on from there.
        A caller's likely mistake: to roll back twice. Only the batch that was visible before the last publish can come back.
        """
        return patiently(lambda: self._rollback(generation), patience_s=self._patience_s)

    def _rollback(self, generation: Generation) -> Cut:
        with brief_transaction(self._engine, self._lock_timeout_ms) as connection:
            row: dict[str, Any] = key_of(generation)
            visible = connection.execute(LOCK_VISIBLE, row).one()
            positions = connection.execute(LOCK_POSITIONS, row).all()
            row |= {"number": visible.number, "previous": visible.previous}
            connection.execute(LOCK_BATCH, row)
            refuse_retired(connection, generation)
            if visible.previous is None:
                raise Refused(_why_not(connection, generation, visible.number))
            cuts = read_cuts(connection, generation.topic, generation.number)  # a new statement: as of now
            cut = next(c for c in cuts if c.number == visible.previous)
            chosen = [c.offsets for c in cuts if c.status == "chosen"]
            segments = connection.execute(SEGMENTS_FROM, {**row, "offsets": list(cut.offsets)}).all()
            for found in positions:
                p, at = found.partition, cut.offsets[found.partition]
                end, segment = coverage(at, [(s.start, s.end) for s in segments if s.partition == p])
                if end < found.position:
                    if any(offsets[p] == end for offsets in chosen):
                        segment = end
                    self._lower(connection, generation, {**row, "partition": p, "end": end, "segment": segment})
            connection.execute(POINT_BACK, row)
            connection.execute(WITHDRAW, row)
            self._crash.reach("rollback.written")
            return cut

    def _lower(self, connection: Connection, generation: Generation, row: dict[str, Any]) -> None:
        """The position goes back to `end`; whoever held it is fenced, and what lies beyond is forgotten."""
        connection.execute(LOWER_POSITION, row)
        starts = [int(start) for start in connection.scalars(DELETE_BEYOND, row)]
        if starts:
            connection.execute(DELETE_VIEWS_OF, {**row, "starts": starts})
            for view in generation.views:
                delete = f"DELETE FROM {relation('speed', table_name(view, generation.number))}"
                connection.execute(sa.text(f"{delete} WHERE partition = :partition AND segment = ANY(:starts)"), {**row, "starts": starts})

    # ---- purge
    def mark_purge(self, generation: Generation, keep: int) -> Purge | None:
        """Give up rollback below the newest `keep` published batches; what may go, or None when nothing may.

        With keep >= 2 the last rollback stays possible. Marked again after a crash, the same is marked.
        """
        if keep < 1:
            raise ValueError(f"purge keeps at least the visible batch, not {keep}")
        return patiently(lambda: self._mark(generation, keep), patience_s=self._patience_s)

    def _mark(self, generation: Generation, keep: int) -> Purge | None:
        with brief_transaction(self._engine, self._lock_timeout_ms) as connection:
            row: dict[str, Any] = key_of(generation)
            connection.execute(LOCK_VISIBLE, row)
            refuse_retired(connection, generation)
            cuts = read_cuts(connection, generation.topic, generation.number)
            kept = [c for c in cuts if c.status == "published"][-keep:][0]
            row |= {"keep": kept.number, "offsets": list(kept.offsets)}
            below = [c for c in cuts if c.number < kept.number]
            batches = tuple(c.number for c in below if c.status in GOES or (c.status == "withdrawn" and c.complete))
            if not batches and not connection.execute(ANY_BELOW, row).scalar_one():
                return None
            connection.execute(GIVE_UP_ROLLBACK, row)
            connection.execute(MARK, row)
            return Purge(generation.number, batches, kept.offsets)

    def purge(self, generation: Generation, marked: Purge) -> None:
        """DELETE exactly what was marked, in one transaction that no reader, worker or night waits for; safe to run again."""
        if marked.generation != generation.number:
            raise ValueError(f"marked in generation {marked.generation}, purged in {generation.number}")
        if missing := sorted(set(generation.views) - set(self._views)):
            raise StoreError(f"views {missing} of topic {generation.topic} are not among those this store was made for")
        patiently(lambda: self._purge(generation, marked), patience_s=self._patience_s)

    def _purge(self, generation: Generation, marked: Purge) -> None:
        with transaction(self._engine) as connection:
            row: dict[str, Any] = {**key_of(generation), "batches": list(marked.batches), "offsets": list(marked.cut)}
            connection.execute(LOCK_MARKED, row)
            row["keep"] = connection.execute(KEPT, row).scalar_one()
            row["chosen"] = [int(number) for number in connection.scalars(CHOSEN, row)]
            for name in sorted(generation.views):
                _delete_superseded(connection, self._views[name], row)
                delete = f"DELETE FROM {relation('speed', table_name(name, generation.number))}"
                below = "segment < (CAST(:offsets AS bigint[]))[partition + 1]"
                connection.execute(sa.text(f"{delete} WHERE {below}"), row)
            for table in ("segment_views", "segments"):
                here = f"DELETE FROM ops.{table} WHERE topic = :topic AND generation = :generation"
                connection.execute(sa.text(f"{here} AND start < (CAST(:offsets AS bigint[]))[partition + 1]"), row)
            for table in ("batch_counts", "batch_views"):
                here = f"DELETE FROM ops.{table} WHERE topic = :topic AND generation = :generation"
                connection.execute(sa.text(f"{here} AND number = ANY(:batches)"), row)
            connection.execute(PURGED, row)
            self._crash.reach("purge.written")


def _delete_superseded(connection: Connection, view: View, row: dict[str, Any]) -> None:
    """Rows at or below the kept batch that a later row of their group, at or below it too, has replaced."""
    table = relation("batch", table_name(view.name, row["generation"]))
    same = " AND ".join(f"newer.{quote(name)} = old.{quote(name)}" for name in group_columns(view))
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
