"""Records as whole record batches (format 2), made from columns and handed to kafka-python's producer ready to be sent.

    encode(keys, values) = what kafka-python's own builder makes of the same records, one after the other

kafka-python takes records one by one, at 35 µs of Python each. The parts of it that this builds on are private, as of 3.0.12: _PARTS names
them, and `send_columns` refuses a kafka-python without them. Sequences, retries and errors are left to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.producer.transaction_manager import TransactionManager
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder

from pipeline.base.errors import LogError
from pipeline.log.kafka.client import TopicPartition

HEADER_BYTES = 61  # of a record batch
BATCH_BYTES = 512 * 1024
_PARTS = (
    (RecordAccumulator, "_tp_lock"),
    (TransactionManager, "is_transactional"),
    (TransactionManager, "maybe_add_partition_to_transaction"),
    (DefaultRecordBatchBuilder, "_buffer"),
    (DefaultRecordBatchBuilder, "_first_timestamp"),
    (DefaultRecordBatchBuilder, "_max_timestamp"),
    (DefaultRecordBatchBuilder, "_last_offset"),
    (DefaultRecordBatchBuilder, "_num_records"),
    (MemoryRecordsBuilder, "next_offset"),
)


class SentBatch(NamedTuple):
    """A batch on its way: `future` is kafka-python's, whose value is (base offset, timestamp, error of a record or None)."""

    future: Any
    records: int


def send_columns(
    producer: Any, at: TopicPartition, keys: pa.Array, values: pa.Array, timestamp_ms: int, most_bytes: int
) -> list[SentBatch]:
    """Hand the records (binary, none null) to a transactional or idempotent KafkaProducer, in batches of at most `most_bytes`.

    The usual mistake: to send a batch of several records that the topic's max.message.bytes does not allow.
    """
    missing = [f"{kind.__name__}.{name}" for kind, name in _PARTS if not hasattr(kind, name)]
    if missing:
        raise LogError(
            f"kafka-python lacks {', '.join(missing)}; 3.0.12 has them", repair="pip install 'kafka-python==3.0.12'"
        )
    return [
        SentBatch(_enqueue(producer, at, body, count, timestamp_ms), count)
        for body, count in bodies(keys, values, min(BATCH_BYTES, most_bytes) - HEADER_BYTES)
    ]


def _enqueue(producer: Any, at: TopicPartition, body: bytes, count: int, timestamp_ms: int) -> Any:
    """As KafkaProducer.send does it, for a batch instead of a record."""
    accumulator = producer._accumulator
    if producer._transaction_manager.is_transactional():
        producer._transaction_manager.maybe_add_partition_to_transaction(at)
    records = MemoryRecordsBuilder(2, 0, len(body))
    builder = records._builder
    builder._buffer.extend(body)
    builder._first_timestamp = builder._max_timestamp = timestamp_ms
    builder._last_offset, builder._num_records, records._next_offset = count - 1, count, count
    batch = ProducerBatch(at, records)
    accumulator._appends_in_progress.increment()
    try:
        with accumulator._tp_lock(at):
            accumulator._batches[at].append(batch)
            accumulator._incomplete.add(batch)
    finally:
        accumulator._appends_in_progress.decrement()
    producer._sender.wakeup()
    return batch.produce_future


def bodies(keys: pa.Array, values: pa.Array, most_bytes: int) -> Iterator[tuple[bytes, int]]:
    """(the records of a batch, how many), each of at most `most_bytes`, or of one record that is larger."""
    start, sizes = 0, record_bytes(keys, values)
    ends = np.cumsum(sizes)
    while start < len(keys):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + most_bytes, side="right")))
        yield encode(keys.slice(start, end - start), values.slice(start, end - start)), end - start
        start = end


def encode(keys: pa.Array, values: pa.Array) -> bytes:
    """The records of one batch: offsets from 0 on, one timestamp for all, no headers."""
    key_sizes, value_sizes = _sizes(keys), _sizes(values)
    deltas = np.arange(len(keys))
    inner = 1 + 1 + _varint_sizes(deltas) + _varint_sizes(key_sizes) + key_sizes + _varint_sizes(value_sizes)
    inner = inner + value_sizes + 1
    zero = pa.scalar(b"\0", pa.binary())
    parts: list[Any] = [_varints(inner), pa.scalar(b"\0\0", pa.binary()), _varints(deltas), _varints(key_sizes), keys]
    parts += [_varints(value_sizes), values, zero, pa.scalar(b"", pa.binary())]
    joined: Any = pc.binary_join_element_wise(*parts)
    offsets = np.frombuffer(joined.buffers()[1], np.int32)
    return bytes(memoryview(joined.buffers()[2])[int(offsets[0]) : int(offsets[len(joined)])])


def _sizes(array: pa.Array) -> Any:
    found: Any = pc.binary_length(array)  # type: ignore[call-overload]  # the stubs know texts alone
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def record_bytes(keys: pa.Array, values: pa.Array) -> Any:
    """int64: no fewer bytes than each record takes."""
    return _sizes(keys) + _sizes(values) + DefaultRecordBatchBuilder.MAX_RECORD_OVERHEAD + 10


def _varint_sizes(numbers: Any) -> Any:
    """Bytes of each as a zigzag varint; none is negative."""
    zigzag = np.asarray(numbers, np.int64) << 1
    return 1 + sum((zigzag >= 1 << (7 * n)).astype(np.int64) for n in range(1, 9))


def _varints(numbers: Any) -> pa.Array:
    """Each as a zigzag varint (binary); none is negative."""
    distinct, places = np.unique(np.asarray(numbers, np.int64), return_inverse=True)
    zigzag, sizes = distinct << 1, _varint_sizes(distinct)
    most = int(sizes.max(initial=1))
    digits = (zigzag[:, None] >> (7 * np.arange(most))) & 0x7F
    digits = (digits | np.where(np.arange(most) < sizes[:, None] - 1, 0x80, 0)).astype(np.uint8)
    data = digits[np.arange(most) < sizes[:, None]].tobytes()
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
    table = pa.Array.from_buffers(
        pa.binary(), len(distinct), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
    )
    order: Any = pa.array(places)
    return table.take(order)


__all__ = ["HEADER_BYTES", "SentBatch", "bodies", "encode", "record_bytes", "send_columns"]
