"""How long a partition stands still: after kill -9 of one of three workers, and when a worker is added. `python -m benchmarks.takeover`

    pause of a partition = the longest time between two looks at which its position had moved, events never ceasing

Real Kafka and Postgres of its own, workers as `watershed speed` starts them, all settings at their defaults.
"""

import argparse
import json
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from kafka import KafkaProducer
from rich.console import Console
from rich.table import Table

from pipeline.log.kafka.connection import KafkaConnection
from sandbox.kafka import RealKafka
from sandbox.postgres import SystemPostgres
from sandbox.processes import Child, wait_until
from sandbox.services import Place, finished, run
from sandbox.weather import encode, readings
from serving.postgres.connection import engine
from views.weather import observations

PARTITIONS = 12
EVENTS_PER_S = 1000
LIMIT_S = 60.0
SETTLE_S = 3.0


@dataclass
class Watch:
    """Looks at every position and its worker as fast as Postgres answers, and keeps when which one moved."""

    url: str
    partitions: int
    moved: list[tuple[float, int, str]] = field(default_factory=list)  # (monotonic s, partition, worker)
    holders: dict[int, str] = field(default_factory=dict)
    first_seen: dict[str, float] = field(default_factory=dict)  # worker -> its first heartbeat
    _done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._done.set()

    def _look(self) -> None:
        positions: dict[int, int] = {}
        database = engine(self.url, application_name="benchmark")
        rows = sa.text(
            "SELECT partition, position, coalesce(worker, '') AS worker FROM ops.positions ORDER BY partition"
        )
        alive = sa.text("SELECT worker FROM ops.workers WHERE alive_until > clock_timestamp()")
        with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not self._done.wait(0.01):
                found = connection.execute(rows).all()
                now = time.monotonic()
                for row in found:
                    if positions.get(row.partition) != row.position:
                        positions[row.partition] = row.position
                        self.moved.append((now, row.partition, row.worker))
                self.holders = {row.partition: row.worker for row in found}
                for worker in connection.execute(alive).scalars():
                    self.first_seen.setdefault(worker, now)

    def of(self, child: Child) -> list[int]:
        """The partitions that a process holds."""
        return [p for p, worker in self.holders.items() if f":{child.pid}:" in worker]

    def first_commit(
        self, partition: int, since_s: float, *, of: Child | None = None, but_of: Child | None = None
    ) -> float:
        """When its position first moved under this worker, or under another than that one; 0.0 when it has not yet."""
        for at, moved, worker in list(self.moved):
            wanted = (of is None or f":{of.pid}:" in worker) and (but_of is None or f":{but_of.pid}:" not in worker)
            if wanted and moved == partition and at > since_s:
                return at
        return 0.0

    def pauses(self, since_s: float, until_s: float) -> dict[int, float]:
        """Per partition, the longest time without a commit that lies in the interval at least in part."""
        found = {}
        for partition in range(self.partitions):
            times = [t for t, p, _ in self.moved if p == partition]
            before = max((t for t in times if t <= since_s), default=since_s)
            after = min((t for t in times if t >= until_s), default=until_s)
            inside = [before, *(t for t in times if since_s < t < until_s), after]
            found[partition] = max(b - a for a, b in pairwise(inside))
        return found


@dataclass(frozen=True)
class Round:
    """Seconds; see the table's headings."""

    takeover_s: float
    baseline_pause_s: float
    balanced_since_start_s: float
    balanced_since_heartbeat_s: float
    pause_of_moved_s: float
    pause_of_unmoved_s: float


class Bench:
    """One topic of PARTITIONS partitions, events at EVENTS_PER_S, and workers that come and go."""

    def __init__(self, place: Place, folder: Path, partitions: int) -> None:
        self.place, self.folder, self.partitions = place, folder, partitions
        self.count = 0
        self.rng = random.Random(7)
        self.done = threading.Event()

    def feed(self) -> None:
        """Events at a constant rate, evenly over the partitions."""
        producer = KafkaProducer(bootstrap_servers=self.place.kafka.bootstrap, linger_ms=5)
        events, n, began = [encode(r) for r in readings()], 0, time.monotonic()
        while not self.done.wait(0.01):
            while n < (time.monotonic() - began) * EVENTS_PER_S:
                event = events[n % len(events)]
                producer.send(observations.topic, key=event.key, value=event.value, partition=n % self.partitions)
                n += 1
        producer.close()

    def worker(self) -> Child:
        """A new one."""
        self.count += 1
        return self.place.worker(self.folder / f"worker-{self.count}.log")

    def await_share(self, watch: Watch, workers: list[Child]) -> None:
        """Every worker holds its share."""
        share = self.partitions // len(workers)

        def shared() -> bool:
            return all(len(watch.of(w)) == share for w in workers)

        self.until(lambda: shared() or any(finished(w) for w in workers), f"{len(workers)} workers hold {share} each")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it holds; TimeoutError after LIMIT_S."""
        if not wait_until(condition, LIMIT_S, slowest_poll_s=0.01):
            raise TimeoutError(f"not within {LIMIT_S:g} s: {what}")

    def round(self, watch: Watch, workers: list[Child]) -> Round:
        """Kill one of three, wait until two go on; add one, wait until three share."""
        quiet = time.monotonic()
        time.sleep(SETTLE_S + self.rng.random())  # a random moment between two renewals
        victim = workers.pop(self.rng.randrange(len(workers)))
        orphans = watch.of(victim)
        killed = time.monotonic()
        baseline = max(watch.pauses(quiet, killed).values())
        os.kill(victim.pid, signal.SIGKILL)
        victim.await_end(10)
        self.until(lambda: all(watch.first_commit(o, killed, but_of=victim) for o in orphans), "taken over")
        taken = max(watch.first_commit(o, killed, but_of=victim) for o in orphans)
        self.await_share(watch, workers)
        time.sleep(SETTLE_S)
        before, started = dict(watch.holders), time.monotonic()
        added = self.worker()
        workers.append(added)
        self.await_share(watch, workers)
        moved = watch.of(added)
        self.until(lambda: all(watch.first_commit(m, started, of=added) for m in moved), "the added one commits")
        balanced = max(watch.first_commit(m, started, of=added) for m in moved)
        heartbeat = next(at for name, at in watch.first_seen.items() if f":{added.pid}:" in name)
        time.sleep(SETTLE_S / 3)
        pauses = watch.pauses(started, balanced)
        stayed = [p for p, worker in watch.holders.items() if before[p] == worker]
        return Round(
            takeover_s=taken - killed,
            baseline_pause_s=baseline,
            balanced_since_start_s=balanced - started,
            balanced_since_heartbeat_s=balanced - heartbeat,
            pause_of_moved_s=max(pauses[p] for p in moved),
            pause_of_unmoved_s=max(pauses[p] for p in stayed),
        )


HEADINGS = {
    "takeover_s": "kill -9 of one of three: until every partition it had is committed by another",
    "baseline_pause_s": "longest pause of any partition before, nothing happening",
    "balanced_since_start_s": "a third worker started: until it commits its whole share (with the start of Python)",
    "balanced_since_heartbeat_s": "... counted from its first heartbeat",
    "pause_of_moved_s": "longest pause of a partition that moved to it",
    "pause_of_unmoved_s": "longest pause of a partition that did not move",
}


def measure(rounds: int, partitions: int, logs: Path | None = None) -> list[Round]:
    """Start everything, and measure."""
    with tempfile.TemporaryDirectory(prefix="watershed-takeover-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with (
            RealKafka(folder / "kafka") as kafka,
            SystemPostgres(folder / "postgres") as postgres,
            postgres.database("takeover") as url,
        ):
            if logs is not None:
                logs.mkdir(parents=True, exist_ok=True)
            bench = Bench(
                Place(KafkaConnection(kafka.bootstrap), url, str(folder / "lake")), logs or folder, partitions
            )
            run(bench.place.watershed("init", "--partitions", str(partitions), log=folder / "init.log"), LIMIT_S)
            feed = threading.Thread(target=bench.feed)
            watch = Watch(url, partitions)
            looking = watch.start()
            workers = [bench.worker() for _ in range(3)]
            feed.start()
            try:
                bench.await_share(watch, workers)
                shared = time.monotonic()
                bench.until(
                    lambda: all(watch.first_commit(p, shared) for p in range(partitions)),
                    "every partition is committed",
                )
                found = []
                for n in range(rounds):
                    found.append(bench.round(watch, workers))
                    print(f"round {n + 1}: {asdict(found[-1])}", file=sys.stderr)
                return found
            finally:
                bench.done.set()
                feed.join()
                watch.stop()
                looking.join()
                for worker in workers:
                    worker.stop()


def main() -> None:
    """Print a table; write JSON where --json says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--partitions", type=int, default=PARTITIONS)
    parser.add_argument("--logs", type=Path, help="keep the workers' logs in this folder")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/takeover.json"))
    arguments = parser.parse_args()
    if arguments.partitions % 6:
        parser.error("--partitions must be a multiple of 6: shared evenly by two and by three workers")
    rounds = [asdict(one) for one in measure(arguments.rounds, arguments.partitions, arguments.logs)]
    table = Table(
        title=f"{arguments.rounds} rounds, {arguments.partitions} partitions, {EVENTS_PER_S:,} events/s, default settings"
    )
    for heading in ("seconds", "median", "worst"):
        table.add_column(heading, justify="left" if heading == "seconds" else "right")
    for name, heading in HEADINGS.items():
        values = [one[name] for one in rounds]
        table.add_row(heading, f"{statistics.median(values):.2f}", f"{max(values):.2f}")
    Console().print(table)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps({**_machine(), "partitions": arguments.partitions, "rounds": rounds}, indent=1) + "\n"
    )


def _machine() -> dict[str, Any]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "events_per_s": EVENTS_PER_S,
    }


if __name__ == "__main__":
    main()
