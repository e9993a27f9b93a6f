"""The in-memory arbiter as a refold and a rebuild see it: serving.stores.refold and serving.generations.replace, rule by rule.

replace lands   =>  the new segments tile [cut visible, position), the row is still the claim's, and nobody's memory outlives it
activate lands  =>  one generation is active, and answers; the one before is retired, and its positions never move again
"""

from collections.abc import Sequence
from itertools import zip_longest

from pipeline.base.errors import Refused
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.handover import Claim, Cut, Generation, Vector, Witness
from pipeline.handover.replacement import AS_IT_WAS, Plan, Restart, Segment, Standing
from simulation.memory_speed import claim_of
from simulation.memory_tables import EPOCH, GenerationTables, Position, Rows, Tables
from simulation.memory_tables import Segment as SegmentRow


class MemoryRefoldStore:
    """pipeline.handover.replacement.RefoldStore on Tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def standing(self, generation: Generation, partition: int) -> Standing:
        found: Standing = self.tables.read("standing", lambda: self._standing(self.tables.of(generation), partition))
        return found

    def _standing(self, t: GenerationTables, partition: int) -> Standing:
        seen = t.cuts[t.visible]
        cut = seen.offsets[partition]
        return Standing(
            seen, cut, t.positions[partition].position, tuple(sorted(c for c in t.chosen_cuts(partition) if c >= cut))
        )

    def seize(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim:
        def body() -> Claim:
            row = self.tables.in_force(generation).positions[partition]
            self._fence(row, worker)
            row.lease_until_s = self.tables.now_s + lease_s
            return claim_of(generation, partition, row)

        claim: Claim = self.tables.write("seize", body)
        return claim

    def _fence(self, row: Position, worker: str) -> None:
        row.owner, row.worker, row.epoch = self.tables.take_owner(), worker, row.epoch + 1

    def replace(self, generation: Generation, claim: Claim, number: int, new: Sequence[Segment]) -> bool:
        t = self.tables.of(generation)
        rows = [{view: t.rows_of(view, one.states[view]) for view in t.views} for one in new]
        return bool(self.tables.write("replace", lambda: self._replace(generation, claim, number, new, rows)))

    def _replace(
        self, generation: Generation, claim: Claim, number: int, new: Sequence[Segment], rows: Sequence[dict[str, Rows]]
    ) -> bool:
        t = self.tables.in_force(generation)
        row = t.positions[claim.partition]
        if not self._still_visible(t, number) or not self._still_as_claimed(row, claim):
            return False
        now = self._standing(t, claim.partition)
        self._check_tiling(claim, now, new)
        self._forget_old(t, claim.partition, now.cut)
        for one, states in zip(new, rows, strict=True):
            t.segments[claim.partition][one.start] = SegmentRow(one.end, one.counts, dict(one.view_counts))
            for view, found in states.items():
                t.speed_rows[view][claim.partition, one.start] = found
        row.segment = claim.position if not new or claim.position in now.chosen else new[-1].start
        row.epoch, row.owner, row.worker = row.epoch + 1, None, None
        return True

    def _still_visible(self, t: GenerationTables, number: int) -> bool:
        return t.visible == number

    def _still_as_claimed(self, row: Position, claim: Claim) -> bool:
        return (row.owner, row.epoch, row.position) == (claim.owner, claim.epoch, claim.position)

    def _forget_old(self, t: GenerationTables, partition: int, cut: int) -> None:
        t.delete_segments(partition, [s for s in t.segments[partition] if s >= cut])

    def _check_tiling(self, claim: Claim, now: Standing, new: Sequence[Segment]) -> None:
        """By code of its own, on purpose: an oracle that shares what it checks would miss what is wrong in it."""
        at, where = now.cut, f"topic {claim.topic}, partition {claim.partition}"
        for one in new:
            inside = [c for c in now.chosen if one.start < c < one.end]
            if one.start != at or one.end <= one.start or inside:
                why = f"straddles the cut {inside[0]}" if inside else f"follows a gap or overlap at {at}"
                raise Refused(
                    f"{where}: refolded segment [{one.start}, {one.end}) {why}; run `watershed rebuild` again"
                )
            at = one.end
        if at != now.position:
            raise Refused(f"{where}: no segment covers [{at}, {now.position}); run `watershed rebuild` again")


class MemoryGenerationStore:
    """pipeline.handover.replacement.GenerationStore on Tables, which hold one topic."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def active(self, topic: str) -> Generation | None:
        found: Generation | None = self.tables.read("active", lambda: self._newest(topic, "active"))
        return found

    def building(self, topic: str) -> Generation | None:
        found: Generation | None = self.tables.read("building", lambda: self._newest(topic, "building"))
        return found

    def _newest(self, topic: str, status: str) -> Generation | None:
        found = self.tables.newest(status)
        return found.generation if found is not None and topic == self.tables.topic else None

    def require(self, source: Source, views: Sequence[View]) -> Generation:
        found = self.active(source.topic)
        if found is not None and all(a is b for a, b in zip_longest(views, self.tables.of(found).views.values())):
            return found  # the very ones that were recorded: no need to spell out their fingerprints
        if found is None:
            raise Refused(f"topic {source.topic} is not set up in this database: run `watershed init`")
        if not _is_for(found, source, views):
            raise Refused(
                f"the definitions of topic {found.topic} are not those on record (generation {found.number}); put them back as they"
                f" were, or record the change and refold the log with `watershed init --rebuild`"
            )
        return found

    def visible(self, generation: Generation) -> int:
        return int(self.tables.read("visible", lambda: self.tables.of(generation).visible))

    def progress(self, generation: Generation) -> list[tuple[int, Witness | None]]:
        return list(
            self.tables.read(
                "progress", lambda: [(r.position, r.witness) for r in self.tables.of(generation).positions]
            )
        )

    def counted_from(self, generation: Generation, partition: int, start: int) -> int:
        def body() -> int:
            segments = self.tables.of(generation).segments[partition]
            return sum(found.counts.records for at, found in segments.items() if at >= start)

        return int(self.tables.read("counted_from", body))

    # ---- begin
    def begin(self, plan: Plan, restart: Restart = AS_IT_WAS) -> Generation:
        found: Generation = self.tables.write("begin", lambda: self._begin(plan, restart))
        return found

    def _begin(self, plan: Plan, restart: Restart) -> Generation:
        active, begun = self._in_force(), self.tables.newest("building")
        old = active.generation
        if not restart.fresh:
            _refuse_other_log(old, plan)
        starts = self._starts(active, plan, restart)
        if begun is not None:
            wanted = _is_for(begun.generation, plan.source, plan.views) and begun.generation.topic_id == plan.topic_id
            if wanted and begun.generation.starts == starts and self._goes_on(begun, restart):
                if restart.resume is None and not restart.fresh:
                    self._copy_later_cuts(active, begun)
                return begun.generation
            self._retire(begun)
        number = max(self.tables.generations) + 1
        versions = dict(plan.versions) if restart.fresh else dict(plan.versions) | dict(active.cuts[0].versions)
        made = self.tables.add(plan.source, plan.views, plan.topic_id, starts, number, "building", versions)
        t = self.tables.of(made)
        if not restart.fresh:
            upto = len(active.cuts) if restart.resume is None else restart.keep + 1
            for cut in active.cuts[1:upto]:
                self._copy_cut(active, t, cut)
            if restart.resume is not None:
                resume, last = tuple(restart.resume), t.cuts[-1]
                of = made.topic, made.number, restart.keep + 1, None
                t.cuts.append(Cut(*of, resume, EPOCH, "chosen", versions=last.versions))
        return made

    def _in_force(self) -> GenerationTables:
        active = self.tables.newest("active")
        assert active is not None, "the first generation is there from the start"
        return active

    def _starts(self, active: GenerationTables, plan: Plan, restart: Restart) -> Vector:
        """Start of the new generation: that of the master dataset."""
        old = active.generation
        return tuple(plan.starts) if restart.fresh else old.starts + tuple(plan.starts[old.partitions :])

    def _goes_on(self, begun: GenerationTables, restart: Restart) -> bool:
        if restart.resume is None:
            return all(cut.date is not None or cut.status == "adopted" for cut in begun.cuts if cut.number)
        return (begun.cuts[-1].number, begun.cuts[-1].offsets) == (restart.keep + 1, tuple(restart.resume))

    def _copy_cut(self, old: GenerationTables, new: GenerationTables, cut: Cut) -> None:
        offsets = cut.offsets + new.generation.starts[old.generation.partitions :]
        status = "chosen" if cut.status == "published" else cut.status
        before = dict(old.cuts[cut.number - 1].versions)
        adopted = {table: version for table, version in cut.versions if before.get(table) != version}
        versions = tuple(sorted((dict(new.cuts[-1].versions) | adopted).items()))
        of = cut.topic, new.generation.number, cut.number, cut.date
        new.cuts.append(Cut(*of, offsets, cut.chosen_at, status, versions=versions))

    # ---- activate
    def activate(self, generation: Generation, views: Sequence[View]) -> None:
        self.tables.write("activate", lambda: self._activate(generation, views))

    def _activate(self, generation: Generation, views: Sequence[View]) -> bool:
        """True when the generation answers from now on; False when it did already."""
        old, new = self._in_force(), self.tables.of(generation)
        if old is new:
            return False
        here = f"generation {generation.number} of topic {generation.topic}"
        if new.status != "building":
            raise Refused(f"{here} is not being built: run `watershed init --rebuild`")
        if any(not _is_for(new.generation, view.source, views) for view in views):
            raise Refused(f"{here} was begun for other definitions: run `watershed init --rebuild`")
        same_log = old.generation.topic_id == new.generation.topic_id
        if same_log and old.visible > 0 and new.visible == 0:
            raise Refused(
                f"{here} has no published batch yet, and generation {old.generation.number} answers with batch {old.visible}: stage and"
                f" publish it first, as `watershed init --rebuild` does"
            )
        if same_log:
            self._copy_later_cuts(old, new)
        self._retire(old)
        new.status, self.tables.answering = "active", generation.number
        return True

    def _copy_later_cuts(self, old: GenerationTables, new: GenerationTables) -> None:
        """The cuts that the old generation chose meanwhile, as far as no position of the new one has passed them."""
        for cut in old.cuts[len(new.cuts) :]:
            offsets = cut.offsets + new.generation.starts[old.generation.partitions :]
            if self._passed(new, offsets):
                break
            self._copy_cut(old, new, cut)
            new.open_segments(offsets)

    def _passed(self, new: GenerationTables, offsets: Vector) -> bool:
        return any(offset < row.position for offset, row in zip(offsets, new.positions, strict=True))

    def _retire(self, t: GenerationTables) -> None:
        """No commit of its workers lands any more, and no step of its nights."""
        t.status = "retired"
        for row in t.positions:
            row.epoch, row.owner, row.worker = row.epoch + 1, None, None


def _is_for(generation: Generation, source: Source, views: Sequence[View]) -> bool:
    wanted = {view.name: view_fingerprint(view) for view in views}
    return generation.source_fingerprint == source_fingerprint(source) and dict(generation.views) == wanted


def _refuse_other_log(active: Generation, plan: Plan) -> None:
    """More partitions are taken in; fewer, or another topic of this name, are not the log that was archived."""
    if plan.topic_id != active.topic_id:
        raise Refused(
            f"topic {active.topic} was deleted and made anew: its id is {plan.topic_id}, and was {active.topic_id}"
        )
    if len(plan.starts) < active.partitions:
        raise Refused(
            f"topic {active.topic} has {len(plan.starts)} partitions, and {active.partitions} when it was set up"
        )


__all__ = ["MemoryGenerationStore", "MemoryRefoldStore"]
