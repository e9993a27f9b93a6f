"""A view at a cut: Dask folds the clean files above the base, and only touched window dates are written again.

    view(n) = view(base) ⊕ Σ fold(clean files of (base, n])        full: base = nothing, and the rows are the same

Files hold states and values side by side, one file per date of window_start; untouched dates are carried over from the base's
manifest, so that a manifest always lists the whole view.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dask.config
import pyarrow as pa
from dask.base import compute
from dask.delayed import delayed

from pipeline import layout
from pipeline.definition import View
from pipeline.fold import columns_of, combine, encoded_of, fold, needs_places, sort_states
from pipeline.handover import ViewCounts
from pipeline.ingest import OFFSET, PARTITION, REJECTED_SCHEMA, TIMESTAMP
from pipeline.lake import File, Lake, Manifest
from pipeline.states import WINDOW_START, present, state_schema
from tasks.cleaning import by_day
from tasks.night import Night, Report, numbers_between, silent, view_counts_of

WINDOW_DATE = "date"
CHUNK_ROWS = 250_000  # clean rows that one Dask task folds
BATCH_ROWS = 100_000


@dataclass(frozen=True)
class Part:
    """What one Dask task made of some clean files: states, counts and rejects of one partition."""

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
    base = 0 if full else night.base(number).number
    below = night.folded(view, base) if base else None
    if below is None:
        base = 0
    cleans = _clean_manifests(night, base, number)
    chunks = [(p, files) for p, manifest in cleans for files in _chunks(manifest.files)]
    report(f"folding {sum(f.rows for _, files in chunks for f in files):,} records above cut {base}", 0.1)
    parts: list[Part] = _compute([delayed(fold_files, pure=False)(view, night.lake, p, files) for p, files in chunks])
    report(f"merging {sum(p.states.num_rows for p in parts):,} states", 0.6)
    carried = {f.partition[WINDOW_DATE]: f for f in below.files} if below else {}
    touched = dict(by_day(combine(view, [p.states for p in parts]), WINDOW_START))
    written: list[File] = _compute([
        delayed(write_date, pure=False)(night, view, number, day, states, carried.get(day)) for day, states in sorted(touched.items())
    ])
    files = {**carried, **{f.partition[WINDOW_DATE]: f for f in written}}
    facts = {
        "base": base,
        "touched": sorted(touched),
        "view_counts": _total_counts(night, below, parts),
        "rejected": _write_rejects(night, view, number, parts),
    }
    manifest = Manifest("view", night.fold_inputs(view, night.cut(number)), tuple(files[d] for d in sorted(files)), facts)
    night.crash.reach("fold.before_manifest")
    if not full and (made := night.folded(view, number)) is not None:
        return made  # another process was faster, perhaps on a newer base: its files are named, and ours may be purged
    night.lake.commit(night.fold_path(view, number), manifest)
    report(f"{len(touched)} dates written, {len(files) - len(touched)} carried over", 1.0)
    return manifest


def _compute(graph: Sequence[Any]) -> list[Any]:
    return list(compute(*graph, scheduler=dask.config.get("scheduler", "threads"))) if graph else []


def _clean_manifests(night: Night, base: int, number: int) -> list[tuple[int, Manifest]]:
    found = []
    for n in numbers_between(night.store.ledger(night.generation), base, number):
        for partition in range(night.generation.partitions):
            manifest = night.need(night.cleaned_records(n, partition), f"the clean range of cut {n}, partition {partition},")
            found.append((partition, manifest))
    return found


def _chunks(files: Sequence[File]) -> list[list[File]]:
    chunks: list[list[File]] = []
    rows = CHUNK_ROWS
    for file in files:
        if rows >= CHUNK_ROWS:
            chunks.append([])
            rows = 0
        chunks[-1].append(file)
        rows += file.rows
    return chunks


def fold_files(view: View, lake: Lake, partition: int, files: Sequence[File], whole: bool = False) -> Part:
    """Fold some clean files of one partition; runs in a thread of Dask's. Not `whole`: the rows' places are read if they are needed."""
    states: list[pa.Table] = []
    rejected: list[pa.Table] = []
    counts = ViewCounts()
    whole = whole or needs_places(view)
    columns = [*columns_of([view]), *([PARTITION, OFFSET, TIMESTAMP] if whole else [])]
    for file in files:
        for batch in lake.read_batches(file, BATCH_ROWS, columns, encoded_of(view)):
            done = fold(view, batch)
            if len(done.rejected) and not whole:
                return fold_files(view, lake, partition, files, whole=True)
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
    return pa.Table.from_arrays([*columns, names, pa.array(reasons, pa.string()), nothing, nothing], schema=REJECTED_SCHEMA)


def write_date(night: Night, view: View, number: int, day: str, states: pa.Table, base: File | None) -> File:
    """Merge one window date with the base's file and write it."""
    if base is not None:
        states = combine(view, [read_states(night.lake, view, base), states])
    states = sort_states(view, states)
    values = present(view, states)
    keys = len(view.key) + 1
    table = pa.Table.from_arrays([*values.columns, *states.columns[keys:]], schema=file_schema(view))
    path = f"{layout.view(view.name, night.view_fingerprints[view.name], number)}/date={day}/states.parquet"
    return File(path, night.lake.write_table(path, table.schema, [table]), {WINDOW_DATE: day})


def _total_counts(night: Night, below: Manifest | None, parts: Sequence[Part]) -> list[dict[str, int]]:
    totals = view_counts_of(below.facts["view_counts"]) if below else [ViewCounts()] * night.generation.partitions
    for part in parts:
        totals[part.partition] += part.counts
    return [asdict(t) for t in totals]


def _write_rejects(night: Night, view: View, number: int, parts: Sequence[Part]) -> list[str]:
    tables = [p.rejected for p in parts if p.rejected.num_rows]
    if not tables:
        return []
    path = layout.rejected(night.source.topic, night.view_fingerprints[view.name], f"view={view.name}/cut={number}")
    night.lake.write_table(path, REJECTED_SCHEMA, tables)
    return [path]


def read_states(lake: Lake, view: View, file: File) -> pa.Table:
    """The states of one file of a view's manifest."""
    return lake.read_table(file, state_schema(view).names).cast(state_schema(view))
