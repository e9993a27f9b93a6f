"""The shipped code as actors: workers that step, the threads that renew their leases, nights and rebuilds that run Luigi's tasks.

Nothing of the protocol is here: a worker's turn is speed_layer.worker.Worker.step, its leases are renewed by the loop that ships,
speed_layer.ownership.Ownership.renew_until, and a night is tasks.nightly.Nightly with the tasks it requires, in the order that Luigi
would run them. Only what a worker is given differs: see simulated_worker.
"""

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.base.crash import CrashPoints
from pipeline.base.errors import LakeError
from pipeline.definition.view import View
from pipeline.handover import Generation
from pipeline.handover.replacement import GenerationStore
from pipeline.lake.lake import Lake
from pipeline.log.log import Block
from serving.postgres.connection import StoreUnavailable
from simulation.memory_log import MemoryLog
from speed_layer.collaborators import ActiveSource, Collaborators
from speed_layer.executors import InCaller, answer
from speed_layer.fetch_ahead import At
from speed_layer.worker import Worker
from tasks import executors
from tasks.context import generation_for
from tasks.night.night import Night, Store

T = TypeVar("T")
SNAPSHOT_EVERY_S = 0.5
FEW = 4  # stops of the log that one poll returns at most
LOOKS_S = (0.0, 0.0, 0.0, 0.03, 0.1)  # that may have passed between two looks at a worker's clock
HURRY_S = (2.0,)  # at which everything is due, always


class Reader:
    """The consumer of a worker: speed_layer.fetch_ahead.Reader on the log in memory."""

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


@dataclass
class DrawnClock:
    """A worker's clock: at each look some time has passed, drawn from `looks_s`; a wait is a point, and wakes nobody.

    It has nothing to do with the arbiter's clock, by which leases run out: what a worker believes to be the time may not matter.
    """

    point: Callable[[str], None]
    rng: random.Random
    looks_s: Sequence[float] = LOOKS_S
    now_s: float = 0.0

    def monotonic(self) -> float:
        """Later than before, or not."""
        self.now_s += self.rng.choice(self.looks_s)
        return self.now_s

    def time(self) -> float:
        """The time of monotonic(); only figures are made of it."""
        return self.now_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Others may run; nobody knows how long it took."""
        self.now_s += seconds
        self.point("wait")
        return event.is_set()


class LateCall(Future[T]):
    """A call under way: it is made when somebody asks what became of it, or some looks before; if nobody asks, never."""

    def __init__(self, call: Callable[[], T], rng: random.Random) -> None:
        super().__init__()
        self._call, self._rng = call, rng

    def done(self) -> bool:
        if not super().done() and self._rng.random() < 0.5:
            self._make()
        return super().done()

    def result(self, timeout: float | None = None) -> T:
        self._make()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._make()
        return super().exception(timeout)

    def cancel(self) -> bool:
        return not self.done() and super().cancel()

    def _make(self) -> None:
        if not super().done():
            answer(self, self._call)


@dataclass
class Late:
    """The executor of a worker's commits."""

    rng: random.Random

    def submit(self, call: Callable[[], T], /) -> LateCall[T]:
        """A call that is made later."""
        return LateCall(call, self.rng)


def simulated_worker(
    name: str, store: Any, log: MemoryLog, lake: Lake, crash: CrashPoints, views: Sequence[View], generation: Generation,
    rng: random.Random, looks_s: Sequence[float] = LOOKS_S,
) -> Worker:  # fmt: skip
    """The shipped worker on the parts in memory; what is due when is drawn by its clock, and commits are sent late."""
    collaborators = Collaborators(
        store=store,
        log=log,
        reader=Reader(log, rng),
        lake=lake,
        snapshot_store=store,
        transient=(StoreUnavailable,),
        clock=DrawnClock(log.point, rng, looks_s),
        crash=crash,
        committing=Late(rng),
        snapshotting=InCaller(),
        snapshot_every_s=SNAPSHOT_EVERY_S,
    )
    return Worker([ActiveSource(views[0].source, views, generation)], collaborators, threading.Event(), name)


def caught_up(worker: Worker, log: MemoryLog) -> bool:
    """True when the worker holds every partition and has committed all of the log."""
    works = worker.ownership.in_hand
    return len(works) == len(log.parts) and all(
        w.loaded is not None and not w.dirty and w.claim.position == log.parts[w.claim.partition].end for w in works
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
