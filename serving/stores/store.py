"""One store on Postgres: its engine's transactions, its views by name, and its crash points.

a store = transactions × views × crash points        what it does with them is its own class's; nothing is shared but this
"""

from collections.abc import Sequence

from sqlalchemy.engine import Engine

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.definition.view import View
from serving.stores.transactions import LOCK_TIMEOUT_S, PATIENCE_S, Transactions


class PostgresStore:
    """Base of the stores whose transactions have patience. `lock_timeout_s` bounds one try, `patience_s` all tries together.

    `views` are those that rows are written for; a generation with others is refused where they are needed. Make it in the process that
    uses it, as its engine.
    """

    def __init__(
        self,
        engine: Engine,
        views: Sequence[View],
        *,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        crash: CrashPoints | None = None,
    ) -> None:
        self._transactions = Transactions(engine, lock_timeout_s, patience_s)
        self._views = {view.name: view for view in views}
        self._crash = crash or NoCrash()


__all__ = ["PostgresStore"]
