"""Records as whole record batches (format 2), made from columns and handed to kafka-python's producer ready to be sent.

    bodies(records, rows, most_bytes) = what kafka-python's own builder makes of the same records, one after the other

kafka-python takes records one by one, at 35 µs of Python each. The parts of it that this builds on are private, as of 3.0.12: _PARTS names
them, and `send_columns` refuses a kafka-python without them. Sequences, retries and errors are left to it, but for one: a batch that the
broker finds too large fails whole, where kafka-python would cut it in two and hand neither half's answer on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.producer.sender import Sender
from kafka.producer.transaction_manager import TransactionManager
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder

from pipeline.base.errors import LogError
from pipeline.columns.arrays import Ints, text_buffers
from pipeline.kernels import outgoing
from pipeline.log.kafka.client import TopicPartition, kafka_errors

HEADER_BYTES = 61  # of a record batch
BATCH_BYTES = 512 * 1024
TOO_LARGE = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
)  # the broker has none of the batch
_PARTS = (
    (RecordAccumulator, "_tp_lock"),
    (Sender, "_can_split"),
    (ProducerBatch, "abort"),
    (TransactionManager, "is_transactional"),
    (TransactionManager, "maybe_add_partition_to_transaction"),
    (DefaultRecordBatchBuilder, "_buffer"),
    (DefaultRecordBatchBuilder, "_first_timestamp"),
    (DefaultRecordBatchBuilder, "_max_timestamp"),
    (DefaultRecordBatchBuilder, "_last_offset"),
    (DefaultRecordBatchBuilder, "_num_records"),
    (MemoryRecordsBuilder, "next_offset"),
)


class Columns(NamedTuple):
    """Keys and values as kernels take them: offsets int64, and bytes."""

    key_offsets: Ints
    keys: Any
    value_offsets: Ints
    values: Any

    @classmethod
    def of(cls, keys: pa.Array, values: pa.Array) -> Columns:
        """Of binary arrays, none of whose values is null."""
        (key_offsets, key_data), (value_offsets, value_data) = text_buffers(keys), text_buffers(values)
        return cls(key_offsets.astype(np.int64), key_data, value_offsets.astype(np.int64), value_data)


class SentBatch(NamedTuple):
    """A batch on its way: `future` is kafka-python's, whose value is (base offset, timestamp, error of a record or None)."""

    future: Any
    records: int


class _ReadyBatch(ProducerBatch):  # type: ignore[misc]  # kafka-python has no types
    """A batch that tells its own errors from those of others: what is given up for another batch's error may be in the log."""

    def abort(self, exception: Exception) -> None:
        """See ProducerBatch.abort; `producer.cause` finds the exception again."""
        super().abort(kafka_errors.KafkaError(f"given up after {type(exception).__name__}: {exception}", exception))


def _never_split(batch: Any, error: Any) -> bool:
    return False


def send_columns(
    producer: Any, at: TopicPartition, records: Columns, rows: Ints, timestamp_ms: int, most_bytes: int
) -> list[SentBatch]:
    """Hand these rows of the columns to a transactional or idempotent KafkaProducer, in batches of at most `most_bytes`.

    A batch that the topic's max.message.bytes does not allow by now fails with one of TOO_LARGE, and nothing of it is in the log.
    """
    missing = [f"{kind.__name__}.{name}" for kind, name in _PARTS if not hasattr(kind, name)]
    if missing:
        raise LogError(
            f"kafka-python lacks {', '.join(missing)}; 3.0.12 has them", repair="pip install 'kafka-python==3.0.12'"
        )
    return [
        SentBatch(_enqueue(producer, at, body, count, timestamp_ms), count)
        for body, count in bodies(records, rows, min(BATCH_BYTES, most_bytes) - HEADER_BYTES)
    ]


def _enqueue(producer: Any, at: TopicPartition, body: bytes, count: int, timestamp_ms: int) -> Any:
    """As KafkaProducer.send does it, for a batch instead of a record."""
    accumulator = producer._accumulator
    producer._sender._can_split = _never_split
    if producer._transaction_manager.is_transactional():
        producer._transaction_manager.maybe_add_partition_to_transaction(at)
    records = MemoryRecordsBuilder(2, 0, len(body))
    builder = records._builder
    builder._buffer.extend(body)
    builder._first_timestamp = builder._max_timestamp = timestamp_ms
    builder._last_offset, builder._num_records, records._next_offset = count - 1, count, count
    batch = _ReadyBatch(at, records)
    accumulator._appends_in_progress.increment()
    try:
        with accumulator._tp_lock(at):
            accumulator._batches[at].append(batch)
            accumulator._incomplete.add(batch)
    finally:
        accumulator._appends_in_progress.decrement()
    producer._sender.wakeup()
    return batch.produce_future


def bodies(records: Columns, rows: Ints, most_bytes: int) -> list[tuple[bytes, int]]:
    """(the records of a batch, how many), each of at most `most_bytes`, or of one record that is larger: of these rows, in their order.

    In a batch offsets are from 0 on, there is one timestamp for all, and no headers.
    """
    found: tuple[Any, ...] = outgoing.encode_records(*records, rows, most_bytes)
    out, ends, counts = found
    starts = [0, *ends.tolist()]
    return [
        (out[start:end].tobytes(), count)
        for start, end, count in zip(starts, starts[1:], counts.tolist(), strict=False)
    ]


def record_bytes(keys: pa.Array, values: pa.Array) -> Any:
    """int64: no fewer bytes than each record takes."""
    return _sizes(keys) + _sizes(values) + DefaultRecordBatchBuilder.MAX_RECORD_OVERHEAD + 10


def _sizes(array: pa.Array) -> Any:
    return np.diff(text_buffers(array)[0]).astype(np.int64)


__all__ = ["HEADER_BYTES", "TOO_LARGE", "Columns", "SentBatch", "bodies", "record_bytes", "send_columns"]
