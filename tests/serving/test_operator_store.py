"""Rollback and purge, each rule by itself, on a real Postgres: what is served stays f(log[0, position)) after every step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from pipeline.base.errors import Refused
from pipeline.handover import Committed, Fenced, Purge, Split
from pipeline.handover.replacement import GenerationStore, RefoldStore
from serving.generations.replace import PostgresGenerationStore
from serving.postgres.connection import transaction
from serving.stores.operator import PostgresOperatorStore
from serving.stores.refold import PostgresRefoldStore
from tests.contract.store_world import LOGS, World
from tests.contract.world import VIEWS, commit_of, connected, staged_of


class Operated(World):
    """A world with an operator in it."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.operator = PostgresOperatorStore(engine, VIEWS, lock_timeout_s=0.2, patience_s=20)
        self.refolds: RefoldStore = PostgresRefoldStore(engine, VIEWS, lock_timeout_s=0.2, patience_s=20)
        self.generations: GenerationStore = PostgresGenerationStore(engine)
        self.days = 0

    def night_at(self, *ends: int) -> int:
        """A whole night whose cut is at least `ends`; its number."""
        cut = self.choose(*ends)
        self.stage(cut)
        assert self.night.publish(self.generation, cut) == "published"
        return cut

    def choose(self, *ends: int) -> int:
        self.days += 1
        return self.night.choose(self.generation, date(2013, 1, 1) + timedelta(days=self.days), ends).number

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with transaction(self.engine) as connection:
            return [tuple(row) for row in connection.execute(sa.text(sql))]

    def now(self) -> tuple[int, ...]:
        return tuple(int(p) for (p,) in self.rows("SELECT position FROM ops.positions ORDER BY partition"))  # type: ignore[call-overload]

    def damage(self) -> None:
        """The real-time rows of partition 0 are not what they were."""
        with transaction(self.engine) as connection:
            connection.exec_driver_sql(
                'UPDATE speed."by_account__g1" SET events__n = events__n + 1 WHERE partition = 0'
            )
            connection.exec_driver_sql('DELETE FROM speed."by_region__g1" WHERE partition = 0 AND segment >= 0')
            connection.exec_driver_sql("UPDATE ops.segments SET accepted = accepted + 3 WHERE partition = 0")

    def statuses(self) -> list[str]:
        return [cut.status for cut in self.night.ledger(self.generation)]

    def purge(self, keep: int) -> Purge | None:
        marked = self.operator.mark_purge(self.generation, keep)
        if marked is not None:
            self.operator.purge(self.generation, marked)
        return marked


@pytest.fixture
def world(postgres_url: str) -> Iterator[Operated]:
    with connected(postgres_url) as engine:
        yield Operated(engine)


def test_rollback_after_a_raised_position_returns_to_the_end_of_what_segments_cover(world: Operated) -> None:
    world.commit(world.take(0), 4)
    world.night_at(9, 6)  # raises 0 from 4 to 9, and 1 from 0 to 6
    claim = world.commit(world.take(0), 12)
    world.check(12, 6)
    back = world.operator.rollback(world.generation)
    assert back.number == 0
    assert (world.row(0), world.row(1)) == ((4, 0), (0, 0))
    world.check(4, 0)
    assert world.statuses() == ["published", "withdrawn"]
    assert world.rows("SELECT start FROM ops.segments ORDER BY start") == [(0,)]
    assert world.rows('SELECT count(*) FROM speed."by_account__g1" WHERE segment > 0') == [(0,)]
    assert world.speed.commit(commit_of(claim, LOGS[0], 13)) == Fenced()
    assert world.speed.reload(claim) is None, "the owner is fenced by the epoch"
    world.commit(world.commit(world.take(0), 11), 14)
    world.check(14, 0)


def test_rollback_where_segments_cover_everything_disturbs_nobody(world: Operated) -> None:
    claims = [world.commit(world.take(p, 60), 5) for p in range(2)]
    world.night_at(5, 5)
    claims = [world.speed.reload(claim) for claim in claims]  # type: ignore[misc]
    claims = [world.commit(claim, 8) for claim in claims]
    world.operator.rollback(world.generation)
    assert [world.row(p) for p in range(2)] == [(8, 5), (8, 5)]
    world.check(8, 8)
    world.commit(claims[0], 9)
    world.check(9, 8)


def test_rollback_onto_a_chosen_cut_opens_the_segment_there(world: Operated) -> None:
    world.commit(world.take(0), 4)
    world.choose(4, 0)  # dies here: never staged
    world.night_at(8, 0)
    world.operator.rollback(world.generation)
    assert world.row(0) == (4, 4)
    world.commit(world.take(0), 6)
    world.check(6, 0)
    world.stage(1)
    assert world.night.publish(world.generation, 1) == "published"
    world.check(6, 0)


def test_rollback_is_for_the_last_publish_alone(world: Operated) -> None:
    with pytest.raises(Refused, match="batch 0"):
        world.operator.rollback(world.generation)
    world.night_at(3, 3)
    world.night_at(5, 5)
    assert world.operator.rollback(world.generation).number == 1
    with pytest.raises(Refused, match="run the next night"):
        world.operator.rollback(world.generation)
    world.check(*world.now())


def test_a_withdrawn_batch_is_never_staged_or_published_again_and_the_next_night_covers_it(world: Operated) -> None:
    world.night_at(3, 3)
    number = world.night_at(6, 6)
    world.operator.rollback(world.generation)
    with pytest.raises(Refused, match="another date"):
        world.stage(number)
    with pytest.raises(Refused, match="another date"):
        world.night.publish(world.generation, number)
    world.check(*world.now())
    after = world.night_at(0, 0)
    assert after == number + 1 and world.night.cut(world.generation, after).offsets == (6, 6)
    world.check(6, 6)


def test_purge_keeps_for_every_kept_batch_each_groups_newest_row(world: Operated) -> None:
    for n in range(1, 6):
        world.commit(world.take(0), 3 * n)
        world.night_at(3 * n, 2 if n < 4 else 12)
        world.check(*world.now())
    world.commit(world.take(0), 18)
    marked = world.purge(2)
    assert marked is not None and marked.batches == (0, 1, 2, 3) and marked.cut == (12, 12)
    world.check(18, 12)
    assert world.statuses() == ["purged"] * 4 + ["published"] * 2
    assert world.rows("SELECT DISTINCT number FROM ops.batch_counts ORDER BY 1") == [(4,), (5,)]
    assert world.rows("SELECT min(start) FROM ops.segments WHERE partition = 0") == [(12,)]
    assert world.operator.rollback(world.generation).number == 4, "the batch before the visible one was kept"
    world.check(*world.now())


def test_a_row_that_only_a_batch_above_the_kept_one_replaces_stays_for_the_rollback(world: Operated) -> None:
    world.night_at(2, 0)  # accounts a and b
    world.night_at(3, 0)  # a alone
    world.night_at(4, 0)  # b alone
    marked = world.purge(2)
    assert marked is not None and marked.batches == (0, 1)
    world.operator.rollback(world.generation)
    world.check(3, 0)


def test_purge_of_all_but_the_visible_batch_gives_rollback_up(world: Operated) -> None:
    world.night_at(3, 3)
    world.night_at(6, 6)
    marked = world.operator.mark_purge(world.generation, 1)
    assert marked is not None
    with pytest.raises(Refused, match="purge"):
        world.operator.rollback(world.generation)  # marked, and nothing is deleted yet
    world.check(6, 6)
    world.operator.purge(world.generation, marked)
    world.operator.purge(world.generation, marked)
    world.check(6, 6)
    assert world.purge(1) is None


def test_purge_deletes_what_was_marked_though_more_is_covered_by_then(world: Operated) -> None:
    world.night_at(3, 3)
    world.night_at(6, 6)
    marked = world.operator.mark_purge(world.generation, 2)
    world.commit(world.take(0), 8)
    world.night_at(8, 6)
    world.operator.purge(world.generation, marked) if marked else None
    assert marked is not None and world.statuses() == ["purged", "published", "published", "published"]
    assert world.operator.rollback(world.generation).number == 2
    world.check(8, 6)


def test_a_batch_that_may_be_staged_again_with_fewer_groups_makes_no_row_superfluous(world: Operated) -> None:
    world.night_at(1, 0)
    two, three = world.choose(2, 0), world.choose(3, 0)
    world.stage(three)  # on base 1: account b, which [1, 2) touched, is among its rows
    world.stage(two)
    world.night.publish(world.generation, two)
    world.night_at(3, 1)  # touches account a alone
    world.purge(1)
    world.check(3, 1)
    # A twin that began before the purge, on base 2
    world.night.stage(world.generation, three, staged_of(LOGS, (3, 0), (2, 0)))
    world.check(3, 1)


def test_a_withdrawn_batch_stays_withdrawn_when_its_rows_are_purged(world: Operated) -> None:
    world.night_at(3, 3)
    world.night_at(6, 6)
    world.operator.rollback(world.generation)
    for end in (7, 8, 9):
        world.night_at(end, end)
    world.purge(1)
    assert world.statuses() == ["purged", "purged", "withdrawn", "purged", "purged", "published"]
    assert world.purge(1) is None
    world.check(9, 9)


@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_of_commits_nights_rollbacks_and_purges_stays_exact(world: Operated, seed: int) -> None:
    rng = random.Random(seed)
    marked: Purge | None = None
    for _ in range(40):
        step = rng.choice(("commit", "commit", "night", "choose", "publish", "rollback", "mark", "purge"))
        if step == "commit":
            p = rng.randrange(2)
            claim = world.take(p)
            end = min(claim.position + rng.randint(1, 4), 20)
            while claim.position < end:
                outcome = world.speed.commit(commit_of(claim, LOGS[p], end))
                end = outcome.at if isinstance(outcome, Split) else end
                claim = outcome.claim if isinstance(outcome, Committed) else claim
        elif step in ("night", "choose"):
            number = world.choose(*(min(20, end + rng.randint(0, 3)) for end in world.now()))
            if step == "night":
                world.stage(number)
                world.night.publish(world.generation, number)
        elif step == "publish":
            chosen = [c.number for c in world.night.ledger(world.generation) if c.status == "chosen"]
            if chosen and world.night.base_of(world.generation, at := rng.choice(chosen)) is not None:
                world.stage(at)
                world.night.publish(world.generation, at)
        elif step == "rollback":
            visible = world.rows("SELECT previous FROM ops.visible")[0][0]
            if visible is None:
                with pytest.raises(Refused):
                    world.operator.rollback(world.generation)
            else:
                world.operator.rollback(world.generation)
        elif step == "mark":
            marked = world.operator.mark_purge(world.generation, rng.randint(1, 3))
        elif marked is not None:
            world.operator.purge(world.generation, marked)
        world.check(*world.now())
