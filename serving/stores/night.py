"""A night's store on Postgres: choose a cut, stage its rows, publish.

    cut(number + 1)[p] >= max(cut(number)[p], position[p])       one cut per date, whoever asks and however often
    adopt: from a cut of its own on the versions are in force, and before it nothing changes
    publish: visible' = number, position' = max(position, cut), live segments tile [cut, position'); all or nothing

Locks are taken in one order: ops.visible, the position rows by partition, the batch. Staging copies first and locks
after. A lock that is not had in time ends the transaction without effect, and the whole of it is tried again.
"""

from collections.abc import Mapping
from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateTable

from pipeline.base.errors import Refused, StoreError
from pipeline.definition.view import View
from pipeline.fold.states import group_columns, state_fields
from pipeline.handover import Cut, Generation, Staged, Vector, Witness
from pipeline.handover.coverage import Untiled, check_tiling
from pipeline.handover.versions import newer_than
from serving.ops.adoptions import insert_adoptions
from serving.ops.batches import (
    begin_staging,
    end_staging,
    lock_batch,
    lock_chosen,
    replace_counts,
    set_published,
    set_status,
)
from serving.ops.cuts import cut_in, insert_cut, newest_base, read_cuts
from serving.ops.generations import active_generation, refuse_retired
from serving.ops.positions import lock_positions, open_segments, raise_positions, witnesses
from serving.ops.segments import segments_beyond
from serving.ops.tables import batch_table, temporary_table
from serving.ops.visible import lock_visible, point_to, visible_number
from serving.postgres.copy import copy_in
from serving.postgres.quoting import relation
from serving.stores.store import PostgresStore


class PostgresNightStore(PostgresStore):
    """pipeline.handover.NightStore on Postgres."""

    def active(self, topic: str) -> Generation | None:
        return self._transactions.read(lambda connection: active_generation(connection, topic))

    def cut_of(self, generation: Generation, date: date) -> Cut | None:
        return next((cut for cut in self.ledger(generation) if cut.date == date), None)

    def cut(self, generation: Generation, number: int) -> Cut:
        """The cut of this number; StoreError when there is none."""
        return cut_in(self.ledger(generation), generation, number)

    def ledger(self, generation: Generation) -> list[Cut]:
        return self._transactions.read(lambda connection: read_cuts(connection, generation.topic, generation.number))

    def base_of(self, generation: Generation, number: int) -> Cut | None:
        """The newest published cut below `number` and nowhere above it; None when all were purged (then it is covered)."""
        return newest_base(self.ledger(generation), number)

    def visible(self, generation: Generation) -> int:
        """The number of the visible batch."""
        return self._transactions.read(lambda connection: visible_number(connection, generation))

    def witnesses(self, generation: Generation) -> list[Witness | None]:
        """By partition, the last record that a worker has counted; None when publish or rollback moved the position."""
        return [witness for _, witness in self._transactions.read(lambda connection: witnesses(connection, generation))]

    # ---- choose
    def choose(self, generation: Generation, date: date, ends: Vector) -> Cut:
        if len(ends) != generation.partitions:
            raise ValueError(f"topic {generation.topic} has {generation.partitions} partitions, not {len(ends)}")
        self._transactions.briefly(lambda connection: self._choose(connection, generation, date, ends), again=True)
        chosen = self.cut_of(generation, date)
        assert chosen is not None
        return chosen

    def _choose(self, connection: Connection, generation: Generation, date: date, ends: Vector) -> None:
        (positions,) = lock_positions(connection, generation)
        refuse_retired(connection, generation)
        cuts = read_cuts(connection, generation.topic, generation.number)  # a new statement: as of now
        if any(cut.date == date for cut in cuts):
            return
        offsets = _above_all(ends, positions, cuts)
        if insert_cut(connection, generation, cuts[-1].number + 1, offsets, date):
            open_segments(connection, generation, offsets)
            self._crash.reach("choose.written")

    # ---- adopt
    def adopt(self, generation: Generation, versions: Mapping[str, int], ends: Vector) -> Cut:
        if len(ends) != generation.partitions:
            raise ValueError(f"topic {generation.topic} has {generation.partitions} partitions, not {len(ends)}")
        return self._transactions.briefly(
            lambda connection: self._adopt(connection, generation, versions, ends), again=True
        )

    def _adopt(self, connection: Connection, generation: Generation, versions: Mapping[str, int], ends: Vector) -> Cut:
        (positions,) = lock_positions(connection, generation)
        refuse_retired(connection, generation)
        cuts = read_cuts(connection, generation.topic, generation.number)  # a new statement: as of now
        newer = newer_than(cuts[-1], versions)
        if not newer:
            return cuts[-1]
        number, offsets = cuts[-1].number + 1, _above_all(ends, positions, cuts)
        insert_cut(connection, generation, number, offsets, status="adopted")
        insert_adoptions(connection, generation, number, newer)
        open_segments(connection, generation, offsets)
        self._crash.reach("adopt.written")
        return cut_in(read_cuts(connection, generation.topic, generation.number), generation, number)

    # ---- stage
    def stage(self, generation: Generation, number: int, staged: Staged) -> None:
        _check_staged(generation, staged, set(self._views) & set(generation.views))
        if not self._transactions.once(
            lambda connection: self._stage(connection, generation, number, staged), again=True
        ):
            self._refuse_staging(generation, number)

    def _stage(self, connection: Connection, generation: Generation, number: int, staged: Staged) -> bool:
        self._copy(connection, generation, staged)
        self._crash.reach("stage.copied")
        had_rows = lock_chosen(connection, generation, number)
        if had_rows is None:
            connection.rollback()
            return False
        refuse_retired(connection, generation)
        begin_staging(connection, generation, number)
        for view in staged.rows:
            _replace_rows(connection, self._views[view], generation.number, number, had_rows)
        replace_counts(connection, generation, number, staged)
        end_staging(connection, generation, number, staged.staged_from)
        self._crash.reach("stage.written")
        return True

    def _copy(self, connection: Connection, generation: Generation, staged: Staged) -> None:
        """Into temporary tables: no lock is held while the caller's tables are read."""
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        for view, tables in staged.rows.items():
            copied = _temporary(self._views[view], generation.number)
            connection.execute(CreateTable(copied))
            copy_in(connection, relation("pg_temp", copied.name), [c.name for c in copied.c], tables)
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 10000")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # a twin that is staging goes on by itself, and ends

    def _refuse_staging(self, generation: Generation, number: int) -> None:
        cut = self.cut(generation, number)
        if cut.status != "covered":
            raise Refused(f"{_name(cut)} is {cut.status}: its rows cannot be staged again; {_repair(cut)}")

    # ---- publish
    def publish(self, generation: Generation, number: int) -> str:
        return self._transactions.briefly(lambda connection: self._publish(connection, generation, number), again=True)

    def _publish(self, connection: Connection, generation: Generation, number: int) -> str:
        visible = lock_visible(connection, generation)
        (positions,) = lock_positions(connection, generation)
        lock_batch(connection, generation, number)
        self._crash.reach("publish.locked")
        refuse_retired(connection, generation)
        cuts = read_cuts(connection, generation.topic, generation.number)  # a new statement: as of now
        cut, seen = cut_in(cuts, generation, number), cut_in(cuts, generation, visible.number)
        if cut.status in ("published", "covered"):
            return cut.status
        if cut.status != "chosen":
            raise Refused(f"{_name(cut)} is {cut.status} and cannot be published; {_repair(cut)}")
        if cut.at_most(seen.offsets):
            set_status(connection, generation, number, "covered")
            return "covered"
        if not cut.complete:
            again = f"luigi --module tasks Nightly --date {cut.date}"
            raise Refused(f"{_name(cut)} is not staged; run `{again}` again", repair=again)
        _check_live(cut, seen, positions, segments_beyond(connection, generation, cut.offsets))
        point_to(connection, generation, number)
        set_published(connection, generation, number)
        raise_positions(connection, generation, cut.offsets)
        open_segments(connection, generation, cut.offsets)
        self._crash.reach("publish.written")
        return "published"


def _above_all(ends: Vector, positions: list[int], cuts: list[Cut]) -> list[int]:
    """The offsets of a cut chosen now: over all cuts, withdrawn ones too; none was above the log's end, and they must grow."""
    return [max(ends[p], at, *(cut.offsets[p] for cut in cuts)) for p, at in enumerate(positions)]


def _check_live(cut: Cut, seen: Cut, positions: list[int], live: Mapping[int, list[tuple[int, int]]]) -> None:
    """Live segments tile [cut, position) in every partition, none straddles it; Untiled names the first that does."""
    for partition, position in enumerate(positions):
        at = cut.offsets[partition]
        try:
            if at < seen.offsets[partition]:
                raise Untiled(
                    f"its cut {at} is below the visible cut {seen.offsets[partition]}, though it is above it elsewhere"
                )
            check_tiling(at, max(position, at), live.get(partition, []))
        except Untiled as wrong:
            raise Untiled(
                f"{_name(cut)} cannot be published: topic {cut.topic}, partition {partition}: {wrong};"
                f" refold the real-time views from the log: `watershed rebuild`",
                repair="watershed rebuild",
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
    if once := [view for view, tables in staged.rows.items() if iter(tables) is tables]:
        raise ValueError(f"the tables of views {once} can be read once only, and a second try would stage none of them")


def _temporary(view: View, generation: int) -> sa.Table:
    return temporary_table(view, generation, "_staged")


def _replace_rows(connection: Connection, view: View, generation: int, number: int, had_rows: bool) -> None:
    target, source = batch_table(view, generation), _temporary(view, generation)
    columns = [*group_columns(view), *state_fields(view)]
    if had_rows:
        connection.execute(sa.delete(target).where(target.c.batch == number))
    chosen = sa.select(sa.literal(number), *(source.c[name] for name in columns))
    connection.execute(
        insert(target).from_select(["batch", *columns], chosen.order_by(*(source.c[n] for n in group_columns(view))))
    )


def _name(cut: Cut) -> str:
    return f"batch {cut.number} ({cut.date or 'the start of the log'}) of topic {cut.topic}"


def _repair(cut: Cut) -> str:
    if cut.status == "withdrawn":
        return "it was rolled back; run a night of another date, which covers its range"
    return "nothing is left to do" if cut.status == "published" else "run a night of another date"
