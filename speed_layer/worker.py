"""The worker: lease, read, fold, commit, for every source, until told to stop.

    an event is visible within  fetch wait + COMMIT_EVERY_S + two commits    while the worker keeps up (BEHIND_EVERY_S while it does not)

One thread reads, and has others fold and commit meanwhile; another renews the leases, so that a long fold does not lose them. Safety
never rests on time: a lease that ran out is fenced by its epoch. On SIGTERM it drains, commits, lets go and returns.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from queue import SimpleQueue

import structlog

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import Refused
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.handover import Claim, Generation, SnapshotStore, SpeedStore
from pipeline.lake.lake import Lake
from pipeline.log.log import Block, Log
from speed_layer.assignment import moves
from speed_layer.committing import Attempt, Commits, InCaller
from speed_layer.fetch_ahead import COMMIT_ROWS, Reader, Reading, ends_of
from speed_layer.identity_snapshots import SNAPSHOT_EVERY_S, SnapshotWriter
from speed_layer.partition import PartitionWork, Parts
from speed_layer.stats import Stats

COMMIT_EVERY_S = 0.02
BEHIND_EVERY_S = 1.0
BEHIND_ROWS = 1_000_000
SHARED_ROWS = 5_000  # fewer are folded sooner by this thread
POLL_MS = 50
LANDING_MS = 5  # to wait for records while a commit is under way
COMMITTERS = 4
LEASE_S = 3.0
RENEW_S = 1.0
REBALANCE_S = 0.5
RETRY_S = 1.0
log = structlog.get_logger("speed")


@dataclass
class Sourced:
    """One source of a worker: its parts, and the partitions in hand in the order they were taken."""

    parts: Parts
    works: dict[int, PartitionWork] = field(default_factory=dict)


def worker_name() -> str:
    """A name for people: host, process, and enough to tell two workers of one process apart."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(2).hex()}"


class Worker:
    """Runs until `stop` is set. `transient` are the errors of a store or log that is down: it waits and tries again.

    With `snapshot_store` it writes what each partition remembers into the lake every `snapshot_every_s`. Partitions are folded by
    `threads` at a time, and with more than one of them committed by COMMITTERS meanwhile.
    """

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
        snapshot_store: SnapshotStore | None = None,
        snapshot_every_s: float = SNAPSHOT_EVERY_S,
        threads: int = 1,
    ) -> None:
        self.name = worker_name()
        crash = crash or NoCrash()
        self.sources = {s.topic: Sourced(Parts(s, v, g, store, log, lake, crash, snapshot_store)) for s, v, g in sources}
        self.snapshot_writer = SnapshotWriter(transient, snapshot_every_s, crash)
        self.store, self.reader, self.transient = store, reader, transient
        self.reading = Reading(reader)
        self.stop = stop
        self._ended = threading.Event()  # the thread that renews goes on while the worker drains
        self.stats = Stats()
        self.trouble = ""
        self._lost: SimpleQueue[Claim] = SimpleQueue()  # from the thread that renews
        self._rebalanced_s = 0.0
        self._landed = False  # a commit, since until() was asked
        self._fatal: BaseException | None = None
        self._pool = ThreadPoolExecutor(threads, "fold") if threads > 1 else None
        self._committers = ThreadPoolExecutor(COMMITTERS, "commit") if threads > 1 else None
        self.commits = Commits(self._committers or InCaller())

    # ---- life
    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Work until `stop`, or until `until()` is true after a commit; then drain, commit and let go."""
        renewing = threading.Thread(target=self._renew_forever, name="leases", daemon=True)
        renewing.start()
        try:
            while not self.stop.is_set() and not self._step(until):
                if fatal := self._fatal or self.snapshot_writer.failed:
                    raise fatal
        finally:
            self._end(renewing)

    def _end(self, renewing: threading.Thread) -> None:
        """Drain while the leases are still renewed; say farewell when nothing can renew them any more."""
        try:
            self._let_go()
        finally:
            self._ended.set()
            renewing.join(timeout=10)
            try:
                self._farewell()
            finally:
                self.snapshot_writer.close()
                self.reader.close()
                for pool in (self._pool, self._committers):
                    if pool is not None:
                        pool.shutdown(cancel_futures=True)

    def _step(self, until: Callable[[], bool] | None) -> bool:
        """One round; whether `until` says that it was the last."""
        try:
            self._rebalance()
            more = self._load_missing()
            self._read(0 if more else self._patience_ms())
            self._commit_due()
            if self.reader.down_reason:
                self._say_trouble(self.reader.down_reason)
            else:
                self._clear_trouble()
            if until is None or not (self._landed or self._settled()):
                return False
            self._landed = False
            return until()
        except self.transient as error:
            self._say_trouble(str(error))
            self.commits.abandon()
            for work in self._works:
                work.forget()
            self.stop.wait(RETRY_S)
            return False

    def _say_trouble(self, text: str) -> None:
        if text != self.trouble:
            log.warning("waiting", why=text)
        self.trouble = text

    def _clear_trouble(self) -> None:
        if self.trouble:
            log.info("going on")
        self.trouble = ""

    @property
    def _works(self) -> list[PartitionWork]:
        """The partitions in hand, as of now: a copy, for the thread that renews looks too."""
        return [work for sourced in self.sources.values() for work in list(sourced.works.values())]

    # ---- leases
    def _claims(self) -> list[Claim]:
        return [work.claim for work in self._works]

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
        if now - self._rebalanced_s < REBALANCE_S:
            return
        self._rebalanced_s = now
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
        self._commit(work)
        self.store.release(work.claim)
        self._drop(work.claim.topic, partition, "shared out")

    def _drop(self, topic: str, partition: int, why: str) -> None:
        work = self.sources[topic].works.get(partition)
        if work is not None:
            if work in self.commits:
                self._settle(work)
            del self.sources[topic].works[partition]
            log.info("let go", topic=topic, partition=partition, why=why)
            self.stats.forget((topic, partition))
            self._assign()

    # ---- work
    def _load_missing(self) -> bool:
        """Load one partition, so that those in hand go on in between; whether more are to be loaded."""
        missing = [(s, p, w) for s in self.sources.values() for p, w in s.works.items() if w.read is None]
        for sourced, partition, work in missing[:1]:
            began = time.monotonic()
            if work.load():
                took_s = round(time.monotonic() - began, 3)
                at = {"topic": work.claim.topic, "partition": partition, "position": work.claim.position}
                log.info("loaded", **at, replayed_from=work.replayed_from, took_s=took_s)
                self._assign()
            else:
                self._drop(sourced.parts.source.topic, partition, "fenced")
        return len(missing) > 1

    def _assign(self) -> None:
        wanted = {(t, p): w.read for t, s in self.sources.items() for p, w in s.works.items() if w.read is not None}
        self.reader.assign(wanted)

    def _read(self, timeout_ms: int) -> None:
        """Read and fold; while far behind the log's end, read on during the folding, for as long as no commit is due."""
        if not any(s.works for s in self.sources.values()):
            self.stop.wait(timeout_ms / 1000)
            return
        began, rows = time.monotonic(), 0
        blocks = self.reading.poll(timeout_ms)
        while blocks:
            held = [(self.sources[topic], partition, block) for (topic, partition), block in blocks.items()]
            fed = [(s, p, s.works[p], block) for s, p, block in held if p in s.works and s.works[p].read is not None]
            rows += sum(len(block) for _, _, _, block in fed)
            futures: list[Future[Block | None]] = []
            try:
                futures += (self._folder(work, block) for _, _, work, block in fed)
                due = rows >= BEHIND_ROWS or time.monotonic() - began >= BEHIND_EVERY_S
                go_on = self._pool is not None and not due and self.reading.behind(ends_of(blocks))
                blocks = self.reading.poll(timeout_ms) if go_on else {}
            finally:
                wait(futures)  # whatever happens, nothing is at work on a partition any more
            for (_, _, work, block), future in zip(fed, futures, strict=True):
                self.stats.read(block)
                if not self._go_on(work, future.result()):
                    blocks.pop((work.claim.topic, work.claim.partition), None)  # read ahead of what is read again
        self.stats.ends(self.reader.end_offsets)

    def _folder(self, work: PartitionWork, block: Block) -> Future[Block | None]:
        """Fold a block: in another thread where that is worth it, for partitions share nothing and kernels let go of the interpreter."""
        if self._pool is not None and len(block) >= SHARED_ROWS:
            return self._pool.submit(work.feed, block)
        done: Future[Block | None] = Future()
        done.set_result(work.feed(block))
        return done

    def _go_on(self, work: PartitionWork, rest: Block | None) -> bool:
        """Commit what a cut ends, and feed what lies beyond it; False when a commit was refused."""
        while work.full or rest is not None:
            if not self._commit(work):
                return False
            if rest is not None:
                rest = work.feed(rest)
        return True

    def _patience_ms(self) -> int:
        """How long to wait for records: not beyond the next commit."""
        if len(self.commits):
            return LANDING_MS
        dirty = [work.oldest_s for work in self._works if work.dirty]
        return round(min(POLL_MS, max(1, 1000 * (min(dirty) + COMMIT_EVERY_S - time.monotonic())))) if dirty else POLL_MS

    def _commit_due(self) -> None:
        """Settle the commits that were answered; begin those that are due."""
        for attempt in self.commits.answered():
            self._attempted(attempt)
        for work in self._works:
            if not work.dirty or work.read is None:
                continue
            behind = self.reading.behind({(work.claim.topic, work.claim.partition): work.read})
            every_s, rows = (BEHIND_EVERY_S, BEHIND_ROWS) if behind else (COMMIT_EVERY_S, COMMIT_ROWS)
            full = work.pending.counts.records >= rows
            if work in self.commits:
                if full:  # what waits in memory is bounded: nothing more is read until Postgres answers
                    self._settle(work)
            elif work.parts.snapshots is not None and self.snapshot_writer.due(work.claim):
                self._commit(work)
            elif full or time.monotonic() - work.oldest_s >= every_s:
                self.commits.begin(work)

    def _commit(self, work: PartitionWork) -> bool:
        """Commit all that the partition has in hand, and wait for it; False when a commit was refused."""
        if work in self.commits and not self._settle(work):
            return False
        if work.dirty:
            self.commits.begin(work)
            return self._settle(work)
        return True

    def _settle(self, work: PartitionWork) -> bool:
        return self._attempted(self.commits.settle(work))

    def _attempted(self, attempt: Attempt) -> bool:
        """Say what became of it; whether it landed."""
        work = attempt.work
        at = (work.claim.topic, work.claim.partition)
        if not attempt.landed:
            log.info("refused", topic=work.claim.topic, partition=work.claim.partition, cut=work.limit)
            if work.read is not None:  # the reader is ahead of it now
                self._assign()
            return False
        self._landed = True
        self.stats.committed(work.claim, attempt.counts, attempt.took_s, attempt.newest_ms)
        self.reader.commit_group_offsets({at: work.claim.position})
        if work.parts.snapshots is not None and not work.dirty:  # else the memory is ahead of the position
            self.snapshot_writer.after_commit(work.parts.snapshots, work.claim, work.ingest.identities)
        return True

    def _settled(self) -> bool:
        return self._lost.empty() and not len(self.commits) and not any(w.dirty or w.read is None for w in self._works)

    def _let_go(self) -> None:
        """Commit what is in hand and release every lease, so that others need not wait for them to run out."""
        for topic, sourced in self.sources.items():
            try:
                for partition, work in list(sourced.works.items()):
                    self._commit(work)
                    self.store.release(work.claim)
                    sourced.works.pop(partition, None)
            except self.transient as error:
                log.warning("left leases behind; they run out by themselves", topic=topic, why=str(error))

    def _farewell(self) -> None:
        for topic in self.sources:
            try:
                self.store.farewell(topic, self.name)
            except self.transient as error:
                log.warning("left without a farewell", topic=topic, why=str(error))
