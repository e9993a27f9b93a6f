"""One suite over both stores: what is tested on Postgres holds on the arbiter in memory, so that the simulation cannot drift from it.

The tests themselves stand in tests/serving (test_protocol.py, test_adoption.py, test_leases.py, test_operator_store.py,
test_generation_store.py) and in tests/speed_layer/test_refold.py, where they run on a real Postgres.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest

from pipeline.handover import Committed
from simulation.memory_replacement import MemoryRefoldStore
from tests.contract.memory import MemoryWorld
from tests.contract.store_world import LOGS
from tests.contract.world import commit_of, connected
from tests.serving import test_adoption as adoption
from tests.serving import test_generation_store as generations
from tests.serving import test_leases as leases
from tests.serving import test_operator_store as operating
from tests.serving import test_protocol as protocol
from tests.speed_layer import test_refold as refolds

POSTGRES_ALONE = {
    protocol.test_only_touched_groups_are_stored_and_all_are_served: "asks the tables what is stored",
    protocol.test_publish_refuses_segments_that_do_not_tile: "damages the tables in SQL",
    protocol.test_publish_waits_for_a_lock_only_so_long_and_tries_again: "locks",
    protocol.test_a_stopped_client_loses_its_locks: "locks",
    leases.test_a_lease_being_committed_counts_as_held: "locks",
    leases.test_a_lease_being_changed_is_skipped_not_waited_for: "locks",
    leases.test_counts_add_up_across_layers: "asks serving.accounting; the simulation compares the counts after every transaction",
}
Test = Callable[..., None]


def found_in(module: Any) -> list[Test]:
    """Its tests, in their order."""
    return [found for name, found in vars(module).items() if name.startswith("test_") and inspect.isfunction(found)]


def cases(test: Test) -> list[dict[str, Any]]:
    """The arguments of each case of a test, beside its world."""
    found: list[dict[str, Any]] = [{}]
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names, rows = mark.args
            names = [names] if isinstance(names, str) else list(names)
            rows = [row if len(names) > 1 else (row,) for row in rows]
            found = [one | dict(zip(names, row, strict=True)) for one in found for row in rows]
    return found


MODULES = (protocol, adoption, leases, operating, refolds, generations)
TESTS = [test for module in MODULES for test in found_in(module) if test not in POSTGRES_ALONE]
SHARED = [(test, case) for test in TESTS for case in cases(test)]


@pytest.mark.parametrize(("test", "case"), SHARED, ids=[f"{t.__name__}{list(c.values()) or ''}" for t, c in SHARED])
def test_in_memory(test: Test, case: dict[str, Any]) -> None:
    test(MemoryWorld(), **case)


def test_few_rules_are_tested_on_postgres_alone() -> None:
    assert len(TESTS) > 5 * len(POSTGRES_ALONE)


def test_the_contract_notices_a_seizure_in_memory_that_fences_nobody() -> None:
    """Planted here, for no answer of a simulation shows it; in the Postgres store by test_planted_in_postgres."""
    seized = refolds.test_a_seizure_fences_whoever_held_the_partition_at_once_though_no_position_moved
    with patch.object(MemoryRefoldStore, "_fence", lambda *_: None), pytest.raises(AssertionError):
        seized(MemoryWorld())


@pytest.fixture(params=["postgres", "memory"])
def world(request: pytest.FixtureRequest) -> Iterator[operating.Operated]:
    if request.param == "memory":
        yield MemoryWorld()
    else:
        with connected(request.getfixturevalue("postgres_url")) as engine:
            yield operating.Operated(engine)


def test_rows_of_a_withdrawn_batch_at_the_kept_cut_make_no_others_superfluous(world: operating.Operated) -> None:
    """Found by the simulation (seed 201): two cuts at the same offsets, of which the later was published and rolled back."""
    world.night_at(1, 0)
    two, three = world.choose(4, 2), world.choose(4, 2)
    world.stage(three)
    assert world.night.publish(world.generation, three) == "published"
    world.operator.rollback(world.generation)
    world.stage(two)
    assert world.night.publish(world.generation, two) == "published"
    world.check(4, 2)
    world.purge(1)
    world.check(4, 2)


def test_a_worker_records_its_snapshots_and_the_next_takeover_finds_them(world: operating.Operated) -> None:
    first = world.commit(world.take(0), 4)
    assert world.speed.record_snapshot(first, "at-4")
    second = world.commit(first, 7)
    assert world.speed.record_snapshot(second, "at-7")
    assert [(s.position, s.path) for s in world.speed.snapshots(second)] == [(7, "at-7"), (4, "at-4")]
    assert [s.path for s in world.speed.snapshots(first)] == ["at-4"]
    assert world.speed.superseded(second, "at-7") == ["at-4"]
    later = world.take(0)
    assert not world.speed.record_snapshot(second, "too-late"), "fenced"
    assert world.speed.record_snapshot(later, "at-7-again")
    assert sorted(world.speed.superseded(second, "at-7")) == ["at-4"], "not what a later takeover wrote"
    world.speed.forget_snapshot(later, "at-4")
    assert [s.path for s in world.speed.snapshots(later)] == ["at-7-again", "at-7"]
    assert isinstance(world.speed.commit(commit_of(later, LOGS[0], 9)), Committed)
