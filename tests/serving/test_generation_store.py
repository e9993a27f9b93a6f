"""A new generation takes over from the one that answers, rule by rule; on a real Postgres, and in memory by tests/contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline import Max
from pipeline.base.errors import Refused
from pipeline.definition.view import View
from pipeline.handover import Committed, Fenced, Generation, Split
from pipeline.handover.replacement import Restart
from tests.contract.store_world import D2, D3, LOGS
from tests.contract.world import VIEWS, commit_of, connected, payments, plan, staged_of
from tests.serving.test_operator_store import Operated

CHANGED = (replace(VIEWS[0], aggregates={**VIEWS[0].aggregates, "most": Max("amount")}), VIEWS[1])


@pytest.fixture
def world(postgres_url: str) -> Iterator[Operated]:
    with connected(postgres_url) as engine:
        yield Operated(engine)


def publish(world: Operated, generation: Generation, number: int, views: tuple[View, ...] = CHANGED) -> None:
    """Stage and publish a batch of a generation that is being made, by a night of its definitions."""
    _, night = world.made_for(views)
    night.stage(generation, number, staged_of(LOGS, night.cut(generation, number).offsets, None, views))
    assert night.publish(generation, number) == "published"


def ledger(world: Operated, generation: Generation) -> list[tuple[int, tuple[int, ...], str]]:
    return [(c.number, c.offsets, c.status) for c in world.night.ledger(generation)]


def test_a_generation_has_the_ledger_of_the_one_before_and_no_rows(world: Operated) -> None:
    world.night_at(3, 3)
    world.night_at(4, 5)
    world.operator.rollback(world.generation)
    world.choose(6, 5)
    # Retention deleted the first records: the archive has them
    new = world.generations.begin(plan((2, 2), views=CHANGED))
    assert (new.number, new.starts, new.views.keys()) == (2, (0, 0), {v.name for v in CHANGED})
    assert world.generations.building("payments") == new and world.generations.active("payments") == world.generation
    assert ledger(world, new) == [
        (0, (0, 0), "published"),
        (1, (3, 3), "chosen"),
        (2, (4, 5), "withdrawn"),
        (3, (6, 5), "chosen"),
    ]
    assert world.generations.visible(new) == 0 and world.generations.progress(new) == [(0, None), (0, None)]
    assert world.generations.require(payments, VIEWS) == world.generation
    world.check(3, 3)


def test_until_it_is_active_the_one_before_answers_and_moves_and_afterwards_nothing_of_it_lands(
    world: Operated,
) -> None:
    world.night_at(4, 5)
    claim, old = world.take(0, 60), world.generation
    new = world.generations.begin(plan(views=CHANGED))
    claim = world.commit(claim, 6)
    world.choose(6, 5)
    with pytest.raises(Refused, match="has no published batch yet"):
        world.generations.activate(new, CHANGED)
    publish(world, new, 1)
    with pytest.raises(Refused, match="begun for other definitions"):
        world.generations.activate(new, VIEWS)
    world.check(6, 5)
    world.generations.activate(new, CHANGED)
    world.generations.activate(new, CHANGED)  # nothing: it answers already
    world.check(4, 5, views=CHANGED)
    assert world.generations.active("payments") == world.generations.require(payments, CHANGED) == new
    assert world.generations.building("payments") is None
    assert world.speed.commit(commit_of(claim, LOGS[0], 8)) == Fenced() and world.speed.reload(claim) is None
    for refused in (
        lambda: world.speed.take(old, 0, "w", 60),
        lambda: world.speed.leases(old),
        lambda: world.night.choose(old, D3, (9, 9)),
        lambda: world.night.stage(old, 2, staged_of(LOGS, (6, 5), None)),
        lambda: world.night.publish(old, 2),
        lambda: world.operator.rollback(old),
        lambda: world.operator.mark_purge(old, 1),
        lambda: world.refolds.seize(old, 0, "rebuild", 10),
        lambda: world.refolds.replace(old, claim, 1, []),
    ):
        with pytest.raises(Refused, match=r"generation 1 of topic payments is retired: .*`watershed init --rebuild`"):
            refused()
    with pytest.raises(Refused, match="are not those on record"):
        world.generations.require(payments, VIEWS)
    world.check(4, 5, views=CHANGED)


def test_workers_of_the_new_generation_split_at_the_cuts_that_were_taken_over(world: Operated) -> None:
    world.night_at(4, 5)
    new = world.generations.begin(plan(views=CHANGED))
    world.choose(4, 8)  # its cut of partition 0 is where the new one will stand: a segment begins there
    world.choose(6, 8)
    publish(world, new, 1)
    world.generations.activate(new, CHANGED)
    assert ledger(world, new)[2:] == [(2, (4, 8), "chosen"), (3, (6, 8), "chosen")]
    speed, night = world.made_for(CHANGED)
    claim = speed.take(new, 0, "w", 60)
    assert claim is not None and (claim.position, claim.segment) == (4, 4)
    assert speed.commit(commit_of(claim, LOGS[0], 9, CHANGED)) == Split(6)
    for end in (6, 9):
        landed = speed.commit(commit_of(claim, LOGS[0], end, CHANGED))
        assert isinstance(landed, Committed)
        claim = landed.claim
    assert claim.segment == 6
    world.check(9, 5, views=CHANGED)
    assert night.choose(new, D3, (9, 9)).number == 2, "the cut of that date, under its number"
    publish(world, new, 2)
    world.check(9, 8, views=CHANGED)


def test_a_cut_that_is_taken_over_at_a_position_begins_a_segment_there(world: Operated) -> None:
    world.night_at(4, 5)
    new = world.generations.begin(plan(views=CHANGED))
    publish(world, new, 1)
    speed, _ = world.made_for(CHANGED)
    claim = speed.take(new, 0, "w", 60)
    assert claim is not None
    landed = speed.commit(commit_of(claim, LOGS[0], 6, CHANGED))
    assert isinstance(landed, Committed) and landed.claim.segment == 4
    world.choose(6, 5)
    world.generations.activate(new, CHANGED)
    assert speed.commit(commit_of(landed.claim, LOGS[0], 9, CHANGED)) == Fenced(), "the segment is another"
    moved = speed.reload(landed.claim)
    assert moved is not None and (moved.position, moved.segment) == (6, 6)
    assert isinstance(speed.commit(commit_of(moved, LOGS[0], 9, CHANGED)), Committed)
    publish(world, new, 2)
    world.check(9, 5, views=CHANGED)


def test_a_generation_begun_before_goes_on_with_the_cuts_that_were_chosen_since(world: Operated) -> None:
    world.night_at(2, 2)
    new = world.generations.begin(plan(views=CHANGED))
    world.night_at(5, 4)
    world.night_at(7, 7)
    assert world.generations.begin(plan(views=CHANGED)) == new
    assert ledger(world, new) == [
        (0, (0, 0), "published"),
        (1, (2, 2), "chosen"),
        (2, (5, 4), "chosen"),
        (3, (7, 7), "chosen"),
    ]
    publish(world, new, 3)
    world.generations.activate(new, CHANGED)
    world.check(7, 7, views=CHANGED)


def test_a_generation_for_yet_other_definitions_retires_the_one_begun(world: Operated) -> None:
    first = world.generations.begin(plan(views=CHANGED))
    claim = world.made_for(CHANGED)[0].take(first, 0, "w", 60)
    second = world.generations.begin(plan(views=CHANGED[:1]))
    assert (first.number, second.number) == (2, 3)
    with pytest.raises(Refused, match="is not being built"):
        world.generations.activate(first, CHANGED)
    assert claim is not None and world.made_for(CHANGED)[0].commit(commit_of(claim, LOGS[0], 2, CHANGED)) == Fenced()
    world.generations.activate(second, CHANGED[:1])
    world.check(0, 0, views=CHANGED[:1])


def test_a_changed_source_is_another_definition(world: Operated) -> None:
    source = replace(payments, identity_horizon=payments.identity_horizon + timedelta(hours=1))
    views = tuple(replace(view, source=source) for view in VIEWS)
    with pytest.raises(Refused, match="are not those on record"):
        world.generations.require(source, views)
    new = world.generations.begin(replace(plan(views=()), source=source, views=views))
    assert new.source_fingerprint != world.generation.source_fingerprint
    world.generations.activate(new, views)
    assert world.generations.require(source, views) == new


def test_after_a_loss_the_ledger_ends_at_what_is_archived_and_goes_on_where_the_log_does(world: Operated) -> None:
    world.night_at(3, 3)
    world.commit(world.take(0), 5)
    world.choose(9, 9)
    assert world.generations.counted_from(world.generation, 0, 3) == 2
    resume = Restart(keep=1, resume=(6, 3))
    new = world.generations.begin(plan(views=CHANGED), resume)
    assert ledger(world, new) == [(0, (0, 0), "published"), (1, (3, 3), "chosen"), (2, (6, 3), "chosen")]
    assert world.generations.begin(plan(views=CHANGED), resume) == new
    other = world.generations.begin(plan(views=CHANGED), Restart(keep=1, resume=(7, 3)))
    assert other.number == new.number + 1, "retention has moved on since"
    assert [c.date for c in world.night.ledger(other)][2] is None


def test_another_log_is_refused_unless_everything_starts_over_and_partitions_that_were_added_are_taken_in(
    world: Operated,
) -> None:
    world.night_at(3, 3)
    with pytest.raises(Refused, match="was deleted and made anew"):
        world.generations.begin(plan((0, 0), topic_id="id-2"))
    with pytest.raises(Refused, match="has 1 partitions, and 2 when it was set up"):
        world.generations.begin(plan((0,)))
    wider = world.generations.begin(plan((0, 0, 4)))
    assert wider.starts == (0, 0, 4)
    assert ledger(world, wider) == [(0, (0, 0, 4), "published"), (1, (3, 3, 4), "chosen")]
    fresh = world.generations.begin(plan((5, 6), topic_id="id-2"), Restart(fresh=True))
    assert (fresh.topic_id, ledger(world, fresh)) == ("id-2", [(0, (5, 6), "published")])
    world.generations.activate(fresh, VIEWS)
    assert world.generations.active("payments") == fresh


def test_a_snapshot_of_an_older_generation_is_superseded_by_any_of_a_newer_one(world: Operated) -> None:
    old = world.commit(world.take(0), 4)
    assert world.speed.record_snapshot(old, "old")
    new = world.generations.begin(plan(views=CHANGED))
    world.generations.activate(new, CHANGED)
    speed, night = world.made_for(CHANGED)
    assert not world.speed.record_snapshot(old, "late"), "fenced"
    claim = speed.take(new, 0, "w", 60)
    assert claim is not None and speed.snapshots(claim) == []
    assert speed.record_snapshot(claim, "new")
    assert speed.superseded(claim, "new") == ["old"] and world.speed.superseded(old, "old") == []
    speed.forget_snapshot(claim, "old")
    assert speed.superseded(claim, "new") == []
    assert night.choose(new, D2, (0, 0)).number == 1
