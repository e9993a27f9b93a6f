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
from sqlalchemy.engine import Connection

from pipeline.base.crash import NoCrash
from pipeline.base.errors import WatershedError
from pipeline.handover import Generation, Purge
from serving.generations import replace as rebuild
from serving.ops import batches, cuts, leases, positions
from serving.postgres import connection as connections
from serving.stores import night as night_store
from serving.stores.night import PostgresNightStore
from serving.stores.operator import PostgresOperatorStore
from tests.contract import test_hostile_defaults as hostile
from tests.contract.world import VIEWS, connected, drop_everything
from tests.serving import test_generation_store as generations
from tests.serving import test_leases as leasing
from tests.serving import test_operator_store as operating
from tests.serving import test_protocol as protocol
from tests.speed_layer import test_refold as refolding
from tests.support.hostile import HOSTILE, make_hostile


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
    offsets = self.cut(generation, number).offsets
    crash, self._crash = self._crash, NoCrash()
    without_positions = patch.multiple(positions, RAISE_POSITIONS=nothing, OPEN_SEGMENTS=nothing)
    with without_positions, connections.transaction(self._transactions.engine) as connection:
        outcome = self._publish(connection, generation, number)
    with connections.transaction(self._transactions.engine) as connection:
        positions.raise_positions(connection, generation, offsets)
        positions.open_segments(connection, generation, offsets)
        crash.reach("publish.written")
    return outcome


shipped_purge = PostgresOperatorStore._purge


def purge_what_is_covered(
    self: PostgresOperatorStore, connection: Connection, generation: Generation, marked: Purge
) -> None:
    """What two kept batches do not need by now, whatever was marked."""
    shipped_purge(self, connection, generation, self._mark(connection, generation, 1) or marked)


def lower_nothing(self: PostgresOperatorStore, connection: Connection, generation: Generation, *where: int) -> None:
    """The positions stay where publish had raised them."""


def retire_nothing(connection: Any, generation: Generation) -> None:
    """The generation before is left as it was."""


def copy_no_cut(connection: Any, old: Generation, new: Generation, positions: list[int]) -> None:
    """What was chosen meanwhile is not known to the new one."""


BUGS = {
    "position out of the commit's WHERE": Bug(
        without(positions, "ADVANCE", "AND position = :start "), protocol.test_the_same_commit_twice_lands_once
    ),
    "position and epoch out of the commit's WHERE": Bug(
        without(positions, "ADVANCE", "AND epoch = :epoch AND owner = :owner AND position = :start "),
        protocol.test_a_takeover_fences_the_owner_before,
    ),
    "a commit that straddles a cut": Bug(
        without(cuts, "CHOSEN_CUTS", "> :start AND c.offsets[:partition + 1] <= :end", "= :end AND :start >= 0"),
        protocol.test_a_commit_never_straddles_a_cut_chosen_after_it_was_begun,
    ),
    "a commit that does not prolong the lease": Bug(
        without(positions, "ADVANCE", "secs => :lease_s", "secs => 0 * :lease_s"),
        leasing.test_a_commit_prolongs_the_lease_and_never_shortens_it,
    ),
    "a commit that shortens the lease": Bug(
        without(positions, "ADVANCE", "greatest(lease_until, clock_timestamp()", "(clock_timestamp()"),
        leasing.test_a_commit_prolongs_the_lease_and_never_shortens_it,
    ),
    "the segment not changed when a position arrives exactly at a cut": Bug(
        without(positions, "BEGIN_SEGMENT", "SET segment = :segment", "SET segment = segment"),
        protocol.test_a_commit_never_straddles_a_cut_chosen_after_it_was_begun,
    ),
    "the end offsets read after which the rows are locked, without the max": Bug(
        lambda: patch.object(night_store, "max", lambda first, *more: first, create=True),
        protocol.test_a_cut_is_nowhere_below_ends_positions_and_other_cuts,
    ),
    "publish in two transactions": Bug(
        lambda: patch.object(PostgresNightStore, "publish", publish_in_two), publish_is_all_or_nothing
    ),
    "staging a published batch again": Bug(
        without(batches, "LOCK_CHOSEN", " AND status = 'chosen'"), protocol.test_a_published_batch_is_not_staged_again
    ),
    "rollback that does not lower a raised position": Bug(
        lambda: patch.object(PostgresOperatorStore, "_lower", lower_nothing),
        operating.test_rollback_after_a_raised_position_returns_to_the_end_of_what_segments_cover,
    ),
    "purge that recomputes what is covered": Bug(
        lambda: patch.object(PostgresOperatorStore, "_purge", purge_what_is_covered),
        operating.test_purge_deletes_what_was_marked_though_more_is_covered_by_then,
    ),
    "a seizure that fences nobody": Bug(
        without(leases, "SEIZE", "SET owner = :owner, worker = :worker, epoch = epoch + 1,", "SET worker = :worker,"),
        refolding.test_a_seizure_fences_whoever_held_the_partition_at_once_though_no_position_moved,
    ),
    "a refold put in place whoever has the lease": Bug(
        without(
            positions,
            "LOCK_CLAIMED",
            "AND owner = :owner AND epoch = :epoch ",
            "AND epoch >= :epoch AND :owner IS NOT NULL ",
        ),
        refolding.test_a_refold_seized_by_its_twin_is_fenced_and_one_that_landed_lands_once,
    ),
    "a refold that lands and does not let go": Bug(
        without(positions, "FENCE", "epoch = epoch + 1, owner = NULL", "owner = owner"),
        refolding.test_a_refold_seized_by_its_twin_is_fenced_and_one_that_landed_lands_once,
    ),
    "an activation that does not fence the generation before": Bug(
        lambda: patch.object(rebuild, "_retire", retire_nothing),
        generations.test_until_it_is_active_the_one_before_answers_and_moves_and_afterwards_nothing_of_it_lands,
    ),
    "a generation that does not take the later cuts over": Bug(
        lambda: patch.object(rebuild, "_copy_later_cuts", copy_no_cut),
        generations.test_workers_of_the_new_generation_split_at_the_cuts_that_were_taken_over,
    ),
    "a cut taken over at a position without a segment there": Bug(
        without(positions, "OPEN_SEGMENTS", "SET segment = position", "SET segment = segment"),
        generations.test_a_cut_that_is_taken_over_at_a_position_begins_a_segment_there,
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


def test_the_contract_notices_an_isolation_that_is_inherited(postgres_url: str) -> None:
    """A commit whose transaction has the database's default sees no cut that was chosen after its COPY."""
    make_hostile(postgres_url, HOSTILE["repeatable read"])
    noticed_by = hostile.a_cut_chosen_between_copy_and_lock_splits_the_commit
    with connected(postgres_url) as engine:
        noticed_by(operating.Operated(engine))
        drop_everything(engine)
    with patch.object(connections, "WRITERS", None), connected(postgres_url) as engine, pytest.raises(AssertionError):
        noticed_by(operating.Operated(engine))
