"""Record batches made from columns are those that kafka-python makes of the same records, one by one."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from kafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.log.kafka.ready_batches import Columns, bodies

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
