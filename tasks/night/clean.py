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

from pipeline.accept.accept import OFFSET, REJECTED_SCHEMA, TIMESTAMP, Ingest, clean_schema
from pipeline.accept.identity_files import IdentitiesMissing, identities_at, write_identities
from pipeline.base.errors import LakeError
from pipeline.definition.source import Source
from pipeline.handover import Counts
from pipeline.lake import layout
from pipeline.lake.lake import ROW_GROUP, Known, Lake
from pipeline.lake.manifest import File, Manifest
from pipeline.lake.targets import CleanRange
from pipeline.log.log import Block
from tasks.executors import BackgroundCalls
from tasks.night.night import Night, Report, counts_of, silent

FLUSH_ROWS = 500_000  # accepted rows held before they are written: bounds memory, not the night
FLUSH_BYTES = 64 * 1024 * 1024  # the same in bytes, for rejected records; four times as many for accepted ones
DATE = "date"
EPOCH = date(1970, 1, 1)


class Cleaning:
    """The range that cut `number` added to a partition: made with the identities below it, then feed() the blocks that tile the range,
    then commit(). Used in a `with`, or cancelled in the end.

    LakeError when those identities are not there.
    """

    def __init__(self, night: Night, number: int, partition: int) -> None:
        self.night, self.target, self._before = (
            night,
            night.targets(number).clean(partition),
            night.targets(number).before,
        )
        self._ingest = self._knowing_what_is_below()
        self._counts = Counts()
        self._writing = night.executor.background_calls()
        self._sink = _CleanFiles(night.lake, night.source, self.target, self._writing)

    def _knowing_what_is_below(self) -> Ingest:
        night, r = self.night, self.target.master
        try:
            known = identities_at(night.lake, night.source, night.generation, self._before, r.partition, r.start)
        except IdentitiesMissing as missing:  # purged under a night that slept: its next run makes them again
            raise LakeError(f"{missing}; a night makes them again: run it again") from missing
        return Ingest(night.source, r.partition, known, schemas=night.schemas(night.source))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Write no more; nothing after commit()."""
        self._writing.cancel()

    def feed(self, block: Block) -> None:
        """Clean the next block of the range."""
        done = self._ingest.feed(block)
        self._counts += done.counts
        self._sink.add(done.accepted, done.rejected)

    def commit(self) -> Manifest:
        """Write what is left, the identities and the manifest."""
        night, target = self.night, self.target
        self._sink.flush()
        identities = target.identities
        write_identities(
            night.lake, identities.stem, identities.inputs, self._ingest.identities.snapshot(identities.position)
        )
        self._writing.close()
        facts = {
            "counts": asdict(self._counts),
            "total": asdict(self._below() + self._counts),
            "rejected": self._sink.rejected_files,
        }
        return target.commit(night.lake, self._sink.files, facts)

    def _below(self) -> Counts:
        """The counts of the log below the range."""
        if self._before == 0:
            return Counts()
        below = self.night.targets(self._before).clean(self.target.master.partition)
        return counts_of(below.require(self.night.lake).facts["total"])


def clean(night: Night, number: int, partition: int, report: Report = silent) -> Manifest:
    """Clean the range that cut `number` added, as the master dataset has it, knowing the identities below it."""
    r = night.targets(number).master(partition)
    with Cleaning(night, number, partition) as cleaning:
        for block in night.executor.read_ahead(r.blocks(night.lake, ROW_GROUP)):
            cleaning.feed(block)
            report(f"cleaned up to offset {block.end} of {r.end}", (block.end - r.start) / max(1, r.end - r.start))
        return cleaning.commit()


def may_clean(night: Night, number: int, partition: int) -> bool:
    """True when the range that cut `number` added is not clean yet, and the one below it is."""
    targets, lake = night.targets(number), night.lake
    if targets.clean(partition).with_identities(lake) is not None:
        return False
    return targets.before == 0 or night.targets(targets.before).clean(partition).with_identities(lake) is not None


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

    def __init__(self, lake: Lake, source: Source, target: CleanRange, writing: BackgroundCalls) -> None:
        self.lake, self.source, self.target, self.writing = lake, source, target, writing
        self.schema = clean_schema(source)
        self.known = Known(list(source.identities), [source.event_time, OFFSET, TIMESTAMP])
        self.held: list[pa.RecordBatch] = []
        self.rejects: list[pa.RecordBatch] = []
        self.files: list[File] = []  # whole when `writing` is closed; `rejected_files` too
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
            self.writing.call(partial(self._write, self.held))
            self.held = []

    def _flush_rejects(self) -> None:
        if self.rejects:
            self.writing.call(partial(self._write_rejects, self.rejects))
            self.rejects = []

    def _name(self, offsets: pa.ChunkedArray) -> str:
        """By what is in the file: another process may cut the range elsewhere, and a file of the same name has the same rows."""
        return f"{self.target.master.partition}-{offsets[0]}-{int(offsets[-1].as_py()) + 1}"

    def _write(self, held: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(held, self.schema).combine_chunks()
        name = self._name(table.column(OFFSET))
        for day, part in by_day(table, self.source.event_time):
            path = f"{self.target.folder}/date={day}/{name}.parquet"
            rows = self.lake.write_table(path, self.schema, [part], self.known)
            self.files.append(File(path, rows, {DATE: day}))

    def _write_rejects(self, rejects: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(rejects, REJECTED_SCHEMA)
        path = layout.rejected(self.source.topic, self.target.source_fingerprint, self._name(table.column("offset")))
        self.lake.write_table(path, REJECTED_SCHEMA, [table])
        self.rejected_files.append(path)
