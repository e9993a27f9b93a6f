"""A replay of a table: rejected rows that are accepted now become its next version, over the newest one.

    version n + 1 = version n ⊕ accepted rows, by the table's own load        read = taken rows = accepted + rejected again
    a row is taken once        <=  the manifest that has it says so, and Postgres has one manifest a version

Full and Append add rows whose key is absent; one that is there keeps its row, and counts as unchanged. Incremental and Merge let the newest
row of a key count, of equal cursors the replayed. The cursor stays where it was: a replay reads nothing of the origin. Snapshot is refused.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from ingestion.loading.checks import check_version
from ingestion.loading.counts import LoadCounts, RejectedRow
from ingestion.loading.load import Loader
from ingestion.loading.modes import schema_of
from ingestion.loading.next_version import NextVersion
from ingestion.origin import Origin, Reading
from ingestion.rejected.chosen import Taken, choose, take_by_rule, take_from_file, with_reasons
from ingestion.rejected.of_tables import rejected_of_table
from ingestion.rejected.rows import SCHEMA, RowsWanted
from pipeline.base.errors import OriginError, Refused
from pipeline.definition.fingerprints import table_fingerprint
from pipeline.definition.table import Append, Full, Table
from pipeline.fold.in_force import VersionRows
from pipeline.lake import layout
from pipeline.lake.manifest import File, Manifest
from pipeline.lake.targets import TableVersion
from serving.ops.table_versions import LoadedVersion


@dataclass(frozen=True)
class TablePlan:
    """The rows that a replay takes, and the version that they are laid over."""

    table: Table
    base: LoadedVersion
    taken: Taken

    @property
    def name(self) -> str:
        """The name of its load: of what it does, so that a replay that died is finished under it."""
        told = json.dumps(
            [self.base.version, self.taken.places, self.taken.mended, table_fingerprint(self.table)], sort_keys=True
        )
        return f"replay {blake2b(told.encode(), digest_size=8).hexdigest()}"


def plan_of_table(
    loader: Loader, table: Table, wanted: RowsWanted, mended: Origin | None, reading: Reading
) -> TablePlan:
    """Decide what a replay would take; nothing is changed. Refused where another command is the right one."""
    command = f"watershed load {table.name}"
    if table.makes_history:
        raise Refused(
            f"table {table.name} is a Snapshot: a row is valid from the load that read it, so mend the rule or the origin, and load it"
            f" again: `{command}`",
            repair=command,
        )
    versions = loader.store.versions(table.name)
    made = [one for one in versions if one.manifest is not None]
    if not made:
        raise Refused(f"table {table.name} has no version yet: run `{command}`", repair=command)
    chosen = choose(rejected_of_table(loader.lake, versions), wanted, f"table {table.name}")
    textual = isinstance(table.origin, Origin) and table.origin.textual
    if mended is not None:
        return TablePlan(table, made[-1], take_from_file(chosen, mended, reading, table.record))
    return TablePlan(table, made[-1], take_by_rule(chosen, table.record, textual))


def unfinished(versions: Sequence[LoadedVersion]) -> LoadedVersion | None:
    """The newest version, where a replay made it and died before it was shown."""
    made = [one for one in versions if one.manifest is not None]
    if not made or made[-1].exposed_at is not None or "replay" not in json.loads(made[-1].manifest or "")["facts"]:
        return None
    return made[-1]


def replay_table(loader: Loader, plan: TablePlan) -> LoadedVersion:
    """Make the version; Refused when the table was loaded since the plan was made."""
    return loader.make(plan.table, plan.name, lambda begun: _Replay(loader, plan, begun).write())


class _Replay:
    """One replay's work on one version."""

    def __init__(self, loader: Loader, plan: TablePlan, begun: LoadedVersion) -> None:
        self.loader, self.plan, self.begun, self.table = loader, plan, begun, plan.table
        self.counts, self.run = LoadCounts(), uuid4().hex[:12]
        self.again = [plan.taken.again]

    def write(self) -> Manifest:
        """Write the files; the manifest that names them."""
        loader, table, plan = self.loader, self.table, self.plan
        made = [one for one in loader.store.versions(table.name) if one.manifest and one.version < self.begun.version]
        if made[-1].version != plan.base.version:
            raise Refused(f"table {table.name} was loaded meanwhile (version {made[-1].version}): run the replay again")
        mode = replace(table, load=Append()) if isinstance(table.load, Full) else table
        rows = VersionRows(loader.lake, table, plan.base.version)
        version = NextVersion(mode, rows, self.begun.begun_at, self.counts)
        path = layout.table_rows(table.name, self.begun.version, self.run)
        self.counts.rejected = plan.taken.again.num_rows
        self.counts.read = plan.taken.accepted.num_rows + self.counts.rejected
        self.counts.rows = loader.lake.write_table(path, schema_of(table), self._tables(version))
        self.counts.check()
        file, rejected = File(path, self.counts.rows), self._write_rejected()
        try:
            check_version(loader.lake, loader.store, table, file, version.had, self.counts)
        except OriginError:
            for one in (path, *rejected):
                loader.lake.delete(one)
            raise
        target = TableVersion(table.name, self.begun.version)
        return Manifest(target.kind, target.inputs, (file,), self._facts(rejected))

    def _facts(self, rejected: list[str]) -> dict[str, Any]:
        before, taken = json.loads(self.plan.base.manifest or "{}")["facts"], self.plan.taken
        return {
            "load": self.begun.load,
            "table_fingerprint": table_fingerprint(self.table),
            "origin": before["origin"],
            "mode": self.table.load.canonical(),
            "parts": [{"name": name, "version": version} for name, version in (taken.mended or {}).items()],
            "since": None,
            "attempts": 1,
            "retries": 0,
            "base": self.plan.base.version,
            "cursor": before["cursor"],
            "counts": asdict(self.counts),
            "rejected": rejected,
            "replay": {"taken": taken.places},
        }

    def _tables(self, version: NextVersion) -> Iterator[pa.Table]:
        taken = self.plan.taken
        version.feed(taken.accepted, np.arange(taken.accepted.num_rows, dtype=np.int64), 0)
        yield from version.tables([""], self._reject)

    def _reject(self, twice: Sequence[RejectedRow]) -> None:
        which = self.plan.taken.of[np.array([row.number for row in twice], np.int64)]
        rows = self.plan.taken.chosen.rows.take(pa.array(which, pa.int64()))
        self.again.append(with_reasons(rows, [row.reason for row in twice]))
        self.counts.rejected += len(twice)

    def _write_rejected(self) -> list[str]:
        rows = pa.concat_tables(self.again)
        if not rows.num_rows:
            return []
        path = layout.table_rejects(self.table.name, self.begun.version, self.run)
        self.loader.lake.write_table(path, SCHEMA, [rows])
        return [path]


__all__ = ["TablePlan", "plan_of_table", "replay_table", "unfinished"]
