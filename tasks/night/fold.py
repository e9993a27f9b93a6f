"""A view at a cut: Dask folds the clean files above the base, and only touched window dates are written again.

    view(n) = view(base) ⊕ Σ fold(clean files of (base, n])        full: base = nothing, and the rows are the same

Files hold states and values side by side, one file per date of window_start; untouched dates are carried over from the base's
manifest, so that a manifest always lists the whole view. Clean files are folded by date, a round at a time, and a window's date is
written when no later file can reach it: memory holds a round and the dates that are open, however long the history.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.accept.accept import OFFSET, PARTITION, REJECTED_SCHEMA, TIMESTAMP
from pipeline.definition.view import View
from pipeline.fold.fold import columns_of, combine, encoded_of, fold, needs_places, sort_states
from pipeline.fold.lookup import NO_TABLES, Tables
from pipeline.fold.states import WINDOW_START, present, state_schema
from pipeline.handover import ViewCounts
from pipeline.handover.generation import VersionPairs
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File, Manifest
from pipeline.lake.targets import ViewAtCut
from tasks.executors import Call
from tasks.night.clean import DATE, by_day
from tasks.night.night import Night, Report, silent, view_counts_of

WINDOW_DATE = "date"
CHUNK_ROWS = 250_000  # clean rows that one Dask task folds
ROUND_CHUNKS = max(16, 2 * (os.cpu_count() or 1))
BATCH_ROWS = 100_000


@dataclass(frozen=True)
class Part:
    """Result of one Dask task over some clean files: states, counts and rejects of one partition."""

    partition: int
    states: pa.Table
    counts: ViewCounts
    rejected: pa.Table


def file_schema(view: View) -> pa.Schema:
    """Key columns, window_start, one column per aggregate (values), then the state fields."""
    values = present(view, state_schema(view).empty_table()).schema
    keys = len(view.key) + 1
    return pa.schema([*values, *list(state_schema(view))[keys:]])


def fold_view(night: Night, view: View, number: int, full: bool = False, report: Report = silent) -> Manifest:
    """Make the view at cut `number`; `full` refolds everything from the clean data set."""
    target = night.targets(number).view(view.name)
    base = 0 if full else night.base(number).number
    below = night.targets(base).view(view.name).manifest(night.lake, night.is_kept) if base else None
    if below is None:
        base = 0
    chunks = _chunks(_clean_files(night, base, number, view.tables))
    report(f"folding {sum(f.rows for chunk in chunks for f in chunk.files):,} records above cut {base}", 0.1)
    carried = {f.partition[WINDOW_DATE]: f for f in below.files} if below else {}
    sweep = Sweep(night, view, target, carried)
    for n in range(0, len(chunks), size := ROUND_CHUNKS):
        after = chunks[n + size].files[0].partition[DATE] if n + size < len(chunks) else None
        sweep.fold(chunks[n : n + size], after)
        report(
            f"folded {min(n + size, len(chunks))} of {len(chunks)} parts",
            0.1 + 0.8 * min(n + size, len(chunks)) / len(chunks),
        )
    written = sweep.finish()
    files = {**carried, **{f.partition[WINDOW_DATE]: f for f in written}}
    facts = {
        "base": base,
        "touched": sorted(f.partition[WINDOW_DATE] for f in written),
        "view_counts": _total_counts(night, below, sweep.counts),
        "rejected": _write_rejects(night.lake, target, sweep.rejected),
    }
    night.crash.reach("fold.before_manifest")
    if not full and (made := target.manifest(night.lake, night.is_kept)) is not None:
        return made  # another process was faster, perhaps on a newer base: its files are named, and ours may be purged
    manifest = target.commit(night.lake, [files[d] for d in sorted(files)], facts)
    report(f"{len(written)} dates written, {len(files) - len(written)} carried over", 1.0)
    return manifest


def _clean_files(night: Night, base: int, number: int, tables: frozenset[str]) -> list[tuple[int, VersionPairs, File]]:
    """(partition, versions in force of these tables, file) of the clean ranges of (base, number], the dates rising."""
    found = []
    for targets in night.targets_between(base, number):
        versions = tuple((name, version) for name, version in targets.versions if name in tables)
        for partition in range(night.generation.partitions):
            found += [(partition, versions, file) for file in targets.clean(partition).require(night.lake).files]
    return sorted(found, key=lambda of: of[2].partition[DATE])


@dataclass(frozen=True)
class Chunk:
    """Work for one Dask task: clean files of one partition, in all of which these versions of tables are in force."""

    partition: int
    versions: VersionPairs
    files: list[File]


def _chunks(files: Sequence[tuple[int, VersionPairs, File]]) -> list[Chunk]:
    """Files of one partition and one stretch of versions, few enough; in the order of their first dates."""
    chunks: list[Chunk] = []
    filling: dict[tuple[int, VersionPairs], tuple[list[File], int]] = {}
    for partition, versions, file in files:
        of, rows = filling.get((partition, versions), ([], CHUNK_ROWS))
        if rows >= CHUNK_ROWS:
            of, rows = [], 0
            chunks.append(Chunk(partition, versions, of))
        of.append(file)
        filling[partition, versions] = of, rows + file.rows
    return chunks


@dataclass
class Sweep:
    """Folds chunks in the order of their dates, and writes each window's date when all that reach it are folded."""

    night: Night
    view: View
    target: ViewAtCut
    carried: Mapping[str, File]
    counts: list[ViewCounts] = field(init=False)
    rejected: list[pa.Table] = field(default_factory=list)
    _open: dict[str, pa.Table] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)
    _closed: list[Call[File]] = field(default_factory=list)  # calls that write a date, for the next round
    _written: list[File] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [ViewCounts()] * self.night.generation.partitions

    def fold(self, chunks: Sequence[Chunk], after: str | None) -> None:
        """The next chunks; those that follow begin at the date `after`, None when none does."""
        folds: list[Call[Any]] = [
            partial(fold_files, self.view, self.night.lake, c.partition, c.files, tables=self._tables(c.versions))
            for c in chunks
        ]
        done = self.night.executor.compute([*folds, *self._closed])
        parts: list[Part] = done[: len(folds)]
        self._written += done[len(folds) :]
        self._closed = []
        for part in parts:
            self.counts[part.partition] += part.counts
            self.rejected += [part.rejected] if part.rejected.num_rows else []
        for day, states in by_day(combine(self.view, [part.states for part in parts]), WINDOW_START):
            self._open[day] = combine(self.view, [self._open[day], states]) if day in self._open else states
        self._close([day for day in self._open if after is None or self.view.window.last_date(day) < after])

    def _tables(self, versions: VersionPairs) -> Tables:
        return self.night.table_versions.get([self.view], dict(versions)) if self.view.lookups else NO_TABLES

    def _close(self, days: Sequence[str]) -> None:
        for day in sorted(days):
            assert day not in self._ended, f"{day} was written before all that reaches it was folded"
            self._ended.add(day)
            states, base = self._open.pop(day), self.carried.get(day)
            self._closed.append(partial(write_date, self.night.lake, self.view, self.target, day, states, base))

    def finish(self) -> list[File]:
        """Every date's file; nothing is left open."""
        self._close(list(self._open))
        self._written += self.night.executor.compute(self._closed)
        return self._written


def fold_files(
    view: View, lake: Lake, partition: int, files: Sequence[File], whole: bool = False, tables: Tables = NO_TABLES
) -> Part:
    """Fold some clean files of one partition; runs in a thread of Dask's. Not `whole`: the rows' places are read if they are needed."""
    states: list[pa.Table] = []
    rejected: list[pa.Table] = []
    counts = ViewCounts()
    whole = whole or needs_places(view)
    columns = [*columns_of([view]), *([PARTITION, OFFSET, TIMESTAMP] if whole else [])]
    for file in files:
        for batch in lake.read_batches(file, BATCH_ROWS, columns, encoded_of(view)):
            done = fold(view, batch, tables)
            if len(done.rejected) and not whole:
                return fold_files(view, lake, partition, files, True, tables)
            counts += done.counts
            states.append(done.states)
            if len(done.rejected):
                rejected.append(_rejects(view, batch.take(pa.array(done.rejected)), done.reasons))
        if len(states) > 64:
            states = [combine(view, states)]
    return Part(partition, combine(view, states), counts, pa.concat_tables(rejected or [REJECTED_SCHEMA.empty_table()]))


def _rejects(view: View, rows: pa.RecordBatch, reasons: list[str]) -> pa.Table:
    """REJECTED_SCHEMA for accepted records that one view cannot fold; key and raw value are in the master dataset at that offset."""
    nothing = pa.nulls(rows.num_rows, pa.binary())
    columns = [rows.column(PARTITION), rows.column(OFFSET), rows.column(TIMESTAMP)]
    names = pa.array([view.name] * rows.num_rows, pa.string())
    return pa.Table.from_arrays(
        [*columns, names, pa.array(reasons, pa.string()), nothing, nothing], schema=REJECTED_SCHEMA
    )


def write_date(lake: Lake, view: View, target: ViewAtCut, day: str, states: pa.Table, base: File | None) -> File:
    """Merge one window date with the base's file and write it."""
    if base is not None:
        states = combine(view, [read_states(lake, view, base), states])
    states = sort_states(view, states)
    values = present(view, states)
    keys = len(view.key) + 1
    table = pa.Table.from_arrays([*values.columns, *states.columns[keys:]], schema=file_schema(view))
    path = f"{target.folder}/date={day}/states.parquet"
    return File(path, lake.write_table(path, table.schema, [table]), {WINDOW_DATE: day})


def _total_counts(night: Night, below: Manifest | None, counts: Sequence[ViewCounts]) -> list[dict[str, int]]:
    totals = view_counts_of(below.facts["view_counts"]) if below else [ViewCounts()] * night.generation.partitions
    return [asdict(total + more) for total, more in zip(totals, counts, strict=True)]


def _write_rejects(lake: Lake, target: ViewAtCut, tables: Sequence[pa.Table]) -> list[str]:
    if not tables:
        return []
    path = layout.rejected(target.topic, target.view_fingerprint, f"view={target.view}/cut={target.number}")
    lake.write_table(path, REJECTED_SCHEMA, tables)
    return [path]


def read_states(lake: Lake, view: View, file: File) -> pa.Table:
    """The states of one file of a view's manifest."""
    return lake.read_table(file, state_schema(view).names).cast(state_schema(view))
