"""Reading ahead of the folding: what has arrived, in blocks that are worth their cost.

the blocks of one poll tile, for each partition, what its reader returned
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline.base.stages import note
from pipeline.log.log import Block, join_blocks

COMMIT_ROWS = 200_000
BEHIND_OFFSETS = 50_000  # further from the log's end, fewer commits gain, and nobody waits for the last second
GATHERED_ROWS = 200_000  # of several polls, while behind
GATHERED_BYTES = 16 * 1024 * 1024  # the same: a round of reading and folding is short beside a backlog
FRESH_MS = 5  # to wait for what has come since the answer that is here was asked for

At = tuple[str, int]


class Reader(Protocol):
    """The consumer as a worker needs it: reads what it is assigned, from given positions, and reconnects by itself."""

    def assign(self, wanted: Mapping[At, int]) -> None: ...

    def poll(self, timeout_ms: int, max_records: int) -> dict[At, Block]: ...

    @property
    def end_offsets(self) -> Mapping[At, int]: ...

    @property
    def down_reason(self) -> str: ...

    def commit_group_offsets(self, offsets: Mapping[At, int]) -> None: ...

    def close(self) -> None: ...


def ends_of(blocks: Mapping[At, Block]) -> dict[At, int]:
    """The end offset of each partition's block."""
    return {at: block.end for at, block in blocks.items()}


@dataclass
class FetchAhead:
    """Polls a reader for as much as is worth the cost of a block."""

    reader: Reader
    _flowing: bool = False

    def behind(self, reached: Mapping[At, int]) -> bool:
        """True when a partition that is read up to its offset in `reached` is far from the log's end; an end that is unknown is not far."""
        ends = self.reader.end_offsets
        return any(ends.get(at, 0) - offset > BEHIND_OFFSETS for at, offset in reached.items())

    def poll(self, timeout_ms: int) -> dict[At, Block]:
        """A block per partition of what has arrived; while far behind, of several polls, so that more records share a block's cost.

        Of two while records keep coming: the first answer was asked for when the last records were taken, and is as old as their folding.
        """
        began = time.perf_counter()
        found: dict[At, list[Block]] = {}
        rows, size, stale = 0, 0, self._flowing
        while rows < GATHERED_ROWS and size < GATHERED_BYTES:
            blocks = self.reader.poll(timeout_ms, COMMIT_ROWS)
            for at, block in blocks.items():
                found.setdefault(at, []).append(block)
            rows += sum(map(len, blocks.values()))
            size += sum(block.batch.nbytes for block in blocks.values())
            if not blocks:
                break
            if not self.behind(ends_of(blocks)):
                if not stale:
                    break
                stale, timeout_ms = False, FRESH_MS
        self._flowing = bool(found)
        if found:  # waiting for nothing is no work
            note("fetch", time.perf_counter() - began, rows)
        return {at: join_blocks(of) for at, of in found.items()}
