"""How the cost grows: with events, groups, partitions and views in the speed layer, with dates in a night, with what is remembered.

    cost(x) = a + slope * x        over a row of sizes; one that bends shows as points off the line

Each point is the product as a user runs it, on a topic and a database of its own, audited; what is remembered is measured in this process.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from kafka import KafkaAdminClient

from benchmarks.events import PARTITIONS, RATE_PER_S
from benchmarks.place import LIMIT_S, Place, servers
from benchmarks.produce import send
from benchmarks.report import CONSOLE, curve, machine, save, table
from pipeline.accept.dedupe import Identities

DAY_S = 86_400


@dataclass(frozen=True)
class Load:
    """What one point is measured on."""

    events: int
    partitions: int = PARTITIONS
    views: int = 1
    rate_per_s: float = RATE_PER_S  # of event time: fewer a second are more windows
    window: str = "minutes"


@dataclass(frozen=True)
class Point:
    """`size` is what the curve is over, `took_s` the time from the first commit that could be made to the last."""

    size: float
    took_s: float
    cpu_s: float
    peak_mib: float
    note: str = ""


@dataclass
class Growing:
    """Measures points on one pair of servers."""

    place: Place
    seed: int
    points: int = 0
    audited: int = 0

    def backlog(self, load: Load) -> Point:
        """A worker on a backlog; its start is not counted."""
        with self._product(load) as product:
            process = product.watershed("speed", "--until-caught-up")
            began, began_cpu_s = product.until(process, lambda owned, position: bool(owned or position))
            ended, _ = product.until(process, lambda owned, position: position >= load.events)
            run = process.finish(LIMIT_S)
            self.audited += product.audit()
            groups = product.query("SELECT count(*) FROM serving.minutes")[0][0]
        return Point(0, ended - began, run.cpu_s - began_cpu_s, run.peak_mib, f"{groups:,} groups")

    def night(self, load: Load) -> Point:
        """A night over it, Python's start included."""
        with self._product(load) as product:
            run = product.night(0).finish(LIMIT_S)
            self.audited += product.audit()
        return Point(0, run.wall_s, run.cpu_s, run.peak_mib)

    def _product(self, load: Load) -> Any:
        self.points += 1
        topic = f"growth.{self.points}"
        admin = KafkaAdminClient(bootstrap_servers=self.place.kafka.bootstrap)
        admin.create_topics(
            {topic: {"num_partitions": load.partitions, "replication_factor": 1}}, wait_for_metadata=True
        )
        admin.close()
        of = {"topic": topic, "partitions": load.partitions, "rate_per_s": load.rate_per_s}
        send(self.place.kafka.bootstrap, self.seed, load.events, **of)
        more = {"BENCH_TOPIC": topic, "BENCH_VIEWS": str(load.views), "BENCH_WINDOW": load.window}
        options = {"views": "benchmarks.views_growth", "topic": topic, "partitions": load.partitions, "more": more}
        return self.place.product(f"growth_{self.points}", **options)


def remembered(counts: Sequence[int], block: int = 200_000) -> list[Point]:
    """Seconds for a million identities while a partition that remembers so many doubles them; peak_mib is its table's size then.

    In doubling it moves its table once, as it does every time.
    """
    found = []
    for count in counts:
        memory, rng = Identities(10**9), np.random.default_rng(count)
        mark(memory, rng, count, block)
        began, began_cpu_s = time.perf_counter(), time.process_time()
        mark(memory, rng, count, block)
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu_s
        size = memory.table_bytes
        per_million = 1e6 / count
        found.append(
            Point(
                count,
                took_s * per_million,
                cpu_s * per_million,
                size / 2**20,
                f"{size / len(memory):.0f} bytes an identity",
            )
        )
    return found


def mark(memory: Identities, rng: np.random.Generator, count: int, block: int) -> None:
    """So many new identities, in blocks."""
    for start in range(0, count, block):
        rows = min(block, count - start)
        memory.mark(rng.integers(0, 2**64, (rows, 2), np.uint64), np.zeros(rows, np.int64))


@dataclass(frozen=True)
class Curve:
    """One question: the name and unit of its sizes, and how a point is measured."""

    name: str
    unit: str
    sizes: tuple[int, ...]
    load: Callable[[int], Load]
    how: str = "backlog"


def curves(n: int) -> list[Curve]:
    """The rows of sizes for a full size of n events."""
    half = n // 2
    return [
        Curve("events", "events", (n // 8, n // 4, half, n), Load),
        Curve("groups", "minutes", (1, 10, 50, 200), lambda m: Load(half, rate_per_s=half / (60 * m))),
        Curve("partitions", "partitions", (1, 2, 4, 8, 16, 32), lambda p: Load(half, partitions=p)),
        Curve("views", "views of one source", (1, 2, 4, 8), lambda v: Load(half, views=v)),
        Curve("days", "event dates in a night", (1, 8, 32, 64), lambda d: daily(half, d), "night"),
    ]


def daily(n: int, days: int) -> Load:
    """n events spread over so many dates, in windows of a day."""
    return Load(n, rate_per_s=n / (DAY_S * days), window="days")


def slope(points: Sequence[Point], what: str) -> float:
    """Of `what` over the sizes, by least squares."""
    return float(np.polyfit([p.size for p in points], [getattr(p, what) for p in points], 1)[0])


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about, found = machine(), dict[str, list[Point]]()
    with servers(given.keep) as place:
        growing = Growing(place, given.seed)
        for one in curves(given.growth_events):
            found[one.name] = []
            for size in one.sizes:
                point = replace(getattr(growing, one.how)(one.load(size)), size=size)
                found[one.name].append(point)
                CONSOLE.print(f"{one.name} {size:,}: {point.took_s:.2f} s", style="dim")
            shown(given, one.name, one.unit, found[one.name])
    found["identities"] = remembered((100_000, 500_000, 1_000_000, 4_000_000, 16_000_000))
    shown(given, "identities", "identities remembered before", found["identities"])
    CONSOLE.print(f"audit of {growing.audited:,} rows: 0 differences", style="italic")
    sizes = {"growth_events": given.growth_events, "seed": given.seed}
    results = {
        name: {"slope_s": slope(points, "took_s"), "points": [vars(p) for p in points]}
        for name, points in found.items()
    }
    save(given.out, "growth", about, sizes, results | {"audited_rows": growing.audited, "audit_differences": 0})


def shown(given: argparse.Namespace, name: str, unit: str, points: list[Point]) -> None:
    """A table and a chart of one curve."""
    per = slope(points, "took_s")
    rows = [{unit: round(p.size), "s": p.took_s, "CPU s": p.cpu_s, "peak MiB": p.peak_mib, "": p.note} for p in points]
    title = f"{name}: {per:.3g} s for each more of {unit}"
    table(title, rows, "slope by least squares")
    curve(
        given.out / f"growth_{name}.png", title, [p.size for p in points], [p.took_s for p in points], (unit, "s"), per
    )
