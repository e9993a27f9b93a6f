"""Commits beside the reading: what is in hand is committed while the next block is folded.

    of one partition at most one commit is under way; it is settled before the next one begins, and before its memory is thrown away

Each is a transaction of its own that mostly waits for Postgres: beside each other they take as long as one.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from pipeline.handover import Clock, Counts, Outcome
from speed_layer.executors import Executor
from speed_layer.partition import Begun, PartitionWork


@dataclass(frozen=True)
class Attempt:
    """A commit that was answered: whether it landed, the counts and the newest timestamp of its records, and how long it took."""

    work: PartitionWork
    landed: bool
    counts: Counts
    newest_ms: int
    took_s: float


@dataclass
class Commits:
    """The commits under way. Everything but the transactions themselves happens in the caller's thread."""

    executor: Executor
    clock: Clock
    _under_way: dict[PartitionWork, tuple[Begun, Future[tuple[Outcome, float]]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._under_way)

    def __contains__(self, work: PartitionWork) -> bool:
        return work in self._under_way

    def begin(self, work: PartitionWork) -> None:
        """Commit what the partition has in hand; none of its is under way."""
        begun = work.begin()

        def send() -> tuple[Outcome, float]:
            began_s = self.clock.monotonic()
            return work.send(begun), self.clock.monotonic() - began_s

        self._under_way[work] = begun, self.executor.submit(send)

    def answered(self) -> Iterator[Attempt]:
        """Settle those that were answered by now."""
        for work in [work for work, (_, future) in self._under_way.items() if future.done()]:
            if work in self._under_way:  # not settled for another's sake meanwhile
                yield self.settle(work)

    def settle(self, work: PartitionWork) -> Attempt:
        """Wait for the one of this partition; what the store raises is raised, and the outcome is unknown then."""
        begun, future = self._under_way[work]
        try:
            outcome, took_s = future.result()
        except Exception:
            del self._under_way[work]
            raise
        del self._under_way[work]
        landed = work.settle(begun, outcome)
        return Attempt(work, landed, begun.pending.counts, begun.pending.newest_ms, took_s)

    def abandon(self) -> None:
        """Wait for those that were sent, send no other, and look at none: the memory is thrown away, and the rows tell."""
        for _, future in self._under_way.values():
            if not future.cancel():
                future.exception()
        self._under_way.clear()
