"""Refolded segments take the place of the live ones exactly, or not at all; on a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from pipeline.base.errors import Refused
from pipeline.handover import Counts, Fenced, ViewCounts
from pipeline.handover.replacement import Segment
from serving.postgres.connection import transaction
from serving.stores.refold import PostgresRefoldStore
from tests.contract.store_world import LOGS
from tests.contract.world import VIEWS, commit_of, connected, states
from tests.serving.test_operator_store import Operated


class Rebuilt(Operated):
    """A world in which partition 0 is refolded."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.segments = PostgresRefoldStore(engine, VIEWS, lock_timeout_s=0.2, patience_s=20)

    def damage(self) -> None:
        with transaction(self.engine) as connection:
            connection.exec_driver_sql('UPDATE speed."by_account__g1" SET events__n = events__n + 1 WHERE partition = 0')
            connection.exec_driver_sql('DELETE FROM speed."by_region__g1" WHERE partition = 0 AND segment >= 0')
            connection.exec_driver_sql("UPDATE ops.segments SET accepted = accepted + 3 WHERE partition = 0")


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
def world(postgres_url: str) -> Iterator[Rebuilt]:
    with connected(postgres_url) as engine:
        yield Rebuilt(engine)


def test_new_segments_replace_damaged_ones_and_whoever_held_the_partition_is_fenced(world: Rebuilt) -> None:
    owner = world.commit(world.take(0, 60), 7)
    world.damage()
    claim = world.segments.seize(world.generation, 0, "rebuild", 10)
    assert world.speed.take(world.generation, 0, "w", 1) is None, "while it is held nobody else moves the position"
    assert world.segments.replace(world.generation, claim, 0, refolded(0, 7))
    world.check(7, 0)
    assert world.rows("SELECT accepted FROM ops.segments") == [(7,)]
    assert world.speed.commit(commit_of(owner, LOGS[0], 9)) == Fenced() and world.speed.reload(owner) is None
    world.commit(world.take(0), 9)
    world.check(9, 0)


def test_segments_below_the_visible_cut_stay_for_a_rollback_and_chosen_cuts_split(world: Rebuilt) -> None:
    world.commit(world.take(0), 4)
    world.night_at(4, 0)
    world.commit(world.take(0), 8)
    world.night_at(8, 0)
    world.commit(world.take(0), 10)
    world.choose(10, 0)
    world.commit(world.take(0), 13)
    world.choose(13, 0)
    claim = world.segments.seize(world.generation, 0, "rebuild", 10)
    standing = world.segments.standing(world.generation, 0)
    assert (standing.cut, standing.position, standing.chosen) == (8, 13, (10, 13))
    with pytest.raises(Refused, match=r"segment \[8, 13\) straddles the cut 10"):
        world.segments.replace(world.generation, claim, 2, refolded(8, 13))
    assert world.segments.replace(world.generation, claim, 2, refolded(8, 10, 13))
    assert world.row(0) == (13, 13), "a position at a chosen cut opens the next segment"
    world.check(13, 0)
    assert world.operator.rollback(world.generation).number == 1
    assert world.now() == (13, 0)
    world.check(13, 0)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [((0, 3, 6), r"no segment covers \[6, 7\)"), ((1, 7), "a gap or overlap at 0"), ((), r"no segment covers \[0, 7\)")],
)
def test_segments_that_do_not_tile_are_refused_and_change_nothing(world: Rebuilt, bounds: tuple[int, ...], said: str) -> None:
    world.commit(world.take(0), 7)
    claim = world.segments.seize(world.generation, 0, "rebuild", 10)
    with pytest.raises(Refused, match=said):
        world.segments.replace(world.generation, claim, 0, refolded(*bounds))
    world.check(7, 0)


def test_a_batch_published_meanwhile_or_a_lease_lost_means_nothing_is_replaced(world: Rebuilt) -> None:
    world.commit(world.take(0), 7)
    claim = world.segments.seize(world.generation, 0, "rebuild", 10)
    world.night_at(7, 0)
    assert not world.segments.replace(world.generation, claim, 0, refolded(0, 7))
    world.check(7, 0)
    claim = world.segments.seize(world.generation, 0, "rebuild", 0)
    world.commit(world.take(0), 8)
    assert not world.segments.replace(world.generation, claim, 1, refolded(7, 7)[:0])
    world.check(8, 0)
