"""The shipped code as actors: workers that step, nights and rebuilds that run Luigi's tasks.

Nothing of the protocol is here: a worker's turn is speed_layer.worker.Worker._step, a night is tasks.nightly.Nightly with the tasks
it requires, in the order that Luigi would run them.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Any

from pipeline.accept.dedupe import Identities
from pipeline.base.crash import CrashPoints
from pipeline.base.errors import LakeError
from pipeline.definition.view import View
from pipeline.handover import Claim, Generation, Outcome
from pipeline.handover.replacement import GenerationStore
from pipeline.lake.lake import Lake
from pipeline.log.log import Block
from serving.postgres.connection import StoreUnavailable
from simulation.memory_log import MemoryLog
from speed_layer.committing import Commits
from speed_layer.fetch_ahead import At
from speed_layer.identity_snapshots import Snapshots, SnapshotWriter
from speed_layer.worker import LEASE_S, Worker
from tasks import executors
from tasks.context import generation_for
from tasks.night.night import Night, Store

SNAPSHOTS = 0.25  # share of the commits after which a worker writes a snapshot
FEW = 4  # stops of the log that one poll returns at most


class Reader:
    """What a worker reads from: speed_layer.fetch_ahead.Reader on the log in memory."""

    def __init__(self, log: MemoryLog, rng: random.Random) -> None:
        self.log, self.rng = log, rng
        self.positions: dict[At, int] = {}
        self.end_offsets: dict[At, int] = {}
        self.down_reason = ""

    def assign(self, wanted: Mapping[At, int]) -> None:
        self.positions = dict(wanted)

    def poll(self, timeout_ms: int, max_records: int) -> dict[At, Block]:
        self.log.point("log.poll")
        found = {}
        for at, start in self.positions.items():
            part = self.log.parts[at[1]]
            ahead = [stop for stop in part.stops if start < stop <= part.end]
            if ahead:
                end = ahead[min(len(ahead), self.rng.randint(1, FEW)) - 1]
                found[at] = part.block(start, end)
                self.positions[at] = end
        return found

    def commit_group_offsets(self, offsets: Mapping[At, int]) -> None:
        """For lag tools alone."""

    def close(self) -> None:
        """Nothing is open."""


class Inline(SnapshotWriter):
    """Writes a worker's snapshot at once, between two of its points, and not after every commit."""

    rng: random.Random

    def due(self, claim: Claim) -> bool:
        return self.rng.random() < SNAPSHOTS

    def after_commit(self, snapshots: Snapshots, claim: Claim, identities: Identities) -> None:
        if self.rng.random() < SNAPSHOTS:
            self._write(snapshots, claim, identities.copied(claim.position))
            if self.failed is not None:
                raise self.failed


@dataclass
class Never:
    """The event that would stop a worker; waiting for it is a point."""

    log: MemoryLog

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        self.log.point("wait")
        return False


class LateCall(Future[tuple[Outcome, float]]):
    """A commit under way: it reaches the store when somebody asks what became of it, or some looks before; if nobody asks, never."""

    def __init__(self, call: Callable[[], tuple[Outcome, float]], rng: random.Random) -> None:
        super().__init__()
        self._call, self._rng = call, rng

    def done(self) -> bool:
        if not super().done() and self._rng.random() < 0.5:
            self._make()
        return super().done()

    def result(self, timeout: float | None = None) -> tuple[Outcome, float]:
        self._make()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._make()
        return super().exception(timeout)

    def cancel(self) -> bool:
        return not self.done() and super().cancel()

    def _make(self) -> None:
        if not super().done():
            try:
                self.set_result(self._call())
            except Exception as error:
                self.set_exception(error)


@dataclass
class Late:
    """What a worker's commits are made by."""

    rng: random.Random

    def submit(self, call: Callable[[], tuple[Outcome, float]], /) -> LateCall:
        """A call that is made later."""
        return LateCall(call, self.rng)


class SimulatedWorker(Worker):
    """The shipped worker; when leases are looked at and commits are due is drawn, instead of told by a clock."""

    def __init__(self, name: str, store: Any, log: MemoryLog, lake: Lake, crash: CrashPoints, views: Sequence[View],
                 generation: Generation, rng: random.Random) -> None:  # fmt: skip
        sources = [(views[0].source, views, generation)]
        never: Any = Never(log)
        reader: Any = Reader(log, rng)
        super().__init__(sources, store, log, reader, lake, (StoreUnavailable,), never, crash, store)
        self.name, self.rng, self._eager = name, rng, False
        self.commits = Commits(Late(rng))
        self.parts_of_log = log.parts
        self.snapshot_writer = Inline((StoreUnavailable,), 0.0, crash)
        self.snapshot_writer.rng = rng

    def turn(self, eager: bool = False) -> None:
        """One step of the loop."""
        if eager or self.rng.random() < 0.3:
            self._renew_once()
        self._rebalanced_s = -inf if eager or self.rng.random() < 0.4 else inf
        self._eager = eager
        self._step(None)

    def _commit_due(self) -> None:
        for sourced in self.sources.values():
            for work in sourced.works.values():
                work.oldest_s = -inf if self._eager or self.rng.random() < 0.5 else inf
        super()._commit_due()

    def _renew_once(self) -> None:
        """What the thread of the leases does every RENEW_S."""
        try:
            for topic in self.sources:
                self.store.heartbeat(topic, self.name, LEASE_S)
            claims = self._claims()
            held = self.store.renew(claims, LEASE_S) if claims else set()
            for claim in claims:
                if claim.owner not in held:
                    self._lost.put(claim)
        except StoreUnavailable as error:
            self.trouble = str(error)

    @property
    def caught_up(self) -> bool:
        """Whether it holds every partition, and has committed all of the log."""
        works = [w for s in self.sources.values() for w in s.works.values()]
        ends = self.parts_of_log
        return len(works) == len(ends) and all(
            w.read is not None and not w.dirty and w.claim.position == ends[w.claim.partition].end for w in works
        )


@dataclass
class NightContext:
    """A process's tasks.context.Context: the definitions that it was started with, and the arbiter, log and lake in memory."""

    views: Sequence[View]
    generations: GenerationStore
    store: Store
    log: MemoryLog
    lake: Lake
    crash: CrashPoints
    at_once: int = 1
    _nights: dict[int, Night] = field(default_factory=dict)

    @property
    def topics(self) -> list[str]:
        return [self.views[0].source.topic]

    def night(self, topic: str, generation: int = 0) -> Night:
        """The night of a generation; 0 is the one that was active when it was first asked for."""
        if generation not in self._nights:
            found = generation_for(self.generations, topic, generation, self.views)
            parts = (self.store, self.log, self.lake, self.crash, executors.Inline())
            self._nights[generation] = Night(self.views[0].source, self.views, found, *parts)
        return self._nights[generation]


def run_task(task: Any) -> None:
    """A Luigi task as Luigi runs it: what it requires first, then itself, then whether it is complete."""
    if task.complete():
        return
    for needed in _flat(task.requires()):
        run_task(needed)
    done = task.run()
    if isinstance(done, Iterator):
        for yielded in done:
            for needed in _flat(yielded):
                run_task(needed)
    if not task.complete():
        raise LakeError(f"{task} ran and is not complete")


def _flat(tasks: Any) -> Iterator[Any]:
    if isinstance(tasks, Iterable):
        for task in tasks:
            yield from _flat(task)
    elif tasks is not None:
        yield tasks
