"""Pushes are settled, each once, whatever happens to the topic's writer; and what is over is over without a restart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from console.api.answers import Refusal
from console.api.events import Outcomes, _pushed
from ingestion import pushing
from ingestion.pushing import Connecting, Push, Pushed, Pusher, PushProducer
from pipeline import Source
from pipeline.base.errors import LogError, SettingsError
from pipeline.columns.arrays import Ints
from pipeline.log.log import TopicDescription, Unacknowledged, Unreachable
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
        settled(np.arange(len(keys)))

    def close(self, timeout_s: float) -> None:
        """Note it."""
        self.closed = True


@contextmanager
def running(make: Callable[[], PushProducer]) -> Iterator[Pusher]:
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

    with running(make) as pusher:
        assert push(pusher) == ACCEPTED and pusher.away is None
        made[0].asked = Unreachable("no metadata")
        assert push(pusher) is made[0].asked
        wait_for(lambda: pusher.away is None, "it is ready again, with no push to ask for it", 5)
        assert push(pusher) == ACCEPTED
        assert made[0].closed and len(made) == 2


def test_a_writer_that_cannot_be_made_is_away_with_why_and_made_later() -> None:
    rotated = SettingsError("kafka_ssl_cafile cannot be read")
    errors: list[Exception] = [rotated, rotated, ZeroDivisionError("a bug"), rotated]
    seen: list[Exception | None] = []
    begun: list[Pusher] = []

    def make() -> Writer:
        wait_for(lambda: begun, "the test knows the pusher", 5)
        seen.append(begun[0].away)
        if errors:
            raise errors.pop(0)
        return Writer()

    with running(make) as pusher:
        begun.append(pusher)
        told = push(pusher)
        assert told is rotated or (isinstance(told, Unreachable) and "nothing was sent" in told.text)
        wait_for(lambda: pusher.away is None, "it is made", 5)
        assert push(pusher) == ACCEPTED
    first, second, third, bug, last = seen
    assert isinstance(first, Connecting) and second is third is last is rotated
    assert isinstance(bug, Unreachable) and "nobody foresaw" in bug.text and "nothing was sent" in bug.text


def test_a_send_that_breaks_off_is_told_as_undecided_and_the_next_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    made: list[Writer] = []

    def make() -> Writer:
        made.append(Writer())
        return made[-1]

    with running(make) as pusher:
        assert push(pusher) == ACCEPTED
        made[0].sending = RuntimeError("not foreseen")
        told = push(pusher)
        assert isinstance(told, Unacknowledged) and "may be in the topic or not" in told.text
        assert "RuntimeError: not foreseen" in caplog.text
        wait_for(lambda: len(made) == 2, "another writer is made", 5)
        assert push(pusher) == ACCEPTED and made[0].closed


def test_a_request_gets_an_answer_also_when_its_outcome_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "CONNECT_S", 0.1)
    silent, kept = Writer(), []

    def keep(
        partitions: Numbers, keys: pa.Array, values: pa.Array, stamp_ms: int, settled: Callable[..., None]
    ) -> None:
        kept.append(settled)

    monkeypatch.setattr(silent, "send", keep)
    pusher = Pusher(ORDERS, lambda: silent, timeout_s=0.1, event_bytes=1_000_000)
    pusher.start()

    async def request() -> Refusal:
        with pytest.raises(Refusal) as caught:
            await asyncio.wait_for(_pushed(pusher, EVENT, Outcomes()), 5)
        (settled,) = kept
        settled(np.arange(1))  # by now nobody listens, and nothing breaks
        await asyncio.sleep(0)
        return caught.value

    refusal = asyncio.run(request())
    assert refusal.status == 503 and refusal.headers == {"Retry-After": "5"}
    assert "may be in the topic or not; send them again" in refusal.content["error"]
    pusher.stop()
