"""Every rule of the hand-over that the store keeps, each by itself, on a real Postgres."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest

from pipeline.base.errors import Refused, StoreError
from pipeline.handover import Committed, Fenced, Split
from serving.postgres.connection import StoreBusy, transaction
from serving.stores.night import PostgresNightStore
from tests.contract.store_world import D1, D2, D3, LOGS, World
from tests.contract.world import (
    VIEWS,
    commit_of,
    connected,
    staged_of,
)


@pytest.fixture
def world(postgres_url: str) -> Iterator[World]:
    with connected(postgres_url) as engine:
        yield World(engine)


def test_a_commit_shows_at_once_and_moves_the_position(world: World) -> None:
    claim = world.commit(world.take(0), 7)
    world.check(7, 0)
    claim = world.commit(claim, 9)
    world.check(9, 0)
    assert (claim.position, claim.segment) == (9, 0)
    assert world.row(0) == (9, 0)


def test_a_takeover_fences_the_owner_before(world: World) -> None:
    zombie = world.take(0)
    owner = world.take(0)
    assert owner.epoch == zombie.epoch + 1 and owner.owner != zombie.owner
    assert world.speed.commit(commit_of(zombie, LOGS[0], 3)) == Fenced()
    assert world.speed.reload(zombie) is None
    world.check(0, 0)
    world.commit(owner, 3)
    world.check(3, 0)


def test_an_epoch_alone_fences(world: World) -> None:
    claim = world.take(0)
    assert world.speed.commit(commit_of(replace(claim, epoch=claim.epoch - 1), LOGS[0], 3)) == Fenced()
    world.check(0, 0)


def test_the_same_commit_twice_lands_once(world: World) -> None:
    work = commit_of(world.take(0), LOGS[0], 3)
    assert isinstance(world.speed.commit(work), Committed)
    assert world.speed.commit(work) == Fenced()
    world.check(3, 0)


def test_states_of_an_older_segment_never_land_in_a_newer_one(world: World) -> None:
    claim = world.commit(world.take(0), 5)
    world.night.choose(world.generation, D1, (0, 0))  # the cut is the position: a new segment opens there
    assert world.row(0) == (5, 5)
    assert world.speed.commit(commit_of(claim, LOGS[0], 6)) == Fenced()
    fresh = world.speed.reload(claim)
    assert fresh is not None and (fresh.position, fresh.segment) == (5, 5)
    assert world.speed.load_states(fresh, "by_account").num_rows == 0
    world.commit(fresh, 6)
    world.check(6, 0)


def test_a_commit_never_straddles_a_cut_chosen_after_it_was_begun(world: World) -> None:
    claim = world.take(0)
    work = commit_of(claim, LOGS[0], 9)  # folded before the cuts below were chosen
    world.night.choose(world.generation, D1, (4, 0))
    world.night.choose(world.generation, D2, (6, 0))
    assert world.speed.commit(work) == Split(at=4)
    world.check(0, 0)
    claim = world.commit(claim, 4)
    assert claim.segment == 4  # by commit: a position that arrives at a cut opens the next segment
    assert world.speed.commit(commit_of(claim, LOGS[0], 9)) == Split(at=6)
    claim = world.commit(world.commit(claim, 6), 9)
    assert claim.segment == 6
    world.check(9, 0)
    for number in (1, 2):
        world.stage(number)
        assert world.night.publish(world.generation, number) == "published"
        world.check(9, 6 if number > 2 else 0)


def test_a_cut_is_nowhere_below_ends_positions_and_other_cuts(world: World) -> None:
    world.commit(world.take(0), 5)
    assert world.night.choose(world.generation, D1, (3, 8)).offsets == (5, 8)
    assert world.night.choose(world.generation, D2, (2, 9)).offsets == (5, 9)
    assert world.night.choose(world.generation, D3, (7, 1)).offsets == (7, 9)
    assert [cut.number for cut in world.night.ledger(world.generation)] == [0, 1, 2, 3]


def test_a_date_has_one_cut_whoever_asks(world: World) -> None:
    found = []

    def choose(ends: tuple[int, int]) -> None:
        found.append(world.night.choose(world.generation, D1, ends))

    threads = [threading.Thread(target=choose, args=((n, 2 * n),)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1
    assert world.night.cut_of(world.generation, D1) == found[0]


def test_publish_moves_pointer_and_positions_at_once(world: World) -> None:
    owner = world.take(0)
    owner = world.commit(owner, 3)
    world.night.choose(world.generation, D1, (6, 4))
    world.stage(1)
    world.check(3, 0)
    assert world.night.publish(world.generation, 1) == "published"
    assert world.row(0) == (6, 6) and world.row(1) == (4, 4)
    world.check(6, 4)
    assert world.speed.commit(commit_of(owner, LOGS[0], 5)) == Fenced()  # published past
    world.check(6, 4)
    fresh = world.speed.reload(owner)
    assert fresh is not None and (fresh.position, fresh.segment, fresh.witness) == (6, 6, None)
    world.commit(fresh, 8)
    world.check(8, 4)


def test_a_commit_and_a_publish_race_without_a_wrong_answer(world: World) -> None:
    claim = world.take(0)
    for number in range(1, 8):
        world.night.choose(world.generation, date(2013, 2, number), (2 * number, 0))
        world.stage(number)
        thread = threading.Thread(target=world.night.publish, args=(world.generation, number))
        thread.start()
        world.speed.commit(commit_of(claim, LOGS[0], 2 * number))
        thread.join()
        fresh = world.speed.reload(claim)
        assert fresh is not None and fresh.position == fresh.segment == 2 * number
        claim = fresh
        world.check(2 * number, 0)


def test_a_cut_nowhere_above_the_visible_one_is_covered(world: World) -> None:
    for number, day in ((1, D1), (2, D2), (3, D3)):
        world.night.choose(world.generation, day, (2 * min(number, 2), 3))
    world.stage(2)
    assert world.night.publish(world.generation, 2) == "published"
    world.stage(1)
    assert world.night.publish(world.generation, 1) == "covered"  # below
    assert world.night.publish(world.generation, 3) == "covered"  # equal, and not even staged
    assert [cut.status for cut in world.night.ledger(world.generation)] == [
        "published",
        "covered",
        "published",
        "covered",
    ]
    assert world.night.visible(world.generation) == 2
    world.check(4, 3)
    world.stage(1)  # nothing is left to do, and nothing happens
    assert world.night.publish(world.generation, 2) == "published"  # the reply of the first was lost
    assert world.night.publish(world.generation, 1) == "covered"
    world.check(4, 3)


def test_only_a_complete_batch_is_published(world: World) -> None:
    world.night.choose(world.generation, D1, (3, 3))
    with pytest.raises(Refused, match=r"batch 1 \(2013-01-01\) of topic payments is not staged; run `luigi"):
        world.night.publish(world.generation, 1)
    world.check(0, 0)


def test_a_published_batch_is_not_staged_again(world: World) -> None:
    world.night.choose(world.generation, D1, (3, 3))
    world.stage(1)
    world.stage(1, full=True)  # a twin: the same rows
    world.night.publish(world.generation, 1)
    with pytest.raises(Refused, match="is published: its rows cannot be staged again"):
        world.stage(1)
    world.check(3, 3)


def test_staging_that_breaks_off_leaves_the_batch_as_it_was(world: World) -> None:
    world.night.choose(world.generation, D1, (3, 3))
    world.stage(1)
    whole = staged_of(LOGS, (3, 3), None, source="other")

    class Broken:
        def __iter__(self) -> Iterator[pa.Table]:
            yield from whole.rows["by_account"]
            raise OSError("the lake is gone")

    with pytest.raises(OSError, match="the lake is gone"):
        world.night.stage(world.generation, 1, replace(whole, rows={**whole.rows, "by_account": Broken()}))
    cut = world.night.cut(world.generation, 1)
    assert (cut.complete, cut.staged_from) == (True, "digest")
    assert world.night.publish(world.generation, 1) == "published"
    world.check(3, 3)


def test_a_base_is_published_and_below(world: World) -> None:
    def base(number: int) -> int | None:
        found = world.night.base_of(world.generation, number)
        return found.number if found else None

    for number, day in ((1, D1), (2, D2), (3, D3)):
        world.night.choose(world.generation, day, (number, number))
    assert (base(1), base(3)) == (0, 0)
    world.stage(2)
    world.night.publish(world.generation, 2)
    assert (base(1), base(2), base(3)) == (0, 0, 2)


def test_only_touched_groups_are_stored_and_all_are_served(world: World) -> None:
    for number, cut in enumerate([(1, 0), (3, 0), (3, 2), (8, 2)], 1):
        world.night.choose(world.generation, date(2013, 3, number), cut)
    world.stage(1), world.night.publish(world.generation, 1)
    world.stage(4), world.night.publish(world.generation, 4)  # based on 1: 2 and 3 were never staged
    world.check(8, 2)
    cut = world.night.choose(world.generation, D1, (9, 2))
    world.stage(cut.number)
    world.night.publish(world.generation, cut.number)
    world.check(9, 2)
    with transaction(world.engine) as connection:
        stored = connection.exec_driver_sql(
            "SELECT account, batch FROM batch.by_account__g1 ORDER BY batch, account"
        ).all()
    assert [tuple(row) for row in stored] == [("a", 1), ("a", 4), ("b", 4), ("a", 5)]


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("UPDATE ops.segments SET start = 5 WHERE start = 6", r"segment \[5, 9\) straddles the cut 6"),
        ("DELETE FROM ops.segments WHERE start = 6", r"no segment covers \[6, 9\)"),
        ('UPDATE ops.segments SET "end" = 8 WHERE start = 6', r"no segment covers \[8, 9\)"),
        ("UPDATE ops.segments SET start = 7 WHERE start = 6", r"segment \[7, 9\) follows a gap or overlap at 6"),
    ],
)
def test_publish_refuses_segments_that_do_not_tile(world: World, statement: str, wrong: str) -> None:
    claim = world.take(0)
    world.night.choose(world.generation, D1, (6, 0))
    world.commit(world.commit(claim, 6), 9)
    world.stage(1)
    with transaction(world.engine) as connection:
        connection.exec_driver_sql(statement)
    with pytest.raises(
        Refused, match=rf"batch 1 .* cannot be published: topic payments, partition 0: {wrong}; .*watershed rebuild"
    ):
        world.night.publish(world.generation, 1)
    assert world.night.visible(world.generation) == 0


def test_publish_waits_for_a_lock_only_so_long_and_tries_again(world: World) -> None:
    world.night.choose(world.generation, D1, (3, 3))
    world.stage(1)
    impatient = PostgresNightStore(world.engine, VIEWS, lock_timeout_s=0.05, patience_s=0)
    lock = "SELECT * FROM ops.positions WHERE partition = 1 FOR UPDATE"
    with transaction(world.engine) as connection:
        connection.exec_driver_sql(lock)
        with pytest.raises(StoreBusy, match="is busy"):
            impatient.publish(world.generation, 1)
        world.check(0, 0)
    assert impatient.publish(world.generation, 1) == "published"
    world.night.choose(world.generation, D2, (5, 5))
    world.stage(2)
    released = threading.Event()

    def hold() -> None:
        with transaction(world.engine) as connection:
            connection.exec_driver_sql(lock)
            held.set()
            released.wait(1.0)  # longer than one try's lock_timeout

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    assert world.night.publish(world.generation, 2) == "published"
    released.set()
    holder.join()


def test_a_stopped_client_loses_its_locks(postgres_url: str) -> None:
    with connected(postgres_url, idle_timeout_s=0.3) as engine:
        world = World(engine)
        with pytest.raises(StoreError), transaction(engine) as stopped:
            stopped.exec_driver_sql("SELECT * FROM ops.positions FOR UPDATE")
            world.night.choose(world.generation, D1, (1, 1))  # waits until the other's time is over
            stopped.exec_driver_sql("SELECT 1")
        assert world.night.cut_of(world.generation, D1) is not None
