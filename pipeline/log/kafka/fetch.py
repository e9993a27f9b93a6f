"""Arrays from the socket: adapters fitted to kafka-python 3.0.12, and the public API for every other version.

    take(consumer, ...) = consumer.poll(...) with Arrow batches in the place of lists of records

Leaders, epochs, sessions, retries, pausing and seeking stay kafka-python's. What changes is where it would make an object per record
(`Fetcher.PartitionRecords`), and how bytes come from the socket (in kafka_transport, checked here too).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import kafka
import numpy as np
import pyarrow as pa
from kafka import IsolationLevel, KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaTCPTransport
from kafka.protocol.parser import KafkaProtocol
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch
from kafka.record.memory_records import MemoryRecords

from pipeline.log.kafka.record_batches import Batch, DamagedLog, Records, read_header, slices
from pipeline.log.log import EMPTY_BATCH, MAX_BYTES, Block, blocks_of, joined, raw_batch

FITS = ("3.0.12",)
PARTS = (
    (Fetcher, ("fetched_records", "_append", "_parse_fetched_data", "PartitionRecords")),
    (
        Fetcher.PartitionRecords,
        (
            *("take", "drain", "_unpack_records", "_maybe_skip_record"),
            *("_consume_aborted_transactions_up_to", "_contains_abort_marker", "_is_batch_aborted"),
        ),
    ),
    (MemoryRecords(b""), ("_buffer", "next_batch")),
    (KafkaConnectionManager, ("_build_transport",)),
    (KafkaTCPTransport, ("_read_from_sock", "resume_reading", "abort")),
    (KafkaProtocol, ("receive_bytes", "_process_response", "_validate_frame_size")),
)
# Of record batches as sent that are decoded at once: bounds what waits decoded, within one batch
GROUP_BYTES = 8 * 1024 * 1024
PACKED = 4  # a compressed byte is taken for so many
GROUP_ROWS = 1 << 20


def misfit() -> str:
    """Reason why the installed kafka-python must be read through its public API; '' when the adapters fit it."""
    if kafka.__version__ not in FITS:
        return f"kafka-python {kafka.__version__} is installed, and the fast reader fits {', '.join(FITS)}"
    missing = [f"{at!r}.{name}" for at, names in PARTS for name in names if not hasattr(at, name)]
    return f"kafka-python {kafka.__version__} lacks {', '.join(missing)}" if missing else ""


class Budget:
    """Rest of what one call of `take` may return; one for each consumer. A first record always may."""

    def __init__(self) -> None:
        self.left, self.fresh = MAX_BYTES, True

    def renew(self, most_bytes: int) -> None:
        """Begin a call that may return `most_bytes` of keys, values and headers; left out, the next call gets what the last one left."""
        self.left, self.fresh = most_bytes, True

    def spend(self, size: int) -> None:
        """Take `size` bytes off; from the first on, a record that does not fit has to wait."""
        self.left, self.fresh = self.left - size, False


class Taken:
    """Stand-in for the fetcher's list of records: iterating gives Arrow batches; its length is what it uses up of max_records."""

    def __init__(self, batches: list[pa.RecordBatch], length: int) -> None:
        self._batches, self._length = batches, length

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._batches)

    def __len__(self) -> int:
        return self._length


class OldRecord(NamedTuple):
    """A record of message format 0 or 1."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Any]
    size: int


class OldRecords:
    """`Records` of a batch of message format 0 or 1: kafka-python's own objects."""

    def __init__(self, records: Sequence[OldRecord]) -> None:
        self._records = records
        self.offsets = np.array([record.offset for record in records], np.int64)

    def __len__(self) -> int:
        return len(self._records)

    def within(self, start: int, most_rows: int, most_bytes: int) -> tuple[int, int]:
        """(rows from `start` on that are at most so many and so large, their bytes): (0, 0) when the first is larger already."""
        total = 0
        for n, record in enumerate(self._records[start : start + most_rows]):
            if total + record.size > most_bytes:
                return n, total
            total += record.size
        return min(most_rows, len(self) - start), total

    def rows(self, start: int, stop: int) -> pa.RecordBatch:
        """Rows [start, stop) as a batch of RAW_SCHEMA."""
        return raw_batch(self._records[start:stop])


class ColumnarRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # kafka-python has no types
    """The records of one partition in one fetch response, taken as Arrow batches.

    next_fetch_offset and leader_epoch are, after each take, what they would be had its records been taken one by one.
    """

    def __init__(self, budget: Budget, *arguments: Any, **settings: Any) -> None:
        self._budget = budget
        self._wanted = 1  # rows: how many to decode ahead
        self._epoch = -1  # of the batch that was read last
        self._now: Records | OldRecords | None = None
        self._row = 0  # of _now, the first that was not taken
        self._now_epoch = -1
        self._failed: Exception | None = None
        super().__init__(*arguments, **settings)

    def _maybe_skip_record(self, record: Any) -> bool:
        return False  # records below the fetch offset are skipped in _next

    def take(self, n: int | None = None) -> Taken:
        """At most `n` rows, within the budget. After an error it raises that error for ever: nothing behind it is returned."""
        most = GROUP_ROWS if n is None else n
        batches: list[pa.RecordBatch] = []
        rows, full = 0, False
        try:
            while rows < most and not full and self._next(most - rows):
                found = self._now
                assert found is not None
                more, size = found.within(self._row, most - rows, self._budget.left)
                if not more and self._budget.fresh:
                    more, size = found.within(self._row, 1, 1 << 62)
                full = self._row + more < len(found) and rows + more < most
                if more:
                    batches.append(found.rows(self._row, self._row + more))
                    self._budget.spend(size)
                    self._row += more
                    rows += more
                    self.next_fetch_offset = int(found.offsets[self._row - 1]) + 1
                    self.leader_epoch = self._now_epoch
        except Exception as error:
            self._failed = error
            if not rows:
                raise
        return Taken(batches, most if full else rows)

    def _next(self, wanted: int) -> bool:
        """True when _now has a row at _row; at the end of the response it is drained, and its position set behind all of it."""
        if self._failed is not None:
            raise self._failed
        self._wanted = wanted
        while self._now is None or self._row >= len(self._now):
            self._now = next(self.record_iterator, None) if self.record_iterator is not None else None
            if self._now is None:
                return False
            self._row, self._now_epoch = int(np.searchsorted(self._now.offsets, self.fetch_offset)), self._epoch
            self.records_read += len(self._now)
        return True

    def drain(self) -> None:
        """Let go of what is decoded, as kafka-python does of what it has; nothing more is taken from this response."""
        super().drain()
        self._now = None

    def _unpack_records(self, tp: TopicPartition, records: MemoryRecords, *_: Any) -> Iterator[Records | OldRecords]:
        """Decoded groups of batches, without control batches and aborted transactions."""
        buffer = records._buffer
        group: list[Batch] = []
        rows = size = 0
        behind, format_2 = 0, False
        try:
            for at, length, magic in slices(buffer):
                if magic in (0, 1):
                    ready, group, rows, size = group, [], 0, 0
                    yield from self._decoded(buffer, ready)
                    old = self._old(memoryview(buffer)[at : at + length], magic)
                    behind, format_2 = _in_order(int(old.offsets[0]), int(old.offsets[-1]) + 1, behind), False
                    yield old
                    continue
                batch = read_header(buffer, at, length, self.check_crcs)
                behind, format_2 = _in_order(batch.base_offset, batch.next_offset, behind), True
                if group and (batch.leader_epoch != self._epoch or rows >= self._wanted or size >= GROUP_BYTES):
                    ready, group, rows, size = group, [], 0, 0
                    yield from self._decoded(buffer, ready)
                self._epoch = batch.leader_epoch
                if self._hidden(buffer, batch):
                    if not group:
                        self.next_fetch_offset, self.leader_epoch = batch.next_offset, batch.leader_epoch
                    continue
                group.append(batch)
                rows, size = rows + batch.records_count, size + batch.size * (PACKED if batch.codec else 1)
        except DamagedLog as error:
            yield from self._decoded(buffer, group)  # what lies before it
            raise self._placed(error) from error
        yield from self._decoded(buffer, group)
        if format_2:  # offsets that compaction or a transaction's end has emptied are behind us too
            self.next_fetch_offset = behind
        self.leader_epoch = self._epoch
        self.drain()

    def _decoded(self, buffer: bytes, group: list[Batch]) -> Iterator[Records]:
        """The group's records; batch by batch when one of them is damaged, so that those before it are returned."""
        if not group:
            return
        last_epoch, self._epoch = self._epoch, group[0].leader_epoch
        try:
            found = [Records(buffer, group)]
        except DamagedLog as error:
            if len(group) == 1:
                raise self._placed(error) from error
            found = []
        self.bytes_read += sum(batch.size for batch in group)
        if found:
            yield from found
        else:
            for batch in group:
                yield from self._decoded(buffer, [batch])
        self._epoch = last_epoch

    def _hidden(self, buffer: bytes, batch: Batch) -> bool:
        """True when readers of committed records do not see this batch; notes which transactions were aborted."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.producer_id >= 0:
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if batch.is_control_batch:
                marker = DefaultRecordBatch(memoryview(buffer)[batch.at : batch.at + batch.size])
                try:
                    aborted = self._contains_abort_marker(marker)
                except Exception as error:
                    raise DamagedLog(
                        f"offset {batch.base_offset}: a control record cannot be read ({error})"
                    ) from error
                if aborted:
                    self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return batch.is_control_batch

    def _old(self, data: memoryview, magic: int) -> OldRecords:
        try:
            batch = LegacyRecordBatch(data, magic)
            records = list(batch) if not self.check_crcs or batch.validate_crc() else None
        except Exception as error:  # kafka-python asserts, indexes and decompresses without a check of its own
            raise DamagedLog(f"a record set of message format {magic} cannot be read ({error!r})") from error
        if records is None or (self.check_crcs and not all(record.validate_crc() for record in records)):
            raise DamagedLog(f"offset {batch.base_offset}: a record set of message format {magic} fails its CRC check")
        if not records or any(later.offset <= record.offset for record, later in pairwise(records)):
            raise DamagedLog(
                f"offset {batch.base_offset}: the offsets of a record set of message format {magic} do not rise"
            )
        return OldRecords(
            [
                OldRecord(
                    r.offset,
                    -1 if r.timestamp is None else r.timestamp,
                    r.key,
                    r.value,
                    (),
                    len(r.key or b"") + len(r.value or b""),
                )
                for r in records
            ]
        )

    def _placed(self, error: DamagedLog) -> DamagedLog:
        at = self.topic_partition
        where = f"topic {at.topic!r}, partition {at.partition}, "
        if str(error).startswith(where):
            return error
        return DamagedLog(
            f"{where}{error} (read from offset {self.next_fetch_offset} on): the broker's disk or what lies between damaged it; "
            f"make a sound replica the leader, or restore that log, and start again; nothing was skipped"
        )


def _in_order(start: int, end: int, behind: int) -> int:
    """`end`, of a batch that begins at `start` behind the offset `behind`."""
    if start < behind:
        raise DamagedLog(f"offset {start}: a record batch follows one that ends at offset {behind}")
    return end


def fit(consumer: KafkaConsumer) -> str:
    """Make `take` fast for this new consumer, whose own poll must not be used from then on; or say why not, see `misfit`."""
    reason = misfit()
    if not reason:
        fetcher = consumer._fetcher
        fetcher.columns = Budget()
        fetcher.PartitionRecords = partial(ColumnarRecords, fetcher.columns)
    return reason


def take(
    consumer: KafkaConsumer, timeout_ms: int, max_records: int, max_bytes: int = MAX_BYTES
) -> dict[TopicPartition, list[pa.RecordBatch]]:
    """consumer.poll as batches of RAW_SCHEMA, in order, none empty, each of at most about `max_bytes`.

    After `fit`, that is for all of them together. Raises what poll raises, and DamagedLog.
    """
    budget: Budget | None = getattr(consumer._fetcher, "columns", None)
    if budget is not None:
        budget.renew(max_bytes)
        polled = consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
        return {at: [joined(batches)] for at, batches in polled.items() if batches}
    polled = consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
    return {
        at: [block.batch for block in blocks_of(records, records[0].offset, records[-1].offset + 1, max_bytes)]
        for at, records in polled.items()
        if records
    }


def tiled(batches: Sequence[pa.RecordBatch], start: int, end: int) -> Iterator[Block]:
    """The batches as blocks that tile [start, end); rows from `end` on are left out."""
    kept: list[pa.RecordBatch] = []
    for batch in batches:
        rows = int(batch.column("offset").to_numpy().searchsorted(end))
        if rows:
            kept.append(batch if rows == batch.num_rows else batch.slice(0, rows))
    for number, batch in enumerate(kept or [EMPTY_BATCH]):
        upto = int(batch.column("offset")[-1].as_py()) + 1 if number + 1 < len(kept) else end
        yield Block(batch, start, upto)
        start = upto
