"""Refolded segments take the place of the live ones exactly, or not at all; on a real Postgres, and in memory by tests/contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

from pipeline.base.errors import Refused
from pipeline.handover import Counts, Fenced, ViewCounts
from pipeline.handover.replacement import Segment
from tests.contract.store_world import LOGS
from tests.contract.world import VIEWS, commit_of, connected, states
from tests.serving.test_operator_store import Operated


def refolded(*bounds: int) -> Sequence[Segment]:
    """Segments of partition 0 between these offsets."""
    return [
        Segment(
            start,
            end,
            Counts(accepted=end - start),
            {v.name: ViewCounts(folded=end - start) for v in VIEWS},
            {v.name: states(v, LOGS[0][start:end]) for v in VIEWS},
        )
        for start, end in pairwise(bounds)
    ]


@pytest.fixture
def world(postgres_url: str) -> Iterator[Operated]:
    with connected(postgres_url) as engine:
        yield Operated(engine)


def test_new_segments_replace_damaged_ones_and_whoever_held_the_partition_is_fenced(world: Operated) -> None:
    owner = world.commit(world.take(0, 60), 7)
    world.damage()
    claim = world.refolds.seize(world.generation, 0, "rebuild", 10)
    assert world.speed.take(world.generation, 0, "w", 1) is None, "while it is held nobody else moves the position"
    assert world.refolds.replace(world.generation, claim, 0, refolded(0, 7))
    world.check(7, 0)
    assert world.rows("SELECT accepted FROM ops.segments") == [(7,)]
    assert world.speed.commit(commit_of(owner, LOGS[0], 9)) == Fenced() and world.speed.reload(owner) is None
    world.commit(world.take(0), 9)
    world.check(9, 0)


def test_a_seizure_fences_whoever_held_the_partition_at_once_though_no_position_moved(world: Operated) -> None:
    """Whoever refolds needs the position to stand still from here on: not only when the refold has landed."""
    owner = world.commit(world.take(0, 60), 7)
    claim = world.refolds.seize(world.generation, 0, "rebuild", 10)
    assert (claim.position, claim.segment) == (owner.position, owner.segment) == (7, 0)
    assert claim.owner != owner.owner and claim.epoch == owner.epoch + 1
    assert world.speed.commit(commit_of(owner, LOGS[0], 9)) == Fenced()
    assert world.now() == (7, 0) and world.speed.reload(owner) is None and world.speed.renew([owner], 60) == set()
    world.speed.release(owner)
    assert world.speed.take(world.generation, 0, "w", 1) is None, "the one before can let go of nothing that is not his"
    world.check(7, 0)
    world.commit(claim, 9)
    world.check(9, 0)


def test_segments_below_the_visible_cut_stay_for_a_rollback_and_chosen_cuts_split(world: Operated) -> None:
    world.commit(world.take(0), 4)
    world.night_at(4, 0)
    world.commit(world.take(0), 8)
    world.night_at(8, 0)
    world.commit(world.take(0), 10)
    world.choose(10, 0)
    world.commit(world.take(0), 13)
    world.choose(13, 0)
    claim = world.refolds.seize(world.generation, 0, "rebuild", 10)
    standing = world.refolds.standing(world.generation, 0)
    assert (standing.cut, standing.position, standing.chosen) == (8, 13, (10, 13))
    with pytest.raises(Refused, match=r"segment \[8, 13\) straddles the cut 10"):
        world.refolds.replace(world.generation, claim, 2, refolded(8, 13))
    assert world.refolds.replace(world.generation, claim, 2, refolded(8, 10, 13))
    assert world.row(0) == (13, 13), "a position at a chosen cut opens the next segment"
    world.check(13, 0)
    assert world.operator.rollback(world.generation).number == 1
    assert world.now() == (13, 0)
    world.check(13, 0)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0, 3, 6), r"no segment covers \[6, 7\)"),
        ((1, 7), "a gap or overlap at 0"),
        ((), r"no segment covers \[0, 7\)"),
    ],
)
def test_segments_that_do_not_tile_are_refused_and_change_nothing(
    world: Operated, bounds: tuple[int, ...], said: str
) -> None:
    world.commit(world.take(0), 7)
    claim = world.refolds.seize(world.generation, 0, "rebuild", 10)
    with pytest.raises(Refused, match=said):
        world.refolds.replace(world.generation, claim, 0, refolded(*bounds))
    world.check(7, 0)


def test_a_batch_published_meanwhile_or_a_lease_lost_means_nothing_is_replaced(world: Operated) -> None:
    world.commit(world.take(0), 7)
    claim = world.refolds.seize(world.generation, 0, "rebuild", 10)
    world.night_at(7, 0)
    assert not world.refolds.replace(world.generation, claim, 0, refolded(0, 7))
    world.check(7, 0)
    claim = world.refolds.seize(world.generation, 0, "rebuild", 0)
    world.commit(world.take(0), 8)
    assert not world.refolds.replace(world.generation, claim, 1, refolded(7, 7)[:0])
    world.check(8, 0)


def test_a_refold_seized_by_its_twin_is_fenced_and_one_that_landed_lands_once(world: Operated) -> None:
    world.commit(world.take(0), 7)
    first = world.refolds.seize(world.generation, 0, "one", 10)
    second = world.refolds.seize(world.generation, 0, "two", 10)
    assert second.epoch == first.epoch + 1 and second.position == first.position == 7
    assert not world.refolds.replace(world.generation, first, 0, refolded(0, 7))
    assert world.refolds.replace(world.generation, second, 0, refolded(0, 3, 7))
    assert world.row(0) == (7, 3), "the last of the new segments goes on"
    assert not world.refolds.replace(world.generation, second, 0, refolded(0, 7)), "it has let go"
    world.commit(world.take(0), 9)
    world.check(9, 0)
