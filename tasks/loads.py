"""Luigi's view of a load: one task a table and date, complete when its version is adopted everywhere and shown in Postgres.

    Load(table, date) complete  <=>  tasks.loading.Loads.is_done

A load that was killed anywhere is run again and goes on: the version is the one it had, or is made then.
"""

import json
from collections.abc import Sequence

import luigi

from pipeline.base.errors import DefinitionError, Refused, did_you_mean
from pipeline.definition.table import Table
from pipeline.definition.view import View
from serving.stores.tables import PostgresTableStore
from tasks.context import Context, context
from tasks.nightly import Step


def table_named(parts: Context, name: str) -> Table:
    """The table of that name; DefinitionError lists those there are."""
    tables = {table.name: table for table in parts.tables}
    if name not in tables:
        there = f"there are {', '.join(tables)}." if tables else "the views module declares no TABLES."
        raise DefinitionError(f"there is no table {name!r}; {there}{did_you_mean(name, list(tables))}")
    return tables[name]


def versions_for(parts: Context, views: Sequence[View]) -> dict[str, int]:
    """The newest versions of the tables that the views look up; Refused names the loads that are missing."""
    names = sorted({name for view in views for name in view.tables})
    newest = PostgresTableStore(parts.engine).newest(names) if names else {}
    missing = [name for name in names if name not in newest]
    if missing:
        command = f"watershed load {' '.join(missing)}"
        raise Refused(
            f"views look up {', '.join(missing)}, of which nothing was loaded yet: run `{command}`", repair=command
        )
    return dict(newest)


class Load(Step):
    """Load one table: the origin's rows become its next version, which every view that looks it up has from a cut on."""

    table = luigi.Parameter(description="the table, as TABLES names it")
    date = luigi.DateParameter(description="the name of the load; it selects no rows")

    def complete(self) -> bool:
        from tasks.loading import Loads

        loads = Loads(context())
        return loads.is_done(table_named(loads.parts, self.table), str(self.date))

    def run(self) -> None:
        from tasks.loading import Loads

        loads = Loads(context(), lambda what, rows: self.report(f"{what}: {rows:,} rows", 0.5))
        made, _ = loads.load(table_named(loads.parts, self.table), str(self.date))
        counts = json.loads(made.manifest or "{}")["facts"]["counts"]
        self.report(f"version {made.version}: {counts['rows']:,} rows, {counts['rejected']:,} rejected", 1.0)
