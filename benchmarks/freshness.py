"""How long until an event is in the answer: produced -> visible in the merged SQL view, seen by a reader outside.

    latency(n) = (the first look at which the probe's count is at least n) - (the moment before probe n was handed to the producer)

Meanwhile events come at a steady rate and nights publish, one after the other; both clocks are this machine's monotonic one.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from benchmarks.events import PARTITIONS
from benchmarks.measure import BenchmarkError, Process
from benchmarks.place import LIMIT_S, Product, servers
from benchmarks.produce import Sender, feeding
from benchmarks.report import bars, machine, save, table

PROBE_EVERY_S = 0.02
LOOK_EVERY_S = 0.002  # a reader that never rests would take a core from what it measures; so much is what a latency may be too long by
SETTLE_S = 5.0
VISIBLE_LIMIT_S = 120.0
PROBE = b'{"id":"probe-%d-%d","key":"p%04d","at":"2026-01-01T00:00:00Z","value":1}'
LOOK = "SELECT key, events FROM serving.minutes WHERE key = ANY (:keys) AND window_start = '2026-01-01T00:00:00Z'"
PERCENTILES = (50, 90, 99, 100)


@dataclass
class Probes:
    """Sends probes to every partition in turn, and looks for them; all in one thread."""

    product: Product
    sent: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    seen: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    looks: int = 0

    def __post_init__(self) -> None:
        self.sender = Sender(self.product.kafka, linger_ms=0)
        self.keys = [f"p{p:04d}" for p in range(PARTITIONS)]
        self.connection = self.product.database.connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Let go of the connection."""
        self.connection.close()

    def send(self, partition: int) -> None:
        """One probe, now."""
        n = len(self.sent[partition])
        self.sent[partition].append(time.monotonic())
        self.sender.send(iter([(PROBE % (partition, n, partition), self.keys[partition].encode(), partition)]))

    def look(self) -> None:
        """Ask the merged view once."""
        rows = self.connection.execute(sa.text(LOOK), {"keys": self.keys}).all()
        now = time.monotonic()
        self.looks += 1
        for key, count in rows:
            seen = self.seen[self.keys.index(key)]
            seen.extend([now] * (int(count) - len(seen)))

    def run(self, seconds: float, nights: "Nights | None" = None) -> None:
        """Send and look for so long."""
        began, number = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds:
            if now >= began + number * PROBE_EVERY_S:
                self.send(number % PARTITIONS)
                number += 1
            self.look()
            if nights is not None:
                nights.look()
            time.sleep(LOOK_EVERY_S)

    def await_all(self) -> None:
        """Look until every probe was seen."""
        until = time.monotonic() + VISIBLE_LIMIT_S
        while any(len(a) < len(b) for a, b in zip(self.seen, self.sent, strict=True)):
            if time.monotonic() > until:
                counts = f"{[len(a) for a in self.seen]} of {[len(a) for a in self.sent]}"
                raise BenchmarkError(f"probes seen per partition within {VISIBLE_LIMIT_S:g} s: {counts}")
            self.look()
            time.sleep(LOOK_EVERY_S)

    def latencies(self, since: float) -> list[tuple[float, float]]:
        """(sent at, latency in ms) of the probes sent after a moment."""
        pairs = [
            (a, b) for sent, seen in zip(self.sent, self.seen, strict=True) for a, b in zip(sent, seen, strict=True)
        ]
        return [(a, 1000 * (b - a)) for a, b in pairs if a >= since]


@dataclass
class Nights:
    """One night after the other."""

    product: Product
    spans: list[tuple[float, float]] = field(default_factory=list)
    now: Process | None = None

    def look(self) -> None:
        """Start the next when the last has ended."""
        if self.now is None:
            self.now = self.product.night(len(self.spans), nice=True)
        elif (run := self.now.poll()) is not None:
            self.spans.append((run.started, run.ended))
            self.now = None

    def finish(self) -> None:
        """Wait for the one that runs."""
        if self.now is not None:
            run = self.now.finish(LIMIT_S)
            self.spans.append((run.started, run.ended))

    def during(self, moment: float) -> bool:
        """Whether a night ran then."""
        return any(start <= moment <= end for start, end in self.spans)


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about = machine()
    with servers(given.keep) as place, place.product("freshness") as product:
        worker = product.watershed("speed")
        feed = None
        try:
            with closing(Probes(product)) as probes:
                probes.send(0)
                probes.await_all()  # the worker has compiled and commits
                feed = Process("feed", feeding(product, given.seed, given.rate), product.folder / "feed.log")
                probes.run(SETTLE_S)
                phases = measured(probes, Nights(product), given.seconds)
            fed = feed.terminate()
        finally:
            for process in (feed, worker):
                if process is not None and process.poll() is None:
                    process.terminate()
        speed = worker.finish(LIMIT_S)
        audited = product.audit()
        rate = fed.said["sent"] / fed.wall_s
    rows = [{"looked at": name, **percentiles(values)} for name, values in phases.items() if values]
    note = (
        f"produced → visible, in ms, by a reader that looks every {1000 * LOOK_EVERY_S:g} ms; {fed.said['sent']:,} events sent,"
        f" {rate:,.0f}/s with the start of the sender; the worker took"
        f" {speed.cpu_s / speed.wall_s:.2f} cores and {speed.peak_mib:,.0f} MiB;"
        f" audit of {audited:,} rows: 0 differences"
    )
    table(f"Freshness at {given.rate:,} events/s", rows, note)
    sizes = {"rate_per_s": given.rate, "seconds": given.seconds, "seed": given.seed, "partitions": PARTITIONS}
    save(given.out, "freshness", about, sizes, {"latency_ms": rows, "events_sent": fed.said["sent"], "worker_cpu_s": speed.cpu_s,
         "worker_wall_s": speed.wall_s, "worker_peak_mib": speed.peak_mib, "audited_rows": audited, "audit_differences": 0})  # fmt: skip
    shown = {f"{row['looked at']}: p{q}": row[f"p{q}_ms"] for row in rows for q in (50, 99)}
    bars(given.out / "freshness.png", f"Produced → visible at {given.rate:,} events/s", shown, "ms", tuple(shown))


def measured(probes: Probes, nights: Nights, seconds: int) -> dict[str, list[float]]:
    """Latencies in ms: quiet for half the time, then with nights, one after the other."""
    quiet = time.monotonic()
    probes.run(seconds / 2)
    noisy = time.monotonic()
    probes.run(seconds / 2, nights)
    while not nights.spans:
        probes.run(1.0, nights)
    ended = time.monotonic()
    probes.await_all()  # before anything else is waited for: nobody looks meanwhile
    nights.finish()
    found = probes.latencies(quiet)
    return {
        "no night": [ms for at, ms in found if at < noisy],
        f"while {len(nights.spans)} nights run and publish": [
            ms for at, ms in found if noisy <= at <= ended and nights.during(at)
        ],
    }


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """Their number and percentiles, in ms."""
    return {"probes": len(values), **{f"p{q}_ms": float(np.percentile(values, q)) for q in PERCENTILES}}
