"""Versions of tables on Postgres: begun, made, and shown as tables.<name>.

    tables.<name> = the rows of one version, always        exchanged in one transaction, never for an earlier one

Readers see the version before until the exchange is committed; another load of the table waits for it, and nobody else.
"""

# ruff: noqa: S608 -- names of tables and columns come from checked definitions alone, and every identifier is quoted

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import StoreError
from pipeline.definition.table import Table
from pipeline.lake.lake import Lake
from pipeline.lake.targets import TableVersion
from serving.generations.create import set_up
from serving.ops.table_versions import (
    LoadedVersion,
    begin_version,
    lock_shown,
    lock_table,
    newest_versions,
    note_exposed,
    note_manifest,
    those_made,
    versions_of,
)
from serving.postgres.copy import copy_in
from serving.postgres.quoting import literal, quote, relation
from serving.postgres.views import COMMENT, DEPENDENTS
from serving.stores.transactions import Transactions

SCHEMA = "tables"
IDLE_S = 600  # that an exchange may take between two stretches of rows: they come out of the lake


class PostgresTableStore:
    """The arbiter of versions. Every method is one transaction, and may be called again."""

    def __init__(self, engine: Engine, crash: CrashPoints | None = None) -> None:
        self._transactions = Transactions(engine)
        self._crash = crash or NoCrash()

    def set_up(self) -> None:
        """Make the schemas where they are missing: tables are loaded before `init` looks for their versions."""
        set_up(self._transactions.engine)

    def begin(self, table: str, load: str) -> LoadedVersion:
        """The version of the load of that name: a new number, or the one it has, unless another load overtook it."""

        def body(connection: Connection) -> LoadedVersion:
            lock_table(connection, table)
            begin_version(connection, table, load)
            return next(one for one in versions_of(connection, table) if one.load == load)

        return self._transactions.patiently(body, again=True)

    def made(self, table: str, version: int, manifest: str, base: int | None) -> str | None:
        """Note what a load made from the rows of the version `base` (None: there was none).

        The manifest that counts, which is another's when that was faster with the same load; None, changing nothing, where another load
        made a version meanwhile: then its rows would be lost.
        """

        def body(connection: Connection) -> str | None:
            lock_table(connection, table)
            versions = versions_of(connection, table)
            mine = next((one for one in versions if one.version == version), None)
            if mine is None:
                return None
            if mine.manifest is not None:
                return mine.manifest
            if max((one.version for one in those_made(versions)), default=None) != base:
                return None
            note_manifest(connection, table, version, manifest)
            self._crash.reach("load.noted")
            return manifest

        return self._transactions.patiently(body, again=True)

    def versions(self, table: str) -> list[LoadedVersion]:
        """All versions of a table, rising; none where nothing is set up."""

        def body(connection: Connection) -> list[LoadedVersion]:
            return versions_of(connection, table) if _is_set_up(connection) else []

        return self._transactions.read(body)

    def newest(self, tables: Iterable[str]) -> Mapping[str, int]:
        """The greatest version that is made of each of the tables that has one."""

        def body(connection: Connection) -> Mapping[str, int]:
            return newest_versions(connection, tables) if _is_set_up(connection) else {}

        return self._transactions.read(body)

    # ---- tables.<name>
    def expose(self, table: Table, version: int, rows: Iterable[pa.Table]) -> bool:
        """Let tables.<name> have these rows; False, changing nothing, when it has those of a later version.

        The rows may be asked for again, when the transaction is: the usual mistake is a generator, which is empty then.
        """
        return self._transactions.patiently(lambda c: self._expose(c, table, version, rows), again=True)

    def _expose(self, connection: Connection, table: Table, version: int, rows: Iterable[pa.Table]) -> bool:
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_S * 1000}")
        lock_shown(connection, table.name)
        shown = [one.version for one in versions_of(connection, table.name) if one.exposed_at is not None]
        if shown and max(shown) > version:
            return False
        _make(connection, table)
        target = relation(SCHEMA, table.name)
        connection.exec_driver_sql(f"DELETE FROM {target}")
        copy_in(connection, target, [column.name for column in table.columns], rows)
        note_exposed(connection, table.name, version)
        self._crash.reach("load.exposed")
        return True


def copy_manifests(lake: Lake, versions: Sequence[LoadedVersion]) -> None:
    """Let the lake have the manifests that Postgres has: whoever made a version may have died before it wrote that, or be about to."""
    for one in versions:
        path = TableVersion(one.table, one.version).path
        if one.manifest is not None and not lake.has_manifest(path):
            lake.write_bytes(path, one.manifest.encode())


def _is_set_up(connection: Connection) -> bool:
    return bool(connection.execute(sa.text("SELECT to_regclass('ops.table_versions') IS NOT NULL")).scalar_one())


def _make(connection: Connection, table: Table) -> None:
    """The relation as the definition has it; made anew when the columns changed, which whatever rests on it may forbid."""
    wanted = [f"{quote(c.name)} {c.type.postgres}{'' if c.nullable else ' NOT NULL'}" for c in table.columns]
    keys = [*table.key] if table.history is None else []
    constraint = f", PRIMARY KEY ({', '.join(map(quote, keys))})" if keys else ""
    about = "\n".join([*wanted, constraint])
    target = relation(SCHEMA, table.name)
    comment = f"{(table.record.__doc__ or table.name).strip()}\n\nWatershed's columns:\n{about}"
    if connection.execute(COMMENT, {"name": target}).scalar_one() == comment:
        return
    try:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {target}")
    except sa.exc.DatabaseError as error:
        if getattr(error.orig, "pgcode", "") != DEPENDENTS:
            raise
        raise StoreError(
            f"tables.{table.name} has other columns than Table({table.name!r}) declares, and views of yours rest on it; drop"
            f" them, then `watershed load {table.name}`",
            repair=f"watershed load {table.name}",
        ) from None
    connection.exec_driver_sql(f"CREATE TABLE {target} ({', '.join(wanted)}{constraint})")
    connection.exec_driver_sql(f"COMMENT ON TABLE {target} IS {literal(comment)}".replace("%", "%%"))
    if table.history is not None:
        columns = ", ".join(quote(name) for name in (*table.key, table.history.start))
        connection.exec_driver_sql(f"CREATE INDEX ON {target} ({columns})")


__all__ = ["PostgresTableStore", "copy_manifests"]
