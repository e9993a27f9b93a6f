"""Events made of rows, with what goes wrong in life among them, from a seed.

spread(rows, seed) = rows, in the order they would arrive, with duplicates, late, out-of-order and broken ones among them
every row arrives unbroken at least once:   accepted = rows,   duplicates = the copies,   rejected = the broken ones
"""

import heapq
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, count
from typing import Any

NOT_JSON = (
    b"",
    b"{",
    b"not json",
    b'{"id": "x", "id": "y"}',
    b"\xff\xfe",
    b"[]",
    b"null",
)
Row = dict[str, Any]


class Kind(StrEnum):
    """Kind of an event among the others; its value is how a person would say it."""

    ON_TIME = "on time"
    OUT_OF_ORDER = "out of order"
    LATE = "late by days"
    DUPLICATE = "duplicated"
    BROKEN = "broken"
    TOMBSTONE = "tombstones"


@dataclass(frozen=True)
class Event:
    """One record to produce: key and value bytes; a null value is a tombstone. `observed_at` is the time that it is of, ISO 8601."""

    key: bytes
    value: bytes | None
    observed_at: str
    kind: Kind = Kind.ON_TIME


@dataclass(frozen=True)
class Shape:
    """Events of one topic: the names of the columns for key and time, rows of a day, and columns as they must not be."""

    key: str
    time: str
    rows_per_day: int
    wrong: Callable[[Row], tuple[Mapping[str, Any], ...]]

    def event(self, row: Row, value: bytes | None, kind: Kind) -> Event:
        """A record that stands where the row does."""
        return Event(row[self.key].encode(), value, row[self.time], kind)

    def encode(self, row: Row, kind: Kind = Kind.ON_TIME) -> Event:
        """One row as it is sent."""
        return self.event(row, json.dumps(row).encode(), kind)

    def broken(self, row: Row, rng: random.Random) -> Event:
        """A row that must be rejected, in one of many ways (or a tombstone)."""
        wrong = self.wrong(row)
        kind = rng.randrange(3 + len(wrong))
        if kind == 0:
            return self.event(row, None, Kind.TOMBSTONE)
        value = rng.choice(NOT_JSON) if kind < 3 else json.dumps({**row, **wrong[kind - 3]}).encode()
        return self.event(row, value, Kind.BROKEN)


def spread(
    rows: Iterable[Row],
    seed: int,
    shape: Shape,
    *,
    duplicates: float = 0.05,
    late: float = 0.02,
    out_of_order: float = 0.05,
    broken: float = 0.01,
) -> Iterator[Event]:
    """The rows with their share of late ones (1 to 5 days behind), out-of-order ones (up to half a day), copies (sent within three
    days of the first) and broken ones in between. The same rows and seed give the same events.
    """
    rng, day = random.Random(seed), shape.rows_per_day
    waiting: list[tuple[int, int, Event]] = []  # (row at which it is due, order of entry, event)
    entered = count()

    def later(due: int, event: Event) -> None:
        heapq.heappush(waiting, (due, next(entered), event))

    for at, row in enumerate(rows):
        while waiting and waiting[0][0] <= at:
            yield heapq.heappop(waiting)[2]
        fate = rng.random()
        if fate < late:
            later(at + rng.randint(day, 5 * day), shape.encode(row, Kind.LATE))
        elif fate < late + out_of_order:
            later(at + rng.randint(2, day // 2), shape.encode(row, Kind.OUT_OF_ORDER))
        else:
            yield shape.encode(row)
        if rng.random() < duplicates:
            later(at + rng.randint(1, 3 * day), shape.encode(row, Kind.DUPLICATE))
        if rng.random() < broken:
            yield shape.broken(row, rng)
    while waiting:
        yield heapq.heappop(waiting)[2]


def as_they_arrive(of: Mapping[str, Iterable[Event]]) -> Iterator[tuple[str, Event]]:
    """(topic, event) of several topics, one after another by the newest time that each has reached; a topic's own order is kept."""

    def timed(topic: str, events: list[Event]) -> Iterator[tuple[str, str, Event]]:
        reached = accumulate((event.observed_at for event in events), max)
        return ((at, topic, event) for at, event in zip(reached, events, strict=True))

    streams = [timed(topic, list(events)) for topic, events in of.items()]
    return ((topic, event) for _, topic, event in heapq.merge(*streams, key=lambda one: one[0]))
