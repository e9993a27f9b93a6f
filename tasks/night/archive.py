"""Archive one range of one partition, and clean it meanwhile where that may be.

master[start, end) = the log, as received        cleaned meanwhile = cleaned from the master dataset afterwards
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from pipeline.lake.lake import ROW_GROUP, Known
from pipeline.lake.manifest import File, Manifest
from pipeline.lake.targets import MasterRange
from pipeline.log.log import RAW_SCHEMA, Block, LogTruncated, record_hash
from tasks.executors import BestEffortCalls
from tasks.night.clean import Cleaning, may_clean
from tasks.night.night import Night, Report, silent

RAW = Known(distinct=("value",), near=("offset", "timestamp_ms"))
LOST = "lost"  # a fact of a master manifest: an operator accepted that the log no longer has this range as it was


def archive(night: Night, number: int, partition: int, report: Report = silent) -> Manifest:
    """Copy log_p[start, end) into the master dataset, one Parquet file as received; done when the position reached the end.

    If the range below is clean, this one is cleaned meanwhile, from the same blocks. The archive does not depend on it: where that
    fails, the range is left to its own task, which reads it back.
    """
    r = night.targets(number).master(partition)
    night.crash.reach("archive.start")
    if r.end == r.start:
        return r.commit(night.lake, ())
    night.check_topic()
    check_not_regrown(night, number, r)
    cleaning = _CleanedMeanwhile(night, number, partition)
    try:
        with night.executor.best_effort_calls() as calls:
            calls.call(cleaning.begin)
            rows = night.lake.write_table(r.data, RAW_SCHEMA, _raw(night, r, report, cleaning, calls), RAW)
            night.check_topic()  # made anew while it was read, it would have given records of both
            manifest = r.commit(night.lake, (File(r.data, rows),))
            calls.call(cleaning.commit)
    finally:
        cleaning.cancel()
    return manifest


@dataclass
class _CleanedMeanwhile:
    """The cleaning of a range that is being archived: none before it was begun, or where the range must be left to its own task."""

    night: Night
    number: int
    partition: int
    cleaning: Cleaning | None = None

    def begin(self) -> None:
        if may_clean(self.night, self.number, self.partition):
            self.cleaning = Cleaning(self.night, self.number, self.partition)

    def feed(self, block: Block) -> None:
        if self.cleaning is not None:
            self.cleaning.feed(block)

    def commit(self) -> None:
        if self.cleaning is not None:
            self.cleaning.commit()

    def cancel(self) -> None:
        if self.cleaning is not None:
            self.cleaning.cancel()


def check_not_regrown(night: Night, number: int, r: MasterRange) -> None:
    """Compare the last archived record below the range with the log: a truncated and regrown log holds another there."""
    below = (t.master(r.partition).manifest(night.lake) for t in reversed(night.targets_between(0, number - 1)))
    kept = next((m for m in below if m and ((m.files and m.files[-1].rows) or LOST in m.facts)), None)
    if kept is None or LOST in kept.facts:
        return  # what the log was below an accepted loss is no witness of what it is above
    row = night.lake.last_row(kept.files[-1].path, ["offset", "timestamp_ms", "key", "value"])
    # A cut in between may not be archived yet
    found = night.log.witness(night.source.topic, r.partition, kept.inputs["end"])
    if found is not None and found != record_hash(row["offset"], row["timestamp_ms"], row["key"], row["value"]):
        raise LogTruncated(
            f"topic {night.source.topic}, partition {r.partition}: the record at offset {row['offset']} is not the one archived"
            f" before; the log was truncated and has grown again; `watershed init --rebuild --accept-loss` goes on from the master dataset",
            repair="watershed init --rebuild --accept-loss",
        )


def _raw(
    night: Night, r: MasterRange, report: Report, cleaning: _CleanedMeanwhile, calls: BestEffortCalls
) -> Iterator[pa.RecordBatch]:
    for block in night.executor.read_ahead(night.log.read(r.topic, r.partition, r.start, r.end, max_records=ROW_GROUP)):
        report(f"archived up to offset {block.end} of {r.end}", (block.end - r.start) / (r.end - r.start))
        calls.call(partial(cleaning.feed, block))
        yield block.batch
