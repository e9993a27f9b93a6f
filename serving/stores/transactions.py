"""Transactions with patience: each waits for a lock only so long, and is tried again, whole, when that ended it.

    one try waits at most `lock_timeout_s` for a lock; all tries together take about `patience_s`, then StoreBusy
    Postgres away  =>  waited for as long as the engine says (a night's does, a worker's raises at once: its own loop waits)

A write whose outcome is unknown is made again only where that is said to be harmless (`again`); one that had no effect always may be.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy.engine import Connection, Engine

from pipeline.handover.patience import wait_out
from serving.postgres.connection import (
    NothingChanged,
    OutcomeUnknown,
    brief_transaction,
    outage_patience,
    patiently,
    reading,
    transaction,
)

T = TypeVar("T")
LOCK_TIMEOUT_S, PATIENCE_S = 2.0, 60.0


class Transactions:
    """One engine's. A body may be called many times, so it must change nothing but rows, and what it returns."""

    def __init__(self, engine: Engine, lock_timeout_s: float = LOCK_TIMEOUT_S, patience_s: float = PATIENCE_S) -> None:
        self.engine = engine
        self.lock_timeout_ms = round(lock_timeout_s * 1000)
        self.patience_s = patience_s
        self.outage_patience_s, self.say = outage_patience(engine)

    def read(self, body: Callable[[Connection], T]) -> T:
        """The body in a transaction that reads, at one instant."""
        return self._await(lambda: reading(self.engine), body, again=True)

    def once(self, body: Callable[[Connection], T], *, again: bool = False) -> T:
        """The body in a transaction that waits for a lock as long as the session does, and is not tried again when that was too long."""
        return self._await(lambda: transaction(self.engine), body, again=again)

    def patiently(self, body: Callable[[Connection], T], *, again: bool = False) -> T:
        """The body in a transaction that waits for a lock as long as the session does."""
        return patiently(lambda: self.once(body, again=again), patience_s=self.patience_s)

    def briefly(self, body: Callable[[Connection], T], *, again: bool = False) -> T:
        """The body in a transaction that neither waits for a lock nor holds one for long."""
        opened = lambda: brief_transaction(self.engine, self.lock_timeout_ms)  # noqa: E731
        return patiently(lambda: self._await(opened, body, again=again), patience_s=self.patience_s)

    def limit_waits(self, connection: Connection) -> None:
        """From here to the end of the transaction, wait for a lock only so long."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self.lock_timeout_ms}")

    def _await(
        self, opened: Callable[[], AbstractContextManager[Connection]], body: Callable[[Connection], T], *, again: bool
    ) -> T:
        def call() -> T:
            with opened() as connection:
                return body(connection)

        passing = (NothingChanged, OutcomeUnknown) if again else (NothingChanged,)
        return wait_out(call, passing, patience_s=self.outage_patience_s, say=self.say)


__all__ = ["LOCK_TIMEOUT_S", "PATIENCE_S", "Transactions"]
