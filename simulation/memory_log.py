"""A log in memory: per partition all records there will ever be, of which the producers have written a part.

end offset = a stop at or below which everything is decided; offsets have gaps, where control records would be
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.log.log import (
    EMPTY_BATCH,
    MAX_BYTES,
    MAX_RECORDS,
    RAW_SCHEMA,
    Block,
    MissingTopic,
    TopicDescription,
    record_hash,
)

Headers = Sequence[tuple[str, bytes | None]]
# Offset, timestamp_ms, key, value, and perhaps headers
Record = tuple[int, int, bytes | None, bytes | None] | tuple[int, int, bytes | None, bytes | None, Headers]
BLOCK = 3  # records of a block of `read`: small, so that replays are cut anywhere too


def raw(records: Sequence[Record]) -> pa.RecordBatch:
    """Records as one batch of RAW_SCHEMA."""
    if not records:
        return EMPTY_BATCH
    arrays = [pa.array([r[n] for r in records], RAW_SCHEMA.field(n).type) for n in range(4)]
    headers = [[{"key": key, "value": value} for key, value in (r[4] if len(r) > 4 else ())] for r in records]
    arrays.append(pa.array(headers, RAW_SCHEMA.field("headers").type))
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA)


@dataclass
class Partition:
    """The records to come; `written` counts the stops that the producer has passed."""

    records: Sequence[Record]
    start: int
    written: int = 0
    batch: pa.RecordBatch = field(init=False)
    stops: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.batch = raw(self.records)
        self._offsets = np.array([r[0] for r in self.records], np.int64)
        edges = {self.start}
        for offset in self._offsets.tolist():
            edges |= {offset, offset + 1}  # a gap ends where the next record begins: two stops
        self.stops = sorted(edges)

    @property
    def end(self) -> int:
        return self.stops[self.written]

    @property
    def finished(self) -> bool:
        return self.written == len(self.stops) - 1

    def append(self, stops: int) -> None:
        """Go on by so many records or gaps."""
        self.written = min(self.written + stops, len(self.stops) - 1)

    def below(self, offset: int) -> int:
        """Number of records that lie below the offset."""
        return int(np.searchsorted(self._offsets, offset))

    def block(self, start: int, end: int) -> Block:
        """[start, end)."""
        first = self.below(start)
        return Block(self.batch.slice(first, self.below(end) - first), start, end)


class MemoryLog:
    """pipeline.log.log.Log for one topic. `point` is called before every answer."""

    def __init__(
        self, topic: str, partitions: Sequence[Partition], point: Callable[[str], None] = lambda _: None
    ) -> None:
        self.topic, self.parts, self.point = topic, list(partitions), point

    def _named(self, topic: str, what: str) -> list[Partition]:
        self.point(f"log.{what}")
        if topic != self.topic:
            raise MissingTopic(f"topic {topic} does not exist in this log; it has {self.topic}")
        return self.parts

    def partitions(self, topic: str) -> int:
        return len(self._named(topic, "partitions"))

    def topic_id(self, topic: str) -> str:
        self._named(topic, "topic_id")
        return f"id-of-{topic}"

    def start_offsets(self, topic: str) -> list[int]:
        return [p.start for p in self._named(topic, "start_offsets")]

    def end_offsets(self, topic: str) -> list[int]:
        """One partition after another: producers write in between."""
        found = []
        for partition in self._named(topic, "end_offsets"):
            found.append(partition.end)
            self.point("log.end_offset")
        return found

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
        part = self._named(topic, "read")[partition]
        assert part.start <= start <= end <= part.end, f"[{start}, {end}) is not in the log [{part.start}, {part.end})"
        rows = min(max_records, BLOCK)
        while start < end:
            first, last = part.below(start), part.below(end)
            upto = end if last - first <= rows else part.records[first + rows - 1][0] + 1
            yield part.block(start, upto)
            self.point("log.read")
            start = upto

    def witness(self, topic: str, partition: int, offset: int) -> bytes | None:
        part = self._named(topic, "witness")[partition]
        count = part.below(min(offset, part.end))
        return record_hash(*part.records[count - 1][:4]) if count else None

    def describe(self, topic: str) -> TopicDescription:
        parts = self._named(topic, "describe")
        return TopicDescription(topic, len(parts), f"id-of-{topic}")

    def close(self) -> None:
        """Nothing is open."""
