"""One installed source with two partitions on a real Postgres, and shorthands, for tests of the store's own rules."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from pipeline.definition.view import View
from pipeline.handover import Claim, Committed
from serving.generations.create import install
from serving.postgres.connection import transaction
from serving.stores.night import PostgresNightStore
from serving.stores.speed import PostgresSpeedStore
from tests.contract.world import VIEWS, commit_of, event, merge, plan, served, staged_of, states, values

D1, D2, D3 = date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3)
LOGS = [
    [event(p, o, account="ab"[o % 2], amount=Decimal(f"{o}.25"), note=f"{p}/{o}") for o in range(20)] for p in range(2)
]


class World:
    """One installed source with two partitions, and shorthands."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        (self.generation,) = install(engine, [plan()])
        self.speed = PostgresSpeedStore(engine, VIEWS)
        self.night = PostgresNightStore(engine, VIEWS, lock_timeout_s=0.2, patience_s=20)

    def take(self, partition: int, lease_s: float = 0.0) -> Claim:
        claim = self.speed.take(self.generation, partition, "w", lease_s)
        assert claim is not None
        return claim

    def commit(self, claim: Claim, end: int) -> Claim:
        outcome = self.speed.commit(commit_of(claim, LOGS[claim.partition], end))
        assert isinstance(outcome, Committed)
        return outcome.claim

    def stage(self, number: int, *, full: bool = False) -> None:
        base = None if full else self.night.base_of(self.generation, number)
        cut = self.night.cut(self.generation, number)
        self.night.stage(self.generation, number, staged_of(LOGS, cut.offsets, base.offsets if base else None))

    def row(self, partition: int) -> tuple[int, int]:
        with transaction(self.engine) as connection:
            found = connection.execute(
                sa.text("SELECT position, segment FROM ops.positions WHERE generation = :g AND partition = :p"),
                {"g": self.generation.number, "p": partition},
            ).one()
        return found.position, found.segment

    def check(self, *positions: int, views: Sequence[View] = VIEWS) -> None:
        """What is served is f(log[0, positions)), for every view."""
        for view in views:
            expected = merge(view, [states(view, log[:p]) for log, p in zip(LOGS, positions, strict=True)])
            assert self.served(view) == values(view, expected)

    def served(self, view: View) -> list[dict[str, Any]]:
        """The rows of serving.<view>, ordered by group."""
        return served(self.engine, view)

    def made_for(self, views: Sequence[View]) -> tuple[Any, Any]:
        """The stores of workers and nights that were started with these definitions."""
        return PostgresSpeedStore(self.engine, views), PostgresNightStore(
            self.engine, views, lock_timeout_s=0.2, patience_s=20
        )
