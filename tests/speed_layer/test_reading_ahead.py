"""Reading goes on beside folding, wherever a block is worth a thread; and no further than what memory and a commit allow."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.lake.lake import Lake
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import RAW_SCHEMA, Block
from sandbox.weather import encode, readings
from serving.generations.create import require
from serving.stores.speed import PostgresSpeedStore
from speed_layer.collaborators import ActiveSource, Collaborators
from speed_layer.consumer import LiveConsumer
from speed_layer.fetch_ahead import BEHIND_OFFSETS, GATHERED_BYTES, GATHERED_ROWS, At, FetchAhead
from speed_layer.worker import SHARED_BYTES, SHARED_ROWS, Worker
from tests.support.system import System

EVENTS, PADDING = 1_500, 1024  # bytes
LIMIT_S = 60.0


class Backlog:
    """A reader of one partition that stands far below its end: of each poll a block of `rows` records of `size` bytes."""

    def __init__(self, rows: int, size: int) -> None:
        self.rows, self.size, self.position, self.down_reason = rows, size, 0, ""

    def assign(self, wanted: Mapping[At, int]) -> None:
        self.position = wanted["t", 0]

    @property
    def end_offsets(self) -> Mapping[At, int]:
        return {("t", 0): self.position + 100 * BEHIND_OFFSETS}

    def poll(self, timeout_ms: int, max_records: int) -> dict[At, Block]:
        start, self.position = self.position, self.position + self.rows
        columns = [
            pa.array(np.arange(start, self.position)),
            pa.array(np.zeros(self.rows, np.int64)),
            pa.nulls(self.rows, pa.binary()),
            pa.array([b"x" * self.size] * self.rows, pa.binary()),
            pa.array([[]] * self.rows, RAW_SCHEMA.field("headers").type),
        ]
        return {("t", 0): Block(pa.RecordBatch.from_arrays(columns, schema=RAW_SCHEMA), start, self.position)}

    def commit_group_offsets(self, offsets: Mapping[At, int]) -> None:
        """For lag tools alone."""

    def close(self) -> None:
        """Nothing is open."""


def test_a_round_gathers_polls_up_to_its_rows_or_its_bytes_whichever_comes_first() -> None:
    for rows, size in ((20_000, 10), (100, 10_000)):
        (block,) = FetchAhead(Backlog(rows, size)).poll(0).values()
        polled = Backlog(rows, size).poll(0, rows)["t", 0].batch.nbytes
        most = min(GATHERED_ROWS, rows * -(-GATHERED_BYTES // polled))
        assert len(block) == most and block.start == 0 and block.end == most


class Watched(Worker):
    """A worker that notes, whenever it may read on, how many of its partitions are not loaded yet."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.missing: list[int] = []

    def _meanwhile(self, *arguments: Any) -> dict[At, Block]:
        self.missing.append(sum(work.loaded is None for work in self.ownership.in_hand))
        return super()._meanwhile(*arguments)


class Polls(LiveConsumer):
    """The consumer, and `again`, which is set whenever somebody polls."""

    def __init__(self, kafka: str) -> None:
        super().__init__(kafka)
        self.again = threading.Event()

    def poll(self, *arguments: Any, **options: Any) -> dict[At, Block]:
        self.again.set()
        return super().poll(*arguments, **options)


class FoldsAfterAPoll:
    """Threads that fold a block no sooner than the reader was asked for the next one; `read_on`: whether it was, for each."""

    def __init__(self, pool: ThreadPoolExecutor, reader: Polls) -> None:
        self.pool, self.reader, self.read_on = pool, reader, []  # type: ignore[var-annotated]

    def submit(self, call: Callable[[], Any], /) -> Future[Any]:
        self.reader.again.clear()

        def late() -> Any:
            self.read_on.append(self.reader.again.wait(LIMIT_S))
            return call()

        return self.pool.submit(late)


def work(system: System) -> tuple[Watched, FoldsAfterAPoll]:
    """A worker in this process, with threads that fold, until it is caught up."""
    views = runpy.run_path(str(system.views_file))["VIEWS"]
    store, log, reader = PostgresSpeedStore(system.database, views), KafkaLog(system.kafka), Polls(system.kafka)
    generation = require(system.database, views[0].source, views)
    with ThreadPoolExecutor(2) as pool:
        folding = FoldsAfterAPoll(pool, reader)
        parts = Collaborators(
            store=store, log=log, reader=reader, lake=Lake(str(system.lake)), snapshot_store=store, folding=folding
        )
        worker = Watched([ActiveSource(views[0].source, views, generation)], parts, threading.Event())
        ends = log.end_offsets(views[0].source.topic)
        worker.run(lambda: [row.position for row in store.leases(generation)] == ends)
    log.close()
    return worker, folding


def padded(value: bytes | None) -> bytes:
    """The event with a field that nobody declared."""
    assert value is not None
    return value[:-1] + b',"padding":"%s"}' % (b"x" * PADDING)


def test_reading_goes_on_while_few_large_records_are_folded_though_the_end_is_near(system: System) -> None:
    system.run("init", "--partitions", "1")
    events = [encode(r) for r in readings()[:EVENTS]]
    assert min(SHARED_ROWS, BEHIND_OFFSETS) > EVENTS and EVENTS * PADDING > SHARED_BYTES
    system.produce((0, e.key, padded(e.value)) for e in events)
    _, folding = work(system)
    assert folding.read_on and all(folding.read_on)
    assert system.positions() == {0: EVENTS}
    assert not any(view["differences"] for view in system.audit()["views"])


def test_no_partition_is_read_on_while_another_one_is_not_loaded(system: System) -> None:
    """Else the first ones are read for a second each, and the last ones are left to be read alone."""
    system.run("init", "--partitions", "4")
    events = [encode(r) for r in readings()[:EVENTS]]
    system.produce((n % 4, e.key, e.value) for n, e in enumerate(events))
    worker, _ = work(system)
    assert worker.missing and not any(worker.missing)
    assert sum(system.positions().values()) == EVENTS
