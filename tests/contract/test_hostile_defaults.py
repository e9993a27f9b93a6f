"""The whole contract of the Postgres stores holds whatever a DBA has set for the role or the database.

what a store does under hostile defaults = what it does under Postgres' own
"""

import inspect
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline.handover import Split
from serving.postgres.connection import reading, transaction
from serving.stores.speed import PostgresSpeedStore
from tests.contract.store_world import D1, LOGS, World
from tests.contract.test_both_stores import MODULES, TESTS, Test, cases, found_in
from tests.contract.world import VIEWS, commit_of, connected, drop_everything
from tests.serving import test_operator_store as operating
from tests.support.hostile import HOSTILE, make_hostile


class ChoosesACut:
    """Crash points: where a commit has copied and not locked yet, a night chooses a cut within its range."""

    def __init__(self, world: World) -> None:
        self.world = world

    def reach(self, name: str) -> None:
        if name == "speed.copied":
            self.world.night.choose(self.world.generation, D1, (3, 0))


def a_cut_chosen_between_copy_and_lock_splits_the_commit(world: World) -> None:
    """A test of a store: the commit [0, 7) meets a cut at 3, and that night can be published."""
    claim = world.take(0)
    speed = PostgresSpeedStore(world.engine, VIEWS, ChoosesACut(world))
    assert speed.commit(commit_of(claim, LOGS[0], 7)) == Split(at=3)
    world.check(0, 0)
    world.commit(world.commit(claim, 3), 7)
    world.stage(1)
    assert world.night.publish(world.generation, 1) == "published"
    world.check(7, 0)


WALK = operating.test_any_sequence_of_commits_nights_rollbacks_and_purges_stays_exact
ISOLATIONS = ("repeatable read", "serializable")
# All at once, as far as they go together: the whole contract under each by itself would take two minutes of processor time.
TOGETHER = {
    name: {k: v for one in HOSTILE if one not in ISOLATIONS for k, v in HOSTILE[one].items()} | HOSTILE[name]
    for name in ISOLATIONS
}
BY_ITSELF: list[Test] = [
    a_cut_chosen_between_copy_and_lock_splits_the_commit,
    operating.test_rollback_after_a_raised_position_returns_to_the_end_of_what_segments_cover,
]


def contract(isolation: str) -> list[tuple[Test, dict[str, Any]]]:
    """Every test of the stores, with its cases; of the random walk, which costs as much as all others, two seeds."""
    every = [(test, case) for module in MODULES for test in found_in(module) for case in cases(test)]
    walks = [one for one in every if one[0] is WALK][ISOLATIONS.index(isolation) :: 6]
    return [one for one in every if one[0] is not WALK] + walks


@pytest.fixture(params=HOSTILE)
def hostile_url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    make_hostile(postgres_url, HOSTILE[request.param])
    return postgres_url


@pytest.mark.timeout(180)
@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_the_whole_contract_holds_under_all_of_them_together(isolation: str, postgres_url: str) -> None:
    make_hostile(postgres_url, TOGETHER[isolation])
    failed = {}
    with connected(postgres_url) as engine:
        for test, case in contract(isolation):
            drop_everything(engine)
            given = {"postgres_url": postgres_url} if "postgres_url" in inspect.signature(test).parameters else {}
            try:
                test(**(given or {"world": operating.Operated(engine)}), **case)
            except (Exception, pytest.fail.Exception) as error:
                failed[f"{test.__name__}{list(case.values()) or ''}"] = error
    assert not failed, "\n".join(f"{which}: {error!r}" for which, error in failed.items())


def test_the_whole_contract_is_whole_and_every_default_is_in_force() -> None:
    for isolation in ISOLATIONS:
        found = {test for test, _ in contract(isolation)}
        assert len(found) > 50 and WALK in found and set(TESTS) <= found
        assert TOGETHER[isolation].keys() == {setting for settings in HOSTILE.values() for setting in settings}


def test_what_a_default_can_break_holds_under_each_by_itself(hostile_url: str) -> None:
    with connected(hostile_url) as engine:
        for test in BY_ITSELF:
            drop_everything(engine)
            test(operating.Operated(engine))


def test_every_transaction_pins_what_it_relies_on(hostile_url: str) -> None:
    wanted = {
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "TimeZone": "UTC",
        "array_nulls": "on",
        "bytea_output": "hex",
        "client_encoding": "UTF8",
        "client_min_messages": "warning",
        "extra_float_digits": "1",
        "idle_in_transaction_session_timeout": "1500ms",
        "lock_timeout": "3s",
        "row_security": "off",
        "search_path": "pg_catalog, pg_temp",
        "standard_conforming_strings": "on",
        "statement_timeout": "0",
        "transform_null_equals": "off",
    }
    writes = {"transaction_isolation": "read committed", "transaction_read_only": "off", "synchronous_commit": "on"}
    reads = {"transaction_isolation": "repeatable read", "transaction_read_only": "on"}
    with connected(hostile_url, idle_timeout_s=1.5, lock_timeout_s=3) as engine:
        for opened, more in ((transaction, writes), (reading, reads), (transaction, writes)):
            with opened(engine) as connection:
                for _ in range(2):  # a rollback begins another transaction, which pins again
                    names = wanted | more
                    shown = {
                        n: connection.execute(sa.text("SELECT current_setting(:n)"), {"n": n}).scalar_one()
                        for n in names
                    }
                    assert shown == names
                    connection.rollback()


def test_a_readers_instant_is_that_of_its_own_first_statement(postgres_url: str) -> None:
    """Pinning takes no snapshot: what was committed before a reader's first lock is seen."""
    with connected(postgres_url) as engine:
        with transaction(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE public.t (n int)")
        with reading(engine) as reader:
            with transaction(engine) as writer:
                writer.exec_driver_sql("INSERT INTO public.t VALUES (1)")
            assert reader.exec_driver_sql("SELECT count(*) FROM public.t").scalar_one() == 1
