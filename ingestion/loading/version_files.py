"""The files of one version, written and checked before any manifest names them.

written  =>  every check of the table holds for them        else nothing of them is left
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ingestion.loading.checks import check_version
from ingestion.loading.modes import schema_of
from ingestion.loading.next_version import NextVersion
from ingestion.rejected.rows import SCHEMA
from pipeline.base.errors import OriginError
from pipeline.definition.table import Table
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File, Manifest
from serving.stores.tables import PostgresTableStore


@dataclass(frozen=True)
class VersionFiles:
    """The file of rows; those of rejected rows, and of rows that deleted their keys, where there are some."""

    rows: File
    rejected: list[str]
    deleted: list[File]

    @property
    def facts(self) -> dict[str, Any]:
        """The words of a manifest on the files that are no rows of the version."""
        deleted = [{"path": one.path, "rows": one.rows} for one in self.deleted]
        return {"rejected": self.rejected, **({"deleted": deleted} if deleted else {})}

    @staticmethod
    def delete(lake: Lake, made: Manifest) -> None:
        """Delete all that a manifest names, which nobody will."""
        deleted = [one["path"] for one in made.facts.get("deleted", ())]
        for path in (*(file.path for file in made.files), *made.facts["rejected"], *deleted):
            lake.delete(path)


@dataclass(frozen=True)
class VersionWriter:
    """Writes the files of one run of the load of a version; `run` is what no two runs share."""

    lake: Lake
    store: PostgresTableStore
    table: Table
    number: int
    run: str

    def write(
        self,
        version: NextVersion,
        rows: Iterator[pa.Table],
        rejected: Callable[[], Iterable[pa.Table]],
        had: Callable[[], int],
    ) -> VersionFiles:
        """Write `rows`, which come out of `version`, then what is in no version; OriginError where a check does not hold.

        `rejected` and `had`, the rows of the version before, are asked once the rows are written.
        """
        written: list[str] = []

        def put(path: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> File:
            written.append(path)
            return File(path, self.lake.write_table(path, schema, tables))

        name, schema = self.table.name, schema_of(self.table)
        try:
            with closing(version):
                file = put(layout.table_rows(name, self.number, self.run), schema, rows)
                version.counts.rows = file.rows
                version.counts.check()
                deleted = []
                if version.deletions:
                    deleted = [put(layout.table_deleted(name, self.number, self.run), schema, version.deleted())]
            lost = [one for one in rejected() if one.num_rows]
            kept = [put(layout.table_rejects(name, self.number, self.run), SCHEMA, lost)] if lost else []
            check_version(self.lake, self.store, self.table, file, had(), version.counts)
        except OriginError:
            for path in written:
                self.lake.delete(path)
            raise
        return VersionFiles(file, [one.path for one in kept], deleted)


__all__ = ["VersionFiles", "VersionWriter"]
