"""The place of Luigi's task history in Postgres: a schema of its own, which nothing of the protocol knows.

    tables of the history = those of luigi.db_task_history, in schema `luigi`        never in `batch`, `speed`, `ops` or `serving`

It tells what ran and when, and no answer rests on it: it may be dropped (DROP SCHEMA luigi CASCADE), and luigid makes it anew.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker

from serving.generations.create import lock_setup
from serving.postgres.quoting import quote
from serving.stores.transactions import Transactions

SCHEMA = "luigi"


def history_sessions(engine: Engine, tables: sa.MetaData) -> sessionmaker[Session]:
    """Sessions in which `tables`, declared without a schema, are those of schema `luigi`; made where they are missing.

    Its transactions pin what they rely on as all of the engine's do. StoreError when the schema cannot be made: the user needs CREATE
    on the database, as for `watershed init`. The usual mistake: statements in text, which are not moved to the schema.
    """

    def make(connection: Connection) -> None:
        lock_setup(connection)
        if SCHEMA not in connection.scalars(sa.text("SELECT nspname FROM pg_namespace")).all():
            connection.exec_driver_sql(f"CREATE SCHEMA {quote(SCHEMA)}")
        tables.create_all(connection)

    moved = engine.execution_options(schema_translate_map={None: SCHEMA})
    Transactions(moved).once(make, again=True)
    return sessionmaker(bind=moved, expire_on_commit=False)


__all__ = ["history_sessions"]
