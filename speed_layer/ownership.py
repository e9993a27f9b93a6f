"""The leases of one worker: renewed by one thread, shared out and taken by another.

    in hand = what was taken, less what was released or found to be lost        renewed: all in hand, every RENEW_S

Nothing rests on a lease for safety: whoever lost one is fenced by its epoch at the next commit. Noticing the loss by renewal lets a
worker without events to commit turn to other partitions.
"""

import threading
from collections.abc import Callable, Mapping
from math import inf
from queue import SimpleQueue

import structlog

from pipeline.base.errors import Refused
from pipeline.handover import Claim
from speed_layer.assignment import moves
from speed_layer.collaborators import ActiveSource, Collaborators
from speed_layer.fetch_ahead import At
from speed_layer.partition import PartitionWork
from speed_layer.stats import Stats

RENEW_S = 1.0
REBALANCE_S = 0.5
log = structlog.get_logger("speed")


class Ownership:
    """The partitions in hand of the worker `name`.

    `finish(work)` is called before a lease is released, to commit what was folded; `gone(work)` when a partition is no longer in hand.
    renew_until() and renew() may run in another thread than all else.
    """

    def __init__(
        self,
        name: str,
        sources: Mapping[str, ActiveSource],
        collaborators: Collaborators,
        stats: Stats,
        finish: Callable[[PartitionWork], object],
        gone: Callable[[PartitionWork], object],
    ) -> None:
        self.name, self.sources, self.collaborators, self.stats = name, sources, collaborators, stats
        self.store, self.clock = collaborators.store, collaborators.clock
        self.failed: BaseException | None = None  # what ended the renewing, and must end the worker
        self._finish, self._gone = finish, gone
        self._in_hand: dict[At, PartitionWork] = {}  # in the order they were taken
        self._lost: SimpleQueue[Claim] = SimpleQueue()  # found by renew(), dropped by rebalance()
        self._rebalanced_s = -inf

    @property
    def in_hand(self) -> list[PartitionWork]:
        """The partitions in hand, the longest held first: a copy, which both threads may ask for."""
        return list(self._in_hand.values())

    def get(self, at: At) -> PartitionWork | None:
        """The work on (topic, partition), or None when it is not in hand."""
        return self._in_hand.get(at)

    @property
    def settled(self) -> bool:
        """True when rebalance() has acted on every loss that is known of."""
        return self._lost.empty()

    # ---- renewing
    def renew_until(self, ended: threading.Event) -> None:
        """Renew every RENEW_S until `ended` is set. An error that does not pass ends it, and is left in `failed`."""
        while not self.clock.wait(ended, RENEW_S):
            try:
                self.renew()
            except Exception as error:  # the worker must not go on without renewing: its thread raises this
                self.failed = error
                return

    def renew(self) -> None:
        """One round: say that the worker lives, prolong the leases in hand, and note those that are lost.

        The heartbeat is said here too, not by rebalance() alone: a long fold must not look like a death. Returns, having said why,
        when the store is down.
        """
        try:
            for topic in self.sources:
                self.store.heartbeat(topic, self.name, self.collaborators.lease_s)
            claims = [work.claim for work in self.in_hand]
            held = self.store.renew(claims, self.collaborators.lease_s) if claims else set()
        except self.collaborators.transient as error:
            self.stats.waits(str(error))
            return
        for claim in claims:
            if claim.owner not in held:
                self._lost.put(claim)

    # ---- sharing out
    def rebalance(self) -> None:
        """Drop what was lost; every REBALANCE_S, release partitions above the share or take free ones below it.

        Refused when a topic's generation was retired; an error of the store leaves in hand what was taken before it.
        """
        while not self._lost.empty():
            lost = self._lost.get()
            work = self.get((lost.topic, lost.partition))
            if work is not None and work.claim.owner == lost.owner:  # not one that was taken again since
                self.drop(work, "taken over by another worker")
        now_s = self.clock.monotonic()
        if now_s - self._rebalanced_s < REBALANCE_S:
            return
        self._rebalanced_s = now_s
        for topic, source in self.sources.items():
            self._check_generation(source)
            workers = self.store.heartbeat(topic, self.name, self.collaborators.lease_s)
            mine = [partition for of, partition in self._in_hand if of == topic]
            todo = moves(self.store.leases(source.generation), mine, workers, self.name)
            for partition in todo.release:
                self._release(self._in_hand[topic, partition])
            for partition in todo.take:
                self._take(source, partition)

    def _check_generation(self, source: ActiveSource) -> None:
        mine = source.generation
        active = self.store.active(mine.topic)
        if active is None or active.number != mine.number:
            raise Refused(
                f"topic {mine.topic}: generation {mine.number}, which this worker runs, is retired; the definition was changed by"
                f" `watershed init --rebuild`: start the worker again"
            )

    def _take(self, source: ActiveSource, partition: int) -> None:
        claim = self.store.take(source.generation, partition, self.name, self.collaborators.lease_s)
        if claim is not None:
            log.info("took", topic=claim.topic, partition=partition, position=claim.position, epoch=claim.epoch)
            self._in_hand[claim.topic, partition] = PartitionWork(source, self.collaborators, claim)
            self.stats.stands(claim)

    # ---- letting go
    def _release(self, work: PartitionWork) -> None:
        self._finish(work)
        self.store.release(work.claim)
        self.drop(work, "shared out")

    def drop(self, work: PartitionWork, why: str) -> None:
        """Put a partition out of hand, without a word to the store."""
        claim = work.claim
        del self._in_hand[claim.topic, claim.partition]
        log.info("let go", topic=claim.topic, partition=claim.partition, why=why)
        try:
            self._gone(work)
        finally:
            self.stats.forget((claim.topic, claim.partition))

    def let_go(self) -> None:
        """Finish and release everything, so that others need not wait for the leases to run out; where the store is down, they must."""
        for topic in self.sources:
            try:
                for work in [work for work in self.in_hand if work.claim.topic == topic]:
                    self._finish(work)
                    self.store.release(work.claim)
                    del self._in_hand[topic, work.claim.partition]
            except self.collaborators.transient as error:
                log.warning("left leases behind; they run out by themselves", topic=topic, why=str(error))

    def farewell(self) -> None:
        """Say that this worker lives no more; to be said when nothing renews any longer, which would say the opposite."""
        for topic in self.sources:
            try:
                self.store.farewell(topic, self.name)
            except self.collaborators.transient as error:
                log.warning("left without a farewell", topic=topic, why=str(error))
