"""The simulation, tried on bugs: each rule of the hand-over is broken on purpose, and some schedule must show it.

Where a rule lives in the store, the same bug planted in the Postgres store is found by the contract tests.
"""

from dataclasses import replace
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import pytest

from pipeline.accept.accept import Ingest
from pipeline.accept.dedupe import Identities, Moment
from pipeline.handover import Claim, Generation, Purge, Staged, Vector
from simulation.memory_night import MemoryNightStore, MemoryOperatorStore
from simulation.memory_speed import MemorySpeedStore
from simulation.memory_tables import GenerationTables, Position
from simulation.play import play
from simulation.world import Stores
from speed_layer.collaborators import ActiveSource
from speed_layer.ownership import Ownership
from speed_layer.partition import Loaded, PartitionWork
from speed_layer.segment_states import SegmentStates
from tests.support.planting import SIZES, Bug, how_it_showed
from tests.support.simulated import by_shop


class PositionOut(MemorySpeedStore):
    """The position out of the commit's WHERE."""

    def _still_as_claimed(self, row: Position, claim: Claim) -> bool:
        return (row.owner, row.epoch, row.segment) == (claim.owner, claim.epoch, claim.segment)


class PositionAndEpochOut(MemorySpeedStore):
    """Position and epoch (with the owner, which stands for it) out of the commit's WHERE."""

    def _still_as_claimed(self, row: Position, claim: Claim) -> bool:
        return row.segment == claim.segment


class Straddling(MemorySpeedStore):
    """A commit may straddle a cut."""

    def _cuts_within(self, claim: Claim, end: int) -> list[int]:
        return [cut for cut in super()._cuts_within(claim, end) if cut == end]


class SegmentKept(MemorySpeedStore):
    """The segment stays when a position arrives exactly at a cut."""

    def _open_segment(self, row: Position) -> None:
        """Nothing."""


class EndsAlone(MemoryNightStore):
    """The cut is the end offsets that were read before the rows were locked, whatever came since."""

    def _cut_offsets(self, t: GenerationTables, ends: Vector) -> Vector:
        return ends


class PublishedInTwo(MemoryNightStore):
    """The pointer moves in one transaction, the positions in the next."""

    def publish(self, generation: Generation, number: int) -> str:
        self._later: Vector | None = None
        outcome = super().publish(generation, number)
        if (offsets := self._later) is not None:
            t = self.tables.of(generation)
            self.tables.write("publish positions", lambda: MemoryNightStore._raise_positions(self, t, offsets))
        return outcome

    def _raise_positions(self, t: GenerationTables, offsets: Vector) -> None:
        self._later = offsets


class StagedAgain(MemoryNightStore):
    """A batch's old rows go in one transaction and its new ones come in the next, also when it is published."""

    def stage(self, generation: Generation, number: int, staged: Staged) -> None:
        rows = self._copied(generation, staged)
        self.tables.write("stage begin", lambda: self._begin(self.tables.of(generation), number))
        self.tables.write("stage end", lambda: self._end(generation, number, staged, rows))

    def _begin(self, t: GenerationTables, number: int) -> None:
        for by_batch in t.batch_rows.values():
            by_batch.pop(number, None)
        t.cuts[number] = replace(t.cuts[number], complete=False)

    def _end(self, generation: Generation, number: int, staged: Staged, rows: Any) -> None:
        t = self.tables.of(generation)
        status = t.cut(number).status
        t.cuts[number] = replace(t.cuts[number], status="chosen")
        self._stage(generation, number, staged, rows)
        t.cuts[number] = replace(t.cuts[number], status=status)


class PositionsStayRaised(MemoryOperatorStore):
    """A rollback leaves the positions where publish had raised them."""

    def _lower(self, t: GenerationTables, partition: int, end: int, segment: int) -> None:
        """Nothing."""


class PurgesWhatIsCovered(MemoryOperatorStore):
    """A purge deletes what is covered by now, whatever was marked."""

    def mark_purge(self, generation: Generation, keep: int) -> Purge | None:
        self._keep = keep
        return super().mark_purge(generation, keep)

    def _purge(self, generation: Generation, marked: Purge) -> None:
        super()._purge(generation, self._removable(self.tables.of(generation), self._keep)[1])


def without_identities_below(self: PartitionWork, claim: Claim, *more: Any) -> tuple[Ingest, int]:
    """A worker that begins with the record at its position, as if nothing had been before it."""
    return Ingest(self.source.source, claim.partition, None), claim.position


shipped_load = PartitionWork.load
remembered: WeakKeyDictionary[PartitionWork, Loaded] = WeakKeyDictionary()


def load_keeping_memory(self: PartitionWork, *more: Any) -> bool:
    """Reads its row again, and goes on with the states and identities that it has."""
    loaded = remembered.get(self)
    if loaded is None:
        return shipped_load(self)
    claim = self.collaborators.store.reload(self.claim)
    if claim is None:
        return False
    self.claim = claim
    for memory in loaded.states.values():
        memory._asked = None
    loaded.begun, loaded.pending = None, self._nothing()
    loaded.read = claim.position
    self.loaded = loaded
    return True


def forget_nothing(self: PartitionWork) -> None:
    """The states stay in memory."""
    if self.loaded is not None:
        remembered[self] = self.loaded
    self.loaded = None


shipped_renew = Ownership.renew


def renew_adopting(self: Ownership) -> None:
    """Who lost a lease goes on in the name of whoever took it: the row as it is now is his, the memory is what it was."""
    shipped_renew(self)
    store: Any = self.store
    for work in self.in_hand:
        row = store.tables.generations[work.claim.generation].positions[work.claim.partition]
        if (
            row.owner is not None
            and row.owner != work.claim.owner
            and work.read is not None
            and work.read > row.position
        ):
            work.claim = replace(
                work.claim, owner=row.owner, epoch=row.epoch, position=row.position, segment=row.segment
            )


shipped_take = Ownership._take
kept: WeakKeyDictionary[Ownership, dict[int, PartitionWork]] = WeakKeyDictionary()


def take_with_the_memory_of_before(self: Ownership, source: ActiveSource, partition: int) -> None:
    """A partition that this worker held before is taken again with the memory of then, and the row as it is now."""
    shipped_take(self, source, partition)
    before, at = kept.setdefault(self, {}), (source.source.topic, partition)
    work = self.get(at)
    if work is None:
        return
    old = before.get(partition)
    before[partition] = work
    if (
        old is not None
        and old.loaded is not None
        and old.loaded.begun is None
        and old.loaded.read >= work.claim.position
    ):
        work.loaded = old.loaded


def undo_nothing(self: Any) -> None:
    """What a cut splits is read again, on top of itself."""
    self._asked = None  # of states


shipped_keep = Identities.keep


def keep_now(self: Identities, moment: Moment | None = None) -> None:
    """What was folded while a commit was under way is not undone when the next one is split."""
    shipped_keep(self)


def next_segment_empty(self: SegmentStates) -> SegmentStates:
    """What was folded while a commit was under way that moved the segment is lost."""
    return SegmentStates(self.view)


def next_segment_merged(self: SegmentStates) -> SegmentStates:
    """What was folded meanwhile is merged with the segment that has ended."""
    self._asked = None
    return self


BUGS = {
    "position out of the commit's WHERE": Bug(Stores(speed=PositionOut)),
    "position and epoch out of the commit's WHERE": Bug(Stores(speed=PositionAndEpochOut)),
    "a commit that straddles a cut": Bug(Stores(speed=Straddling)),
    "identities from below the cut not loaded": Bug(
        planted=lambda: patch.object(PartitionWork, "_load_identities", without_identities_below)
    ),
    "memory kept after a lost reply": Bug(
        planted=lambda: patch.multiple(PartitionWork, load=load_keeping_memory, forget=forget_nothing)
    ),
    "identities kept after a split": Bug(planted=lambda: patch.object(Identities, "undo", undo_nothing)),
    "states kept after a split": Bug(planted=lambda: patch.object(SegmentStates, "undo", undo_nothing)),
    "identities kept as of now after a commit beside the folding": Bug(
        planted=lambda: patch.object(Identities, "keep", keep_now)
    ),
    "folds beside a commit that moved the segment lost": Bug(
        planted=lambda: patch.object(SegmentStates, "next_segment", next_segment_empty)
    ),
    "folds beside a commit that moved the segment merged into the last": Bug(
        planted=lambda: patch.object(SegmentStates, "next_segment", next_segment_merged)
    ),
    "a renewal that goes on in the name of whoever took the lease": Bug(
        planted=lambda: patch.object(Ownership, "renew", renew_adopting)
    ),
    "a partition taken again with the memory of before": Bug(
        planted=lambda: patch.object(Ownership, "_take", take_with_the_memory_of_before)
    ),
    "the segment not changed when a position arrives exactly at a cut": Bug(Stores(speed=SegmentKept)),
    "the end offsets read after which the rows are locked, without the max": Bug(Stores(night=EndsAlone)),
    "publish in two transactions": Bug(Stores(night=PublishedInTwo)),
    "staging a published batch again": Bug(Stores(night=StagedAgain)),
    "rollback that does not lower a raised position": Bug(Stores(operator=PositionsStayRaised)),
    "purge that recomputes what is covered": Bug(Stores(operator=PurgesWhatIsCovered)),
}


@pytest.mark.parametrize("name", BUGS)
def test_the_simulation_finds_the_bug(name: str) -> None:
    print(f"{name}: {how_it_showed(BUGS[name])}")


def test_without_a_bug_these_schedules_show_nothing() -> None:
    for seed in range(30):
        played = play([by_shop], seed, SIZES)
        assert played.broken is None, f"seed {seed}: {played.broken}"
