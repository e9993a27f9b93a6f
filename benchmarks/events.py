"""The events of every benchmark, and what any right computation must make of them.

    bytes of event i = g(form, seed, rate, i)        expected(n) = the groups of { events i < n : not broken, not a copy of an earlier one }

FLAT ones are about 106 bytes of JSON, those of benchmarks.webhooks are nested. In a hundred of either: one is late by up to 5 minutes,
one is a copy of an earlier event of its partition; in a thousand, one is broken. A chunk is made by NumPy at once, so that making them
costs less than sending them.
"""

from collections.abc import Callable, Iterator
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
KINDS = ("cut off", "out of range", "key of the wrong form", "null", "no time")
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


@dataclass(frozen=True)
class Form:
    """How an event is written: a template, the columns in it where fields begin, and what else is written into its rows.

    `write(rows, kept, time_ms, rng)`: the time, and what is in no column of a Chunk; `rng` is this form's own, so that keys, times and
    amounts are the same in every form. `spoil_time(rows, kept, which)`: make the times of these rows none.
    """

    template: bytes
    id: int
    key: int
    value: int
    cut: int  # where one that is cut off ends
    write: Callable[[Bytes, Mask, Ints, np.random.Generator], None]
    spoil_time: Callable[[Bytes, Mask, Ints], None]


def chunks(
    seed: int,
    stop: int,
    *,
    start: int = 0,
    rate_per_s: float = RATE_PER_S,
    broken: float = BROKEN,
    form: Form | None = None,
) -> Iterator[Chunk]:
    """Events [start, stop) in chunks; FLAT without a form."""
    for number in range(start // CHUNK, -(-stop // CHUNK)):
        whole = _chunk(seed, number, rate_per_s, broken, form or FLAT)
        yield whole.between(max(0, start - whole.start), min(CHUNK, stop - whole.start))


def _chunk(seed: int, number: int, rate_per_s: float, share: float, form: Form) -> Chunk:
    rng = np.random.default_rng([seed, number])
    at = np.arange(number * CHUNK, (number + 1) * CHUNK, dtype=np.int64)
    time = START_MS + LATE_MS + (at * 1000 // rate_per_s).astype(np.int64)
    late = rng.random(CHUNK) < LATE
    time = time - np.where(late, rng.integers(1, LATE_MS, CHUNK), 0)
    key = rng.integers(0, KEYS, CHUNK)
    hundredths = rng.integers(LOW, HIGH + 1, CHUNK)
    rows = np.tile(np.frombuffer(form.template, np.uint8), (CHUNK, 1))
    kept = np.ones(rows.shape, np.bool_)
    _write_id(rows, form.id, rng.bytes(16 * CHUNK))
    write_digits(rows, form.key + 1, key, 4)
    _write_value(rows, kept, form.value, hundredths)
    form.write(rows, kept, time, np.random.default_rng([seed, number, 1]))
    broken = rng.random(CHUNK) < share
    _break(rows, kept, np.flatnonzero(broken), rng.integers(0, len(KINDS), CHUNK), form)
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


def _write_id(rows: Bytes, column: int, raw: bytes) -> None:
    """32 hex digits in the form of a UUID."""
    digits = np.frombuffer(raw.hex().encode(), np.uint8).reshape(-1, 32)
    for low, high, to in ((0, 8, 0), (8, 12, 9), (12, 16, 14), (16, 20, 19), (20, 32, 24)):
        rows[:, column + to : column + to + high - low] = digits[:, low:high]


def write_digits(rows: Bytes, column: int, numbers: Ints, digits: int) -> None:
    """Numbers in decimal, with leading zeros."""
    for place in range(digits):
        rows[:, column + digits - 1 - place] = ord("0") + numbers // 10**place % 10


def _write_value(rows: Bytes, kept: Mask, column: int, hundredths: Ints) -> None:
    """-0000.00 without the sign and the leading zeros that it does not need."""
    size = np.abs(hundredths)
    write_digits(rows, column + 1, size // 100, 4)
    write_digits(rows, column + 6, size % 100, 2)
    kept[:, column] = hundredths < 0
    for place in (3, 2, 1):
        kept[:, column + 4 - place] = size >= 100 * 10**place


def _break(rows: Bytes, kept: Mask, which: Ints, kind: Ints, form: Form) -> None:
    """Make these events wrong, each in one of KINDS."""
    of, value = [which[kind[which] == n] for n in range(len(KINDS))], form.value
    kept[of[0], form.cut :] = False
    rows[of[1], value + 1 : value + 5] = np.frombuffer(b"9999", np.uint8)
    kept[of[1], value + 1 : value + 5] = True
    rows[of[2], form.key] = ord("x")
    rows[of[3], value : value + 4] = np.frombuffer(b"null", np.uint8)
    kept[of[3], value : value + 4] = True
    kept[of[3], value + 4 : value + 8] = False
    form.spoil_time(rows, kept, of[4])


TEMPLATE = (
    b'{"id":"00000000-0000-0000-0000-000000000000","key":"s0000","at":"0000-00-00T00:00:00.000Z","value":-0000.00}'
)
AT = 65  # where the time begins


def _write_iso(rows: Bytes, kept: Mask, time_ms: Ints, rng: np.random.Generator) -> None:
    days, which = np.unique(time_ms // 86_400_000, return_inverse=True)
    texts = b"".join(str(day).encode() for day in days.astype("datetime64[D]"))
    rows[:, AT : AT + 10] = np.frombuffer(texts, np.uint8).reshape(-1, 10)[which]
    for column, numbers, digits in (
        (11, time_ms // 3_600_000 % 24, 2), (14, time_ms // 60_000 % 60, 2), (17, time_ms // 1000 % 60, 2), (20, time_ms % 1000, 3),
    ):  # fmt: skip
        write_digits(rows, AT + column, numbers, digits)


def _leave_out_zone(rows: Bytes, kept: Mask, which: Ints) -> None:
    kept[which, AT + 23] = False


FLAT = Form(TEMPLATE, id=7, key=52, value=99, cut=60, write=_write_iso, spoil_time=_leave_out_zone)


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
