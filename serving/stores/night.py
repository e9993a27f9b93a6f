"""What a night asks of Postgres: choose a cut, stage its rows, publish.

    cut(number + 1)[p] >= max(cut(number)[p], position[p])       one cut per date, whoever asks and however often
    publish: visible' = number, position' = max(position, cut), live segments tile [cut, position'); all or nothing

Locks are taken in one order: ops.visible, the position rows by partition, the batch. Staging copies first and locks
after. A lock that is not had in time ends the transaction without effect, and the whole of it is tried again.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable

from pipeline.base.errors import Refused, StoreError
from pipeline.definition.view import View
from pipeline.fold.states import group_columns, state_fields
from pipeline.handover import Cut, Generation, Staged, Vector, Witness
from pipeline.handover.coverage import Untiled, check_tiling
from serving.answers import witnesses
from serving.merged_view import relation
from serving.ops.cuts import key_of, newest_base, read_cuts
from serving.ops.generations import active_generation, refuse_retired
from serving.ops.tables import RECORD_COUNTS, VIEW_COUNTS, batch_counts, batch_table, batch_views, state_columns, table_name
from serving.postgres.connection import brief_transaction, patiently, transaction
from serving.postgres.copy import copy_in
from serving.stores.transactions import PatientStore

LOCK_POSITIONS = sa.text("""
SELECT partition, position, segment FROM ops.positions WHERE topic = :topic AND generation = :generation
ORDER BY partition FOR NO KEY UPDATE
""")
VISIBLE = sa.text("SELECT number FROM ops.visible WHERE topic = :topic AND generation = :generation")
LOCK_VISIBLE = sa.text(
    "SELECT number FROM ops.visible WHERE topic = :topic AND generation = :generation FOR NO KEY UPDATE"
)
LOCK_BATCH = sa.text("""
SELECT status FROM ops.batches WHERE topic = :topic AND generation = :generation AND number = :number
FOR NO KEY UPDATE NOWAIT
""")
INSERT_CUT = sa.text("""
INSERT INTO ops.cuts (topic, generation, number, date, offsets, chosen_at)
VALUES (:topic, :generation, :number, :date, CAST(:offsets AS bigint[]), clock_timestamp())
ON CONFLICT (topic, generation, date) DO NOTHING
""")
INSERT_BATCH = sa.text(
    "INSERT INTO ops.batches (topic, generation, number, status) VALUES (:topic, :generation, :number, 'chosen')"
)
# A position at the cut opens the next segment; one below it is raised to it, and opens the next segment there.
OPEN_SEGMENTS = sa.text("""
UPDATE ops.positions SET segment = position
WHERE topic = :topic AND generation = :generation AND segment <> position
  AND position = (CAST(:offsets AS bigint[]))[partition + 1]
""")
RAISE_POSITIONS = sa.text("""
UPDATE ops.positions SET position = (CAST(:offsets AS bigint[]))[partition + 1],
  segment = (CAST(:offsets AS bigint[]))[partition + 1],
  position_at = clock_timestamp(), witness_offset = NULL, witness_hash = NULL
WHERE topic = :topic AND generation = :generation AND position < (CAST(:offsets AS bigint[]))[partition + 1]
""")
LIVE_SEGMENTS = sa.text("""
SELECT partition, start, "end" FROM ops.segments WHERE topic = :topic AND generation = :generation
  AND "end" > (CAST(:offsets AS bigint[]))[partition + 1] ORDER BY partition, start
""")
POINT = sa.text("""
UPDATE ops.visible SET previous = number, number = :number WHERE topic = :topic AND generation = :generation
""")
PUBLISHED = sa.text("""
UPDATE ops.batches SET status = 'published', published_at = clock_timestamp()
WHERE topic = :topic AND generation = :generation AND number = :number
""")
COVERED = sa.text("""
UPDATE ops.batches SET status = 'covered' WHERE topic = :topic AND generation = :generation AND number = :number
""")
# Rows are there if and only if `complete`, for both change in one transaction.
LOCK_CHOSEN = sa.text("""
SELECT complete FROM ops.batches
WHERE topic = :topic AND generation = :generation AND number = :number AND status = 'chosen'
FOR NO KEY UPDATE
""")
BEGIN_STAGING = sa.text("""
UPDATE ops.batches SET complete = false, staged_from = NULL, staged_at = NULL
WHERE topic = :topic AND generation = :generation AND number = :number
""")
END_STAGING = sa.text("""
UPDATE ops.batches SET complete = true, staged_from = :staged_from, staged_at = clock_timestamp()
WHERE topic = :topic AND generation = :generation AND number = :number
""")


class PostgresNightStore(PatientStore):
    """pipeline.handover.NightStore on Postgres. `lock_timeout_s` bounds one try, `patience_s` all tries together."""

    def active(self, topic: str) -> Generation | None:
        with transaction(self._engine) as connection:
            return active_generation(connection, topic)

    def cut_of(self, generation: Generation, date: date) -> Cut | None:
        return next((cut for cut in self.ledger(generation) if cut.date == date), None)

    def cut(self, generation: Generation, number: int) -> Cut:
        """The cut of this number; StoreError when there is none."""
        return _cut_in(self.ledger(generation), generation, number)

    def ledger(self, generation: Generation) -> list[Cut]:
        with transaction(self._engine) as connection:
            return read_cuts(connection, generation.topic, generation.number)

    def base_of(self, generation: Generation, number: int) -> Cut | None:
        """The newest published cut below `number` and nowhere above it; None when all were purged (then it is covered)."""
        return newest_base(self.ledger(generation), number)

    def visible(self, generation: Generation) -> int:
        """The number of the visible batch."""
        with transaction(self._engine) as connection:
            return int(connection.execute(VISIBLE, key_of(generation)).scalar_one())

    def witnesses(self, generation: Generation) -> list[Witness | None]:
        """By partition, the last record that a worker has counted; None when publish or rollback moved the position since."""
        return [witness for _, witness in witnesses(self._engine, generation)]

    def choose(self, generation: Generation, date: date, ends: Vector) -> Cut:
        """The cut of `date`, chosen now under locks on the position rows unless it has been. `ends`: read_committed ones."""
        if len(ends) != generation.partitions:
            raise ValueError(f"topic {generation.topic} has {generation.partitions} partitions, not {len(ends)}")
        patiently(lambda: self._choose(generation, date, ends), patience_s=self._patience_s)
        chosen = self.cut_of(generation, date)
        assert chosen is not None
        return chosen

    def _choose(self, generation: Generation, date: date, ends: Vector) -> None:
        with brief_transaction(self._engine, self._lock_timeout_ms) as connection:
            rows = connection.execute(LOCK_POSITIONS, key_of(generation)).all()
            refuse_retired(connection, generation)
            cuts = read_cuts(connection, generation.topic, generation.number)  # a new statement: as of now
            if any(cut.date == date for cut in cuts):
                return
            # Over all cuts, withdrawn ones too: none was above the log's end, and cuts must grow with their numbers.
            offsets = [
                max(ends[p], rows[p].position, *(cut.offsets[p] for cut in cuts)) for p in range(generation.partitions)
            ]
            row = {**key_of(generation), "number": cuts[-1].number + 1, "date": date, "offsets": offsets}
            if connection.execute(INSERT_CUT, row).rowcount:
                connection.execute(INSERT_BATCH, row)
                connection.execute(OPEN_SEGMENTS, row)
                self._crash.reach("choose.written")

    def stage(self, generation: Generation, number: int, staged: Staged) -> None:
        """Replace a batch's rows and counts, all or nothing; Refused for a published or withdrawn one, a covered one is left."""
        _check_staged(generation, staged, set(self._views) & set(generation.views))
        with transaction(self._engine) as connection:
            # No lock is held while the caller's tables are read and copied.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            for view, tables in staged.rows.items():
                copied = _temporary(self._views[view], generation.number)
                connection.execute(CreateTable(copied))
                copy_in(connection, relation("pg_temp", copied.name), [c.name for c in copied.c], tables)
            self._crash.reach("stage.copied")
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 10000")
            connection.exec_driver_sql(
                "SET LOCAL lock_timeout = 0"
            )  # a twin that is staging goes on by itself, and ends
            row = {**key_of(generation), "number": number, "staged_from": staged.staged_from}
            was_complete = connection.execute(LOCK_CHOSEN, row).scalar_one_or_none()
            if was_complete is None:
                connection.rollback()
                self._refuse_staging(generation, number)
                return
            refuse_retired(connection, generation)
            connection.execute(BEGIN_STAGING, row)
            for view in staged.rows:
                _replace_rows(connection, self._views[view], generation.number, number, was_complete)
            _replace_counts(connection, row, staged)
            connection.execute(END_STAGING, row)
            self._crash.reach("stage.written")

    def _refuse_staging(self, generation: Generation, number: int) -> None:
        cut = self.cut(generation, number)
        if cut.status != "covered":
            raise Refused(f"{_name(cut)} is {cut.status}: its rows cannot be staged again; {_repair(cut)}")

    def publish(self, generation: Generation, number: int) -> str:
        """'published' (also when it was already) or 'covered' (nowhere above the visible cut); Refused else."""
        return patiently(lambda: self._publish(generation, number), patience_s=self._patience_s)

    def _publish(self, generation: Generation, number: int) -> str:
        with brief_transaction(self._engine, self._lock_timeout_ms) as connection:
            row: dict[str, Any] = {**key_of(generation), "number": number}
            visible = connection.execute(LOCK_VISIBLE, row).scalar_one()
            rows = connection.execute(LOCK_POSITIONS, row).all()
            connection.execute(LOCK_BATCH, row)
            self._crash.reach("publish.locked")
            refuse_retired(connection, generation)
            cuts = read_cuts(connection, generation.topic, generation.number)  # a new statement: as of now
            cut, seen = _cut_in(cuts, generation, number), _cut_in(cuts, generation, visible)
            if cut.status in ("published", "covered"):
                return cut.status
            if cut.status != "chosen":
                raise Refused(f"{_name(cut)} is {cut.status} and cannot be published; {_repair(cut)}")
            if cut.at_most(seen.offsets):
                connection.execute(COVERED, row)
                return "covered"
            if not cut.complete:
                raise Refused(f"{_name(cut)} is not staged; run `luigi --module tasks Nightly --date {cut.date}` again")
            row["offsets"] = list(cut.offsets)
            live = connection.execute(LIVE_SEGMENTS, row).all()
            _check_live(cut, seen, {r.partition: r.position for r in rows}, live)
            connection.execute(POINT, row)
            connection.execute(PUBLISHED, row)
            connection.execute(RAISE_POSITIONS, row)
            connection.execute(OPEN_SEGMENTS, row)
            self._crash.reach("publish.written")
            return "published"


def _check_live(cut: Cut, seen: Cut, positions: dict[int, int], live: Sequence[Any]) -> None:
    """Live segments tile [cut, position) in every partition, and none straddles the cut; Untiled names the first that does not."""
    for partition, position in positions.items():
        at = cut.offsets[partition]
        try:
            if at < seen.offsets[partition]:
                raise Untiled(f"its cut {at} is below the visible cut {seen.offsets[partition]}, though it is above it elsewhere")
            check_tiling(at, max(position, at), [(s.start, s.end) for s in live if s.partition == partition])
        except Untiled as wrong:
            raise Untiled(
                f"{_name(cut)} cannot be published: topic {cut.topic}, partition {partition}: {wrong};"
                f" refold the real-time views from the log: `watershed rebuild`"
            ) from None


def _check_staged(generation: Generation, staged: Staged, known: set[str]) -> None:
    if set(staged.rows) != set(generation.views) or set(staged.view_counts) != set(generation.views):
        raise ValueError(
            f"topic {generation.topic} has views {sorted(generation.views)}, staged are {sorted(staged.rows)}"
        )
    if missing := set(generation.views) - known:
        raise StoreError(
            f"views {sorted(missing)} of topic {generation.topic} are not among those this store was made for"
        )
    if any(len(counts) != generation.partitions for counts in (staged.counts, *staged.view_counts.values())):
        raise ValueError(
            f"topic {generation.topic} has {generation.partitions} partitions: counts are one per partition"
        )


def _temporary(view: View, generation: int) -> sa.Table:
    name = f"{table_name(view.name, generation)}_staged"
    return sa.Table(
        name, sa.MetaData(schema="pg_temp"), *state_columns(view), prefixes=["TEMPORARY"], postgresql_on_commit="DROP"
    )


def _replace_rows(connection: Connection, view: View, generation: int, number: int, had_rows: bool) -> None:
    target, source = batch_table(view, generation), _temporary(view, generation)
    columns = [*group_columns(view), *state_fields(view)]
    if had_rows:
        connection.execute(sa.delete(target).where(target.c.batch == number))
    chosen = sa.select(sa.literal(number), *(source.c[name] for name in columns))
    connection.execute(
        insert(target).from_select(["batch", *columns], chosen.order_by(*(source.c[n] for n in group_columns(view))))
    )


def _replace_counts(connection: Connection, row: dict[str, Any], staged: Staged) -> None:
    key = {name: row[name] for name in ("topic", "generation", "number")}
    for table in (batch_counts, batch_views):
        connection.execute(sa.delete(table).where(*(table.c[name] == value for name, value in key.items())))
    counts = [
        {**key, "partition": p, **{name: getattr(found, name) for name in RECORD_COUNTS}}
        for p, found in enumerate(staged.counts)
    ]
    views = [
        {**key, "view": view, "partition": p, **{name: getattr(found, name) for name in VIEW_COUNTS}}
        for view, per_partition in staged.view_counts.items()
        for p, found in enumerate(per_partition)
    ]
    connection.execute(insert(batch_counts), counts)
    connection.execute(insert(batch_views), views)


def _cut_in(cuts: list[Cut], generation: Generation, number: int) -> Cut:
    for cut in cuts:
        if cut.number == number:
            return cut
    raise StoreError(f"topic {generation.topic}, generation {generation.number} has no cut number {number}")


def _name(cut: Cut) -> str:
    return f"batch {cut.number} ({cut.date or 'the start of the log'}) of topic {cut.topic}"


def _repair(cut: Cut) -> str:
    if cut.status == "withdrawn":
        return "it was rolled back; run a night of another date, which covers its range"
    return "nothing is left to do" if cut.status == "published" else "run a night of another date"
