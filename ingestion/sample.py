"""Samples of events: the oldest and the newest records of every partition of a topic, or the lines of a file.

    the blocks of a partition's sample rise, do not overlap, and hold at most the records asked for
    line n of a file = offset n - 1 of partition 0, without key and timestamp; a blank line is no record

Nothing here knows a definition. Between the oldest and the newest part records may lie that nobody looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from pipeline.base.errors import SettingsError
from pipeline.log.log import RAW_SCHEMA, Block, Log

MAX_LINE_BYTES = 64 * 1024 * 1024  # a longer line is no event, but a file of another kind
BLOCK_ROWS = 10_000


@dataclass(frozen=True)
class PartitionSample:
    """Some records of one partition in offset order; `start` and `end` are the log's own, not the sample's."""

    partition: int
    blocks: tuple[Block, ...]
    start: int
    end: int

    def __len__(self) -> int:
        return sum(map(len, self.blocks))


@dataclass(frozen=True)
class Sample:
    """Records by partition. `origin` is the topic's name or the file's; `is_file`: places are lines, without keys and times."""

    origin: str
    is_file: bool
    partitions: tuple[PartitionSample, ...]

    def __len__(self) -> int:
        return sum(map(len, self.partitions))

    def place(self, partition: int, offset: int) -> str:
        """The place of a record, as a person looks it up."""
        return f"line {offset + 1}" if self.is_file else f"partition {partition}, offset {offset}"

    def values(self) -> Iterator[tuple[int, bytes | None, bytes | None, int]]:
        """(partition, key, value, timestamp_ms) of each record; for profiles, which look at each event once."""
        for part in self.partitions:
            for block in part.blocks:
                columns = (block.batch.column(name).to_pylist() for name in ("key", "value", "timestamp_ms"))
                for key, value, timestamp_ms in zip(*columns, strict=True):
                    yield part.partition, key, value, timestamp_ms


def of_topic(log: Log, topic: str, records: int) -> Sample:
    """The oldest and the newest records of each partition, about `records` in all; SettingsError when the topic holds none."""
    starts, ends = log.start_offsets(topic), log.end_offsets(topic)
    each = max(2, -(-records // len(ends)))
    found = []
    for partition, (start, end) in enumerate(zip(starts, ends, strict=True)):
        oldest = _oldest(log, topic, partition, start, end, each - each // 2)
        upto = oldest[-1].end if oldest else start
        newest = _newest(log, topic, partition, upto, end, each // 2)
        found.append(PartitionSample(partition, (*oldest, *newest), start, end))
    sample = Sample(topic, False, tuple(found))
    if not len(sample):
        raise SettingsError(
            f"topic {topic} holds no record to look at: send some first, or give a file: --file events.jsonl"
        )
    return sample


def _oldest(log: Log, topic: str, partition: int, start: int, end: int, records: int) -> list[Block]:
    """Blocks from `start` on with `records` records, or all; offsets have gaps, so that the end is found by reading."""
    found: list[Block] = []
    have, position, step = 0, start, records
    while have < records and position < end:
        upto = min(end, position + step)
        for block in log.read(topic, partition, position, upto):
            if block.batch.num_rows:
                found.append(_first(block, records - have))
                have += len(found[-1])
            if have >= records:
                break
        position, step = upto, 4 * step
    return [block for block in found if len(block)]


def _first(block: Block, rows: int) -> Block:
    if len(block) <= rows:
        return block
    return Block(block.batch.slice(0, rows), block.start, int(block.offsets[rows - 1]) + 1 if rows else block.start)


def _newest(log: Log, topic: str, partition: int, start: int, end: int, records: int) -> list[Block]:
    """Blocks up to `end` with `records` records, or all from `start` on."""
    found: list[Block] = []
    low, step = end, records
    while sum(map(len, found)) < records and low > start:
        high, low = low, max(start, low - step)
        found = [*(b for b in log.read(topic, partition, low, high) if len(b)), *found]
        step *= 4
    spare = sum(map(len, found)) - records
    kept = []
    for block in found:
        drop = min(max(spare, 0), len(block))
        spare -= drop
        if drop < len(block):
            kept.append(block if not drop else Block(block.batch.slice(drop), int(block.offsets[drop]), block.end))
    return kept


def of_file(path: Path, records: int) -> Sample:
    """The first `records` lines of a file of JSON Lines that are not blank; SettingsError when it cannot be read or holds none."""
    try:
        with path.open("rb") as file:
            lines = list(islice(_lines(file, path), records))
    except OSError as error:
        raise SettingsError(
            f"file {path} cannot be read ({error.strerror}): give a file with one JSON object a line"
        ) from None
    if not lines:
        raise SettingsError(f"file {path} has no line to look at: give a file with one JSON object a line")
    size = lines[-1][0] + 1
    blocks = [_block(lines[n : n + BLOCK_ROWS]) for n in range(0, len(lines), BLOCK_ROWS)]
    return Sample(str(path), True, (PartitionSample(0, tuple(blocks), 0, size),))


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b"")):
        if len(line) > MAX_LINE_BYTES:
            raise SettingsError(
                f"file {path}, line {number + 1} has more than {MAX_LINE_BYTES:,} bytes: give a file with one JSON object a line"
            )
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if stripped := line.strip():
            yield number, stripped


def _block(lines: Sequence[tuple[int, bytes]]) -> Block:
    rows = len(lines)
    arrays = [
        pa.array([number for number, _ in lines], pa.int64()),
        pa.array([-1] * rows, pa.int64()),
        pa.nulls(rows, pa.binary()),
        pa.array([line for _, line in lines], pa.binary()),
        pa.array([[]] * rows, RAW_SCHEMA.field("headers").type),
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA)
    return Block(batch, lines[0][0], lines[-1][0] + 1)


__all__ = ["PartitionSample", "Sample", "of_file", "of_topic"]
