"""The pushes of one topic, committed in groups: whatever came while the last groups were on their way goes together with the next.

    every push is settled once: Pushed, or an error that says whether its events may be in the topic

So many small requests cost little more than a few large ones, and none waits while nothing is on its way. A thread judges a group, hands it
over while up to ON_THEIR_WAY groups before it wait for Kafka; what comes then waits in order, no longer than `timeout_s`.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from ingestion.push import Judged, judge
from pipeline.base.errors import LogError, WatershedError
from pipeline.columns.arrays import Ints
from pipeline.definition.source import Source
from pipeline.log.log import TopicDescription, Unacknowledged, Unreachable
from pipeline.log.partitioner import Numbers, partitions_of

GROUP_EVENTS = 10_000
GROUP_BYTES = 8 * 1024 * 1024
ON_THEIR_WAY = 2  # groups that wait for Kafka
WORTH_EVENTS, WORTH_BYTES = 500, 64 * 1024  # a group that does not wait for the one before it
ASK_AGAIN_S = 1.0  # after a writer could not be made
CONNECT_S = 30.0  # more than one attempt to make a writer takes
log = logging.getLogger("watershed.push")


class PushProducer(Protocol):
    """The topic's writer; pipeline.log.kafka.push_producer tells of each."""

    described: TopicDescription

    @property
    def connected(self) -> bool:
        """True while a broker is connected."""

    @property
    def most_bytes(self) -> int:
        """Bytes that a record may have."""

    def changed(self) -> bool:
        """True when the topic's partitions are others by now."""

    def too_large(self, keys: pa.Array, values: pa.Array) -> Ints:
        """Rows whose record is larger than the topic takes."""

    def send(
        self,
        partitions: Numbers,
        keys: pa.Array,
        values: pa.Array,
        stamp_ms: int,
        settled: Callable[[Ints | LogError], None],
    ) -> None:
        """Hand over records."""

    def close(self, timeout_s: float) -> None:
        """Give up what is on its way after so long."""


class Pushed(NamedTuple):
    """Outcome of a push: `refused` has (place, reason), rising; `positions`: partition -> the offset behind its last event there."""

    accepted: int
    refused: list[tuple[int, str]]
    positions: dict[int, int]


class Connecting(Unreachable):
    """The first attempt to connect is not over: events wait for it."""


@dataclass(frozen=True, eq=False)
class Push:
    """Events of one request (binary, none null, at least one); `outcome` is called once, from some thread."""

    values: pa.Array
    outcome: Callable[["Pushed | Exception"], None]
    since_s: float = field(default_factory=time.monotonic)


class Pusher:
    """One topic's pushes. `make` connects a writer, or raises WatershedError; it is called again and again while that fails.

    The usual mistake: to submit before `start`, or after `stop`.
    """

    def __init__(
        self,
        source: Source,
        make: Callable[[], PushProducer],
        *,
        timeout_s: float,
        event_bytes: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.source, self.timeout_s, self.event_bytes = source, timeout_s, event_bytes
        self._make, self._now_ms = make, now_ms
        self._waiting: deque[Push] = deque()
        self._changed = threading.Condition()
        self._on_their_way = 0
        self._stopping = False
        self._producer: PushProducer | None = None
        self._broken = False
        self._away: WatershedError | None = Connecting(f"topic {source.topic}: Kafka is not connected yet")
        self._ask_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"push {source.topic}", daemon=True)

    def start(self) -> None:
        """Connect, and take pushes."""
        self._thread.start()

    @property
    def away(self) -> WatershedError | None:
        """Error of the last attempt to connect; None while there is a writer."""
        return self._away

    @property
    def patience_s(self) -> float:
        """Seconds after which no outcome is to be waited for: events waited, a writer was made, and they were sent."""
        return 2 * self.timeout_s + CONNECT_S

    @property
    def connected(self) -> bool:
        """True while a broker is connected."""
        producer = self._producer
        return producer is not None and producer.connected

    def submit(self, push: Push) -> None:
        """Take a push; its outcome comes within `patience_s`."""
        with self._changed:
            self._waiting.append(push)
            self._changed.notify()

    def stop(self) -> None:
        """Settle what was taken, and let go of connections."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    # ---- the thread
    def _run(self) -> None:
        while True:
            with self._changed:
                late = self._overdue()
                group = [] if late else self._next()
                done = self._stopping and not self._waiting and not group and not late and not self._on_their_way
                if not late and not group and not done and not self._must_connect():
                    self._changed.wait(self._until_s())
                    continue
            if done:
                break
            if late:
                self._settle(late, Unreachable(f"topic {self.source.topic}: {self._why_late()}; nothing was sent"))
            elif group:
                self._send(group)
            else:
                self._writer()
        if self._producer is not None:
            self._producer.close(self.timeout_s)

    def _next(self) -> list[Push]:
        """Pushes that go together now."""
        group: list[Push] = []
        events = size = 0
        if self._on_their_way >= ON_THEIR_WAY or (self._on_their_way and not self._worth_it()):
            return group
        while self._waiting:
            push = self._waiting[0]
            events, size = events + len(push.values), size + push.values.nbytes
            if group and (events > GROUP_EVENTS or size > GROUP_BYTES):
                break
            group.append(self._waiting.popleft())
        return group

    def _worth_it(self) -> bool:
        """True when what waits is no longer small: each group costs as much as some hundred events (Nagle's rule, for groups)."""
        events = size = 0
        for push in self._waiting:
            events, size = events + len(push.values), size + push.values.nbytes
            if events >= WORTH_EVENTS or size >= WORTH_BYTES:
                return True
        return False

    def _overdue(self) -> list[Push]:
        """Pushes that have waited too long."""
        late: list[Push] = []
        while self._waiting and time.monotonic() - self._waiting[0].since_s >= self.timeout_s:
            late.append(self._waiting.popleft())
        return late

    def _why_late(self) -> str:
        if self._away is not None:
            return self._away.text
        return f"events before these were not acknowledged within {self.timeout_s:g} s"

    def _must_connect(self) -> bool:
        idle = self._producer is None or self._broken
        return idle and not self._stopping and time.monotonic() >= self._ask_at_s

    def _until_s(self) -> float | None:
        """Seconds until there is something to do, if nothing comes."""
        times = [self._waiting[0].since_s + self.timeout_s] if self._waiting else []
        times += [self._ask_at_s] if (self._producer is None or self._broken) and not self._stopping else []
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _writer(self) -> PushProducer | None:
        """The writer, made anew where there is none that is good; None where it cannot be, and `away` says why."""
        try:
            if self._producer is not None and (self._broken or self._producer.changed()):
                old, self._producer, self._broken = self._producer, None, False
                old.close(0)
            if self._producer is None:
                if self._away is not None and time.monotonic() < self._ask_at_s:
                    return None
                self._producer = self._make()
            self._away = None
        except WatershedError as error:
            self._away = error
        except Exception:  # a bug of ours, or of kafka-python: the thread goes on, and tries again
            log.exception("topic %s: its writer could not be made", self.source.topic)
            self._away = Unreachable(
                f"topic {self.source.topic}: its writer could not be made, for a reason that nobody foresaw; the server's log has the"
                " details; nothing was sent"
            )
        if self._away is None:
            return self._producer
        self._ask_at_s = time.monotonic() + ASK_AGAIN_S
        self._broken = self._producer is not None  # it is made anew, so that `away` ends without a push
        return None

    def _send(self, group: Sequence[Push]) -> None:
        producer = self._writer()
        if producer is None:
            assert self._away is not None, "it says why there is no writer"
            self._settle(group, self._away)
            return
        try:
            values = pa.concat_arrays([push.values for push in group])
            stamp_ms = self._now_ms()
            judged = _sendable(judge(self.source, values, stamp_ms, self.event_bytes), producer)
            if not len(judged.rows):
                self._settle_all(group, judged, np.empty(0, np.int64), np.empty(0, np.int64))
                return
            partitions = partitions_of(judged.keys, producer.described.partitions)
        except Exception as error:  # a bug of ours: whoever waits is told, and the others go on
            log.exception("topic %s: events could not be judged", self.source.topic)
            self._settle(group, error)
            return
        with self._changed:
            self._on_their_way += 1
        once = threading.Lock()  # taken by whoever settles it

        def settled(found: Ints | LogError) -> None:
            if not once.acquire(blocking=False):
                return
            try:
                if isinstance(found, LogError):
                    self._broken = self._broken or self._producer is producer
                    self._settle(group, found)
                else:
                    self._settle_all(group, judged, partitions, found)
            finally:
                with self._changed:
                    self._on_their_way -= 1
                    self._changed.notify()

        try:
            producer.send(partitions, judged.keys, judged.values, stamp_ms, settled)
        except LogError as error:
            settled(error)
        except Exception:
            log.exception("topic %s: events could not be sent", self.source.topic)
            settled(
                Unacknowledged(
                    f"topic {self.source.topic}: sending broke off, for a reason that nobody foresaw; the server's log has the details:"
                    " the events may be in the topic or not"
                )
            )

    def _settle(self, group: Sequence[Push], error: Exception) -> None:
        for push in group:
            push.outcome(error)

    def _settle_all(self, group: Sequence[Push], judged: Judged, partitions: Ints, offsets: Ints) -> None:
        for push, pushed in zip(
            group, shared([len(push.values) for push in group], judged, partitions, offsets), strict=True
        ):
            push.outcome(pushed)


def _sendable(judged: Judged, producer: PushProducer) -> Judged:
    """The same, with those refused that are larger than the topic takes."""
    large = producer.too_large(judged.keys, judged.values)
    if not len(large):
        return judged
    fits = np.ones(len(judged.rows), np.bool_)
    fits[large] = False
    kept = pa.array(np.flatnonzero(fits), pa.int64())
    reason = f"the event's record is larger than topic {producer.described.topic} takes: max.message.bytes is {producer.most_bytes:,}"
    told = dict(zip(judged.refused.tolist(), judged.reasons, strict=True)) | dict.fromkeys(
        judged.rows[large].tolist(), reason
    )
    refused = np.array(sorted(told), np.int64)
    reasons = [told[n] for n in refused.tolist()]
    return Judged(judged.rows[fits], judged.keys.take(kept), judged.values.take(kept), refused, reasons)


def shared(counts: Sequence[int], judged: Judged, partitions: Ints, offsets: Ints) -> list[Pushed]:
    """Outcomes of pushes with so many events each, from those of all of them together, which stand in the same order."""
    starts = np.concatenate(([0], np.cumsum(counts)))
    owner = np.searchsorted(starts, judged.rows, side="right") - 1
    accepted = np.bincount(owner, minlength=len(counts))
    positions: list[dict[int, int]] = [{} for _ in counts]
    if len(owner):
        many = int(partitions.max()) + 1
        behind = np.full(len(counts) * many, -1, np.int64)
        np.maximum.at(behind, owner * many + partitions, offsets + 1)
        there = np.flatnonzero(behind >= 0)
        for push, partition, position in zip(
            (there // many).tolist(), (there % many).tolist(), behind[there].tolist(), strict=True
        ):
            positions[push][partition] = position
    refused: list[list[tuple[int, str]]] = [[] for _ in counts]
    owners = np.searchsorted(starts, judged.refused, side="right") - 1
    places = judged.refused - starts[owners]
    for push, place, reason in zip(owners.tolist(), places.tolist(), judged.reasons, strict=True):
        refused[push].append((place, reason))
    return [Pushed(*one) for one in zip(accepted.tolist(), refused, positions, strict=True)]


__all__ = ["Connecting", "Push", "Pushed", "Pusher", "shared"]
