"""Records as Kafka gave them, at chosen offsets: from the master dataset where it is archived, from Kafka above.

originals(state, places) has every place that is still in one of the two
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.lake.targets import master_ranges
from pipeline.log.log import Block
from serving.rejected.state import State

Place = tuple[int, int]  # (partition, offset)
ORIGIN_HEADER = "watershed-replay-of"
ROWS = 50_000


@dataclass(frozen=True)
class Original:
    """One record. `headers` in their order; `origin` is the place that the last of its replay headers names, if it has one."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def origin(self) -> str | None:
        found = [value for name, value in self.headers if name == ORIGIN_HEADER and value is not None]
        return found[-1].decode(errors="replace") if found else None


def originals(state: State, places: Collection[Place]) -> dict[Place, Original]:
    """The records at these places, as far as they are there."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for partition, offset in places:
        wanted[partition].append(offset)
    found: dict[Place, Original] = {}
    for partition, offsets in wanted.items():
        for block in _blocks_with(state, partition, np.unique(offsets)):
            rows = np.flatnonzero(np.isin(block.offsets, offsets))
            for original in _of(partition, block, rows.tolist()):
                found[partition, original.offset] = original
    return found


def _of(partition: int, block: Block, rows: list[int]) -> Iterator[Original]:
    for row in rows:
        one = block.batch.slice(row, 1).to_pylist()[0]
        headers = tuple((h["key"], h["value"]) for h in one["headers"] or ())
        yield Original(partition, one["offset"], one["timestamp_ms"], one["key"], one["value"], headers)


def _blocks_with(
    state: State, partition: int, offsets: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> Iterator[Block]:
    """Blocks that have these offsets, rising, and as few others as their files allow."""
    rest = offsets
    for archived in master_ranges(state.generation, state.ledger, partition):
        here = rest[(rest >= archived.start) & (rest < archived.end)]
        if not len(here) or archived.manifest(state.lake) is None:
            continue
        yield from archived.blocks(state.lake, ROWS, min(archived.end, int(here[-1]) + 1))
        rest = rest[~np.isin(rest, here)]
    topic = state.generation.topic
    if not len(rest):
        return
    start, end = state.log.start_offsets(topic)[partition], state.log.end_offsets(topic)[partition]
    for offset in rest[(rest >= start) & (rest < end)].tolist():
        yield from state.log.read(topic, partition, offset, offset + 1)


def replay_headers(state: State, partition: int, start: int) -> Iterator[tuple[int, str]]:
    """(offset, origin) of the records from `start` on that are replays, to the log's end as it is now."""
    topic, position = state.generation.topic, start
    end = state.log.end_offsets(topic)[partition]
    for archived in master_ranges(state.generation, state.ledger, partition):
        if archived.end > position and archived.start <= position and archived.manifest(state.lake) is not None:
            for block in archived.blocks(state.lake, ROWS):
                yield from _replays_in(partition, block, position)
            position = archived.end
    if position < end:
        for block in state.log.read(topic, partition, position, end):
            yield from _replays_in(partition, block, position)


def _replays_in(partition: int, block: Block, start: int) -> Iterator[tuple[int, str]]:
    headers: Any = block.batch.column("headers")
    sizes = np.diff(np.asarray(headers.offsets.to_numpy()))
    for original in _of(partition, block, np.flatnonzero((sizes > 0) & (block.offsets >= start)).tolist()):
        if original.origin is not None:
            yield original.offset, original.origin


__all__ = ["ORIGIN_HEADER", "Original", "Place", "originals", "replay_headers"]
