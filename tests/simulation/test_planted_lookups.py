"""The simulation, tried on bugs of lookups: each rule of which version counts where is broken on purpose, and a schedule must show it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest

from pipeline.fold import in_force
from pipeline.handover import Claim, Commit, Generation, Vector
from pipeline.handover.versions import Versions
from simulation.memory_night import MemoryNightStore
from simulation.memory_speed import MemorySpeedStore
from simulation.memory_tables import GenerationTables
from simulation.play import play
from simulation.world import Stores
from speed_layer.partition import PartitionWork
from tasks.night.night import Night
from tests.support.planting import SIZES, Bug, how_it_showed
from tests.support.simulated import LOOKED_UP


class NotCompared(MemorySpeedStore):
    """A commit does not compare the versions that it was folded with."""

    def _still_in_force(self, work: Commit) -> bool:
        return True


class NotSplitting(MemoryNightStore):
    """The cut of an adoption splits no commit: versions are in force from it on, and nobody has to end there."""

    def _append(self, t: GenerationTables, date: Any, offsets: Vector, status: str, adopted: Versions) -> None:
        super()._append(t, date, offsets, status, adopted)
        if status == "adopted":
            t.cuts[-1] = replace(t.cuts[-1], status="withdrawn")


class Forgetting(MemorySpeedStore):
    """A publish forgets the versions that were adopted below it: workers go by what cuts from the visible one on adopt themselves."""

    def versions(self, claim: Claim) -> Versions:
        return self._since_published(claim)

    def _still_in_force(self, work: Commit) -> bool:
        now = self._since_published(work.claim)
        return all(now.get(table) == version for table, version in work.versions.items())

    def _since_published(self, claim: Claim) -> Versions:
        t = self.tables.of(claim)
        found = dict(t.cuts[0].versions)
        for before, cut in pairwise(t.cuts):
            if cut.number > t.visible and cut.offsets[claim.partition] <= claim.position:
                found |= dict(set(cut.versions) - set(before.versions))
        return found


class BelowTheEnds(MemoryNightStore):
    """A version is adopted at the newest cut, below what was counted since."""

    def _adopt(self, generation: Generation, versions: Versions, ends: Vector) -> Any:
        t = self.tables.in_force(generation)
        return super()._adopt(generation, versions, t.cuts[-1].offsets)

    def _cut_offsets(self, t: GenerationTables, ends: Vector) -> Vector:
        return ends


def kept_past_the_cut() -> AbstractContextManager[Any]:
    """A worker that goes on with the versions of the segment before."""
    landed = PartitionWork._landed

    def planted(self: PartitionWork, loaded: Any, begun: Any, claim: Any) -> None:
        with patch.object(PartitionWork, "_versions", lambda self, claim: loaded.versions):
            landed(self, loaded, begun, claim)
        loaded.versions = self._versions(claim)  # it says that it has them

    return patch.object(PartitionWork, "_landed", planted)


def folded_with_the_newest() -> AbstractContextManager[Any]:
    """A night that folds every stretch with the newest version of its cut."""
    targets_between = Night.targets_between

    def planted(self: Night, above: int, upto: int) -> Any:
        found = targets_between(self, above, upto)
        newest = next(cut.versions for cut in self.store.ledger(self.generation) if cut.number == upto)
        return [replace(one, versions=newest) for one in found]

    return patch.object(Night, "targets_between", planted)


def refolded_with_the_newest() -> AbstractContextManager[Any]:
    """A refold that takes the newest version of the ledger for all of the log."""

    def planted(self: Any, partition: int, accepted: Any) -> Any:
        yield accepted, self._versions.get(self._views, dict(self._ledger[-1].versions)) if self._ledger else {}

    return patch.object(in_force.InForce, "pieces", planted)


BUGS: Mapping[str, tuple[str, Bug]] = {
    "a commit that lands whatever version it was folded with": ("", Bug(Stores(speed=NotCompared), views=LOOKED_UP)),
    "an adopted cut that splits no commit": ("", Bug(Stores(night=NotSplitting), views=LOOKED_UP)),
    "a publish that forgets the versions": ("", Bug(Stores(speed=Forgetting), views=LOOKED_UP)),
    "a version adopted below what is counted": ("", Bug(Stores(night=BelowTheEnds), views=LOOKED_UP)),
    "a worker that keeps the old version past the cut": ("", Bug(views=LOOKED_UP, planted=kept_past_the_cut)),
    "a night that folds a stretch with the newest": ("", Bug(views=LOOKED_UP, planted=folded_with_the_newest)),
    "a refold with the newest": ("refold", Bug(views=LOOKED_UP, planted=refolded_with_the_newest)),
}
Planted = Callable[[], AbstractContextManager[Any]]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_the_simulation_finds_the_bug_in_a_lookup(name: str) -> None:
    print(f"{name}: {how_it_showed(BUGS[name][1], BUGS[name][0])}")


@pytest.mark.slow
def test_views_that_look_up_hold_while_tables_change() -> None:
    adoptions = 0
    for seed in range(80):
        played = play(LOOKED_UP, seed, SIZES)
        assert played.broken is None, f"schedule {seed}: {played.broken}\n" + "\n".join(played.trace[-30:])
        adoptions += played.seen["adoption"] > 0
    assert adoptions > 40, "most schedules adopt a version"
