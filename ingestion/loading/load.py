"""One load: an origin's rows become the next version of a table, or nothing does.

    version n is made  <=>  Postgres has its manifest        files are written before that, the lake's copy of the manifest after it

Whoever runs the load of a name again, or beside another, gets the same version: the first manifest that Postgres noted. A load that dies
anywhere leaves the version before, and files that nothing names.
"""

import json
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.cursor_values import as_text, from_text
from ingestion.loading.counts import LoadCounts, RejectedRow
from ingestion.loading.next_version import NextVersion
from ingestion.loading.reading import side_by_side
from ingestion.loading.version_files import VersionFiles, VersionWriter
from ingestion.origin import Origin, Part, Reading
from ingestion.rejected.rows import SCHEMA
from ingestion.retrying import Retrier
from ingestion.typed import Typed, typed
from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import DefinitionError
from pipeline.columns.arrays import chunk
from pipeline.definition.fingerprints import table_fingerprint
from pipeline.definition.record import Column, column_named
from pipeline.definition.table import Full, Incremental, Merge, References, Table
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import Manifest
from pipeline.lake.targets import TableVersion
from serving.ops.table_versions import LoadedVersion, those_made
from serving.stores.tables import PostgresTableStore, copy_manifests

Say = Callable[[str, int], None]  # (what, rows read so far)
KEPT_REJECTS, KEPT_BYTES = 100_000, 64 * 1024 * 1024  # of rejected rows that are kept with their place; all are counted


@dataclass
class Loader:
    """Makes versions. Everything it touches is an argument; `secret` gives credentials by name, `say` is told of progress.

    `readers`: parts of an origin (files, ranges of a key, partitions) that are read at once.
    """

    store: PostgresTableStore
    lake: Lake
    secret: Callable[[str], str]
    say: Say = lambda what, rows: None
    crash: CrashPoints = field(default_factory=NoCrash)
    retrier: Callable[[Callable[[str], None]], Retrier] = Retrier
    readers: int = 2

    def load(self, table: Table, name: str) -> LoadedVersion:
        """The version of the load of that name, made now or before, with its manifest in the lake. OriginError where there is no such
        version: the newest one before stays. The usual mistake: to load again under the same name to have newer rows; give another.
        """
        retrier = self.retrier(lambda text: self.say(text, 0))

        def write(
            begun: LoadedVersion,
        ) -> Manifest:  # an origin that is away in the middle of it: all of it is read again
            return retrier(lambda: _Work(self, table, begun, retrier.retries + 1).write())

        return self.make(table, name, write)

    def make(self, table: Table, name: str, write: Callable[[LoadedVersion], Manifest]) -> LoadedVersion:
        """The version of that name; `write` writes its files and gives their manifest, unless it was made before."""
        manifest = None
        while manifest is None:
            begun = self.store.begin(table.name, name)
            manifest = begun.manifest if begun.manifest is not None else self._note(table, begun, write(begun))
        self.crash.reach("load.committed")
        newest = 0
        while (
            newest != (versions := those_made(self.store.versions(table.name)))[-1].version
        ):  # another may be made meanwhile
            copy_manifests(self.lake, [one for one in versions if one.version >= begun.version])
            self.crash.reach("load.copied")
            newest = versions[-1].version
            self.lake.write_bytes(layout.current_table(table.name), (versions[-1].manifest or "").encode())
        return next(one for one in versions if one.version == begun.version)

    def _note(self, table: Table, begun: LoadedVersion, made: Manifest) -> str | None:
        """The manifest that counts; None where another load of the table was faster, so that this one must go on from its rows."""
        self.crash.reach("load.written")
        text = made.to_json().decode()
        counts = self.store.made(table.name, begun.version, text, made.facts["base"])
        if counts != text:  # a twin, or another load: its files are named, and ours never will be
            VersionFiles.delete(self.lake, made)
        if counts is None:
            self.say("another load of it was faster, and this one begins anew from its rows", 0)
        return counts


class _Work:
    """One load's work on one version."""

    def __init__(self, loader: Loader, table: Table, begun: LoadedVersion, attempt: int) -> None:
        self.loader, self.table, self.begun, self.attempt = loader, table, begun, attempt
        self.since: Any = None
        self.retries = 0  # requests that an origin made again, in this attempt
        self.counts, self.rejected, self.rejected_bytes = LoadCounts(), list[RejectedRow](), 0
        self.parts: list[dict[str, str]] = []
        made = [one for one in those_made(loader.store.versions(table.name)) if one.version < begun.version]
        copy_manifests(loader.lake, made[-1:])
        self.base = made[-1] if made else None
        self.cursor = self._cursor_before()
        self.greatest: Any = None
        self.run = uuid.uuid4().hex[:12]

    @property
    def origin(self) -> Origin:
        """The table's origin, which can be read."""
        if not isinstance(self.table.origin, Origin):
            raise DefinitionError(f"Table({self.table.name}): origin={self.table.origin!r} cannot be read")
        return self.table.origin

    def check(self) -> None:
        """Refuse what cannot be loaded before anything is read."""
        for check in self.table.checks:
            if isinstance(check, References) and not self.loader.store.newest([check.table.name]):
                raise DefinitionError(
                    f"Table({self.table.name}) refers to {check.table.name}, which has no version: `watershed load {check.table.name}`",
                    repair=f"watershed load {check.table.name}",
                )

    def write(self) -> Manifest:
        """Read, and write the version's files; the manifest, which nobody has seen yet."""
        self.check()
        made = NextVersion.over(self.loader.lake, self.table, self.base, self.begun.begun_at, self.counts)
        writer = VersionWriter(self.loader.lake, self.loader.store, self.table, self.begun.version, self.run)
        files = writer.write(made, self._tables(made), self._rejected_rows, lambda: self._had(made))
        facts = {
            "load": self.begun.load,
            "table_fingerprint": table_fingerprint(self.table),
            "origin": dict(self.origin.describe()),
            "mode": self.table.load.canonical(),
            "parts": self.parts,
            "since": as_text(self.since) if self.since is not None else None,
            "attempts": self.attempt,
            "retries": self.retries,
            "base": self.base.version if self.base is not None else None,
            "cursor": as_text(self.greatest) if self.greatest is not None else self.cursor,
            "cursor_of": self._cursor_of(),
            "counts": asdict(self.counts),
            **files.facts,
        }
        target = TableVersion(self.table.name, self.begun.version)
        return Manifest(target.kind, target.inputs, (files.rows,), facts)

    def _had(self, made: NextVersion) -> int:
        """The number of rows of the version before that are valid now."""
        if self.base is None or not isinstance(self.table.load, Full):
            return made.had
        return sum(
            file.rows for file in TableVersion(self.table.name, self.base.version).require(self.loader.lake).files
        )

    # ---- reading
    def _tables(self, made: NextVersion) -> Iterator[pa.Table]:
        reading = self._reading()
        parts = self.origin.parts(reading)
        self.parts = [{"name": part.name, "version": part.version} for part in parts]
        names, places = [part.name for part in parts], dict[str, tuple[str, str]]()
        with closing(side_by_side(parts, partial(self._typed, reading), self.loader.readers)) as items:
            for number, found in items:
                self.counts.read += found.accepted.num_rows + len(found.rejected)
                bad, place = found.rejected, (parts[number].version, found.unit)
                told = zip(bad.numbers.tolist(), bad.reasons, bad.raw, bad.events, strict=True)
                self._reject([RejectedRow(names[number], *one, *place) for one in told])
                places[names[number]] = place
                if found.accepted.num_rows:
                    self._remember_cursor(found.accepted)
                    made.feed(found.accepted, found.numbers, number)
                self.loader.say(names[number], self.counts.read)
        self.loader.say("putting the version together", self.counts.read)

        def reject(rows: Sequence[RejectedRow]) -> None:
            said = [(row, *places[row.part]) for row in rows]
            self._reject([replace(row, version=version, unit=unit) for row, version, unit in said])

        yield from made.tables(names, reject)

    def _typed(self, reading: Reading, part: Part) -> Generator[Typed, None, None]:
        for rows in self.origin.read(part, reading):
            yield typed(rows, self.table.record, self.origin.textual)

    def _cursor_of(self) -> str | None:
        """The column of the cursor: its name, its place in the origin and its type."""
        load = self.table.load
        if not isinstance(load, Incremental | Merge):
            return None
        named = self._cursor_column(load)
        return f"{named.name} {'.'.join(map(str, named.path))} {named.type}"

    def _cursor_before(self) -> str | None:
        """The cursor of the version before, where it is one of the same column of the same origin: else all is read, and nothing missed."""
        if self.base is None:
            return None
        facts, origin = self.base.facts, json.loads(json.dumps(dict(self.origin.describe())))
        same = facts.get("cursor_of") == self._cursor_of() and facts["origin"] == origin
        found: str | None = facts["cursor"] if same else None
        return found

    def _reading(self) -> Reading:
        load = self.table.load
        reading = Reading(
            self.loader.secret, report=lambda text: self.loader.say(text, self.counts.read), retried=self._retried
        )
        if not isinstance(load, Incremental):
            return reading
        if self.cursor is not None:
            self.since = _less(from_text(self.cursor, self.table.types[load.cursor].kind), load.overlap)
        return replace(reading, cursor=str(self._cursor_column(load).path[0]), since=self.since)

    def _cursor_column(self, load: Incremental | Merge) -> Column:
        return column_named(self.table.record, load.cursor, f"Table({self.table.name}): cursor")

    def _retried(self) -> None:
        self.retries += 1

    def _remember_cursor(self, rows: pa.RecordBatch) -> None:
        load = self.table.load
        if isinstance(load, Incremental | Merge):
            greatest = pc.max(chunk(rows.column(load.cursor))).as_py()
            if greatest is not None and (self.greatest is None or greatest > self.greatest):
                self.greatest = greatest

    # ---- rejected rows
    def _reject(self, rows: Sequence[RejectedRow]) -> None:
        self.counts.rejected += len(rows)
        for row in rows:
            if len(self.rejected) >= KEPT_REJECTS or self.rejected_bytes >= KEPT_BYTES:
                return
            self.rejected.append(row)
            self.rejected_bytes += len(row.raw) + len(row.reason)

    def _rejected_rows(self) -> list[pa.Table]:
        return [pa.Table.from_pylist([vars(row) for row in self.rejected], SCHEMA)]


def _less(cursor: Any, overlap: timedelta | int) -> Any:
    """The cursor less the overlap: a date less a part of a day is the day before, where Python would leave it."""
    if not overlap:
        return cursor
    if isinstance(overlap, timedelta) and not isinstance(cursor, datetime):
        return cursor - timedelta(days=-(-overlap // timedelta(days=1)))
    return cursor - overlap


__all__ = ["KEPT_REJECTS", "Loader"]
