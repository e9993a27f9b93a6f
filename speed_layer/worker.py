"""The worker: load, read, fold, commit, for every source, until told to stop.

    an event is visible within  fetch wait + COMMIT_EVERY_S + two commits    while the worker keeps up (BEHIND_EVERY_S while it does not)

One thread reads, and has others fold and commit meanwhile; another renews the leases (speed_layer.ownership), so that a long fold does
not lose them. On SIGTERM it drains, commits, lets go and returns.
"""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

import structlog

from pipeline.log.log import Block
from speed_layer.collaborators import ActiveSource, Collaborators
from speed_layer.committing import Attempt, Commits
from speed_layer.fetch_ahead import COMMIT_ROWS, At, FetchAhead, ends_of
from speed_layer.identity_snapshots import SnapshotWriter
from speed_layer.ownership import Ownership
from speed_layer.partition import PartitionWork
from speed_layer.schemas import AwaitedSchemas
from speed_layer.stats import Stats

COMMIT_EVERY_S = 0.02
BEHIND_EVERY_S = 1.0
BEHIND_ROWS = 1_000_000
SHARED_ROWS, SHARED_BYTES = 5_000, 1024 * 1024  # less is folded sooner by this thread
POLL_MS = 50
LANDING_MS = 5  # to wait for records while a commit or a fold is under way
RETRY_S = 1.0
log = structlog.get_logger("speed")


def worker_name() -> str:
    """A name for people: host, process, and enough to tell two workers of one process apart."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(2).hex()}"


class Worker:
    """Serves `sources` with `collaborators` until `stop` is set. Others may look at `stats` while it runs."""

    def __init__(
        self,
        sources: Sequence[ActiveSource],
        collaborators: Collaborators,
        stop: threading.Event,
        name: str | None = None,
    ) -> None:
        self.name = name or worker_name()
        self.collaborators, self.stop = collaborators, stop
        self.reader, self.clock = collaborators.reader, collaborators.clock
        self.stats = Stats(self.clock)
        active = {one.source.topic: one for one in sources}
        self.ownership = Ownership(self.name, active, collaborators, self.stats, self._commit, self._gone)
        found = {topic: collaborators.snapshots(one.generation) for topic, one in active.items()}
        self.snapshot_writer = SnapshotWriter(
            {topic: snapshots for topic, snapshots in found.items() if snapshots is not None},
            collaborators.snapshotting,
            collaborators.clock,
            transient=collaborators.transient,
            every_s=collaborators.snapshot_every_s,
            crash=collaborators.crash,
        )
        self.waiting = AwaitedSchemas(collaborators)
        self.commits = Commits(collaborators.committing, self.clock)
        self.fetching = FetchAhead(self.reader)
        self._ended = threading.Event()  # the thread that renews goes on while the worker drains
        self._landed = False  # a commit, since until() was asked

    # ---- life
    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Work until `stop`, or until `until()` is true after a commit; then drain, commit and let go."""
        renewing = threading.Thread(target=self.ownership.renew_until, args=(self._ended,), name="leases", daemon=True)
        renewing.start()
        try:
            while not self.stop.is_set() and not self.step(until):
                pass
        finally:
            self._end(renewing)

    def _end(self, renewing: threading.Thread) -> None:
        """Drain while the leases are still renewed; say farewell when nothing can renew them any more."""
        try:
            self.ownership.let_go()
        finally:
            self._ended.set()
            renewing.join(timeout=10)
            try:
                self.ownership.farewell()
            finally:
                self.snapshot_writer.close()
                self.reader.close()

    def step(self, until: Callable[[], bool] | None = None) -> bool:
        """One round of everything that is due; whether `until` says that it was the last.

        Raises what must end the worker, whichever thread met it; what passes by itself is said, waited for and tried again.
        """
        for failed in (self.ownership.failed, self.snapshot_writer.failed):
            if failed is not None:
                raise failed
        try:
            self.ownership.rebalance()
            if self.waiting.answered():
                self._assign()
            more = self._load_missing()
            self._read(0 if more else self._patience_ms(), go_on=not more)
            self._commit_due()
            self._look_at_the_log()
            if until is None or not (self._landed or self._settled()):
                return False
            self._landed = False
            return until()
        except self.collaborators.transient as error:
            self.stats.waits(str(error))
            self.commits.abandon()
            for work in self.ownership.in_hand:
                work.forget()
            self.clock.wait(self.stop, RETRY_S)
            return False

    def _look_at_the_log(self) -> None:
        """Note the log's ends, which nobody knows while Kafka does not answer; say what is waited for."""
        if reason := self.reader.down_reason or self.waiting.reason:
            self.stats.waits(reason)
        else:
            self.stats.goes_on(self.reader.end_offsets)

    def _settled(self) -> bool:
        works = self.ownership.in_hand
        return (
            self.ownership.settled
            and not len(self.commits)
            and not any(work.dirty or work.loaded is None for work in works)
        )

    def _gone(self, work: PartitionWork) -> None:
        """A partition is out of hand: nothing of it is under way any more, nor read."""
        try:
            if work in self.commits:
                self._settle(work)
        finally:
            self._assign()

    # ---- work
    def _load_missing(self) -> bool:
        """Load one partition, so that those in hand go on in between; whether more are to be loaded."""
        missing = [work for work in self.ownership.in_hand if work.loaded is None]
        for work in missing[:1]:
            began_s = self.clock.monotonic()
            if not work.load():
                self.ownership.drop(work, "fenced")
            elif work.loaded is not None:
                took_s = round(self.clock.monotonic() - began_s, 3)
                where = {"topic": work.claim.topic, "partition": work.claim.partition, "position": work.claim.position}
                log.info("loaded", **where, replayed_from=work.loaded.replayed_from, took_s=took_s)
                self.stats.stands(work.claim)
                self._assign()
        return len(missing) > 1

    def _assign(self) -> None:
        """Read what is in hand, but for partitions that wait for a schema."""
        works = [work for work in self.ownership.in_hand if work.read is not None and not self.waiting.holds(work.at)]
        self.reader.assign({work.at: work.read for work in works if work.read is not None})

    def _read(self, timeout_ms: int, go_on: bool = True) -> None:
        """Read and fold; with `go_on` read on during the folding, for as long as no commit is due."""
        if all(self.waiting.holds(work.at) for work in self.ownership.in_hand):  # or there is none
            self.clock.wait(self.stop, timeout_ms / 1000)
            return
        blocks = self.fetching.poll(timeout_ms)
        began_s, rows = self.clock.monotonic(), 0
        while blocks:
            held = [(self.ownership.get(at), block) for at, block in blocks.items()]
            whole = [(work, block) for work, block in held if work is not None and work.loaded is not None]
            fed = [(work, block) for work, block in whole if not self.waiting.awaits(work, block)]
            if len(fed) < len(whole):
                self._assign()
            rows += sum(len(block) for _, block in fed)
            futures: list[Future[Block | None]] = []
            try:
                futures += (self._folder(work, block) for work, block in fed)
                blocks = self._meanwhile(futures, blocks, rows, began_s) if go_on else {}
            finally:
                wait(futures)  # whatever happens, nothing is at work on a partition any more
            for (work, block), future in zip(fed, futures, strict=True):
                self.stats.read(block)
                if not self._go_on(work, future.result()):
                    blocks.pop(work.at, None)  # read ahead of what is read again

    def _meanwhile(
        self, futures: list[Future[Block | None]], blocks: dict[At, Block], rows: int, began_s: float
    ) -> dict[At, Block]:
        """The next blocks, read while `blocks` are folded; none when a commit is due, or all is folded and nobody is far behind."""
        behind = self.fetching.behind(ends_of(blocks))
        every_s, most = (BEHIND_EVERY_S, BEHIND_ROWS) if behind else (COMMIT_EVERY_S, COMMIT_ROWS)
        if rows >= most or self.clock.monotonic() - began_s >= every_s or self.collaborators.folding is None:
            return {}
        found = self.fetching.poll(POLL_MS) if behind else {}
        while not found and not all(future.done() for future in futures):
            found = self.fetching.poll(LANDING_MS)
        return found

    def _folder(self, work: PartitionWork, block: Block) -> Future[Block | None]:
        """Fold a block: in another thread where that is worth it, for partitions share nothing and kernels let go of the interpreter."""
        large = len(block) >= SHARED_ROWS or block.batch.nbytes >= SHARED_BYTES
        if self.collaborators.folding is not None and large:
            return self.collaborators.folding.submit(lambda: work.feed(block))
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
        """Milliseconds to wait for records: not beyond the next commit."""
        if len(self.commits):
            return LANDING_MS
        dirty = [work.oldest_s for work in self.ownership.in_hand if work.dirty]
        return (
            round(min(POLL_MS, max(1, 1000 * (min(dirty) + COMMIT_EVERY_S - self.clock.monotonic()))))
            if dirty
            else POLL_MS
        )

    # ---- commits
    def _commit_due(self) -> None:
        """Settle the commits that were answered; begin those that are due."""
        for attempt in self.commits.answered():
            self._attempted(attempt)
        for work in self.ownership.in_hand:
            if work.read is None or not work.dirty:
                continue
            behind = self.fetching.behind({work.at: work.read})
            every_s, rows = (BEHIND_EVERY_S, BEHIND_ROWS) if behind else (COMMIT_EVERY_S, COMMIT_ROWS)
            full = work.uncommitted_records >= rows
            if work in self.commits:
                if full:  # what waits in memory is bounded: nothing more is read until Postgres answers
                    self._settle(work)
            elif self.snapshot_writer.due(work.claim):
                self._commit(work)  # waited for: a snapshot needs the memory at just the position
            elif full or self.clock.monotonic() - work.oldest_s >= every_s:
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
        """Say what became of a commit; True when it landed, and its memory stayed: at a cut with other versions of tables it goes."""
        work = attempt.work
        if not attempt.landed:
            self._refused(work)
            return False
        self._landed = True
        self.stats.committed(work.claim, attempt.counts, attempt.took_s, attempt.newest_ms)
        self.reader.commit_group_offsets({work.at: work.claim.position})
        if self.snapshot_writer.due(work.claim) and (memory := work.remembered()) is not None:
            self.snapshot_writer.write(work.claim, memory)
        return work.loaded is not None

    def _refused(self, work: PartitionWork) -> None:
        where = {"topic": work.claim.topic, "partition": work.claim.partition}
        if work.loaded is None:
            log.info(
                "commit refused, loading again",
                **where,
                why="the row moved on: taken over, released, published or rolled back",
            )
        else:
            log.info("commit split at a chosen cut", **where, cut=work.limit)
            self._assign()  # the reader is ahead of what is read again
