"""ops.table_versions: the versions of tables, each the work of one load, and what it was made from.

    begun (a number for the load's name) -> made (a manifest) -> exposed (rows of tables.<name>)        what is made never changes
    the versions that are made are a chain: each goes on from the one before

The first manifest that is noted for a version counts, whoever made another. A load that another one of the same table overtook is given a
number above that one's, and begins anew from its rows.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

VERSIONS = sa.text("""
SELECT table_name, version, load, begun_at, manifest, made_at, exposed_at FROM ops.table_versions
WHERE table_name = :table ORDER BY version
""")
LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('watershed table ' || :table, 0))")
LOCK_SHOWN = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('watershed shown ' || :table, 0))")
BEGIN = sa.text("""
INSERT INTO ops.table_versions (table_name, version, load)
SELECT :table, coalesce(max(version), 0) + 1, :load FROM ops.table_versions WHERE table_name = :table
ON CONFLICT (table_name, load) DO NOTHING
""")
ABOVE = sa.text("""
UPDATE ops.table_versions SET begun_at = clock_timestamp(), version = (
    SELECT max(version) + 1 FROM ops.table_versions WHERE table_name = :table
)
WHERE table_name = :table AND load = :load AND manifest IS NULL AND version < (
    SELECT max(version) FROM ops.table_versions WHERE table_name = :table AND manifest IS NOT NULL
)
""")
MADE = sa.text("""
UPDATE ops.table_versions SET manifest = :manifest, made_at = clock_timestamp()
WHERE table_name = :table AND version = :version AND manifest IS NULL
""")
EXPOSED = sa.text("""
UPDATE ops.table_versions SET exposed_at = clock_timestamp() WHERE table_name = :table AND version = :version
""")
NEWEST = sa.text("""
SELECT table_name, max(version) AS version FROM ops.table_versions
WHERE manifest IS NOT NULL AND table_name = ANY(:tables) GROUP BY table_name
""")


@dataclass(frozen=True)
class LoadedVersion:
    """One row: `manifest` (JSON) is None while its load has not made it."""

    table: str
    version: int
    load: str
    begun_at: datetime
    manifest: str | None
    made_at: datetime | None
    exposed_at: datetime | None

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The facts of its manifest; none while it is not made."""
        found: Mapping[str, Any] = json.loads(self.manifest)["facts"] if self.manifest is not None else {}
        return found


def those_made(versions: Iterable[LoadedVersion]) -> list[LoadedVersion]:
    """The versions that have a manifest, in the same order."""
    return [one for one in versions if one.manifest is not None]


def lock_table(connection: Connection, table: str) -> None:
    """Until the end of the transaction nobody else begins or makes a version of the table."""
    connection.execute(LOCK, {"table": table})


def lock_shown(connection: Connection, table: str) -> None:
    """Until the end of the transaction nobody else exposes a version of the table; that may take long, and holds up no load."""
    connection.execute(LOCK_SHOWN, {"table": table})


def versions_of(connection: Connection, table: str) -> list[LoadedVersion]:
    """All of a table, rising."""
    rows = connection.execute(VERSIONS, {"table": table})
    return [
        LoadedVersion(r.table_name, r.version, r.load, r.begun_at, r.manifest, r.made_at, r.exposed_at) for r in rows
    ]


def begin_version(connection: Connection, table: str, load: str) -> None:
    """A number for the load of that name, the next one; where it has one, it keeps it while no version above is made."""
    connection.execute(BEGIN, {"table": table, "load": load})
    connection.execute(ABOVE, {"table": table, "load": load})


def note_manifest(connection: Connection, table: str, version: int, manifest: str) -> None:
    """The version is made; nothing when it was before."""
    connection.execute(MADE, {"table": table, "version": version, "manifest": manifest})


def note_exposed(connection: Connection, table: str, version: int) -> None:
    """The rows of tables.<name> are those of the version."""
    connection.execute(EXPOSED, {"table": table, "version": version})


def newest_versions(connection: Connection, tables: Iterable[str]) -> dict[str, int]:
    """The greatest version that is made of each table that has one."""
    rows = connection.execute(NEWEST, {"tables": sorted(tables)})
    return {row.table_name: int(row.version) for row in rows}
