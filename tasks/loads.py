"""Luigi's view of a load: one task a table and date, complete when its version is adopted everywhere and shown in Postgres.

    Load(table, date) complete  <=>  tasks.loading.Loads.is_done

A load that was killed anywhere is run again and goes on: the version is the one it had, or is made then.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import luigi

from pipeline.base.errors import OriginError, Refused, WatershedError
from pipeline.definition.table import Table
from pipeline.definition.view import View
from pipeline.definition.views_module import table_named
from serving.stores.tables import PostgresTableStore, copy_manifests
from tasks.context import Context, context
from tasks.nightly import Step


def versions_for(parts: Context, views: Sequence[View]) -> dict[str, int]:
    """The newest versions of the tables that the views look up; Refused names the loads that are missing."""
    names = sorted({name for view in views for name in view.tables})
    store = PostgresTableStore(parts.engine)
    newest = store.newest(names) if names else {}
    for name, number in newest.items():
        copy_manifests(parts.lake, [one for one in store.versions(name) if one.version == number])
    missing = [name for name in names if name not in newest]
    if missing:
        command = f"watershed load {' '.join(missing)}"
        raise Refused(
            f"views look up {', '.join(missing)}, of which nothing was loaded yet: run `{command}`", repair=command
        )
    return dict(newest)


def due(parts: Context, now: datetime) -> list[Table]:
    """The tables whose newest version is as old as `every` says, or that have none; each behind those that it comes after."""
    store = PostgresTableStore(parts.engine)
    found: list[Table] = []

    def add(table: Table) -> None:
        for earlier in table.after:
            add(earlier)
        if table.every is None or table in found:
            return
        shown = [one for one in store.versions(table.name) if one.exposed_at is not None]
        made = [one.begun_at for one in shown if "replay" not in one.facts]  # which reads nothing of the origin
        if not made or now - max(made) >= table.every:
            found.append(table)

    for table in parts.tables:
        add(table)
    return found


def load_due(parts: Context, name: str, report: Callable[[str], None]) -> None:
    """Load what is due, each table by itself; OriginError in the end that names those that could not be loaded."""
    failed = []
    for table in due(parts, datetime.now(UTC)):
        from tasks.loading import Loads

        try:
            made, _ = Loads(parts).load(table, name)
        except WatershedError as error:
            failed.append((table.name, error))
        else:
            report(f"table {table.name}: version {made.version}")
    if failed:
        command = f"watershed load {' '.join(table for table, _ in failed)}"
        told = "; ".join(f"{table}: {error}" for table, error in failed)
        raise OriginError(
            f"the night is published, and these tables were not loaded: {told}; run `{command}`", repair=command
        )


class Load(Step):
    """Load one table: the origin's rows become its next version, which every view that looks it up has from a cut on."""

    table = luigi.Parameter(description="the table, as TABLES names it")
    date = luigi.DateParameter(description="the name of the load; it selects no rows")

    def complete(self) -> bool:
        from tasks.loading import Loads

        loads = Loads(context())
        return loads.is_done(table_named(loads.parts.tables, self.table), str(self.date))

    def run(self) -> None:
        from tasks.loading import Loads

        loads = Loads(context(), lambda what, rows: self.report(f"{what}: {rows:,} rows", 0.5))
        made, _ = loads.load(table_named(loads.parts.tables, self.table), str(self.date))
        facts = made.facts
        counts, tried = facts["counts"], facts.get("attempts", 1) - 1 + facts.get("retries", 0)
        again = f", {tried:,} tries more" if tried else ""
        self.report(f"version {made.version}: {counts['rows']:,} rows, {counts['rejected']:,} rejected{again}", 1.0)
