"""Archive one range of one partition, and clean it meanwhile where that may be.

    master[start, end) = the log, as received        cleaned meanwhile = cleaned from the master dataset afterwards
"""

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from pipeline import layout
from pipeline.lake import ROW_GROUP, File, Known, Manifest
from pipeline.log import RAW_SCHEMA, LogTruncated, record_hash
from tasks.cleaning import Cleaning
from tasks.executors import OnTheSide, ahead
from tasks.night import Night, Range, Report, silent

RAW = Known(distinct=("value",), near=("offset", "timestamp_ms"))
LOST = "lost"  # a fact of a master manifest: an operator accepted that the log no longer has this range as it was


def archive(night: Night, number: int, partition: int, report: Report = silent) -> Manifest:
    """Copy log_p[start, end) into the master dataset, one Parquet file as received; done when the position reached the end.

    What is received is cleaned from memory too, when all that cleaning needs is there. The archive does not depend on it: where that
    fails, the range is left to its own task, which reads it back.
    """
    r = night.range(number, partition)
    path = layout.master(night.source.topic, partition, r.start, r.end)
    night.crash.reach("archive.start")
    if r.end == r.start:
        return _commit(night, r, path, ())
    night.check_topic()
    check_not_regrown(night, number, r)
    with Cleaning(night, number, partition) as cleaning, OnTheSide() as side:
        side.call(partial(_begin, night, number, partition, cleaning, side))
        rows = night.lake.write_table(f"{path}.parquet", RAW_SCHEMA, _raw(night, r, report, cleaning, side), RAW)
        night.check_topic()  # made anew while it was read, it would have given records of both
        manifest = _commit(night, r, path, (File(f"{path}.parquet", rows),))
        side.call(cleaning.commit)
    return manifest


def _begin(night: Night, number: int, partition: int, cleaning: Cleaning, side: OnTheSide) -> None:
    if night.may_clean(number, partition):
        cleaning.open()
    else:
        side.give_up()


def _commit(night: Night, r: Range, path: str, files: tuple[File, ...]) -> Manifest:
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


def _raw(night: Night, r: Range, report: Report, cleaning: Cleaning, side: OnTheSide) -> Iterator[pa.RecordBatch]:
    for block in ahead(night.log.read(night.source.topic, r.partition, r.start, r.end, max_records=ROW_GROUP)):
        report(f"archived up to offset {block.end} of {r.end}", (block.end - r.start) / (r.end - r.start))
        side.call(partial(cleaning.feed, block))
        yield block.batch
