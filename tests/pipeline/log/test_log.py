"""Blocks tile and refuse what cannot be true; the hash of a record tells any two records apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import LogError
from pipeline.log.log import EMPTY_BATCH, RAW_SCHEMA, Block, blocks_of, last_hash, record_hash

PARTS = st.none() | st.binary(max_size=12)
HEADERS = st.lists(st.tuples(st.sampled_from(["", "a", "schlüssel"]), st.none() | st.binary(max_size=3)), max_size=2)


def record(offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: list[Any]) -> SimpleNamespace:
    """What blocks_of takes: the attributes of a ConsumerRecord."""
    sizes = [-1 if part is None else len(part) for part in (key, value)]
    header_size = sum(len(name.encode()) + len(part or b"") for name, part in headers) if headers else -1
    return SimpleNamespace(
        offset=offset,
        timestamp=timestamp,
        key=key,
        value=value,
        headers=headers,
        serialized_key_size=sizes[0],
        serialized_value_size=sizes[1],
        serialized_header_size=header_size,
    )


@given(
    parts=st.lists(st.tuples(st.integers(1, 4), st.integers(-1, 9), PARTS, PARTS, HEADERS), max_size=12),
    start=st.integers(0, 2**40),
    cut=st.integers(0, 50),
    max_bytes=st.integers(1, 60),
)
def test_blocks_tile_the_range_and_hold_each_record_below_the_end_once(
    parts: list[tuple[Any, ...]], start: int, cut: int, max_bytes: int
) -> None:
    records, offset = [], start - 1
    for gap, *rest in parts:
        offset += gap
        records.append(record(offset, *rest))
    end = start + cut
    blocks = list(blocks_of(records, start, end, max_bytes))
    assert [block.start for block in blocks] == [start, *(block.end for block in blocks)][:-1]
    assert blocks[-1].end == end
    rows = [row for block in blocks for row in block.batch.to_pylist()]
    assert [(r["offset"], r["timestamp_ms"], r["key"], r["value"]) for r in rows] == [
        (r.offset, r.timestamp, r.key, r.value) for r in records if r.offset < end
    ]
    assert [[(h["key"], h["value"]) for h in row["headers"]] for row in rows] == [
        r.headers for r in records if r.offset < end
    ]
    for block in blocks:
        assert (
            len(block) <= 1
            or sum(
                sum(max(size, 0) for size in (r.serialized_key_size, r.serialized_value_size, r.serialized_header_size))
                for r in records
                if r.offset in set(block.offsets.tolist())
            )
            <= max_bytes
        )
        last = block.batch.to_pylist()[-1] if len(block) else None
        wanted = last and record_hash(last["offset"], last["timestamp_ms"], last["key"], last["value"])
        assert last_hash(block.batch) == wanted


def test_a_block_refuses_rows_outside_its_range_or_out_of_order() -> None:
    def batch(*offsets: int) -> pa.RecordBatch:
        rows = [{"offset": o, "timestamp_ms": 0, "key": None, "value": None, "headers": []} for o in offsets]
        return pa.RecordBatch.from_pylist(rows, schema=RAW_SCHEMA)

    assert len(Block(batch(3, 5), 2, 9)) == 2
    assert list(Block(EMPTY_BATCH, 2, 9).offsets) == []
    for bad, start, end in [(batch(1), 2, 9), (batch(9), 2, 9), (batch(4, 4), 2, 9), (batch(5, 4), 2, 9)]:
        with pytest.raises(LogError):
            Block(bad, start, end)
    with pytest.raises(LogError):
        Block(EMPTY_BATCH, 3, 2)
    assert [block.end for block in blocks_of([], 3, 8)] == [8]


def test_hash_tells_null_from_empty_and_every_part_counts() -> None:
    variants = [
        (1, 2, b"k", b"v"), (2, 2, b"k", b"v"), (1, 3, b"k", b"v"), (1, 2, b"kv", b""), (1, 2, b"", b"kv"),
        (1, 2, None, b"kv"), (1, 2, b"kv", None), (1, 2, None, None), (1, 2, b"", b""),
    ]  # fmt: skip
    assert len({record_hash(*variant) for variant in variants}) == len(variants)
    assert all(len(record_hash(*variant)) == 16 for variant in variants)
