"""Clean one range of one partition: decode, validate, deduplicate, and write what is accepted by date.

    records(master[start, end)) = accepted + duplicates + rejected + tombstones        whoever gives the blocks, and however they are cut
"""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from pipeline import layout
from pipeline.dedupe import IdentitySnapshot
from pipeline.handover import Counts
from pipeline.ingest import OFFSET, REJECTED_SCHEMA, TIMESTAMP, Ingest, clean_schema
from pipeline.lake import ROW_GROUP, File, Known, Manifest
from pipeline.log import EMPTY_BATCH, RAW_SCHEMA, Block
from tasks.executors import Behind, ahead
from tasks.night import Night, Range, Report, counts_of, silent

FLUSH_ROWS = 500_000  # accepted rows held before they are written: bounds memory, not the night
FLUSH_BYTES = 64 * 1024 * 1024  # the same in bytes, for rejected records; four times as many for accepted ones
DATE = "date"
EPOCH = date(1970, 1, 1)


class Cleaning:
    """The range that cut `number` added to a partition: open(), feed() the blocks that tile it, commit(). Used in a `with`."""

    def __init__(self, night: Night, number: int, partition: int) -> None:
        self.night, self.number, self.range = night, number, night.range(number, partition)
        self._before = night.before(number).number
        self._counts = Counts()
        self._behind = Behind()
        self._sink = _CleanFiles(night, self.range, self._behind)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._behind.stop()

    def open(self) -> None:
        """Load the identities below the range."""
        snapshot = _identities_at(self.night, self._before, self.range.partition, self.range.start)
        self._ingest = Ingest(self.night.source, self.range.partition, snapshot)

    def feed(self, block: Block) -> None:
        """Clean the next block of the range."""
        done = self._ingest.feed(block)
        self._counts += done.counts
        self._sink.add(done.accepted, done.rejected)

    def commit(self) -> Manifest:
        """Write what is left, the identities and the manifest."""
        night, r, partition = self.night, self.range, self.range.partition
        self._sink.flush()
        path = layout.identities(night.source.topic, night.source_fingerprint, self.number, partition)
        inputs = layout.identity_inputs(night.generation.topic_id, partition, r.end)
        layout.write_identities(night.lake, path, inputs, self._ingest.identities.snapshot(r.end))
        self._behind.close()
        below = Counts() if self._before == 0 else counts_of(_clean_manifest(night, self._before, partition).facts["total"])
        facts = {"counts": asdict(self._counts), "total": asdict(below + self._counts), "rejected": self._sink.rejected_files}
        manifest = Manifest("clean", night.clean_inputs(r), tuple(self._sink.files), facts)
        night.lake.commit(night.clean_path(r), manifest)
        return manifest


def clean(night: Night, number: int, partition: int, report: Report = silent) -> Manifest:
    """Clean the range that cut `number` added, as the master dataset has it, knowing the identities below it."""
    r = night.range(number, partition)
    with Cleaning(night, number, partition) as cleaning:
        cleaning.open()
        for block in ahead(master_blocks(night, r)):
            cleaning.feed(block)
            report(f"cleaned up to offset {block.end} of {r.end}", (block.end - r.start) / max(1, r.end - r.start))
        return cleaning.commit()


def _clean_manifest(night: Night, number: int, partition: int) -> Manifest:
    return night.need(night.cleaned(number, partition), f"clean range of cut {number}, partition {partition},")


def _identities_at(night: Night, number: int, partition: int, position: int) -> IdentitySnapshot | None:
    if number == 0:
        return None  # batch 0: the log's start, where nothing is known yet
    path = layout.identities(night.source.topic, night.source_fingerprint, number, partition)
    found = layout.read_identities(night.lake, path, layout.identity_inputs(night.generation.topic_id, partition, position))
    if found is None:
        night.need(None, f"the identities at cut {number}, partition {partition},")
    return found


def master_blocks(night: Night, r: Range, rows: int = ROW_GROUP) -> Iterator[Block]:
    """The archived range as blocks that tile it."""
    manifest = night.need(night.archived(r), f"the archived range [{r.start}, {r.end}) of partition {r.partition}")
    start = r.start
    for file in manifest.files:
        for batch in night.lake.read_batches(file, rows):
            end = int(batch.column("offset")[-1].as_py()) + 1
            yield Block(pa.RecordBatch.from_arrays(batch.columns, schema=RAW_SCHEMA), start, end)
            start = end
    if start < r.end:
        yield Block(EMPTY_BATCH, start, r.end)


def by_day(table: pa.Table, column: str) -> Iterator[tuple[str, pa.Table]]:
    """(UTC date of the timestamps in `column`, its rows in the order in which they stand) for each date, rising."""
    if not table.num_rows:
        return
    days = np.asarray(table.column(column).cast(pa.date32()).cast(pa.int32()).to_numpy())
    if (days != days[0]).any():
        order = np.argsort(days, kind="stable")
        table, days = table.take(pa.array(order, pa.int64())), days[order]
    for start, end in pairwise([0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]):
        yield str(EPOCH + timedelta(days=int(days[start]))), table.slice(start, end - start)


class _CleanFiles:
    """Accepted records go to a file per event date, rejected ones to one, for as many offsets as fit memory: FLUSH_ROWS, FLUSH_BYTES."""

    def __init__(self, night: Night, r: Range, behind: Behind) -> None:
        self.night, self.r, self.behind = night, r, behind
        self.schema = clean_schema(night.source)
        self.known = Known([name for name in (night.source.identity,) if name], [night.source.event_time, OFFSET, TIMESTAMP])
        self.held: list[pa.RecordBatch] = []
        self.rejects: list[pa.RecordBatch] = []
        self.files: list[File] = []  # whole when `behind` is closed; `rejected_files` too
        self.rejected_files: list[str] = []

    def add(self, accepted: pa.RecordBatch, rejected: pa.RecordBatch) -> None:
        if accepted.num_rows:
            self.held.append(accepted)
        if rejected.num_rows:
            self.rejects.append(rejected)
        if sum(b.num_rows for b in self.held) >= FLUSH_ROWS or sum(b.nbytes for b in self.held) >= 4 * FLUSH_BYTES:
            self._flush()
        if sum(b.nbytes for b in self.rejects) >= FLUSH_BYTES:
            self._flush_rejects()

    def flush(self) -> None:
        """Write what is held."""
        self._flush()
        self._flush_rejects()

    def _flush(self) -> None:
        if self.held:
            self.behind.call(partial(self._write, self.held))
            self.held = []

    def _flush_rejects(self) -> None:
        if self.rejects:
            self.behind.call(partial(self._write_rejects, self.rejects))
            self.rejects = []

    def _name(self, offsets: pa.ChunkedArray) -> str:
        """By what is in the file: another process may cut the range elsewhere, and a file of the same name has the same rows."""
        return f"{self.r.partition}-{offsets[0]}-{int(offsets[-1].as_py()) + 1}"

    def _write(self, held: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(held, self.schema).combine_chunks()
        name = self._name(table.column(OFFSET))
        folder = layout.clean(self.night.source.topic, self.night.source_fingerprint)
        for day, part in by_day(table, self.night.source.event_time):
            path = f"{folder}/date={day}/{name}.parquet"
            rows = self.night.lake.write_table(path, self.schema, [part], self.known)
            self.files.append(File(path, rows, {DATE: day}))

    def _write_rejects(self, rejects: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(rejects, REJECTED_SCHEMA)
        path = layout.rejected(self.night.source.topic, self.night.source_fingerprint, self._name(table.column("offset")))
        self.night.lake.write_table(path, REJECTED_SCHEMA, [table])
        self.rejected_files.append(path)
