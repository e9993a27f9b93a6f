"""Adopting a version of a table: a cut of its own, from which on it is in force, whoever asks and however often."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.handover import Claim, Commit, Committed, Fenced, Split
from pipeline.handover.replacement import Plan
from tests.contract.store_world import D1, LOGS
from tests.contract.world import VIEWS, commit_of, connected, payments
from tests.serving.test_operator_store import Operated


@pytest.fixture
def world(postgres_url: str) -> Iterator[Operated]:
    with connected(postgres_url) as engine:
        yield Operated(engine)


def with_versions(claim: Claim, end: int, **versions: int) -> Commit:
    return replace(commit_of(claim, LOGS[claim.partition], end), versions=versions)


def test_an_adoption_chooses_a_cut_at_or_above_everything_and_later_cuts_inherit_it(world: Operated) -> None:
    world.commit(world.take(0), 4)
    cut = world.night.adopt(world.generation, {"carriers": 2}, (3, 5))
    assert (cut.number, cut.date, cut.status, cut.offsets) == (1, None, "adopted", (4, 5))
    assert cut.versions == (("carriers", 2),)
    night = world.night.choose(world.generation, D1, (6, 6))
    assert (night.number, night.offsets, night.versions) == (2, (6, 6), (("carriers", 2),))
    both = world.night.adopt(world.generation, {"planes": 1}, (6, 6))
    assert both.versions == (("carriers", 2), ("planes", 1))
    assert next(iter(world.night.ledger(world.generation))).versions == ()


def test_adopting_what_is_in_force_or_an_earlier_version_changes_nothing(world: Operated) -> None:
    first = world.night.adopt(world.generation, {"carriers": 2}, (3, 5))
    assert world.night.adopt(world.generation, {"carriers": 2}, (9, 9)) == first
    assert world.night.adopt(world.generation, {"carriers": 1}, (9, 9)) == first
    assert len(world.night.ledger(world.generation)) == 2
    with pytest.raises(ValueError, match="has 2 partitions, not 1"):
        world.night.adopt(world.generation, {"carriers": 3}, (9,))


def test_a_commit_does_not_straddle_an_adopted_cut(world: Operated) -> None:
    claim = world.take(0)
    world.night.adopt(world.generation, {"carriers": 2}, (3, 0))
    assert world.speed.commit(commit_of(claim, LOGS[0], 5)) == Split(at=3)
    landed = world.commit(claim, 3)
    assert (landed.position, landed.segment) == (3, 3), "the next segment begins there"


def test_a_commit_lands_only_with_the_versions_in_force_at_its_start(world: Operated) -> None:
    world.night.adopt(world.generation, {"carriers": 1}, (0, 0))
    claim = world.take(0)
    assert world.speed.versions(claim) == {"carriers": 1}
    world.night.adopt(world.generation, {"carriers": 2}, (0, 0))  # at the very position: the segment stays what it is
    assert world.row(0) == (0, 0)
    assert world.speed.commit(with_versions(claim, 2, carriers=1)) == Fenced()
    assert world.row(0) == (0, 0), "and nothing was changed"
    assert world.speed.versions(claim) == {"carriers": 2}
    assert isinstance(world.speed.commit(with_versions(claim, 2, carriers=2)), Committed)


def test_versions_in_force_are_those_of_the_position_and_not_the_newest(world: Operated) -> None:
    world.night.adopt(world.generation, {"carriers": 1}, (0, 0))
    claim = world.take(1)
    world.night.adopt(world.generation, {"carriers": 2}, (0, 6))
    assert world.speed.versions(claim) == {"carriers": 1}
    landed = world.speed.commit(with_versions(claim, 6, carriers=1))
    assert isinstance(landed, Committed)
    assert world.speed.versions(landed.claim) == {"carriers": 2}


def test_a_generation_takes_the_adoptions_over_and_names_versions_of_tables_that_had_none(world: Operated) -> None:
    world.night.adopt(world.generation, {"carriers": 3}, (2, 2))
    plan = Plan(payments, "id-1", (0, 0), tuple(reversed(VIEWS)), {"planes": 4})
    made = world.generations.begin(plan)
    found = [(cut.number, cut.status, cut.versions) for cut in world.night.ledger(made)]
    assert found == [(0, "published", (("planes", 4),)), (1, "adopted", (("carriers", 3), ("planes", 4)))]
    assert world.generations.begin(plan) == made, "begun again it is the same one"


def test_a_rollback_returns_to_positions_that_begin_segments_at_adopted_cuts(world: Operated) -> None:
    world.commit(world.take(0), 2)
    world.night.adopt(world.generation, {"carriers": 1}, (2, 0))
    world.night_at(6, 3)
    world.operator.rollback(world.generation)
    position, segment = world.row(0)
    assert (position, segment) == (2, 2)
