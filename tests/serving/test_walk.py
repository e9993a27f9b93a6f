"""Random runs of the protocol on a real Postgres: zombies, lost replies, late commits, twin nights, stale ends.

after every step:  serving.<view> = f(log[0, position))      accounting = counts of [0, position)
"""

import uuid
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.base.errors import Refused
from pipeline.handover import Claim, Commit, Committed, Fenced, Split, Staged, Vector
from sandbox.postgres import SystemPostgres
from serving.generations.create import install
from serving.postgres.connection import transaction
from serving.stores.night import PostgresNightStore
from serving.stores.speed import PostgresSpeedStore
from tests.contract.world import VIEWS, commit_of, connected, event, merge, plan, served, staged_of, states, values

PARTITIONS, WORKERS, NIGHTS = 2, 2, 3
partitions = st.integers(0, PARTITIONS - 1)
workers = st.integers(0, WORKERS - 1)
nights = st.integers(1, NIGHTS)


@dataclass
class Night:
    """What a night's processes have in hand: stale end offsets, and rows folded earlier."""

    ends: Vector | None = None
    folded: tuple[int, Staged] | None = None


class Protocol(RuleBasedStateMachine):
    """Workers hold claims (a zombie's is one too), nights go on at whatever step they like."""

    server: SystemPostgres

    @initialize(starts=st.tuples(st.integers(0, 2), st.integers(0, 2)))
    def install(self, starts: Vector) -> None:
        self.database = self.server.database(f"walk_{uuid.uuid4().hex}")
        self.connection = connected(self.database.__enter__())
        self.engine = self.connection.__enter__()
        (self.generation,) = install(self.engine, [plan(starts)])
        self.starts = starts
        self.speed, self.night = PostgresSpeedStore(self.engine, VIEWS), PostgresNightStore(self.engine, VIEWS)
        # The records below the start were deleted before set-up: nobody ever sees them.
        self.logs: list[list[Any]] = [[None] * start for start in starts]
        self.memory: dict[tuple[int, int], Claim | None] = {}
        self.flights: list[Commit] = []
        self.nights = {n: Night() for n in range(1, NIGHTS + 1)}
        for p in range(PARTITIONS):
            self.arrive(p, "abcabcabca")
            self.take(0, p)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.connection.__exit__(None, None, None)
            self.database.__exit__(None, None, None)

    def events(self, partition: int, end: int) -> list[Any]:
        return [one for one in self.logs[partition][:end] if one is not None]

    @rule(p=partitions, accounts=st.text("abc", min_size=1, max_size=4))
    def arrive(self, p: int, accounts: str) -> None:
        for account in accounts:
            offset = len(self.logs[p])
            self.logs[p].append(
                event(
                    p, offset, account, amount=Decimal(f"{offset}.5"), hour=offset % 3, note=f"{p}/{offset}", region=p
                )
            )

    @rule(w=workers, p=partitions)
    def take(self, w: int, p: int) -> None:
        """The lease before is of no length, so anybody may take at any time, and the one before is a zombie."""
        claim = self.speed.take(self.generation, p, f"worker {w}", 0.0)
        assert claim is not None
        self.memory[w, p] = claim

    def work(self, claim: Claim, size: int) -> Commit | None:
        end = min(claim.position + size, len(self.logs[claim.partition]))
        return commit_of(claim, self.logs[claim.partition], end) if end > claim.position else None

    @rule(w=workers, p=partitions, size=st.integers(1, 6), reply_lost=st.booleans())
    def commit(self, w: int, p: int, size: int, reply_lost: bool) -> None:
        claim = self.memory.get((w, p))
        if claim is None or (work := self.work(claim, size)) is None:
            return
        match self.speed.commit(work):
            case Committed(after) if not reply_lost:
                self.memory[w, p] = after
            case Split(at) if not reply_lost:
                assert claim.position < at < work.end
                self.commit(w, p, at - claim.position, False)
            case Committed() | Split() | Fenced():
                self.memory[w, p] = self.speed.reload(claim)
        self.check_states(self.memory[w, p])

    def check_states(self, claim: Claim | None) -> None:
        """What a worker would load is f of its segment, unless a zombie's row has moved on."""
        if claim is None or self.speed.reload(claim) != claim:
            return
        events = self.logs[claim.partition][claim.segment : claim.position]
        for view in VIEWS:
            assert values(view, self.speed.load_states(claim, view.name)) == values(view, states(view, events))

    @rule(w=workers, p=partitions, size=st.integers(1, 6))
    def commit_is_delayed(self, w: int, p: int, size: int) -> None:
        claim = self.memory.get((w, p))
        if claim is not None and (work := self.work(claim, size)) is not None:
            self.flights.append(work)

    @precondition(lambda self: getattr(self, "flights", None))
    @rule(data=st.data())
    def delayed_commit_arrives(self, data: st.DataObject) -> None:
        self.speed.commit(self.flights.pop(data.draw(st.integers(0, len(self.flights) - 1))))

    @rule(n=nights)
    def night_goes_on(self, n: int) -> None:
        """At the first step that is not complete, as Luigi would."""
        cut = self.night.cut_of(self.generation, date(2013, 1, n))
        if self.nights[n].ends is None:
            self.read_ends(n)
        elif cut is None:
            self.choose(n)
        elif self.nights[n].folded is None:
            self.fold(n, False)
        elif not cut.complete and cut.status == "chosen":
            self.stage(n)
        else:
            self.publish(n)

    @rule(n=nights, step=st.sampled_from(["choose", "fold", "full fold", "stage", "publish"]))
    def twin_does(self, n: int, step: str) -> None:
        """Another process for the same night, at any step at all."""
        match step:
            case "fold" | "full fold":
                self.fold(n, step == "full fold")
            case _:
                getattr(self, step)(n)

    def read_ends(self, n: int) -> None:
        self.nights[n].ends = tuple(len(log) for log in self.logs)

    def choose(self, n: int) -> None:
        ends = self.nights[n].ends or self.starts  # as stale as can be
        before = self.night.cut_of(self.generation, date(2013, 1, n))
        cut = self.night.choose(self.generation, date(2013, 1, n), ends)
        assert cut == before or (before is None and all(c >= e for c, e in zip(cut.offsets, ends, strict=True)))

    def fold(self, n: int, full: bool) -> None:
        cut = self.night.cut_of(self.generation, date(2013, 1, n))
        if cut is None:
            return
        base = self.night.base_of(self.generation, cut.number)
        assert base is not None  # nothing is ever purged here
        logs = [self.events(p, len(log)) for p, log in enumerate(self.logs)]
        below = [
            tuple(offset - start for offset, start in zip(v.offsets, self.starts, strict=True)) for v in (cut, base)
        ]
        self.nights[n].folded = (cut.number, staged_of(logs, below[0], None if full else below[1]))

    def stage(self, n: int) -> None:
        if (folded := self.nights[n].folded) is None:
            return
        number, staged = folded
        if self.night.cut(self.generation, number).status == "published":
            with pytest.raises(Refused, match="cannot be staged again"):
                self.night.stage(self.generation, number, staged)
        else:
            self.night.stage(self.generation, number, staged)

    def publish(self, n: int) -> None:
        """Never stuck: what was chosen and staged can be published, whatever has happened in between."""
        cut = self.night.cut_of(self.generation, date(2013, 1, n))
        if cut is None:
            return
        seen = self.night.cut(self.generation, self.night.visible(self.generation))
        if cut.status == "chosen" and not cut.complete and not cut.at_most(seen.offsets):
            with pytest.raises(Refused, match="is not staged"):
                self.night.publish(self.generation, cut.number)
            return
        was_chosen = cut.status == "chosen"
        expected = "covered" if was_chosen and cut.at_most(seen.offsets) else "published" if was_chosen else cut.status
        assert self.night.publish(self.generation, cut.number) == expected

    @invariant()
    def the_answer_is_that_of_the_log(self) -> None:
        if not hasattr(self, "engine"):
            return
        with transaction(self.engine) as connection:
            query = "SELECT position, segment FROM ops.positions ORDER BY partition"
            rows = [tuple(row) for row in connection.exec_driver_sql(query)]
            accounted = (
                connection.exec_driver_sql("SELECT accepted FROM serving.accounting ORDER BY partition").scalars().all()
            )
            query = "SELECT view, folded FROM serving.view_accounting ORDER BY view, partition"
            folded = [tuple(row) for row in connection.exec_driver_sql(query)]
            query = "SELECT cut, position FROM serving.freshness ORDER BY partition"
            fresh = [tuple(row) for row in connection.exec_driver_sql(query)]
        positions = [position for position, _ in rows]
        for view in VIEWS:
            expected = [states(view, self.events(p, position)) for p, position in enumerate(positions)]
            assert served(self.engine, view) == values(view, merge(view, expected))
        counts = [position - start for position, start in zip(positions, self.starts, strict=True)]
        assert accounted == counts
        assert folded == [(view.name, n) for view in VIEWS for n in counts]
        seen = self.night.cut(self.generation, self.night.visible(self.generation))
        assert fresh == list(zip(seen.offsets, positions, strict=True))
        cuts = self.night.ledger(self.generation)
        assert all(low.at_most(high.offsets) for low, high in pairwise(cuts))
        for p, (position, segment) in enumerate(rows):
            assert not any(segment < cut.offsets[p] <= position for cut in cuts if cut.status == "chosen")


@pytest.mark.slow
def test_the_answer_is_exact_after_every_step_of_any_run(real_postgres: SystemPostgres) -> None:
    machine = type("OnThisServer", (Protocol,), {"server": real_postgres})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
