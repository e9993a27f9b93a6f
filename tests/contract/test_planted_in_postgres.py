"""The bugs that can live in a store, planted in the Postgres store: a contract test notices each.

The test runs once without the bug, where it passes, and once with it, where it must not.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from pipeline.base.crash import NoCrash
from pipeline.base.errors import WatershedError
from pipeline.handover import Generation, Purge
from serving.ops.cuts import key_of
from serving.postgres.connection import transaction
from serving.stores import night as night_store
from serving.stores import speed as speed_store
from serving.stores.night import PostgresNightStore
from serving.stores.operator import PostgresOperatorStore
from tests.contract.world import VIEWS, connected
from tests.serving import test_leases as leasing
from tests.serving import test_operator_store as operating
from tests.serving import test_protocol as protocol


@dataclass(frozen=True)
class Bug:
    """What is patched, and the test that notices."""

    planted: Callable[[], AbstractContextManager[Any]]
    noticed_by: Callable[[Any], None]


def without(module: Any, statement: str, text: str, instead: str = "") -> Callable[[], AbstractContextManager[Any]]:
    """A statement of a store, with a part of it taken out."""

    def planted() -> AbstractContextManager[Any]:
        whole = str(getattr(module, statement))
        assert text in whole, f"{statement} has no {text!r} any more: plant the bug anew"
        return patch.object(module, statement, sa.text(whole.replace(text, instead)))

    return planted


class Died(Exception):
    """The night dies here."""


class DiesAfterPublishing:
    """Crash points: the process dies when all of publish is written, before it is committed."""

    def reach(self, name: str) -> None:
        if name == "publish.written":
            raise Died


def publish_is_all_or_nothing(world: operating.Operated) -> None:
    """A night that dies before its publish is committed has changed nothing."""
    world.commit(world.take(0), 3)
    cut = world.choose(6, 4)
    world.stage(cut)
    dying = PostgresNightStore(world.engine, VIEWS, crash=DiesAfterPublishing())
    with pytest.raises(Died):
        dying.publish(world.generation, cut)
    assert (world.night.visible(world.generation), world.now()) == (0, (3, 0))
    world.check(3, 0)
    assert world.night.publish(world.generation, cut) == "published"
    world.check(6, 4)


def publish_in_two(self: PostgresNightStore, generation: Generation, number: int) -> str:
    """The pointer in one transaction, the positions in the next."""
    nothing = sa.text("SELECT 1 WHERE :topic <> '' AND :generation > 0 AND CAST(:offsets AS bigint[]) IS NOT NULL")
    row = {**key_of(generation), "number": number, "offsets": list(self.cut(generation, number).offsets)}
    crash, self._crash = self._crash, NoCrash()
    with patch.multiple(night_store, RAISE_POSITIONS=nothing, OPEN_SEGMENTS=nothing):
        outcome = self._publish(generation, number)
    with transaction(self._engine) as connection:
        connection.execute(night_store.RAISE_POSITIONS, row)
        connection.execute(night_store.OPEN_SEGMENTS, row)
        crash.reach("publish.written")
    return outcome


shipped_purge = PostgresOperatorStore._purge


def purge_what_is_covered(self: PostgresOperatorStore, generation: Generation, marked: Purge) -> None:
    """What two kept batches do not need by now, whatever was marked."""
    shipped_purge(self, generation, self._mark(generation, 1) or marked)


def lower_nothing(self: PostgresOperatorStore, connection: Any, generation: Generation, row: dict[str, Any]) -> None:
    """The positions stay where publish had raised them."""


BUGS = {
    "position out of the commit's WHERE": Bug(
        without(speed_store, "ADVANCE", "AND position = :start "), protocol.test_the_same_commit_twice_lands_once
    ),
    "position and epoch out of the commit's WHERE": Bug(
        without(speed_store, "ADVANCE", "AND epoch = :epoch AND owner = :owner AND position = :start "),
        protocol.test_a_takeover_fences_the_owner_before,
    ),
    "a commit that straddles a cut": Bug(
        without(speed_store, "CHOSEN_CUTS", "> :start AND c.offsets[:partition + 1] <= :end", "= :end AND :start >= 0"),
        protocol.test_a_commit_never_straddles_a_cut_chosen_after_it_was_begun,
    ),
    "a commit that does not prolong the lease": Bug(
        without(speed_store, "ADVANCE", "secs => :lease_s", "secs => 0 * :lease_s"),
        leasing.test_a_commit_prolongs_the_lease_and_never_shortens_it,
    ),
    "a commit that shortens the lease": Bug(
        without(speed_store, "ADVANCE", "greatest(lease_until, clock_timestamp()", "(clock_timestamp()"),
        leasing.test_a_commit_prolongs_the_lease_and_never_shortens_it,
    ),
    "the segment not changed when a position arrives exactly at a cut": Bug(
        without(speed_store, "OPEN_SEGMENT", "SET segment = position", "SET segment = segment"),
        protocol.test_a_commit_never_straddles_a_cut_chosen_after_it_was_begun,
    ),
    "the end offsets read after which the rows are locked, without the max": Bug(
        lambda: patch.object(night_store, "max", lambda first, *more: first, create=True),
        protocol.test_a_cut_is_nowhere_below_ends_positions_and_other_cuts,
    ),
    "publish in two transactions": Bug(lambda: patch.object(PostgresNightStore, "publish", publish_in_two), publish_is_all_or_nothing),
    "staging a published batch again": Bug(
        without(night_store, "LOCK_CHOSEN", " AND status = 'chosen'"), protocol.test_a_published_batch_is_not_staged_again
    ),
    "rollback that does not lower a raised position": Bug(
        lambda: patch.object(PostgresOperatorStore, "_lower", lower_nothing),
        operating.test_rollback_after_a_raised_position_returns_to_the_end_of_what_segments_cover,
    ),
    "purge that recomputes what is covered": Bug(
        lambda: patch.object(PostgresOperatorStore, "_purge", purge_what_is_covered),
        operating.test_purge_deletes_what_was_marked_though_more_is_covered_by_then,
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_the_contract_holds(name: str, postgres_url: str) -> None:
    with connected(postgres_url) as engine:
        BUGS[name].noticed_by(operating.Operated(engine))


@pytest.mark.parametrize("name", BUGS)
def test_the_contract_notices_the_bug(name: str, postgres_url: str) -> None:
    with connected(postgres_url) as engine:
        world = operating.Operated(engine)
        with BUGS[name].planted(), pytest.raises((AssertionError, WatershedError, pytest.fail.Exception)):
            BUGS[name].noticed_by(world)
