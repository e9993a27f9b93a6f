"""Transactions with patience: each waits for a lock only so long, and is tried again, whole, when that ended it.

    one try waits at most `lock_timeout_s` for a lock; all tries together take about `patience_s`, then StoreBusy
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy.engine import Connection, Engine

from serving.postgres.connection import brief_transaction, patiently, transaction

T = TypeVar("T")
LOCK_TIMEOUT_S, PATIENCE_S = 2.0, 60.0


class Transactions:
    """One engine's. A body may be called many times, so it must change nothing but rows, and what it returns."""

    def __init__(self, engine: Engine, lock_timeout_s: float = LOCK_TIMEOUT_S, patience_s: float = PATIENCE_S) -> None:
        self.engine = engine
        self.lock_timeout_ms = round(lock_timeout_s * 1000)
        self.patience_s = patience_s

    def once(self, isolation: str | None = None) -> AbstractContextManager[Connection]:
        """One transaction, tried once; for reading, and for what cannot be done twice."""
        return transaction(self.engine, isolation=isolation)

    def patiently(self, body: Callable[[Connection], T]) -> T:
        """The body in a transaction that waits for a lock as long as the session does."""

        def call() -> T:
            with transaction(self.engine) as connection:
                return body(connection)

        return patiently(call, patience_s=self.patience_s)

    def briefly(self, body: Callable[[Connection], T]) -> T:
        """The body in a transaction that neither waits for a lock nor holds one for long."""

        def call() -> T:
            with brief_transaction(self.engine, self.lock_timeout_ms) as connection:
                return body(connection)

        return patiently(call, patience_s=self.patience_s)

    def limit_waits(self, connection: Connection) -> None:
        """From here to the end of the transaction, wait for a lock only so long."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self.lock_timeout_ms}")


__all__ = ["LOCK_TIMEOUT_S", "PATIENCE_S", "Transactions"]
