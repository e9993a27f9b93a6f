"""The events of every benchmark, and what any right computation must make of them.

    bytes of event i = g(seed, rate, i)        expected(n) = the groups of { events i < n : not broken, not a copy of an earlier one }

Each is about 106 bytes of JSON. In a hundred: one is late by up to 5 minutes, one is a copy of an earlier event of its partition; in
a thousand, one is broken. A chunk is made by NumPy at once, so that making them costs less than sending them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

Ints = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

KEYS, PARTITIONS = 1000, 4
CHUNK = 100_000
RATE_PER_S = 10_000  # of event time: ten million events are 17 minutes
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
LATE, COPIES, BROKEN = 0.01, 0.01, 0.001
LATE_MS, COPY_DISTANCE = 300_000, 10_000
LOW, HIGH = -9_999, 99_999  # hundredths; the rule is Between(-100, 1000)
TEMPLATE = (
    b'{"id":"00000000-0000-0000-0000-000000000000","key":"s0000","at":"0000-00-00T00:00:00.000Z","value":-0000.00}'
)
ID, KEY, AT, VALUE = 7, 52, 65, 99  # where the fields begin
KINDS = ("cut off", "out of range", "key of the wrong form", "null", "no zone")
SCHEMA = pa.schema([
    ("key", pa.string()), ("minute", pa.string()), ("count", pa.int64()), ("sum", pa.int64()), ("min", pa.int64()), ("max", pa.int64()),
])  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """Events [start, start + n) in the order in which they are sent; columns of length n."""

    start: int
    values: pa.BinaryArray
    key: Ints  # 0 .. KEYS - 1
    minute: Ints  # minutes since 1970
    hundredths: Ints
    late: Mask
    copy: Mask  # of an event that stands before it
    broken: Mask

    def __len__(self) -> int:
        return len(self.key)

    @property
    def partition(self) -> Ints:
        return self.key % PARTITIONS

    def first(self, count: int) -> "Chunk":
        """Its first events."""
        return self.between(0, count)

    def between(self, low: int, high: int) -> "Chunk":
        """Its events low .. high - 1."""
        cut = [getattr(self, name)[low:high] for name in ("key", "minute", "hundredths", "late", "copy", "broken")]
        return Chunk(self.start + low, self.values.slice(low, high - low), *cut)


def chunks(
    seed: int, stop: int, *, start: int = 0, rate_per_s: float = RATE_PER_S, broken: float = BROKEN
) -> Iterator[Chunk]:
    """Events [start, stop) in chunks."""
    for number in range(start // CHUNK, -(-stop // CHUNK)):
        whole = _chunk(seed, number, rate_per_s, broken)
        yield whole.between(max(0, start - whole.start), min(CHUNK, stop - whole.start))


def _chunk(seed: int, number: int, rate_per_s: float, share: float) -> Chunk:
    rng = np.random.default_rng([seed, number])
    at = np.arange(number * CHUNK, (number + 1) * CHUNK, dtype=np.int64)
    time = START_MS + LATE_MS + (at * 1000 // rate_per_s).astype(np.int64)
    late = rng.random(CHUNK) < LATE
    time = time - np.where(late, rng.integers(1, LATE_MS, CHUNK), 0)
    key = rng.integers(0, KEYS, CHUNK)
    hundredths = rng.integers(LOW, HIGH + 1, CHUNK)
    rows = np.tile(np.frombuffer(TEMPLATE, np.uint8), (CHUNK, 1))
    _write_id(rows, rng.bytes(16 * CHUNK))
    _write_digits(rows, KEY + 1, key, 4)
    _write_time(rows, time)
    kept = np.ones(rows.shape, np.bool_)
    _write_value(rows, kept, hundredths)
    broken = rng.random(CHUNK) < share
    _break(rows, kept, np.flatnonzero(broken), rng.integers(0, len(KINDS), CHUNK))
    origin = _origins(rng, key)
    copy = origin != np.arange(CHUNK)
    late, key, hundredths, broken, time = late[origin], key[origin], hundredths[origin], broken[origin], time[origin]
    rows, kept = rows[origin], kept[origin]
    offsets = np.concatenate((np.zeros(1, np.int32), np.cumsum(kept.sum(axis=1), dtype=np.int32)))
    values = pa.Array.from_buffers(pa.binary(), CHUNK, [None, pa.py_buffer(offsets), pa.py_buffer(rows[kept])])
    return Chunk(number * CHUNK, values, key, time // 60_000, hundredths, late, copy, broken)


def _origins(rng: np.random.Generator, key: Ints) -> Ints:
    """For each event itself, or the earlier one that it is a copy of, which is no copy."""
    at = np.arange(len(key))
    copy = rng.random(len(key)) < COPIES
    copy[0] = False
    origin = np.where(copy, np.maximum(0, at - rng.integers(1, COPY_DISTANCE, len(key))), at)
    while copy[origin].any():
        origin = origin[origin]
    return origin


def _write_id(rows: Bytes, raw: bytes) -> None:
    """32 hex digits in the form of a UUID."""
    digits = np.frombuffer(raw.hex().encode(), np.uint8).reshape(-1, 32)
    for low, high, to in ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24)):
        rows[:, ID + to : ID + to + high - low] = digits[:, low:high]


def _write_digits(rows: Bytes, column: int, numbers: Ints, digits: int) -> None:
    for place in range(digits):
        rows[:, column + digits - 1 - place] = ord("0") + numbers // 10**place % 10


def _write_time(rows: Bytes, time: Ints) -> None:
    days, which = np.unique(time // 86_400_000, return_inverse=True)
    texts = b"".join(str(day).encode() for day in days.astype("datetime64[D]"))
    rows[:, AT : AT + 10] = np.frombuffer(texts, np.uint8).reshape(-1, 10)[which]
    for column, numbers, digits in (
        (11, time // 3_600_000 % 24, 2), (14, time // 60_000 % 60, 2), (17, time // 1000 % 60, 2), (20, time % 1000, 3),
    ):  # fmt: skip
        _write_digits(rows, AT + column, numbers, digits)


def _write_value(rows: Bytes, kept: Mask, hundredths: Ints) -> None:
    """-0000.00 without the sign and the leading zeros that it does not need."""
    size = np.abs(hundredths)
    _write_digits(rows, VALUE + 1, size // 100, 4)
    _write_digits(rows, VALUE + 6, size % 100, 2)
    kept[:, VALUE] = hundredths < 0
    for place in (3, 2, 1):
        kept[:, VALUE + 4 - place] = size >= 100 * 10**place


def _break(rows: Bytes, kept: Mask, which: Ints, kind: Ints) -> None:
    """Make these events wrong, each in one of KINDS."""
    of = [which[kind[which] == n] for n in range(len(KINDS))]
    kept[of[0], 60:] = False
    rows[of[1], VALUE + 1 : VALUE + 5] = np.frombuffer(b"9999", np.uint8)
    kept[of[1], VALUE + 1 : VALUE + 5] = True
    rows[of[2], KEY] = ord("x")
    rows[of[3], VALUE : VALUE + 4] = np.frombuffer(b"null", np.uint8)
    kept[of[3], VALUE : VALUE + 4] = True
    kept[of[3], VALUE + 4 : VALUE + 8] = False
    kept[of[4], AT + 23] = False


def key_texts() -> list[bytes]:
    """The Kafka key of each number in Chunk.key."""
    return [b"s%04d" % n for n in range(KEYS)]


def expected(
    seed: int, stop: int, *, rate_per_s: float = RATE_PER_S, broken: float = BROKEN, copies: bool = False
) -> pa.Table:
    """What every contender must find for events [0, stop): SCHEMA, sums and extremes in hundredths, sorted.

    With `copies`, who does not deduplicate must find it.
    """
    parts = []
    for chunk in chunks(seed, stop, rate_per_s=rate_per_s, broken=broken):
        counts = ~chunk.broken & (copies | ~chunk.copy)
        table = pa.table({name: getattr(chunk, name)[counts] for name in ("key", "minute", "hundredths")})
        wanted: Any = [("hundredths", "count"), ("hundredths", "sum"), ("hundredths", "min"), ("hundredths", "max")]
        parts.append(table.group_by(["key", "minute"]).aggregate(wanted))
    names = [f"hundredths_{what}" for what in ("count", "sum", "min", "max")]
    merging: Any = list(zip(names, ("sum", "sum", "min", "max"), strict=True))
    groups = pa.concat_tables(parts).group_by(["key", "minute"]).aggregate(merging)
    keys = np.array([text.decode() for text in key_texts()], object)[groups.column("key").to_numpy()]
    minutes = groups.column("minute").to_numpy().astype("datetime64[m]").astype(str)
    numbers = [groups.column(f"{name}_{how}") for name, how in merging]
    return canonical(pa.table([pa.array(keys, pa.string()), pa.array(minutes, pa.string()), *numbers], SCHEMA.names))


def canonical(groups: pa.Table) -> pa.Table:
    """SCHEMA, sorted: equal sets of groups become equal tables."""
    return (
        groups.select(SCHEMA.names)
        .cast(SCHEMA)
        .sort_by([("key", "ascending"), ("minute", "ascending")])
        .combine_chunks()
    )
