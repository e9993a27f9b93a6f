"""The log as the rest of the program sees it: raw records in Arrow, in blocks that tile offset ranges.

Invariant: the blocks of one read are b1 .. bn with b1.start = start, b(i).end = b(i+1).start, bn.end = end, and every
committed record with an offset in [start, end) is in exactly one of them. Offsets have gaps (control records, aborted
transactions), so `end` is the next offset to read and never start + number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.base.errors import LogError, Refused

_HEADER = pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())])
_RAW_FIELDS: list[pa.Field[Any]] = [
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("timestamp_ms", pa.int64(), nullable=False),  # -1: the record has none
    pa.field("key", pa.binary()),
    pa.field("value", pa.binary()),  # null: a tombstone
    pa.field("headers", pa.list_(_HEADER)),  # an empty list when there are none
]
RAW_SCHEMA = pa.schema(_RAW_FIELDS)
# Not from_pylist([]): that imports pandas, which takes longer than many a command.
EMPTY_BATCH: pa.RecordBatch = pa.RecordBatch.from_arrays(
    [pa.nulls(0, field.type) for field in RAW_SCHEMA], schema=RAW_SCHEMA
)

MAX_RECORDS = 50_000
MAX_BYTES = 32 * 1024 * 1024


class Unreachable(LogError):
    """No broker answers, or not in time: the address is wrong, or Kafka is down. Trying again may help."""


class Unacknowledged(Unreachable):
    """Kafka did not say in time, or not clearly, that it has the records: they may be in the topic or not."""


class AccessDenied(LogError):
    """A broker answered, and refused the credentials or this topic. Trying again does not help."""


class MissingTopic(LogError):
    """The topic, or the partition, does not exist."""


class RetentionPassed(LogError, Refused):
    """Kafka has deleted records that were still to be read."""


class LogTruncated(LogError, Refused):
    """The log ends before an offset that it had reached before."""


class TopicRecreated(LogError, Refused):
    """The topic was deleted and made again: its offsets mean other records now."""


class Repartitioned(LogError, Refused):
    """The topic has another number of partitions than it was set up with."""


class Compacted(LogError, Refused):
    """The topic's cleanup.policy lets Kafka drop records below a key's newest one."""


@dataclass(frozen=True)
class Block:
    """Raw records of one partition (RAW_SCHEMA), covering the offset range [start, end).

    Everything committed in the range is in `batch`, in offset order; a batch without rows over a range that is not
    empty is normal. Resume at `end`, never at the last row's offset + 1.
    """

    batch: pa.RecordBatch
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise LogError(f"a block of the log cannot cover the offsets [{self.start}, {self.end})")
        if not self.batch.schema.equals(RAW_SCHEMA):
            raise LogError(f"a block of the log must have the columns {RAW_SCHEMA.names} of RAW_SCHEMA")
        offsets = self.offsets
        if not len(offsets):
            return
        if offsets[0] < self.start or offsets[-1] >= self.end or (offsets[1:] <= offsets[:-1]).any():
            raise LogError(
                f"the records read for the offsets [{self.start}, {self.end}) have offsets from {offsets[0]} to "
                f"{offsets[-1]} that leave the range or do not rise: the broker's answer cannot be trusted"
            )

    @property
    def offsets(self) -> np.ndarray:
        """int64 array of the rows' offsets, rising; a view, do not write to it."""
        return self.batch.column("offset").to_numpy(zero_copy_only=True)

    def __len__(self) -> int:
        return int(self.batch.num_rows)


@dataclass(frozen=True)
class TopicDescription:
    """Description of a topic by the broker; `configs` is empty when it does not tell (no right to see them)."""

    topic: str
    partitions: int
    topic_id: str  # '' when the broker has none
    configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def compacted(self) -> bool:
        """True when Kafka may drop older records of a key, so that the log cannot be read again as it was."""
        return "compact" in self.configs.get("cleanup.policy", "delete")


class Log(Protocol):
    """A partitioned log that is read by offset ranges. Every method may raise LogError with a complete message."""

    def partitions(self, topic: str) -> int:
        """Number of partitions of the topic, numbered from 0; raises MissingTopic."""

    def topic_id(self, topic: str) -> str:
        """The id that changes when the topic is made anew; '' when the broker gives none. Raises MissingTopic."""

    def start_offsets(self, topic: str) -> list[int]:
        """Per partition, the first offset that retention has left. Raises MissingTopic."""

    def end_offsets(self, topic: str) -> list[int]:
        """Per partition, the last stable offset: everything below it is decided for ever. Raises MissingTopic.

        Not the high watermark: records from here up to it may belong to a transaction that is still open.
        """

    def read(
        self,
        topic: str,
        partition: int,
        start: int,
        end: int,
        *,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> Iterator[Block]:
        """Blocks that tile [start, end), each of at most `max_records` rows and about `max_bytes` of keys, values and
        headers (one record may be larger).

        Ends when the position has reached `end`; so `end` must not lie above the end offset. Raises RetentionPassed
        when `start` is gone, LogTruncated when the log is shorter than `end`, Unreachable when nothing more arrives.
        An iterator that is not read to its end must be closed; blocks already taken stay good when it raises.
        """

    def witness(self, topic: str, partition: int, offset: int) -> bytes | None:
        """`record_hash` of the last record below `offset`, 16 bytes; None when the log has none (any more).

        Raises LogTruncated when the log ends below `offset`.
        """

    def describe(self, topic: str) -> TopicDescription:
        """Partitions, id and configs such as cleanup.policy; raises MissingTopic."""

    def close(self) -> None:
        """Let go of connections; the object can be used again and then opens new ones."""


def recreated(topic: str, found_id: str, known_id: str) -> str:
    """The words for a topic that is another one, in every message about it; the command that follows differs."""
    return f"topic {topic} was deleted and made anew (id {found_id!r}, was {known_id!r}): its offsets mean other records now"


def refuse_recreated(topic: str, found_id: str, known_id: str) -> None:
    """TopicRecreated when the topic's id is not the one known."""
    if found_id != known_id:
        raise TopicRecreated(
            f"{recreated(topic, found_id, known_id)}; `watershed init --rebuild --accept-loss` starts over from the new topic"
            f" and keeps what was archived of the old one in the lake (without --accept-loss it only says what that means)",
            repair="watershed init --rebuild --accept-loss",
        )


def refuse_compacted(found: TopicDescription) -> None:
    """Compacted when older records of a key may be gone; a description without configs is let pass."""
    if found.compacted:
        raise Compacted(
            f"topic {found.topic} is compacted, so its log cannot be read again as it was; set cleanup.policy=delete on it"
        )


def holds_another(log: Log, topic: str, partition: int, offset: int, hash: str) -> bool:
    """True when the record at `offset` is not the one whose `record_hash` is `hash` (hex); False when it is gone."""
    found = log.witness(topic, partition, offset + 1)
    return found is not None and found.hex() != hash


def refuse_regrown(log: Log, topic: str, partition: int, offset: int, hash: str) -> None:
    """LogTruncated when the log holds another record at `offset`, see holds_another."""
    if holds_another(log, topic, partition, offset, hash):
        raise LogTruncated(
            f"topic {topic}, partition {partition}: the record at offset {offset} is not the one that was committed; the log was"
            f" truncated and has grown again; `watershed init --rebuild --accept-loss` goes on from the master dataset",
            repair="watershed init --rebuild --accept-loss",
        )


def record_hash(offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None) -> bytes:
    """BLAKE2b, 16 bytes, over offset, timestamp, key and value; null and empty differ."""
    digest = blake2b(digest_size=16)
    digest.update(int(offset).to_bytes(8, "big", signed=True) + int(timestamp_ms).to_bytes(8, "big", signed=True))
    for part in (key, value):
        digest.update((-1 if part is None else len(part)).to_bytes(8, "big", signed=True))
        digest.update(part or b"")
    return digest.digest()


def last_hash(batch: pa.RecordBatch) -> bytes | None:
    """`record_hash` of the last row of a raw batch, what `Log.witness` gives at that block's end; None without rows."""
    if batch.num_rows == 0:
        return None
    row = batch.slice(batch.num_rows - 1, 1).to_pylist()[0]
    return record_hash(row["offset"], row["timestamp_ms"], row["key"], row["value"])


def blocks_of(records: Sequence[Any], start: int, end: int, max_bytes: int = MAX_BYTES) -> Iterator[Block]:
    """Blocks that tile [start, end) from its ConsumerRecords in offset order; records from `end` on are left out."""
    offsets = np.array([r.offset for r in records], dtype=np.int64)
    count = int(np.searchsorted(offsets, end))
    sizes = [max(r.serialized_key_size, 0) + max(r.serialized_value_size, 0) + max(r.serialized_header_size, 0)
             for r in records[:count]]  # fmt: skip
    if sum(sizes) <= max_bytes:
        yield Block(raw_batch(records[:count]), start, end)
        return
    total = np.cumsum(sizes)
    first = 0
    while first < count:
        before = int(total[first - 1]) if first else 0
        last = max(int(np.searchsorted(total, before + max_bytes, side="right")), first + 1)
        upto = end if last == count else int(offsets[last - 1]) + 1
        yield Block(raw_batch(records[first:last]), start, upto)
        first, start = last, upto


def join_blocks(blocks: Sequence[Block]) -> Block:
    """Blocks that follow one another as one."""
    if len(blocks) == 1:
        return blocks[0]
    return Block(joined([block.batch for block in blocks]), blocks[0].start, blocks[-1].end)


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Raw batches in one; the empty one of none."""
    if len(batches) == 1:
        return batches[0]
    found = pa.Table.from_batches(batches, RAW_SCHEMA).combine_chunks().to_batches()
    return found[0] if found else EMPTY_BATCH


def raw_batch(records: Sequence[Any]) -> pa.RecordBatch:
    """ConsumerRecords as one RecordBatch of RAW_SCHEMA, column by column."""
    if not records:
        return EMPTY_BATCH
    headers = [r.headers for r in records]
    bounds = np.zeros(len(records) + 1, dtype=np.int32)
    np.cumsum([len(h) for h in headers], out=bounds[1:])
    flat = [pair for h in headers for pair in h] if bounds[-1] else []
    list_type = RAW_SCHEMA.field("headers").type
    pairs = pa.StructArray.from_arrays(
        [pa.array([k for k, _ in flat], pa.string()), pa.array([v for _, v in flat], pa.binary())],
        fields=list(list_type.value_type),
    )
    return pa.RecordBatch.from_arrays(
        [
            pa.array([r.offset for r in records], pa.int64()),
            pa.array([r.timestamp for r in records], pa.int64()),
            pa.array([r.key for r in records], pa.binary()),
            pa.array([r.value for r in records], pa.binary()),
            pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pairs, type=list_type),
        ],
        schema=RAW_SCHEMA,
    )
