"""Archive and clean one range of one partition.

    master[start, end) = the log, as received        records(master) = accepted + duplicates + rejected + tombstones
"""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, timedelta
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pipeline import layout
from pipeline.dedupe import IdentitySnapshot
from pipeline.handover import Counts
from pipeline.ingest import OFFSET, REJECTED_SCHEMA, TIMESTAMP, Ingest, clean_schema
from pipeline.lake import ROW_GROUP, File, Known, Manifest
from pipeline.log import EMPTY_BATCH, RAW_SCHEMA, Block, LogTruncated, record_hash
from tasks.beside import Behind, ahead
from tasks.night import Night, Range, Report, counts_of, silent

BLOCK_ROWS = ROW_GROUP
RAW = Known(distinct=("value",), near=("offset", "timestamp_ms"))
FLUSH_ROWS = 500_000  # accepted rows held before they are written: bounds memory, not the night
FLUSH_BYTES = 64 * 1024 * 1024  # the same in bytes, for rejected records; four times as many for accepted ones
DATE = "date"
EPOCH = date(1970, 1, 1)
LOST = "lost"  # a fact of a master manifest: an operator accepted that the log no longer has this range as it was


def archive(night: Night, number: int, partition: int, report: Report = silent) -> Manifest:
    """Copy log_p[start, end) into the master dataset, one Parquet file as received; done when the position reached the end."""
    r = night.range(number, partition)
    path = layout.master(night.source.topic, partition, r.start, r.end)
    files: tuple[File, ...] = ()
    night.crash.reach("archive.start")
    if r.end > r.start:
        night.check_topic()
        check_not_regrown(night, number, r)
        rows = night.lake.write_table(f"{path}.parquet", RAW_SCHEMA, _raw(night, r, report), RAW)
        night.check_topic()  # made anew while it was read, it would have given records of both
        files = (File(f"{path}.parquet", rows),)
    manifest = Manifest("master", night.archive_inputs(r), files)
    night.lake.commit(f"{path}.json", manifest)
    return manifest


def check_not_regrown(night: Night, number: int, r: Range) -> None:
    """Compare the last archived record below the range with the log: a truncated and regrown log holds another there."""
    below = (night.archived(night.range(n, r.partition)) for n in range(number - 1, 0, -1) if night.has(n))
    kept = next((m for m in below if m and ((m.files and m.files[-1].rows) or LOST in m.facts)), None)
    if kept is None or LOST in kept.facts:
        return  # what the log was below an accepted loss is no witness of what it is above
    row = night.lake.last_row(kept.files[-1].path, ["offset", "timestamp_ms", "key", "value"])
    found = night.log.witness(night.source.topic, r.partition, kept.inputs["end"])  # a cut in between may not be archived yet
    if found is not None and found != record_hash(row["offset"], row["timestamp_ms"], row["key"], row["value"]):
        raise LogTruncated(
            f"topic {night.source.topic}, partition {r.partition}: the record at offset {row['offset']} is not the one archived"
            f" before; the log was truncated and has grown again; `watershed init --rebuild --accept-loss` goes on from the master dataset"
        )


def _raw(night: Night, r: Range, report: Report) -> Iterator[pa.RecordBatch]:
    for block in ahead(night.log.read(night.source.topic, r.partition, r.start, r.end, max_records=BLOCK_ROWS)):
        report(f"archived up to offset {block.end} of {r.end}", (block.end - r.start) / (r.end - r.start))
        yield block.batch


def clean(night: Night, number: int, partition: int, report: Report = silent) -> Manifest:
    """Decode, validate and deduplicate the range that cut `number` added, knowing the identities below it."""
    r = night.range(number, partition)
    before = night.before(number)
    ingest = Ingest(night.source, partition, _identities_at(night, before.number, partition, r.start))
    counts = Counts()
    with Behind() as behind:
        sink = _CleanFiles(night, r, behind)
        for block in ahead(master_blocks(night, r)):
            done = ingest.feed(block)
            counts += done.counts
            sink.add(done.accepted, done.rejected)
            report(f"cleaned up to offset {block.end} of {r.end}", (block.end - r.start) / max(1, r.end - r.start))
        sink.flush()
    path = layout.identities(night.source.topic, night.source_fingerprint, number, partition)
    inputs = layout.identity_inputs(night.generation.topic_id, partition, r.end)
    layout.write_identities(night.lake, path, inputs, ingest.identities.snapshot(r.end))
    below = Counts() if before.number == 0 else counts_of(_clean_manifest(night, before.number, partition).facts["total"])
    facts = {"counts": asdict(counts), "total": asdict(below + counts), "rejected": sink.rejected_files}
    manifest = Manifest("clean", night.clean_inputs(r), tuple(sink.files), facts)
    night.lake.commit(night.clean_path(r), manifest)
    return manifest


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


def master_blocks(night: Night, r: Range, rows: int = BLOCK_ROWS) -> Iterator[Block]:
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
    """Accepted records go to one file per event date, rejected ones to one file for the range; memory is bounded by FLUSH_ROWS."""

    def __init__(self, night: Night, r: Range, behind: Behind) -> None:
        self.night, self.r, self.behind = night, r, behind
        self.schema = clean_schema(night.source)
        self.known = Known([name for name in (night.source.identity,) if name], [night.source.event_time, OFFSET, TIMESTAMP])
        self.held: list[pa.RecordBatch] = []
        self.rejects: list[pa.RecordBatch] = []
        self.files: list[File] = []  # whole when `behind` is closed; `rejected_files` too
        self.rejected_files: list[str] = []
        self.flushes = 0

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
            self.behind.call(partial(self._write, self.held, self.flushes))
            self.held, self.flushes = [], self.flushes + 1

    def _flush_rejects(self) -> None:
        if self.rejects:
            self.behind.call(partial(self._write_rejects, self.rejects))
            self.rejects = []

    def _write(self, held: list[pa.RecordBatch], flush: int) -> None:
        table = pa.Table.from_batches(held, self.schema).combine_chunks()
        folder = layout.clean(self.night.source.topic, self.night.source_fingerprint)
        for day, part in by_day(table, self.night.source.event_time):
            path = f"{folder}/date={day}/{self.r.partition}-{self.r.start}-{self.r.end}-{flush}.parquet"
            rows = self.night.lake.write_table(path, self.schema, [part], self.known)
            self.files.append(File(path, rows, {DATE: day}))

    def _write_rejects(self, rejects: list[pa.RecordBatch]) -> None:
        name = f"{self.r.partition}-{self.r.start}-{self.r.end}-{len(self.rejected_files)}"
        path = layout.rejected(self.night.source.topic, self.night.source_fingerprint, name)
        self.night.lake.write_table(path, REJECTED_SCHEMA, rejects)
        self.rejected_files.append(path)
