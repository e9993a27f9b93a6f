"""What a worker shows while it runs: lag, rate, latency, and what became of the records.

Invariant: figures are counted from commits that landed, never from work in hand.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from pipeline.handover import Claim, Counts
from pipeline.log.log import Block
from speed_layer.fetch_ahead import At

WINDOW_S = 10.0


@dataclass
class Stats:
    """Read by the display from another thread: every figure is replaced whole."""

    positions: dict[At, int] = field(default_factory=dict)
    log_ends: dict[At, int] = field(default_factory=dict)
    totals: Counts = field(default_factory=Counts)
    commits: int = 0
    _recent: deque[tuple[float, int, float, float]] = field(default_factory=lambda: deque(maxlen=4096))
    records_read: int = 0

    def forget(self, at: At) -> None:
        """A partition was let go: it is no longer shown."""
        self.positions = {k: v for k, v in self.positions.items() if k != at}
        self.log_ends = {k: v for k, v in self.log_ends.items() if k != at}

    def read(self, block: Block) -> None:
        """A block was fetched."""
        self.records_read += len(block)

    def ends(self, ends: Mapping[At, int]) -> None:
        """The log's ends as of the last fetch."""
        self.log_ends = {**self.log_ends, **ends}

    def committed(self, claim: Claim, counts: Counts, took_s: float, newest_ms: int) -> None:
        """A commit landed; `newest_ms` is the newest record timestamp in it (-1: none)."""
        self.positions = {**self.positions, (claim.topic, claim.partition): claim.position}
        self.totals = self.totals + counts
        self.commits += 1
        behind_ms = time.time() * 1000 - newest_ms if newest_ms >= 0 else -1.0
        self._recent.append((time.monotonic(), counts.records, took_s, behind_ms))

    @property
    def lag(self) -> int:
        """Offsets between the positions committed here and the log's ends."""
        return sum(max(0, end - self.positions[at]) for at, end in self.log_ends.items() if at in self.positions)

    @property
    def rate_per_s(self) -> float:
        """Records committed per second over the last ten seconds."""
        since = time.monotonic() - WINDOW_S
        return sum(n for at, n, _, _ in list(self._recent) if at >= since) / WINDOW_S

    @property
    def commit_ms(self) -> float:
        """Median duration of the recent commits."""
        took = [s for _, _, s, _ in list(self._recent)[-200:]]
        return 1000 * median(took) if took else 0.0

    @property
    def latency_ms(self) -> float:
        """Median age, at its commit, of the newest record of each recent commit, by the records' own timestamps."""
        ages = [b for _, _, _, b in list(self._recent)[-200:] if b >= 0]
        return median(ages) if ages else 0.0
