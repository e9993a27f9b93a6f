"""Logs of schedules made from records that the topic holds, instead of from the record's schema.

    a schedule's partition = some records of one real partition, in its order, some of them sent again, offsets with gaps

Sent again means the same bytes at a later offset: a duplicate. What the topic itself holds late or broken comes as it is.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.base.errors import SettingsError
from pipeline.log.log import Log
from simulation.memory_log import Partition, Record

AGAIN = 0.2  # share of the records that are sent again
GAP = 0.15
Sent = tuple[int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]  # timestamp_ms, key, value, headers


@dataclass(frozen=True)
class Sample:
    """Per real partition that holds any, its newest records as (timestamp_ms, key, value, headers), in offset order."""

    partitions: tuple[tuple[Sent, ...], ...]

    def __len__(self) -> int:
        return sum(map(len, self.partitions))

    def events(self, rng: random.Random, partitions: int, records: int) -> list[Partition]:
        """The log of a schedule, none of it written yet; with more partitions than the sample has, some share one's records."""
        return [self._partition(rng, self.partitions[n % len(self.partitions)], records) for n in range(partitions)]

    def _partition(self, rng: random.Random, real: Sequence[Sent], records: int) -> Partition:
        count = min(len(real), rng.randint(max(1, records // 2), records))
        first = rng.randrange(len(real) - count + 1)
        chosen = (
            real[first : first + count]
            if rng.random() < 0.5
            else [real[n] for n in sorted(rng.sample(range(len(real)), count))]
        )
        found: list[Record] = []
        offset = start = rng.choice([0, 0, 5])
        sent: list[Sent] = []
        for one in chosen:
            again = [rng.choice(sent)] if sent and rng.random() < AGAIN else []
            for timestamp_ms, key, value, headers in [*again, one]:
                found.append((offset, timestamp_ms, key, value, headers))
                offset += 1 + (rng.randint(1, 2) if rng.random() < GAP else 0)
            sent.append(one)
        return Partition(found, start)


def sample(log: Log, topic: str, records: int) -> Sample:
    """About the newest `records` records of the topic, spread over its partitions; SettingsError when it holds none."""
    starts, ends = log.start_offsets(topic), log.end_offsets(topic)
    each = -(-records // len(ends))
    found = []
    for partition, (start, end) in enumerate(zip(starts, ends, strict=True)):
        rows: list[Sent] = []
        low = end
        while len(rows) < each and low > start:  # offsets have gaps: go further back until there are enough
            high, low = low, max(start, low - 2 * each)
            blocks = [block.batch for block in log.read(topic, partition, low, high)]
            names = ("timestamp_ms", "key", "value", "headers")
            columns = [[v for b in blocks for v in b.column(name).to_pylist()] for name in names]
            columns[3] = [tuple((one["key"], one["value"]) for one in headers or ()) for headers in columns[3]]
            rows = [*zip(*columns, strict=True), *rows]
        if rows:
            found.append(tuple(rows[-each:]))
    if not found:
        raise SettingsError(
            f"topic {topic} holds no record to take a sample of: leave out --sample, then events are made from the schema"
        )
    return Sample(tuple(found))
