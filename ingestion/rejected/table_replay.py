"""A replay of a table: rejected rows that are accepted now become its next version, over the newest one.

    version n + 1 = version n ⊕ accepted rows, by the table's own load        read = taken rows = accepted + rejected again
    a row is taken once        <=  the manifest that has it says so, and Postgres has one manifest a version

Full and Append add rows whose key is absent; one that is there keeps its row, and counts as unchanged. Incremental and Merge let the newest
row of a key count, of equal cursors the replayed. The cursor stays where it was: a replay reads nothing of the origin. Snapshot is refused.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from ingestion.loading.counts import LoadCounts, RejectedRow
from ingestion.loading.load import Loader
from ingestion.loading.next_version import NextVersion
from ingestion.loading.version_files import VersionFiles, VersionWriter
from ingestion.origin import Origin, Reading
from ingestion.rejected.chosen import Taken, choose, take_by_rule, take_from_file, with_reasons
from ingestion.rejected.of_tables import rejected_of_table
from ingestion.rejected.rows import RowsWanted
from pipeline.base.errors import Refused
from pipeline.definition.fingerprints import table_fingerprint
from pipeline.definition.table import Append, Full, Table
from pipeline.lake.manifest import Manifest
from pipeline.lake.targets import TableVersion
from serving.ops.table_versions import LoadedVersion, those_made
from serving.stores.tables import copy_manifests


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
    made = those_made(versions)
    if not made:
        raise Refused(f"table {table.name} has no version yet: run `{command}`", repair=command)
    chosen = choose(rejected_of_table(loader.lake, versions), wanted, f"table {table.name}")
    textual = isinstance(table.origin, Origin) and table.origin.textual
    if mended is not None:
        return TablePlan(table, made[-1], take_from_file(chosen, mended, reading, table.record))
    return TablePlan(table, made[-1], take_by_rule(chosen, table.record, textual))


def unfinished(versions: Sequence[LoadedVersion]) -> LoadedVersion | None:
    """The newest version, where a replay made it and died before it was shown."""
    made = those_made(versions)
    if not made or made[-1].exposed_at is not None or "replay" not in made[-1].facts:
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
        made = [one for one in those_made(loader.store.versions(table.name)) if one.version < self.begun.version]
        if made[-1].version != plan.base.version:
            raise Refused(f"table {table.name} was loaded meanwhile (version {made[-1].version}): run the replay again")
        copy_manifests(loader.lake, [plan.base])
        adds = isinstance(table.load, Full | Append)
        version = NextVersion.over(loader.lake, table, plan.base, self.begun.begun_at, self.counts, adds)
        self.counts.rejected = plan.taken.again.num_rows
        self.counts.read = plan.taken.accepted.num_rows + self.counts.rejected
        writer = VersionWriter(loader.lake, loader.store, table, self.begun.version, self.run)
        files = writer.write(version, self._tables(version), lambda: self.again, lambda: version.had)
        target = TableVersion(table.name, self.begun.version)
        return Manifest(target.kind, target.inputs, (files.rows,), self._facts(files))

    def _facts(self, files: VersionFiles) -> dict[str, Any]:
        before, taken = self.plan.base.facts, self.plan.taken
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
            "cursor_of": before.get("cursor_of"),
            "counts": asdict(self.counts),
            **files.facts,
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


__all__ = ["TablePlan", "plan_of_table", "replay_table", "unfinished"]
