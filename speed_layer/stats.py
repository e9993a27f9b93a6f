"""A worker's figures while it runs: lag, rate, latency, what became of the records, and why it waits.

    lag = Σ over the partitions in hand of (log end - committed position), or unknown: never a guess

Invariant: figures are counted from commits that landed, never from work in hand.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

import structlog

from pipeline.handover import Claim, Clock, Counts, SystemClock
from pipeline.log.log import Block
from speed_layer.fetch_ahead import At

WINDOW_S = 10.0
log = structlog.get_logger("speed")


@dataclass
class Stats:
    """Read by the display from another thread: every figure is replaced whole.

    `positions` has every partition in hand. `log_ends` is None while Kafka or Postgres does not answer, or nothing was heard yet, and
    lacks a partition of which no fetch has told the end. `trouble` says why the worker waits, '' when it does not.
    """

    clock: Clock = field(default_factory=SystemClock)
    positions: dict[At, int] = field(default_factory=dict)
    log_ends: Mapping[At, int] | None = None
    totals: Counts = field(default_factory=Counts)
    commits: int = 0
    records_read: int = 0
    trouble: str = ""
    _recent: deque[tuple[float, int, float, float]] = field(default_factory=lambda: deque(maxlen=4096))

    # ---- told by the worker
    def waits(self, why: str) -> None:
        """Something does not answer: said once per reason. Where the log ends by now, nobody knows."""
        self.log_ends = None
        if why != self.trouble:
            log.warning("waiting", why=why)
        self.trouble = why

    def goes_on(self, ends: Mapping[At, int]) -> None:
        """All went well, and `ends` are the log's ends as of the last fetch."""
        self.log_ends = ends
        if self.trouble:
            log.info("going on")
        self.trouble = ""

    def stands(self, claim: Claim) -> None:
        """A partition in hand stands at the claim's position."""
        self.positions = {**self.positions, (claim.topic, claim.partition): claim.position}

    def forget(self, at: At) -> None:
        """A partition was let go: it is no longer shown."""
        self.positions = {k: v for k, v in self.positions.items() if k != at}

    def read(self, block: Block) -> None:
        """A block was fetched."""
        self.records_read += len(block)

    def committed(self, claim: Claim, counts: Counts, took_s: float, newest_ms: int) -> None:
        """A commit landed; `newest_ms` is the newest record timestamp in it (-1: none)."""
        self.stands(claim)
        self.totals = self.totals + counts
        self.commits += 1
        behind_ms = self.clock.time() * 1000 - newest_ms if newest_ms >= 0 else -1.0
        self._recent.append((self.clock.monotonic(), counts.records, took_s, behind_ms))

    # ---- asked by whoever shows them
    def log_end(self, at: At) -> int | None:
        """The log's end of a partition as of the last fetch, which may be below its position; None when unknown."""
        ends = self.log_ends
        return None if ends is None else ends.get(at)

    @property
    def lag(self) -> int | None:
        """Offsets between the positions committed here and the log's ends; None when one of the ends is unknown."""
        positions, ends = self.positions, self.log_ends
        if ends is None or any(at not in ends for at in positions):
            return None
        return sum(max(0, ends[at] - position) for at, position in positions.items())

    @property
    def rate_per_s(self) -> float:
        """Records committed per second over the last ten seconds."""
        since = self.clock.monotonic() - WINDOW_S
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
