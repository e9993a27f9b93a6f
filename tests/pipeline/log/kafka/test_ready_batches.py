"""Record batches made from columns are those that kafka-python makes of the same records, one by one."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder

from pipeline.base.errors import LogError
from pipeline.columns.arrays import Ints
from pipeline.log.kafka.client import TopicPartition
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.feed_producer import KafkaFeedProducer
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.kafka.push_producer import KafkaPushProducer, TooLarge, _Sending
from pipeline.log.kafka.ready_batches import Columns, SentBatch, _ReadyBatch, bodies
from tests.support.pushing import take_less
from tests.support.system import wait_for

RECORDS = st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=20_000)), min_size=1, max_size=30)


def slowly(records: list[tuple[bytes, bytes]]) -> bytes:
    """By kafka-python's own builder."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 40)
    for n, (key, value) in enumerate(records):
        builder.append(n, 1_700_000_000_000, key, value, [])
    return bytes(builder._buffer[DefaultRecordBatchBuilder.HEADER_STRUCT.size :])


def columns(records: list[tuple[bytes, bytes]]) -> Columns:
    """Between others, which are not theirs."""
    keys, values = zip((b"no key", b"no value"), *records, (b"none", b"none"), strict=True)
    count = len(records)
    return Columns.of(pa.array(keys, pa.binary()).slice(1, count), pa.array(values, pa.binary()).slice(1, count))


@settings(deadline=None)
@given(RECORDS)
@example([(b"k", b"v" * n) for n in (0, 1, 56, 57, 58, 63, 64, 8_000, 8_180, 8_191, 8_192, 1_048_575, 1_048_576)])
@example([(b"k", b"v")] * 9_000)
def test_records_are_encoded_as_kafka_python_encodes_them(records: list[tuple[bytes, bytes]]) -> None:
    assert bodies(columns(records), np.arange(len(records)), 1 << 40) == [(slowly(records), len(records))]
    others = np.flip(np.arange(len(records)))[::2].copy()
    assert bodies(columns(records), others, 1 << 40) == [(slowly([records[n] for n in others]), len(others))]


@settings(deadline=None)
@given(RECORDS, st.integers(1, 40_000))
def test_batches_have_every_record_once_in_order_and_are_no_larger_than_allowed(
    records: list[tuple[bytes, bytes]], most: int
) -> None:
    start = 0
    for body, count in bodies(columns(records), np.arange(len(records)), most):
        assert body == slowly(records[start : start + count])
        assert count >= 1 and (len(body) <= most or count == 1)
        start += count
    assert start == len(records)


KEYS, VALUES = pa.array([b"k"] * 50, pa.binary()), pa.array([b"v" * 100] * 50, pa.binary())


@pytest.mark.slow
def test_a_push_of_several_records_that_is_too_large_by_now_is_told_as_such(real_kafka: str, topic_name: str) -> None:
    log = KafkaLog(real_kafka)
    log.create_topic(topic_name, 1)
    told: list[Ints | LogError] = []
    writer = KafkaPushProducer(KafkaConnection(real_kafka), topic_name, timeout_s=10)
    take_less(real_kafka, topic_name, 2000)
    writer.send(np.zeros(50, np.int32), KEYS, VALUES, 1, told.append)
    wait_for(lambda: told, "it is settled", 20)
    writer.close(5)
    assert isinstance(told[0], TooLarge) and "nothing was sent" in told[0].text
    assert log.end_offsets(topic_name) == [0]
    log.close()


@pytest.mark.slow
def test_a_feed_whose_batch_is_too_large_by_now_says_so_and_goes_on_when_it_begins_anew(
    real_kafka: str, topic_name: str
) -> None:
    log = KafkaLog(real_kafka)
    log.create_topic(topic_name, 1)
    writer = KafkaFeedProducer(KafkaConnection(real_kafka), topic_name, f"feed-{topic_name}")
    writer.begin()
    take_less(real_kafka, topic_name, 2000)
    with pytest.raises(LogError, match=r"max\.message\.bytes allows, or that was lowered"):
        writer.send_all(np.zeros(50, np.int32), KEYS, VALUES, b"cursor")
    writer.close()
    writer.begin()
    assert writer.cursor() is None
    writer.send_all(np.zeros(50, np.int32), KEYS, VALUES, b"cursor")
    assert writer.cursor() == b"cursor"
    writer.close()
    log.close()


REFUSED, LISTED = MessageSizeTooLargeError(None), RecordListTooLargeError(None)


def refuse(batch: _ReadyBatch) -> None:
    batch.complete_exceptionally(REFUSED, lambda _: REFUSED)


@pytest.mark.parametrize(
    ("ends", "none"),
    [
        ((refuse, refuse), True),
        ((refuse, lambda batch: batch.complete_exceptionally(LISTED, lambda _: LISTED)), True),
        ((refuse, lambda batch: batch.complete(7, -1)), False),
        ((lambda batch: batch.complete(7, -1), refuse), False),
        (
            (refuse, lambda batch: batch.abort(REFUSED)),
            False,
        ),  # on its way when the other was refused: it may have arrived
    ],
    ids=["both", "both, in other words", "one, then not", "one, at last", "one, and the other given up for it"],
)
def test_nothing_was_sent_only_where_the_broker_refused_every_batch(
    ends: tuple[Callable[[_ReadyBatch], None], ...], none: bool
) -> None:
    told: list[bool] = []

    def explained(error: Exception, none: bool) -> LogError:
        told.append(none)
        return LogError(str(error))

    sending = _Sending(2, lambda found: None, explained)
    batches = [_ReadyBatch(TopicPartition("t", 0), MemoryRecordsBuilder(2, 0, 100)) for _ in ends]
    for row, batch in enumerate(batches):
        sending.add(np.array([row]), [SentBatch(batch.produce_future, 1)])
    sending.begin()
    for end, batch in zip(ends, batches, strict=True):
        end(batch)
    assert told == [none]
