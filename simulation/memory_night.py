"""The in-memory arbiter as a night and an operator see it: serving.stores.night and serving.stores.operator, rule
by rule.

    cut(number + 1)[p] >= max(cut(number)[p], position[p])       live segments tile [visible cut, position)

Tiling and coverage are decided here by code of its own, not by pipeline.handover.coverage: an oracle that shares
what it checks would miss what is
wrong in it.
"""

from dataclasses import replace
from datetime import date

from pipeline.base.errors import Refused
from pipeline.handover import Cut, Generation, Purge, Staged, Vector, Witness
from pipeline.handover.versions import Versions
from simulation.memory_tables import EPOCH, Batch, GenerationTables, Rows, Tables


class Untiled(Refused):
    """A publish that can never succeed: the live segments do not tile [cut, position)."""


class MemoryNightStore:
    """pipeline.handover.NightStore on Tables, and what tasks.night.night asks beyond it."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def active(self, topic: str) -> Generation | None:
        def body() -> Generation | None:
            active = self.tables.newest("active")
            return active.generation if active is not None and topic == self.tables.topic else None

        found: Generation | None = self.tables.read("active", body)
        return found

    def ledger(self, generation: Generation) -> list[Cut]:
        found: list[Cut] = self.tables.read("ledger", lambda: list(self.tables.of(generation).cuts))
        return found

    def cut_of(self, generation: Generation, date: date) -> Cut | None:
        return next((cut for cut in self.ledger(generation) if cut.date == date), None)

    def cut(self, generation: Generation, number: int) -> Cut:
        """The cut of this number; StoreError when there is none."""
        found: Cut = self.tables.read("cut", lambda: self.tables.of(generation).cut(number))
        return found

    def base_of(self, generation: Generation, number: int) -> Cut | None:
        """The newest published cut below `number` and nowhere above it."""
        cuts = self.ledger(generation)
        below = [c for c in cuts[:number] if c.status == "published" and c.at_most(cuts[number].offsets)]
        return max(below, key=lambda c: c.number, default=None)

    def visible(self, generation: Generation) -> int:
        """The number of the visible batch."""
        return int(self.tables.read("visible", lambda: self.tables.of(generation).visible))

    def witnesses(self, generation: Generation) -> list[Witness | None]:
        """By partition, the last record that a worker has counted."""
        return list(self.tables.read("witnesses", lambda: [r.witness for r in self.tables.of(generation).positions]))

    # ---- choose
    def choose(self, generation: Generation, date: date, ends: Vector) -> Cut:
        if len(ends) != generation.partitions:
            raise ValueError(f"topic {generation.topic} has {generation.partitions} partitions, not {len(ends)}")
        self.tables.write("choose", lambda: self._choose(generation, date, ends))
        chosen = self.cut_of(generation, date)
        assert chosen is not None
        return chosen

    def _choose(self, generation: Generation, date: date, ends: Vector) -> Vector | None:
        t = self.tables.in_force(generation)
        if any(cut.date == date for cut in t.cuts):
            return None
        offsets = self._cut_offsets(t, ends)
        self._append(t, date, offsets, "chosen", {})
        return offsets

    def _append(self, t: GenerationTables, date: date | None, offsets: Vector, status: str, adopted: Versions) -> None:
        of, last = t.generation, t.cuts[-1]
        versions = tuple(sorted((dict(last.versions) | dict(adopted)).items()))
        t.cuts.append(Cut(of.topic, of.number, last.number + 1, date, offsets, EPOCH, status, versions=versions))
        t.open_segments(offsets)

    # ---- adopt
    def adopt(self, generation: Generation, versions: Versions, ends: Vector) -> Cut:
        if len(ends) != generation.partitions:
            raise ValueError(f"topic {generation.topic} has {generation.partitions} partitions, not {len(ends)}")
        found: Cut = self.tables.write("adopt", lambda: self._adopt(generation, versions, ends))
        return found

    def _adopt(self, generation: Generation, versions: Versions, ends: Vector) -> Cut:
        t = self.tables.in_force(generation)
        have = dict(t.cuts[-1].versions)
        newer = {table: version for table, version in versions.items() if version > have.get(table, 0)}
        if newer:
            self._append(t, None, self._cut_offsets(t, ends), "adopted", newer)
        return t.cuts[-1]

    def _cut_offsets(self, t: GenerationTables, ends: Vector) -> Vector:
        return tuple(max(ends[p], r.position, *(c.offsets[p] for c in t.cuts)) for p, r in enumerate(t.positions))

    # ---- stage
    def stage(self, generation: Generation, number: int, staged: Staged) -> None:
        """Replace a batch's rows and counts, all or nothing; Refused for a published or withdrawn one, a covered one is left."""
        rows = self._copied(generation, staged)
        self.tables.write("stage", lambda: self._stage(generation, number, staged, rows))

    def _copied(self, generation: Generation, staged: Staged) -> dict[str, Rows]:
        """The caller's tables are read before anything is decided, as the copy into temporary tables is."""
        if set(staged.rows) != set(generation.views) or set(staged.view_counts) != set(generation.views):
            raise ValueError(
                f"topic {generation.topic} has views {sorted(generation.views)}, staged are {sorted(staged.rows)}"
            )
        if any(len(counts) != generation.partitions for counts in (staged.counts, *staged.view_counts.values())):
            raise ValueError(
                f"topic {generation.topic} has {generation.partitions} partitions: counts are one per partition"
            )
        rows: dict[str, Rows] = {}
        for view, tables in staged.rows.items():
            rows[view] = {}
            for table in tables:
                rows[view] |= self.tables.of(generation).rows_of(view, table)
        return rows

    def _stage(self, generation: Generation, number: int, staged: Staged, rows: dict[str, Rows]) -> None:
        cut = self.tables.of(generation).cut(number)
        if cut.status == "covered":
            return
        if cut.status != "chosen":
            raise Refused(f"{_name(cut)} is {cut.status}: its rows cannot be staged again; {_repair(cut)}")
        t = self.tables.in_force(generation)
        for view, found in rows.items():
            t.batch_rows[view][number] = found
        t.batches[number] = Batch(list(staged.counts), dict(staged.view_counts))
        _set(t, number, complete=True, staged_from=staged.staged_from)

    # ---- publish
    def publish(self, generation: Generation, number: int) -> str:
        return str(self.tables.write("publish", lambda: self._publish(generation, number)))

    def _publish(self, generation: Generation, number: int) -> str:
        t = self.tables.in_force(generation)
        cut, seen = t.cut(number), t.cut(t.visible)
        if cut.status in ("published", "covered"):
            return cut.status
        if cut.status != "chosen":
            raise Refused(f"{_name(cut)} is {cut.status} and cannot be published; {_repair(cut)}")
        if cut.at_most(seen.offsets):
            _set(t, number, status="covered")
            return "covered"
        if not cut.complete:
            raise Refused(f"{_name(cut)} is not staged; run `luigi --module tasks Nightly --date {cut.date}` again")
        self._check_tiling(t, cut, seen)
        t.previous, t.visible = t.visible, number
        _set(t, number, status="published")
        self._raise_positions(t, cut.offsets)
        return "published"

    def _raise_positions(self, t: GenerationTables, offsets: Vector) -> None:
        for row, offset in zip(t.positions, offsets, strict=True):
            if row.position < offset:
                row.position, row.witness = offset, None
        t.open_segments(offsets)

    def _check_tiling(self, t: GenerationTables, cut: Cut, seen: Cut) -> None:
        for partition, row in enumerate(t.positions):
            where = f"topic {cut.topic}, partition {partition}"
            repair = "rebuild the real-time views from the log: `watershed init --rebuild`"
            at = cut.offsets[partition]
            if at < seen.offsets[partition]:
                raise Untiled(
                    f"{_name(cut)} cannot be published: {where}: its cut {at} is below the visible cut {seen.offsets[partition]},"
                    f" though it is above it elsewhere; {repair}"
                )
            for start, segment in sorted(t.segments[partition].items(), key=lambda pair: pair[0]):
                if segment.end <= cut.offsets[partition]:
                    continue
                if start != at:
                    cut_here = cut.offsets[partition]
                    wrong = f"straddles the cut {cut_here}" if start < cut_here else f"follows a gap or overlap at {at}"
                    raise Untiled(
                        f"{_name(cut)} cannot be published: {where}: segment [{start}, {segment.end}) {wrong}; {repair}"
                    )
                at = segment.end
            if at != max(row.position, cut.offsets[partition]):
                raise Untiled(
                    f"{_name(cut)} cannot be published: {where}: no segment covers [{at}, {row.position}); {repair}"
                )


class MemoryOperatorStore:
    """pipeline.handover.OperatorStore on Tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def rollback(self, generation: Generation) -> Cut:
        found: Cut = self.tables.write("rollback", lambda: self._rollback(generation))
        return found

    def _rollback(self, generation: Generation) -> Cut:
        t = self.tables.in_force(generation)
        if t.previous is None:
            raise Refused(
                f"topic {generation.topic} cannot be rolled back: batch {t.visible} is visible, and the one before it was never, was"
                f" rolled back to already, or was given up by a purge; to go on, run the next night, which covers everything"
            )
        gone, back = t.visible, t.cut(t.previous)
        t.visible, t.previous = back.number, None
        t.cuts[gone] = replace(t.cuts[gone], status="withdrawn")
        for partition in range(len(t.positions)):
            end, segment = self._coverage(t, partition)
            if end < t.positions[partition].position:
                self._lower(t, partition, end, segment)
        return back

    def _coverage(self, t: GenerationTables, partition: int) -> tuple[int, int]:
        """(end, start of the last segment) of the segments that tile [visible cut, end)."""
        end = segment = t.cuts[t.visible].offsets[partition]
        for start, live in t.live(partition):
            if start == end:
                end, segment = live.end, start
        return end, segment

    def _lower(self, t: GenerationTables, partition: int, end: int, segment: int) -> None:
        """The position returns to the end of the contiguous coverage, later segments go, and the owner is fenced."""
        row = t.positions[partition]
        row.position, row.witness, row.watermark_ms = end, None, -1
        row.segment = end if end in t.chosen_cuts(partition) else segment
        row.epoch, row.owner, row.worker = row.epoch + 1, None, None
        t.delete_segments(partition, [s for s, live in t.segments[partition].items() if live.end > end])

    # ---- purge
    def mark_purge(self, generation: Generation, keep: int) -> Purge | None:
        if keep < 1:
            raise ValueError(f"purge keeps at least the visible batch, not {keep}")
        found: Purge | None = self.tables.write("mark_purge", lambda: self._mark(generation, keep))
        return found

    def _mark(self, generation: Generation, keep: int) -> Purge | None:
        t = self.tables.in_force(generation)
        kept, found = self._removable(t, keep)
        if not found.batches and not any(start < cut for p, cut in enumerate(found.cut) for start in t.segments[p]):
            return None
        if t.previous is not None and t.previous < kept:
            t.previous = None
        return found

    def _removable(self, t: GenerationTables, keep: int) -> tuple[int, Purge]:
        """The oldest of the newest `keep` published batches, and what is not needed with it: batches, and segments below its cut."""
        kept = [c for c in t.cuts if c.status == "published"][-keep:][0]
        below = [c for c in t.cuts if c.number < kept.number]
        gone = tuple(
            c.number for c in below if c.status in ("published", "covered") or (c.status == "withdrawn" and c.complete)
        )
        return kept.number, Purge(t.generation.number, gone, kept.offsets)

    def purge(self, generation: Generation, marked: Purge) -> None:
        if marked.generation != generation.number:
            raise ValueError(f"marked in generation {marked.generation}, purged in {generation.number}")
        self.tables.write("purge", lambda: self._purge(generation, marked))

    def _purge(self, generation: Generation, marked: Purge) -> None:
        t = self.tables.of(generation)
        # Not a withdrawn one at the same cut: nobody looks at its rows, so they make no others superfluous.
        keep = max(c.number for c in t.cuts if c.offsets == marked.cut and c.status in ("published", "purged"))
        for partition, cut in enumerate(marked.cut):
            t.delete_segments(partition, [s for s in t.segments[partition] if s < cut])
        for by_batch in t.batch_rows.values():
            self._drop_superseded(t, by_batch, keep)
        for number in marked.batches:
            t.batches.pop(number, None)
            status = "withdrawn" if t.cuts[number].status == "withdrawn" else "purged"
            t.cuts[number] = replace(t.cuts[number], status=status, complete=False)

    def _drop_superseded(self, t: GenerationTables, by_batch: dict[int, Rows], keep: int) -> None:
        """Rows at or below the kept batch that a later one of their group, at or below it too, has replaced."""
        newest: dict[object, int] = {}
        final = sorted(n for n in by_batch if n <= keep and t.cuts[n].status != "chosen")
        for number in final:
            newest |= dict.fromkeys(by_batch[number], number)
        for number in final:
            by_batch[number] = {group: row for group, row in by_batch[number].items() if newest[group] == number}


def _set(t: GenerationTables, number: int, **changes: object) -> None:
    t.cuts[number] = replace(t.cuts[number], **changes)  # type: ignore[arg-type]


def _name(cut: Cut) -> str:
    return f"batch {cut.number} ({cut.date or 'the start of the log'}) of topic {cut.topic}"


def _repair(cut: Cut) -> str:
    if cut.status == "withdrawn":
        return "it was rolled back; run a night of another date, which covers its range"
    return "nothing is left to do" if cut.status == "published" else "run a night of another date"
