"""Servers of a benchmark's own, and the product on them: its commands as processes, as a user runs them.

nothing is shared between benchmarks, and nothing is left behind: everything lies in one temporary folder
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from benchmarks.events import PARTITIONS, canonical
from benchmarks.measure import BenchmarkError, Process, Run, python
from benchmarks.views_bench import events
from sandbox.kafka import RealKafka
from sandbox.postgres import SystemPostgres
from serving.postgres.connection import Engine, engine

LOOK_EVERY_S = 0.01
LIMIT_S = 3600.0
FIRST_NIGHT = date(2026, 1, 1)
# A disk that tells the truth: the tests run without fsync, a benchmark of exactly-once commits does not.
POSTGRES = {"fsync": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}
RESULT = """
    SELECT key, to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI') AS minute, events AS count,
        (100 * total)::bigint AS sum, (100 * least)::bigint AS min, (100 * greatest)::bigint AS max
    FROM serving.minutes
"""


@dataclass
class Product:
    """Watershed on one broker, with a database and a lake of its own."""

    kafka: str
    postgres: str
    folder: Path
    database: Engine
    views: str = "benchmarks.views_bench"
    topic: str = events.topic
    partitions: int = PARTITIONS
    more: dict[str, str] = field(default_factory=dict)  # of the environment

    @property
    def environment(self) -> dict[str, str]:
        return {
            "WATERSHED_KAFKA": self.kafka,
            "WATERSHED_POSTGRES": self.postgres,
            "WATERSHED_LAKE": str(self.folder / "lake"),
            "WATERSHED_VIEWS": self.views,
            "PYTHONUNBUFFERED": "1",
            **self.more,
        }

    def start(self, name: str, *command: str) -> Process:
        """A process with the product's settings; its log in the folder."""
        return Process(name, command, self.folder / f"{name}.log", self.environment)

    def watershed(self, *arguments: str) -> Process:
        """`watershed ARGUMENTS`."""
        return self.start(f"watershed {arguments[0]}", *python("watershed", *arguments))

    def init(self) -> None:
        """`watershed init`."""
        self.watershed("init", "--partitions", str(self.partitions)).finish(LIMIT_S)

    def night(self, number: int, nice: bool = False) -> Process:
        """The night of that number, from 0; with `nice` it leaves the processors to whoever else wants them, as a crontab would have it."""
        day = str(FIRST_NIGHT + timedelta(days=number))
        lock = str(self.folder / "luigi")
        command = python(
            "luigi", "--module", "tasks", "Nightly", "--date", day, "--local-scheduler", "--lock-pid-dir", lock
        )
        return self.start(f"night {day}", *(["nice", "-n", "10"] if nice else []), *command)

    def catch_up(self) -> Run:
        """`watershed speed --until-caught-up`."""
        return self.watershed("speed", "--until-caught-up").finish(LIMIT_S)

    def audit(self) -> int:
        """`watershed audit --json`: how many rows it compared; BenchmarkError when one differs."""
        process = self.watershed("audit", "--json")
        process.finish(LIMIT_S)
        found = json.loads(process.log.read_text())
        wrong = [v["view"] for v in found["views"] if v["differences"] or v["counts"]]
        if wrong:
            raise BenchmarkError(f"the audit found differences in {', '.join(wrong)}: {process.log.read_text()[:500]}")
        return sum(int(v["rows"]) for v in found["views"])

    def query(self, statement: str, **values: Any) -> list[Any]:
        """The rows of a statement."""
        with self.database.connect() as connection:
            return list(connection.execute(sa.text(statement), values).all())

    def position(self) -> tuple[int, int]:
        """(how many partitions a worker owns, the sum of all positions)."""
        row = self.query(
            "SELECT count(owner), sum(position) FROM ops.positions WHERE topic = :topic", topic=self.topic
        )[0]
        return int(row[0]), int(row[1])

    def until(self, process: Process, reached: Callable[[int, int], bool]) -> tuple[float, float]:
        """When reached(owned partitions, Σ position) is first true, and the CPU seconds then; BenchmarkError when it ends first."""
        while True:
            seen, now = self.position(), time.monotonic()
            if reached(*seen):
                return now, process.cpu_s()
            if process.poll() is not None:
                raise BenchmarkError(f"the worker stopped at {seen[1]} events; its log is {process.log}")
            time.sleep(LOOK_EVERY_S)

    def result(self) -> pa.Table:
        """What the merged view says, as benchmarks.events.expected has it; probes left out."""
        rows = self.query(f"{RESULT} WHERE key LIKE 's%'")
        columns = list(zip(*rows, strict=True)) if rows else [[]] * 6
        names = ("key", "minute", "count", "sum", "min", "max")
        return canonical(pa.table(dict(zip(names, map(pa.array, columns), strict=True))))


@dataclass
class Place:
    """A broker, a Postgres and a folder."""

    kafka: RealKafka
    postgres: SystemPostgres
    folder: Path

    @contextmanager
    def product(self, name: str = "bench", **options: Any) -> Iterator[Product]:
        """The product on a database of its own, set up; `options` are further fields of it."""
        folder = self.folder / name
        folder.mkdir()
        with self.postgres.database(name) as url:
            database = engine(url, application_name="benchmark")
            try:
                made = Product(self.kafka.bootstrap, url, folder, database, **options)
                made.init()
                yield made
            finally:
                database.dispose()


@contextmanager
def servers(keep: Path | None = None) -> Iterator[Place]:
    """Kafka and Postgres in a temporary folder; with `keep` a folder that stays, for its logs."""
    with tempfile.TemporaryDirectory(prefix="watershed-bench-") as name:
        folder = Path(name) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        kafka = RealKafka(folder / "kafka")
        with kafka, SystemPostgres(folder / "postgres", settings=POSTGRES) as postgres:
            yield Place(kafka, postgres, folder)


def same(found: pa.Table, wanted: pa.Table, who: str) -> None:
    """BenchmarkError when a contender's groups are not those that the events must give."""
    if found.equals(wanted):
        return
    join = wanted.join(found, ["key", "minute"], join_type="full outer", right_suffix="_found")
    wrong = [r for r in join.to_pylist() if any(r[n] != r[f"{n}_found"] for n in ("count", "sum", "min", "max"))]
    raise BenchmarkError(
        f"{who} has {found.num_rows} groups, {wanted.num_rows} are right; {len(wrong)} differ, the first: {wrong[:2]}"
    )
