"""What the crash tests share: events that never stop, kills that are counted, and the check that nothing is half there.

Invariant: a kill is counted when the process is seen to have died of it, never when it was asked to.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any, TypeVar

import psycopg2
import pyarrow.parquet as pq
from kafka import KafkaProducer
from kafka.errors import KafkaError
from sqlalchemy.exc import OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from sandbox.weather import readings
from tests.end_to_end.test_end_to_end import records
from tests.support.forking import popen
from tests.support.system import System, wait_for

T = TypeVar("T")
PARTITIONS = 4
EVENTS_PER_S = 150.0
DIES_WITHIN_S = 90.0


@contextlib.contextmanager
def feeding(system: System, seed: int) -> Iterator[None]:
    """Events with what goes wrong among them, from now to the end of the block; what a broker that dies loses was never in its log."""
    done = threading.Event()

    def send() -> None:
        producer = KafkaProducer(bootstrap_servers=system.kafka, linger_ms=5, acks="all")
        for n, (partition, key, value) in enumerate(itertools.cycle(records(readings(), seed))):
            try:
                producer.send(system.topic, key=key, value=value, partition=partition)
            except KafkaError as error:
                print(f"not sent: {error}")
            if n % 15 == 0 and done.wait(15 / EVENTS_PER_S):
                break
        producer.close(timeout=30)

    thread = threading.Thread(target=send, name="feed")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def patiently(ask: Callable[[], T]) -> T:
    """Ask a Postgres that may be down just now."""
    retrying = Retrying(
        retry=retry_if_exception_type((OperationalError, psycopg2.OperationalError)),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(60),
    )
    return retrying(ask)


def progress(system: System) -> int:
    """Σ position over the partitions."""
    return sum(patiently(system.positions).values())


class Kills:
    """Counts what died, of what; a process that ends otherwise is a failure that shows its log."""

    def __init__(self, system: System, rng: random.Random) -> None:
        self.system, self.rng = system, rng
        self.of: Counter[str] = Counter()
        self.points: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.of.values())

    def died(self, child: subprocess.Popen[Any], kind: str, what: str, log: Callable[[], str]) -> None:
        """Wait until it died of SIGKILL, and count it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=DIES_WITHIN_S)
        assert child.returncode == -signal.SIGKILL, (
            f"{kind} at {what}: ended with {child.returncode}, not by kill -9\n{log()}"
        )
        self.of[kind] += 1

    def workers(self, slot: str, plan: list[str]) -> None:
        """Workers one after the other: each dies at its crash point, or, for '', of kill -9 at a random moment of its work."""
        rng, before = random.Random(f"{slot}-{self.rng.random()}"), -1
        for n, at in enumerate(plan):
            name = f"worker-{slot}-{n}"
            worker = self.system.worker(
                name, **({"WATERSHED_CRASH": at} if at else {}), WATERSHED_SNAPSHOT_EVERY_S="0.3"
            )
            path = self.system.folder / f"{name}.log"
            if not at:
                wait_for(lambda path=path: "took" in path.read_text(), f"{name} takes a partition", DIES_WITHIN_S)
                more = progress(self.system) + rng.randrange(20, 200)
                wait_for(lambda more=more: progress(self.system) >= more, "positions advance", DIES_WITHIN_S)
                worker.send_signal(signal.SIGKILL)
            kind = "worker at a crash point" if at else "worker at a random moment"
            self.died(worker, kind, at, lambda path=path: path.read_text()[-3000:])
            self.points.update([at.partition(":")[0]] if at else [])
            now = progress(self.system)
            assert now > before, (
                f"positions stood still at {now} between two kills, the last at {at or 'a random moment'}"
            )
            before = now

    def night(self, day: str, at: str) -> None:
        """A night that dies at a crash point."""
        environment = {**self.system.environment, "WATERSHED_CRASH": at}
        path = self.system.folder / f"night-{day}-{at.replace(':', '-')}.log"
        with path.open("w") as log:
            child = popen(
                self.system.luigi(day), environment, cwd=self.system.folder, text=True, stdout=log, stderr=log
            )
        self.died(child, "night at a crash point", at, lambda: path.read_text()[-3000:])
        self.points[at.partition(":")[0]] += 1
        assert_nothing_is_half_there(self.system)

    def backend(self, how: str) -> None:
        """A backend of Postgres that works for a worker: terminated, or killed -9, upon which the server restarts all of them."""
        found = "SELECT pid FROM pg_stat_activity WHERE application_name = 'watershed speed' AND datname = current_database() ORDER BY pid"

        def connected() -> list[int]:
            return [row["pid"] for row in patiently(lambda: self.system.query(found))]

        pids: list[int] = []
        wait_for(lambda: pids.extend(connected()) or pids, "a worker is connected", DIES_WITHIN_S)
        pid = self.rng.choice(sorted(pids))
        if how == "terminated":
            patiently(lambda: self.system.query("SELECT pg_terminate_backend(:pid)", pid=pid))
        else:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: pid not in connected(), f"backend {pid} ends")
        self.of[f"backend {how}"] += 1
        before = progress(self.system)
        wait_for(lambda: progress(self.system) > before, f"positions advance after a backend was {how}", DIES_WITHIN_S)

    def told(self, what: str) -> str:
        """The counts, in words."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.of.items()))
        points = ", ".join(f"{name} {n}" for name, n in sorted(self.points.items()))
        return f"{what}: {self.total} kills, 0 differences; {kinds}" + (
            f"; crash points hit: {points}" if points else ""
        )


def assert_nothing_is_half_there(system: System) -> None:
    """What stands under its own name is whole, a manifest names what is there, and a batch that is not staged has no rows."""
    for manifest in system.lake.rglob("[!.]*.json"):
        for file in json.loads(manifest.read_text()).get("files", []):
            assert pq.read_metadata(system.lake / file["path"]).num_rows == file["rows"], (
                f"{manifest} names {file['path']}"
            )
    for path in system.lake.rglob("[!.]*.parquet"):
        pq.ParquetFile(path).read()
    unfinished = "SELECT number FROM ops.batches WHERE topic = :t AND status = 'chosen' AND NOT complete"
    numbers = {row["number"] for row in system.query(unfinished, t=system.topic)}
    for view in ("hourly_weather", "daily_weather"):
        staged = {row["batch"] for row in system.query(f"SELECT DISTINCT batch FROM batch.{view}__g1")}
        assert not staged & numbers, f"{view} has rows of batches {staged & numbers}, which are not complete"


def days(first: str) -> Iterator[str]:
    """Dates from `first` on."""
    start = date.fromisoformat(first)
    return (str(start + timedelta(days=n)) for n in itertools.count())


def finish(system: System, workers: list[subprocess.Popen[str]]) -> None:
    """Everything in the log is committed, the workers leave in good order, nothing is half there, and the answer is exact."""
    system.catch_up()
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [w.wait(timeout=30) for w in workers] == [0] * len(workers)
    assert_nothing_is_half_there(system)
    system.assert_exact()
