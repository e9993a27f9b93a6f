"""Leases as a worker keeps them: what a renewal must do so that nobody stands still. That it cannot harm is the simulation's to show.

Each test is tried on bugs in the renewal too: with the bug planted it must fail.
"""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import pytest

from pipeline.base.errors import Refused
from serving.postgres.connection import StoreUnavailable
from simulation.play import quiet
from simulation.world import Sizes, World
from speed_layer.collaborators import LEASE_S, ActiveSource
from speed_layer.ownership import REBALANCE_S, RENEW_S, Ownership
from speed_layer.partition import PartitionWork
from speed_layer.stats import Stats
from tests.support.clocks import HandClock
from tests.support.simulated import by_shop

TOPIC = by_shop.source.topic


class Crew:
    """Workers' leases on one arbiter in memory, whose time and theirs go on together; they fold nothing."""

    def __init__(self) -> None:
        self.world = World([by_shop], 1, Sizes(partitions=4))
        self.clock = HandClock()
        self.told: list[str] = []

    def joins(self, name: str) -> Ownership:
        """One more worker."""
        worker = self.world.worker(name, random.Random(name))
        collaborators = replace(worker.collaborators, clock=self.clock)
        source = ActiveSource(by_shop.source, [by_shop], self.world.tables.generation)

        def finish(work: PartitionWork) -> None:
            self.told.append(
                f"{name} finishes {work.claim.partition}, {'held' if self.holder(work.claim.partition) == name else 'lost'}"
            )

        def gone(work: PartitionWork) -> None:
            self.told.append(f"{name} is rid of {work.claim.partition}")

        return Ownership(name, {TOPIC: source}, collaborators, Stats(self.clock), finish, gone)

    def passes(self, seconds: float) -> None:
        """Time, for workers and arbiter."""
        self.clock.now_s += seconds
        self.world.tables.now_s += seconds

    def holder(self, partition: int) -> str | None:
        """The worker in the partition's row."""
        return self.world.tables.of(1).positions[partition].worker

    def taken_by_another(self, partition: int) -> None:
        """The lease ran out and somebody took it."""
        self.world.tables.of(1).positions[partition].lease_until_s = -1.0
        assert self.world.speed.take(self.world.tables.generation, partition, "thief", 3600.0) is not None


def partitions(ownership: Ownership) -> list[int]:
    return sorted(work.claim.partition for work in ownership.in_hand)


@pytest.fixture
def crew() -> Iterator[Crew]:
    with quiet():
        yield Crew()


# ---- what every renewal must do
def a_lost_lease_is_dropped_though_no_event_ever_comes(crew: Crew) -> None:
    mine = crew.joins("a")
    mine.rebalance()
    assert partitions(mine) == [0, 1, 2, 3]
    crew.taken_by_another(1)
    mine.renew()
    mine.rebalance()
    assert partitions(mine) == [0, 2, 3], "the lost one is in hand"
    assert crew.told == ["a is rid of 1"] and (TOPIC, 1) not in mine.stats.positions


def a_long_fold_is_not_taken_for_a_death(crew: Crew) -> None:
    mine, other = crew.joins("a"), crew.joins("b")
    mine.rebalance()
    for _ in range(round(2 * LEASE_S / RENEW_S)):  # its other thread folds all the while
        crew.passes(RENEW_S)
        mine.renew()
    living = crew.world.speed.heartbeat(TOPIC, "b", LEASE_S)
    assert living == ["a", "b"], "a is thought dead"
    other.rebalance()
    assert partitions(other) == [], "all leases are held"


def a_lease_lives_as_long_as_it_is_renewed(crew: Crew) -> None:
    mine = crew.joins("a")
    mine.rebalance()
    for _ in range(round(2 * LEASE_S / RENEW_S)):
        crew.passes(RENEW_S)
        mine.renew()
    assert all(row.held for row in crew.world.speed.leases(crew.world.tables.generation)), "a lease ran out"
    crew.passes(LEASE_S + 0.1)
    assert not any(row.held for row in crew.world.speed.leases(crew.world.tables.generation))


def a_partition_taken_again_outlives_the_news_of_its_loss(crew: Crew) -> None:
    mine = crew.joins("a")
    mine.rebalance()
    crew.taken_by_another(2)
    before = mine.get((TOPIC, 2))
    assert before is not None
    mine.renew()
    mine.drop(before, "fenced")  # a commit told it first
    crew.world.tables.of(1).positions[2].lease_until_s = -1.0
    crew.passes(REBALANCE_S)
    mine.rebalance()
    assert (now := mine.get((TOPIC, 2))) is not None and now is not before
    mine._lost.put(before.claim)  # said twice: a renewal that was under way all the while
    mine.rebalance()
    assert mine.get((TOPIC, 2)) is now, "the new one was dropped for the old one"


def renew_that_notices_no_loss(self: Ownership) -> None:
    self.store.heartbeat(TOPIC, self.name, LEASE_S)
    self.store.renew([work.claim for work in self.in_hand], LEASE_S)


def renew_without_a_heartbeat(self: Ownership) -> None:
    claims = [work.claim for work in self.in_hand]
    held = self.store.renew(claims, LEASE_S)
    for claim in claims:
        if claim.owner not in held:
            self._lost.put(claim)


def renew_nothing(self: Ownership) -> None:
    self.store.heartbeat(TOPIC, self.name, LEASE_S)


shipped_rebalance = Ownership.rebalance


def rebalance_by_partition_alone(self: Ownership) -> None:
    while not self._lost.empty():
        lost = self._lost.get()
        if (work := self.get((lost.topic, lost.partition))) is not None:
            self.drop(work, "lost")
    shipped_rebalance(self)


@dataclass(frozen=True)
class Bug:
    """A method of Ownership, with what it must not do, and how the claim fails then."""

    method: str
    instead: Callable[[Ownership], None]
    fails: str


CLAIMS: dict[Callable[[Crew], None], Bug] = {
    a_lost_lease_is_dropped_though_no_event_ever_comes: Bug(
        "renew", renew_that_notices_no_loss, "the lost one is in hand"
    ),
    a_long_fold_is_not_taken_for_a_death: Bug("renew", renew_without_a_heartbeat, "a is thought dead"),
    a_lease_lives_as_long_as_it_is_renewed: Bug("renew", renew_nothing, "a lease ran out"),
    a_partition_taken_again_outlives_the_news_of_its_loss: Bug(
        "rebalance", rebalance_by_partition_alone, "the new one was dropped for the old one"
    ),
}
EVERY = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)


@EVERY
def test_the_shipped_renewal_keeps_workers_going(claim: Callable[[Crew], None], crew: Crew) -> None:
    claim(crew)


@EVERY
def test_a_bug_in_the_renewal_is_noticed(claim: Callable[[Crew], None], crew: Crew) -> None:
    bug = CLAIMS[claim]
    with patch.object(Ownership, bug.method, bug.instead), pytest.raises(AssertionError, match=bug.fails):
        claim(crew)


# ---- the loop around it
def test_the_loop_renews_every_second_until_the_worker_has_ended() -> None:
    with quiet():
        crew = Crew()
        mine, ended = crew.joins("a"), threading.Event()
        mine.rebalance()
        rounds: list[float] = []

        def waited(event: threading.Event) -> None:
            rounds.append(min(row.lease_until_s for row in crew.world.tables.of(1).positions))
            crew.world.tables.now_s = mine.clock.monotonic()
            if len(rounds) == 4:
                event.set()

        mine.clock = HandClock(waited)
        mine.renew_until(ended)
    assert rounds == [LEASE_S, RENEW_S + LEASE_S, 2 * RENEW_S + LEASE_S, 3 * RENEW_S + LEASE_S]
    assert mine.failed is None


def test_a_store_that_is_down_is_waited_for_and_an_error_of_ours_ends_the_worker() -> None:
    with quiet():
        crew = Crew()
        worker = crew.world.worker("w", random.Random(1))
        worker.step()
        errors: list[Exception] = [StoreUnavailable("Postgres broke off"), ZeroDivisionError("ours")]

        def failing(*_: Any) -> Any:
            raise errors.pop(0)

        with patch.object(crew.world.speed, "heartbeat", failing):
            worker.ownership.renew_until(threading.Event())
        assert not errors, "the first was waited for"
        assert worker.stats.trouble == "Postgres broke off" and worker.stats.lag is None
        with pytest.raises(ZeroDivisionError, match="ours"):
            worker.step()


# ---- sharing out
def test_what_is_above_the_share_is_finished_before_it_is_released(crew: Crew) -> None:
    mine, other = crew.joins("a"), crew.joins("b")
    mine.rebalance()
    other.rebalance()
    crew.told.clear()
    crew.passes(REBALANCE_S)
    first, second, third, fourth = [work.claim.partition for work in mine.in_hand]
    mine.rebalance()
    assert crew.told == [f"a {does}" for p in (third, fourth) for does in (f"finishes {p}, held", f"is rid of {p}")]
    crew.passes(REBALANCE_S)
    other.rebalance()
    assert (partitions(mine), partitions(other)) == (sorted([first, second]), sorted([third, fourth])), (
        "nothing moved that need not"
    )
    assert [crew.holder(p) for p in (first, second, third, fourth)] == ["a", "a", "b", "b"]


def test_nothing_is_looked_at_before_it_is_time(crew: Crew) -> None:
    mine = crew.joins("a")
    mine.rebalance()
    with patch.object(crew.world.speed, "leases", side_effect=AssertionError("too soon")):
        crew.passes(REBALANCE_S - 0.01)
        mine.rebalance()
        crew.passes(0.02)
        with pytest.raises(AssertionError, match="too soon"):
            mine.rebalance()


def test_a_worker_that_ends_leaves_every_lease_free_and_its_name_forgotten(crew: Crew) -> None:
    mine = crew.joins("a")
    mine.rebalance()
    mine.let_go()
    mine.farewell()
    assert partitions(mine) == [] and [crew.holder(p) for p in range(4)] == [None] * 4
    assert crew.world.speed.heartbeat(TOPIC, "b", LEASE_S) == ["b"]


def test_a_worker_of_a_retired_generation_is_refused(crew: Crew) -> None:
    mine = crew.joins("a")
    active = crew.world.tables.of(1)
    active.generation = replace(active.generation, number=2)
    with pytest.raises(Refused, match=r"generation 1, which this worker runs, is retired; .* start the worker again"):
        mine.rebalance()
