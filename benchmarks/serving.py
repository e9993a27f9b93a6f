"""Reading the merged view while the speed layer writes at full load, beside a plain indexed table of the same rows.

    p99(merged) / p99(plain), same keys, same connection, in turn; both return the same rows for the windows that nobody writes

Half of the groups are in the batch, half in real-time segments; then one scan of all of them.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import sqlalchemy as sa

from benchmarks.events import KEYS, LATE_MS, START_MS
from benchmarks.measure import BenchmarkError, Process
from benchmarks.place import LIMIT_S, Product, servers
from benchmarks.produce import feeding, send
from benchmarks.report import CONSOLE, bars, machine, save, table

EVENTS_PER_GROUP = 3
RANGE_MINUTES = 60
SCANS = 5
BY_KEY = "SELECT key, window_start, events, total, mean, least, greatest FROM {} WHERE key = :key"
BY_RANGE = BY_KEY + " AND window_start >= to_timestamp(:low) AND window_start < to_timestamp(:high)"
SCAN = "SELECT count(*), sum(events), sum(total), min(least), max(greatest) FROM {}"
MERGED, PLAIN = "serving.minutes", "plain_minutes"
QUERIES = {"by key": BY_KEY, f"by key and {RANGE_MINUTES} minutes": BY_RANGE}
Reader = Callable[[str, dict[str, Any]], list[Any]]


def make_plain(product: Product) -> int:
    """The same rows as a table with a primary key; how many."""
    with product.database.begin() as connection:
        connection.execute(sa.text("CREATE TABLE plain_minutes AS SELECT * FROM serving.minutes"))
        connection.execute(sa.text("ALTER TABLE plain_minutes ADD PRIMARY KEY (key, window_start)"))
    with product.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE plain_minutes"))
    return int(product.query("SELECT count(*) FROM plain_minutes")[0][0])


def scans(product: Product) -> list[dict[str, Any]]:
    """Aggregating all groups, at rest; both must say the same."""
    found, answers = [], []
    for name, relation in (("merged", MERGED), ("plain", PLAIN)):
        took = []
        for _ in range(SCANS):
            began = time.monotonic()
            answers.append(tuple(product.query(SCAN.format(relation))[0]))
            took.append(1000 * (time.monotonic() - began))
        found.append(
            {"scan": name, "groups": int(answers[-1][0]), "median_ms": statistics.median(took), "worst_ms": max(took)}
        )
    if len(set(answers)) != 1:
        raise BenchmarkError(f"the merged view and the plain table differ: {set(answers)}")
    return found


def reads(product: Product, seed: int, seconds: float, minutes: int) -> list[dict[str, Any]]:
    """Random keys and ranges, merged and plain in turn; percentiles in ms."""
    rng = np.random.default_rng(seed)
    took: dict[tuple[str, str], list[float]] = {(q, name): [] for q in QUERIES for name in ("merged", "plain")}
    first = (START_MS + LATE_MS) // 60_000
    with product.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            low = 60 * (first + int(rng.integers(0, max(1, minutes - RANGE_MINUTES))))
            values = {"key": f"s{int(rng.integers(KEYS)):04d}", "low": low, "high": low + 60 * RANGE_MINUTES}
            for (query, name), of in took.items():
                statement = sa.text(QUERIES[query].format(MERGED if name == "merged" else PLAIN))
                used = {k: v for k, v in values.items() if f":{k}" in statement.text}
                began = time.monotonic()
                connection.execute(statement, used).all()
                of.append(1000 * (time.monotonic() - began))
    return [
        {
            "read": query,
            "from": name,
            "reads": len(of),
            **{f"p{p}_ms": float(np.percentile(of, p)) for p in (50, 90, 99)},
        }
        for (query, name), of in took.items()
    ]


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about = machine()
    minutes = max(2, given.groups // KEYS)
    rate = max(1, KEYS * EVENTS_PER_GROUP // 60)
    count = minutes * 60 * rate
    with servers(given.keep) as place, place.product("serving") as product:
        send(product.kafka, given.seed, count // 2, rate_per_s=rate)
        product.catch_up()
        product.night(0).finish(LIMIT_S)
        send(product.kafka, given.seed, count, start=count // 2, rate_per_s=rate)
        product.catch_up()
        rows = make_plain(product)
        CONSOLE.print(f"{count:,} events in {rows:,} groups", style="dim")
        scanned = scans(product)
        read, load = under_load(product, given, minutes)
        audited = product.audit()
    ratios = {query: _of(read, query, "merged")["p99_ms"] / _of(read, query, "plain")["p99_ms"] for query in QUERIES}
    note = (
        f"p99 merged / plain: {', '.join(f'{name} {ratio:.2f}' for name, ratio in ratios.items())}; meanwhile the worker committed"
        f" {load['events_per_s']:,.0f} events/s; audit of {audited:,} rows: 0 differences"
    )
    table("Reads under full write load", read, note)
    table("Aggregating all groups in one statement, at rest", scanned)
    sizes = {"groups": rows, "events": count, "seconds": given.seconds, "seed": given.seed}
    save(given.out, "serving", about, sizes, {"reads": read, "p99_ratios": ratios, "load": load, "scans": scanned, "audited_rows": audited,
         "audit_differences": 0})  # fmt: skip
    shown = {f"{r['read']}, {r['from']}: p{p}": r[f"p{p}_ms"] for r in read for p in (50, 99)}
    bars(
        given.out / "serving.png",
        f"Reads under full write load, {rows:,} groups",
        shown,
        "ms",
        tuple(n for n in shown if "merged" in n),
    )


def under_load(
    product: Product, given: argparse.Namespace, minutes: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Reads while a sender fills the log and a worker commits, both as fast as they can."""
    worker = product.watershed("speed")
    feed = Process("feed", feeding(product, given.seed + 1, 0), product.folder / "feed.log")
    try:
        _, start = product.position()
        until = time.monotonic() + 120
        while product.position()[1] <= start:
            if time.monotonic() > until or worker.poll() is not None:
                raise BenchmarkError(f"the worker commits nothing; its log is {worker.log}")
        began, (_, start) = time.monotonic(), product.position()
        read = reads(product, given.seed, given.seconds, minutes)
        took_s, moved = time.monotonic() - began, product.position()[1] - start
        feed.terminate()
    finally:
        for process in (feed, worker):
            if process.poll() is None:
                process.terminate()
    return read, {"events_per_s": moved / took_s}


def _of(read: list[dict[str, Any]], query: str, name: str) -> dict[str, Any]:
    return next(r for r in read if r["read"] == query and r["from"] == name)
