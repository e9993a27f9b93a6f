"""Trial of a source and its views over a sample: what both layers would make of these records, by the layers' own code.

    records = accepted + duplicates + rejected + tombstones        accepted = folded + filtered + rejected, in each view

Duplicates are those within the sample: an event whose first copy lies between its oldest and its newest part is not seen to be one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.columns import EARLIEST, unit_of
from ingestion.sample import PartitionSample, Sample
from pipeline.accept.accept import OFFSET, PARTITION, TIMESTAMP, Ingest
from pipeline.accept.reasons import shape
from pipeline.base.counts import Counts, ViewCounts
from pipeline.decode.schemas import NO_SCHEMAS, Schemas
from pipeline.definition.marks import FromRecord
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.fold import combine, fold
from pipeline.fold.lookup import NO_TABLES, Tables
from pipeline.handover import Vector

MICROSECOND = timedelta(microseconds=1)
MICROSECONDS = {"s": "1000000", "ms": "1000", "us": "1", "ns": "0.001"}  # of each unit
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Rejected:
    """Records rejected for reasons of one shape, and the first of them."""

    count: int
    reason: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class ColumnSummary:
    """One column of the accepted records; `least` and `greatest` are None where there is no value."""

    name: str
    type: str
    nulls: int
    distinct: int
    least: Any
    greatest: Any


@dataclass(frozen=True)
class Times:
    """Event times of the accepted records. Lateness: how far an event lies behind the greatest time before it in its partition.

    `behind_record_s`: (least, median, greatest) seconds by which record timestamps lie after event times; None without timestamps.
    `hint` says which unit the numbers would be plausible in, where they are not.
    """

    first: datetime
    last: datetime
    late: int
    latest_s: float
    median_late_s: float
    behind_record_s: tuple[float, float, float] | None
    implausible: int
    hint: str


@dataclass(frozen=True)
class Across:
    """Values of the identity or the key that stand in several partitions: how many of how many, and an example with its partitions."""

    column: str
    is_identity: bool
    values: int
    of: int
    example: str
    partitions: Vector


@dataclass
class ViewTrial:
    """One view of the trial."""

    name: str
    counts: ViewCounts
    groups: int
    rejected: list[Rejected]


@dataclass
class Trial:
    """Findings of a trial of one source."""

    topic: str
    counts: Counts = field(default_factory=Counts)
    rejected: list[Rejected] = field(default_factory=list)
    columns: list[ColumnSummary] = field(default_factory=list)
    times: Times | None = None
    rates: dict[int, float] = field(default_factory=dict)  # partition -> records a second, by record timestamps
    across: list[Across] = field(default_factory=list)
    views: list[ViewTrial] = field(default_factory=list)


def trial(
    source: Source,
    views: Sequence[View],
    sample: Sample,
    now: datetime | None = None,
    schemas: Schemas = NO_SCHEMAS,
    tables: Tables = NO_TABLES,
) -> Trial:
    """Run the sample through decode, validate, deduplicate and each view's fold. `schemas`: those that records name; `tables`: those that
    the views look up, as of now. `now` is for tests.
    """
    found = Trial(source.topic)
    reasons: dict[str, Rejected] = {}
    folded = {view.name: (ViewTrial(view.name, ViewCounts(), 0, []), dict[str, Rejected]()) for view in views}
    states: dict[str, list[pa.Table]] = {view.name: [] for view in views}
    batches: list[pa.RecordBatch] = []
    for part in sample.partitions:
        ingest = Ingest(source, part.partition, schemas=schemas)
        for block in part.blocks:
            done = ingest.feed(block)
            found.counts += done.counts
            batches.append(done.accepted)
            if done.counts.rejected:
                _note(reasons, done.rejected)
            for view in views:
                of = fold(view, done.accepted, tables)
                trial_of, its = folded[view.name]
                trial_of.counts += of.counts
                states[view.name].append(of.states)
                if len(of.rejected):
                    _note_view(its, done.accepted, of.rejected, of.reasons, block.batch)
        if (rate := _rate(part)) is not None:
            found.rates[part.partition] = rate
    accepted = pa.Table.from_batches(batches).combine_chunks()
    found.rejected = _by_count(reasons)
    for view in views:
        trial_of, its = folded[view.name]
        trial_of.rejected, trial_of.groups = _by_count(its), combine(view, states[view.name]).num_rows
        found.views.append(trial_of)
    found.columns = [summary_of(c.name, str(c.type), accepted.column(c.name)) for c in source.columns]
    if accepted.num_rows:
        found.times = _times(source, accepted, now or datetime.now(UTC))
        found.across = list(_across(source, accepted)) if len(sample.partitions) > 1 else []
    return found


def _by_count(reasons: dict[str, Rejected]) -> list[Rejected]:
    return sorted(reasons.values(), key=lambda r: -r.count)


def _note(reasons: dict[str, Rejected], rejected: pa.RecordBatch) -> None:
    for row in rejected.to_pylist():
        _count(reasons, row["reason"], row["partition"], row["offset"], row["key"], row["value"])


def _note_view(
    reasons: dict[str, Rejected], accepted: pa.RecordBatch, rows: Any, texts: Sequence[str], raw: pa.RecordBatch
) -> None:
    partition, offsets = accepted.column(PARTITION), accepted.column(OFFSET)
    places = np.searchsorted(np.asarray(raw.column("offset").to_numpy()), np.asarray(offsets.to_numpy())[rows])
    for row, place, text in zip(rows.tolist(), places.tolist(), texts, strict=True):
        key, value = raw.column("key")[place].as_py(), raw.column("value")[place].as_py()
        _count(reasons, text, partition[row].as_py(), offsets[row].as_py(), key, value)


def _count(
    reasons: dict[str, Rejected], text: str, partition: int, offset: int, key: bytes | None, value: bytes | None
) -> None:
    known = reasons.get(of := shape(text))
    if known is None:
        reasons[of] = Rejected(1, text, partition, offset, key, value)
    else:
        known.count += 1


def summary_of(name: str, type: str, column: pa.ChunkedArray) -> ColumnSummary:
    """Nulls, distinct values and edges of a column of accepted rows."""
    values = column.drop_null().unique()
    texts: list[Any] = values.to_pylist()
    least, greatest = (min(texts), max(texts)) if texts else (None, None)
    return ColumnSummary(name, type, column.null_count, len(texts), least, greatest)


def _rate(part: PartitionSample) -> float | None:
    """Records a second over the newest block of timestamps; None where they tell nothing."""
    stamps = [np.asarray(block.batch.column("timestamp_ms").to_numpy()) for block in part.blocks[-1:]]
    known = [s[s >= 0] for s in stamps]
    if not known or len(known[0]) < 2:
        return None
    span_ms = int(known[0].max() - known[0].min())
    return (len(known[0]) - 1) * 1000 / span_ms if span_ms > 0 else None


def _times(source: Source, accepted: pa.Table, now: datetime) -> Times:
    """Figures of the event times, in the order of the log within each partition."""
    times_us = np.asarray(accepted.column(source.event_time).cast(pa.int64()).to_numpy(), np.int64)
    partitions = np.asarray(accepted.column(PARTITION).to_numpy(), np.int64)
    lateness = np.concatenate(
        [np.maximum.accumulate(times_us[partitions == p]) - times_us[partitions == p] for p in np.unique(partitions)]
    )
    stamps_ms = np.asarray(accepted.column(TIMESTAMP).to_numpy(), np.int64)
    stamped = stamps_ms >= 0
    behind = None
    if stamped.any():
        apart_s = (stamps_ms[stamped] * 1000 - times_us[stamped]) / 1e6
        behind = float(apart_s.min()), float(np.median(apart_s)), float(apart_s.max())
    low_us, high_us = (EARLIEST - EPOCH) // MICROSECOND, (now + timedelta(days=1) - EPOCH) // MICROSECOND
    outside = (times_us < low_us) | (times_us > high_us)
    late = lateness[lateness > 0]
    return Times(
        EPOCH + int(times_us.min()) * MICROSECOND,
        EPOCH + int(times_us.max()) * MICROSECOND,
        len(late),
        float(lateness.max()) / 1e6,
        float(np.median(late)) / 1e6 if len(late) else 0.0,
        behind,
        int(outside.sum()),
        _hint(source, times_us[outside], now) if outside.any() else "",
    )


def _hint(source: Source, outside_us: Any, now: datetime) -> str:
    """The question that implausible times put: the unit in which the numbers that the events have would be of our days."""
    (column,) = (c for c in source.columns if c.name == source.event_time)
    power = Decimal(MICROSECONDS[column.epoch or "ms"])
    least, greatest = (Decimal(int(edge)) / power for edge in (outside_us.min(), outside_us.max()))
    unit = unit_of(least, greatest, now + timedelta(days=1))
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    if not unit or unit == (column.epoch or "ms") or column.mark(FromRecord):
        return ""
    return f'are these {words[unit]}? Epoch("{unit}")'


def _across(source: Source, accepted: pa.Table) -> Iterator[Across]:
    """Identities and keys that stand in several partitions; first the identities."""
    identity = source.identities
    for names in dict.fromkeys([identity, (source.key,)]):
        if not names:
            continue
        of = accepted.group_by([*names, PARTITION]).aggregate([]).group_by(list(names)).aggregate([(PARTITION, "list")])
        lists = of.column(f"{PARTITION}_list")
        sizes = np.asarray(pc.list_value_length(lists).to_numpy())
        several = of.filter(pa.array(sizes > 1))
        if several.num_rows:
            first = several.slice(0, 1).to_pylist()[0]
            example = ", ".join(str(first[name]) for name in names)
            partitions = tuple(sorted(first[f"{PARTITION}_list"]))
            yield Across(", ".join(names), names == identity, several.num_rows, of.num_rows, example, partitions)


__all__ = ["Across", "ColumnSummary", "Rejected", "Times", "Trial", "ViewTrial", "summary_of", "trial"]
