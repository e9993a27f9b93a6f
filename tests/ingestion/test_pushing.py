"""Pushes are settled, each once, whatever happens to the topic's writer; and what is over is over without a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from ingestion import pushing
from ingestion.pushing import Push, Pushed, Pusher, PushProducer
from pipeline import Source
from pipeline.base.errors import LogError
from pipeline.columns.arrays import Ints
from pipeline.log.log import TopicDescription, Unreachable
from pipeline.log.partitioner import Numbers
from tests.support.system import wait_for


@dataclass(frozen=True)
class Order:
    """An order."""

    id: str
    at: datetime


ORDERS = Source(topic="orders", record=Order, key="id", event_time="at", identity="id")
EVENT = pa.array([b'{"id": "a", "at": "2024-01-01T00:00:00Z"}'], pa.binary())


class Writer:
    """A writer that takes every record, unless told otherwise."""

    described = TopicDescription("orders", 1, "x")
    connected = True
    most_bytes = 1_000_000
    asked: Exception | None = None  # raised by `changed`
    sending: Exception | None = None  # raised by `send`
    silent = False  # settles nothing

    def __init__(self) -> None:
        self.closed = False

    def changed(self) -> bool:
        """As told."""
        if self.asked is not None:
            raise self.asked
        return False

    def too_large(self, keys: pa.Array, values: pa.Array) -> Ints:
        """None of them."""
        return np.empty(0, np.int64)

    def send(
        self,
        partitions: Numbers,
        keys: pa.Array,
        values: pa.Array,
        stamp_ms: int,
        settled: Callable[[Ints | LogError], None],
    ) -> None:
        """As told."""
        if self.sending is not None:
            raise self.sending
        if not self.silent:
            settled(np.arange(len(keys)))

    def close(self, timeout_s: float) -> None:
        """Note it."""
        self.closed = True


@contextmanager
def pushing_with(make: Callable[[], PushProducer]) -> Iterator[Pusher]:
    """A Pusher that runs."""
    pusher = Pusher(ORDERS, make, timeout_s=1, event_bytes=1_000_000)
    pusher.start()
    try:
        yield pusher
    finally:
        pusher.stop()


def push(pusher: Pusher) -> Pushed | Exception:
    """Outcome of one event; it fails when there is none."""
    told: list[Pushed | Exception] = []
    done = threading.Event()

    def outcome(found: Pushed | Exception) -> None:
        told.append(found)
        done.set()

    pusher.submit(Push(EVENT, outcome))
    assert done.wait(5), "the push was not settled"
    (one,) = told
    return one


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "ASK_AGAIN_S", 0.05)


ACCEPTED = Pushed(1, [], {0: 1})


def test_a_look_up_that_failed_once_is_over_by_itself() -> None:
    made: list[Writer] = []

    def make() -> Writer:
        made.append(Writer())
        return made[-1]

    with pushing_with(make) as pusher:
        assert push(pusher) == ACCEPTED and pusher.away is None
        made[0].asked = Unreachable("no metadata")
        assert push(pusher) is made[0].asked
        wait_for(lambda: pusher.away is None, "it is ready again, with no push to ask for it", 5)
        assert push(pusher) == ACCEPTED
        assert made[0].closed and len(made) == 2
