"""The worker: lease, read, fold, commit, for every source, until told to stop.

    an event is visible within  fetch wait + COMMIT_EVERY_S + one commit    while the worker keeps up

One thread folds and commits; another renews the leases, so that a long fold does not lose them. Safety never rests on time: a lease
that ran out is fenced by its epoch. On SIGTERM it drains, commits, lets go and returns.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

import structlog

from pipeline.definition import Source, View
from pipeline.errors import Refused
from pipeline.handover import Claim, CrashPoints, Generation, NoCrash, SpeedStore
from pipeline.lake import Lake
from pipeline.log import Block, Log
from speed_layer.partition import PartitionWork, Parts
from speed_layer.sharing import moves
from speed_layer.stats import Stats

COMMIT_EVERY_S = 0.1
COMMIT_ROWS = 200_000
POLL_MS = 50
LEASE_S = 3.0
RENEW_S = 1.0
RETRY_S = 1.0
log = structlog.get_logger("speed")

At = tuple[str, int]


class Reader(Protocol):
    """What the worker asks of its consumer."""

    def assign(self, wanted: Mapping[At, int]) -> None: ...

    def poll(self, timeout_ms: int, max_records: int) -> dict[At, Block]: ...

    @property
    def end_offsets(self) -> Mapping[At, int]: ...

    def commit_group_offsets(self, offsets: Mapping[At, int]) -> None: ...

    def close(self) -> None: ...


@dataclass
class Sourced:
    """One source of a worker: its parts, and the partitions in hand in the order they were taken."""

    parts: Parts
    works: dict[int, PartitionWork] = field(default_factory=dict)




def worker_name() -> str:
    """A name for people: host, process, and enough to tell two workers of one process apart."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(2).hex()}"


class Worker:
    """Runs until `stop` is set. `transient` are the errors of a store or log that is down: it waits and tries again."""

    def __init__(
        self,
        sources: Sequence[tuple[Source, Sequence[View], Generation]],
        store: SpeedStore,
        log: Log,
        reader: Reader,
        lake: Lake,
        transient: tuple[type[BaseException], ...],
        stop: threading.Event,
        crash: CrashPoints | None = None,
    ) -> None:
        self.name = worker_name()
        self.sources = {
            s.topic: Sourced(Parts(s, v, g, store, log, lake, crash or NoCrash())) for s, v, g in sources
        }
        self.store, self.reader, self.transient = store, reader, transient
        self.stop = stop
        self._ended = threading.Event()  # the thread that renews goes on while the worker drains
        self.stats = Stats()
        self.trouble = ""
        self._lost: SimpleQueue[Claim] = SimpleQueue()  # from the thread that renews
        self._renewed_s = 0.0
        self._fatal: BaseException | None = None

    # ---- life
    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Work until `stop`, or until `until()` is true after a commit; then drain, commit and let go."""
        renewing = threading.Thread(target=self._renew_forever, name="leases", daemon=True)
        renewing.start()
        try:
            while not self.stop.is_set() and not (until is not None and self._settled() and until()):
                self._step()
                if self._fatal:
                    raise self._fatal
        finally:
            self._let_go()
            self._ended.set()
            renewing.join(timeout=10)
            self.reader.close()

    def _step(self) -> None:
        try:
            self._rebalance()
            self._load_missing()
            self._read(POLL_MS)
            self._commit_due()
            self._clear_trouble()
        except self.transient as error:
            self._say_trouble(str(error))
            for sourced in self.sources.values():
                for work in sourced.works.values():
                    work.forget()
            self.stop.wait(RETRY_S)

    def _say_trouble(self, text: str) -> None:
        if text != self.trouble:
            log.warning("waiting", why=text)
        self.trouble = text

    def _clear_trouble(self) -> None:
        if self.trouble:
            log.info("going on")
        self.trouble = ""

    # ---- leases
    def _claims(self) -> list[Claim]:
        return [w.claim for s in self.sources.values() for w in list(s.works.values())]

    def _renew_forever(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                for topic in self.sources:
                    self.store.heartbeat(topic, self.name, LEASE_S)
                claims = self._claims()
                held = self.store.renew(claims, LEASE_S) if claims else set()
                for claim in claims:
                    if claim.owner not in held:
                        self._lost.put(claim)
            except self.transient as error:
                self._say_trouble(str(error))
            except Exception as error:  # the worker must not go on without renewing: hand it to the main thread
                self._fatal = error
                return

    def _rebalance(self) -> None:
        now = time.monotonic()
        while not self._lost.empty():
            lost = self._lost.get()
            work = self.sources[lost.topic].works.get(lost.partition)
            if work is not None and work.claim.owner == lost.owner:
                self._drop(lost.topic, lost.partition, "taken over by another worker")
        if now - self._renewed_s < RENEW_S:
            return
        self._renewed_s = now
        for topic, sourced in self.sources.items():
            self._check_generation(sourced)
            workers = self.store.heartbeat(topic, self.name, LEASE_S)
            todo = moves(self.store.leases(sourced.parts.generation), list(sourced.works), workers, self.name)
            for partition in todo.release:
                self._release(sourced, partition)
            for partition in todo.take:
                claim = self.store.take(sourced.parts.generation, partition, self.name, LEASE_S)
                if claim is not None:
                    log.info("took", topic=topic, partition=partition, position=claim.position, epoch=claim.epoch)
                    sourced.works[partition] = PartitionWork(sourced.parts, claim)

    def _check_generation(self, sourced: Sourced) -> None:
        mine = sourced.parts.generation
        active = self.store.active(mine.topic)
        if active is None or active.number != mine.number:
            raise Refused(
                f"topic {mine.topic}: generation {mine.number}, which this worker runs, is retired; the definition was changed by"
                f" `watershed init --rebuild`: start the worker again"
            )

    def _release(self, sourced: Sourced, partition: int) -> None:
        work = sourced.works[partition]
        if work.dirty:
            self._commit(sourced, partition)
        if partition in sourced.works:
            self.store.release(sourced.works[partition].claim)
            self._drop(work.claim.topic, partition, "shared out")

    def _drop(self, topic: str, partition: int, why: str) -> None:
        if self.sources[topic].works.pop(partition, None) is not None:
            log.info("let go", topic=topic, partition=partition, why=why)
            self._assign()

    # ---- work
    def _load_missing(self) -> None:
        loaded = False
        for sourced in self.sources.values():
            for partition, work in list(sourced.works.items()):
                if work.read is None:
                    if work.load():
                        loaded = True
                    else:
                        self._drop(work.claim.topic, partition, "fenced")
        if loaded:
            self._assign()

    def _assign(self) -> None:
        wanted = {(t, p): w.read for t, s in self.sources.items() for p, w in s.works.items() if w.read is not None}
        self.reader.assign(wanted)

    def _read(self, timeout_ms: int) -> None:
        if not any(s.works for s in self.sources.values()):
            self.stop.wait(timeout_ms / 1000)
            return
        for (topic, partition), block in self.reader.poll(timeout_ms, COMMIT_ROWS).items():
            sourced = self.sources[topic]
            work = sourced.works.get(partition)
            if work is None or work.read is None:
                continue
            self._feed(sourced, partition, work, block)
        self.stats.ends(self.reader.end_offsets)

    def _feed(self, sourced: Sourced, partition: int, work: PartitionWork, block: Block) -> None:
        rest: Block | None = block
        while rest is not None:
            self.stats.read(block)
            rest = work.feed(rest)
            if (work.full or rest is not None) and not self._commit(sourced, partition):
                return

    def _commit_due(self) -> None:
        now = time.monotonic()
        for sourced in self.sources.values():
            for partition, work in list(sourced.works.items()):
                if work.dirty and (now - work.oldest_s >= COMMIT_EVERY_S or work.counts.records >= COMMIT_ROWS):
                    self._commit(sourced, partition)

    def _commit(self, sourced: Sourced, partition: int) -> bool:
        work = sourced.works[partition]
        began, newest_ms, counts = time.monotonic(), work.newest_ms, work.counts
        if not work.commit():
            log.info("refused", topic=work.claim.topic, partition=partition, cut=work.limit)
            return False
        self.stats.committed(work.claim, counts, time.monotonic() - began, newest_ms)
        self.reader.commit_group_offsets({(work.claim.topic, partition): work.claim.position})
        return True

    def _settled(self) -> bool:
        return self._lost.empty() and not any(w.dirty or w.read is None for s in self.sources.values() for w in s.works.values())

    def _let_go(self) -> None:
        """Commit what is in hand and release every lease, so that others need not wait for them to run out."""
        for topic, sourced in self.sources.items():
            try:
                for partition, work in list(sourced.works.items()):
                    if work.dirty:
                        self._commit(sourced, partition)
                    self.store.release(work.claim)
                    sourced.works.pop(partition, None)
                self.store.farewell(topic, self.name)
            except self.transient as error:
                log.warning("left without a farewell; the leases run out by themselves", topic=topic, why=str(error))
