"""Leases, snapshots, counts and what a commit leaves behind, each by itself, on a real Postgres."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest

from pipeline.base.errors import StoreError
from pipeline.handover import Claim, Commit, Committed, Counts, Fenced, Generation, Split, ViewCounts, Witness
from serving.postgres.connection import transaction
from tests.contract.store_world import D1, D2, D3, LOGS, World
from tests.contract.world import (
    VIEWS,
    by_account,
    commit_of,
    connected,
    staged_of,
    states,
    touched,
    values,
)


@pytest.fixture
def world(postgres_url: str) -> Iterator[World]:
    with connected(postgres_url) as engine:
        yield World(engine)


def test_a_lease_is_held_until_it_runs_out(world: World) -> None:
    first = world.take(0, lease_s=60)
    assert world.speed.take(world.generation, 0, "v", 60) is None
    row = world.speed.leases(world.generation)[0]
    assert (row.worker, row.owner, row.held) == ("w", first.owner, True)
    assert world.speed.renew([first], 0.0) == {first.owner}
    assert world.speed.leases(world.generation)[0].held is False
    assert world.speed.renew([first], 0.0) == {first.owner}  # it ran out, and nobody took it
    second = world.speed.take(world.generation, 0, "v", 60)
    assert second is not None and second.epoch == first.epoch + 1
    assert world.speed.renew([first, second], 60) == {second.owner}
    world.speed.release(first)  # a no-op: it is not theirs any more
    assert world.speed.reload(second) == second
    world.speed.release(second)
    assert world.speed.leases(world.generation)[0].owner is None
    assert world.speed.reload(second) is None
    assert world.speed.commit(commit_of(second, LOGS[0], 1)) == Fenced()


def test_a_commit_prolongs_the_lease_and_never_shortens_it(world: World) -> None:
    claim = world.take(0, lease_s=0.0)
    assert world.speed.leases(world.generation)[0].held is False
    outcome = world.speed.commit(replace(commit_of(claim, LOGS[0], 3), lease_s=60.0))
    assert isinstance(outcome, Committed) and world.speed.leases(world.generation)[0].held is True
    assert world.speed.take(world.generation, 0, "v", 60) is None
    outcome = world.speed.commit(replace(commit_of(outcome.claim, LOGS[0], 5), lease_s=0.0))
    assert isinstance(outcome, Committed) and world.speed.take(world.generation, 0, "v", 60) is None


def test_a_commit_that_is_refused_prolongs_nothing(world: World) -> None:
    claim = world.take(0, lease_s=0.0)
    world.night.choose(world.generation, D1, (3, 0))
    assert world.speed.commit(replace(commit_of(claim, LOGS[0], 5), lease_s=60.0)) == Split(3)
    assert world.speed.leases(world.generation)[0].held is False


def test_a_lease_being_committed_counts_as_held(world: World) -> None:
    """A renewal that comes while the row is locked waits for nobody, and tells no owner that his lease is gone."""
    first, second = world.take(0, lease_s=0.0), world.take(1, lease_s=0.0)
    with transaction(world.engine) as connection:
        connection.exec_driver_sql("SELECT * FROM ops.positions WHERE partition = 0 FOR UPDATE")
        assert world.speed.renew([first, second], 60) == {first.owner, second.owner}
        assert [row.held for row in world.speed.leases(world.generation)] == [False, True]


def test_a_lease_being_changed_is_skipped_not_waited_for(world: World) -> None:
    with transaction(world.engine) as connection:
        connection.exec_driver_sql("SELECT * FROM ops.positions WHERE partition = 0 FOR UPDATE")
        assert world.speed.take(world.generation, 0, "v", 1) is None
    assert world.speed.take(world.generation, 0, "v", 1) is not None


def test_of_many_takers_one_gets_it(world: World) -> None:
    found: list[Claim | None] = []
    threads = [
        threading.Thread(target=lambda: found.append(world.speed.take(world.generation, 0, "w", 60))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([claim for claim in found if claim]) == 1


def test_the_living_are_listed(world: World) -> None:
    assert world.speed.heartbeat("payments", "b", 60) == ["b"]
    assert world.speed.heartbeat("payments", "a", 60) == ["a", "b"]
    assert world.speed.heartbeat("payments", "b", -1) == ["a"]
    world.speed.farewell("payments", "a")
    assert world.speed.heartbeat("other", "c", 60) == ["c"]
    assert world.speed.heartbeat("payments", "d", 60) == ["d"]


def test_a_snapshot_is_the_newest_published_at_or_below_the_position(world: World) -> None:
    def below(position: int) -> int | None:
        found = world.speed.snapshot_below(replace(claim, position=position))
        return found.number if found else None

    claim = world.take(0)
    assert below(0) == 0
    for number, day in ((1, D1), (2, D2), (3, D3)):
        world.night.choose(world.generation, day, (3 * number, 0))
    for number in (1, 2):
        world.stage(number)
        world.night.publish(world.generation, number)
    assert [below(n) for n in (0, 2, 3, 5, 6, 9, 10)] == [0, 0, 1, 1, 2, 2, 2]


def test_load_states_gives_what_was_committed(world: World) -> None:
    claim = world.commit(world.commit(world.take(0), 4), 9)
    for view in VIEWS:
        found = world.speed.load_states(claim, view.name)
        assert values(view, found) == values(view, states(view, LOGS[0][:9]))
        order = [(name, "ascending") for name in view.key]
        assert found.sort_by(order).equals(states(view, LOGS[0][:9]).sort_by(order))
    assert world.speed.load_states(replace(claim, partition=1), "by_account").num_rows == 0
    with pytest.raises(StoreError, match="view 'nothing' is not among"):
        world.speed.load_states(claim, "nothing")


def test_the_witness_travels_with_the_position(world: World) -> None:
    work = replace(commit_of(world.take(0), LOGS[0], 4), witness=Witness(3, "abc"), watermark_ms=1357000000000)
    outcome = world.speed.commit(work)
    assert isinstance(outcome, Committed) and outcome.claim.witness == Witness(3, "abc")
    assert world.speed.reload(outcome.claim) == outcome.claim
    taken = world.take(0)
    assert taken.witness == Witness(3, "abc")


def test_counts_add_up_across_layers(world: World) -> None:
    claim = world.take(1)
    work = Commit(
        claim,
        9,
        Counts(accepted=4, duplicates=3, rejected=1, tombstones=1),
        {"by_account": touched(by_account, [], LOGS[1][:4])},
        {"by_account": ViewCounts(2, 1, 1), "by_region": ViewCounts(4)},
    )
    assert isinstance(world.speed.commit(work), Committed)
    world.night.choose(world.generation, D1, (0, 0))
    world.night.stage(
        world.generation, 1, replace(staged_of(LOGS, (0, 9), None), counts=[Counts(), Counts(5, 2, 1, 1)])
    )
    claim = world.take(1)
    world.speed.commit(replace(work, claim=claim, end=12, counts=Counts(tombstones=3), states={}, view_counts={}))
    before = {"accepted": 4, "duplicates": 3, "rejected": 1, "tombstones": 4}
    with transaction(world.engine) as connection:
        query = "SELECT * FROM serving.accounting WHERE partition = 1"
        rows = [dict(row) for row in connection.exec_driver_sql(query).mappings()]
        assert rows == [{"topic": "payments", "partition": 1, **before}]
        query = "SELECT view, folded, filtered, rejected FROM serving.view_accounting WHERE partition = 1 ORDER BY view"
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
        assert found == [("by_account", 2, 1, 1), ("by_region", 4, 0, 0)]
    assert world.night.publish(world.generation, 1) == "published"
    with transaction(world.engine) as connection:
        query = "SELECT accepted, duplicates, rejected, tombstones FROM serving.accounting WHERE partition = 1"
        assert tuple(connection.exec_driver_sql(query).one()) == (5, 2, 1, 4)
        query = "SELECT topic, partition, cut, position FROM serving.freshness ORDER BY partition"
        fresh = [tuple(row) for row in connection.exec_driver_sql(query)]
    assert fresh == [("payments", 0, 0, 0), ("payments", 1, 9, 12)]


def test_a_commit_that_moves_nothing_is_a_mistake(world: World) -> None:
    with pytest.raises(ValueError, match=r"\[0, 0\) moves nothing"):
        world.speed.commit(commit_of(world.take(0), LOGS[0], 0))


def test_a_broken_commit_changes_nothing(world: World) -> None:
    work = commit_of(world.take(0), LOGS[0], 3)
    table = work.states["by_region"]
    keyless = table.set_column(0, pa.field("region", pa.int64()), [pa.nulls(table.num_rows, pa.int64())])
    with pytest.raises(StoreError, match=r"null value in column .region. .*violates not-null constraint"):
        world.speed.commit(replace(work, states={**work.states, "by_region": keyless}))
    world.check(0, 0)
    assert isinstance(world.speed.commit(work), Committed)
    world.check(3, 0)


def test_generation_is_known_by_its_topic(world: World) -> None:
    assert world.speed.active("payments") == world.generation == world.night.active("payments")
    assert world.speed.active("others") is None
    assert isinstance(world.generation, Generation) and world.generation.partitions == 2
