"""The speed layer on a backlog, beside its peers: the same topic, one after the other, each a process of its own.

    result(product) = result(peer) = benchmarks.events.expected(events), else BenchmarkError; the product commits, the peers do not

Slow peers run on the first `slow_events` of the events, in a topic of their own, and are held to expected(slow_events).
"""

import argparse
import importlib.util
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from kafka import KafkaAdminClient
from pyarrow import csv

from benchmarks.events import BROKEN, FLAT, PARTITIONS, SCHEMA, Form, canonical, expected
from benchmarks.measure import ROOT, Process, Run, python
from benchmarks.place import LIMIT_S, Place, same, servers
from benchmarks.produce import send
from benchmarks.report import CONSOLE, bars, machine, peers, save, table
from benchmarks.views_bench import events

SLOW_TOPIC = f"{events.topic}.first"
OURS, OURS_RAW = "watershed", "watershed without dedupe"


@dataclass(frozen=True)
class Peer:
    """How to run one: the module under benchmarks.peers, what must be installed, and whether it is slow."""

    name: str
    module: str
    needs: tuple[str, ...] = ()
    slow: bool = False
    arguments: tuple[str, ...] = ()


CONSUME_ONLY = "consume only"
CONFLUENT, KAFKA_PYTHON = "confluent-kafka + orjson + dict", "kafka-python + json + dict"
ALL = (
    Peer(CONSUME_ONLY, "confluent", ("confluent-kafka",), arguments=("--consume-only",)),
    Peer(CONFLUENT, "confluent", ("confluent-kafka", "orjson")),
    Peer(KAFKA_PYTHON, "kafka_python", slow=True),
    Peer("bytewax", "bytewax_flow", ("bytewax", "confluent-kafka"), slow=True),
    Peer("quix streams", "quix", ("quixstreams",), slow=True),
)


@dataclass(frozen=True)
class Backlog:
    """Which events, the modules that declare their view (`raw`: with BENCH_IDENTITY empty), and who takes them beside us.

    `option`: what tells a peer that the events are not flat. A result is saved as `name`.
    """

    name: str
    about: str
    form: Form
    views: str
    raw: str
    contenders: tuple[Peer, ...]
    option: tuple[str, ...] = ()


BACKLOG = Backlog("speed", "events", FLAT, "benchmarks.views_bench", "benchmarks.views_growth", ALL)


@dataclass(frozen=True)
class Taken:
    """One run of one contender; what it takes to start stands apart.

    `per_s` counts from the first poll to the last event, `per_s_with_start` from the start of the process to its end.
    """

    contender: str
    events: int
    per_s: float
    per_s_with_start: float
    cpu_s_per_million: float
    peak_mib: float
    start_s: float
    start_cpu_s: float


def taken(name: str, count: int, run: Run, times: tuple[float, float], cpu_s: tuple[float, float]) -> Taken:
    """The figures of a run; `times` and `cpu_s` are (at the first poll, after the last event)."""
    first, last = times
    per_million = (cpu_s[1] - cpu_s[0]) / count * 1e6
    return Taken(
        name,
        count,
        count / (last - first),
        count / run.wall_s,
        per_million,
        run.peak_mib,
        first - run.started,
        cpu_s[0],
    )


@dataclass
class Bench:
    """The topic, filled, and what must come out of it."""

    place: Place
    count: int
    slow_count: int
    wanted: pa.Table
    wanted_slow: pa.Table
    wanted_copies: pa.Table
    backlog: Backlog = BACKLOG
    audited_rows: int = 0

    def product(self, number: int, audit: bool, dedupe: bool = True) -> Taken:
        """The worker on a database of its own; held to the expected rows, and audited."""
        name, wanted, options = OURS, self.wanted, dict[str, Any](views=self.backlog.views)
        if not dedupe:
            name, wanted = OURS_RAW, self.wanted_copies
            options = {"views": self.backlog.raw, "more": {"BENCH_IDENTITY": ""}}
        with self.place.product(f"product_{number}_{dedupe}".lower(), **options) as product:
            process = product.watershed("speed", "--until-caught-up")
            first, first_cpu_s = product.until(process, lambda owned, position: bool(owned or position))
            last, _ = product.until(process, lambda owned, position: position >= self.count)
            run = process.finish(LIMIT_S)
            same(product.result(), wanted, name)
            if audit:
                self.audited_rows += product.audit()
        return taken(name, self.count, run, (first, last), (first_cpu_s, run.cpu_s))

    def peer(self, peer: Peer, number: int) -> Taken:
        """A peer, on the same topic or on its first events."""
        topic, count, wanted = events.topic, self.count, self.wanted
        if peer.slow and self.slow_count < self.count:
            topic, count, wanted = SLOW_TOPIC, self.slow_count, self.wanted_slow
        result = self.place.folder / f"{peer.module}-{number}.csv"
        own = peers().get(peer.needs[0], {}).get("python") if peer.needs else None
        of = str(ROOT / own) if own else None
        arguments = (self.place.kafka.bootstrap, topic, str(count), str(result), *peer.arguments, *self.backlog.option)
        run = Process(
            peer.name, python(f"benchmarks.peers.{peer.module}", *arguments, of=of), result.with_suffix(".log")
        ).finish(LIMIT_S)
        if peer.name != CONSUME_ONLY:
            same(
                canonical(csv.read_csv(result, convert_options=csv.ConvertOptions(column_types=SCHEMA))),
                wanted,
                peer.name,
            )
        said = run.said
        return taken(
            peer.name, count, run, (said["first_poll"], said["done"]), (said["first_cpu_s"], said["done_cpu_s"])
        )


def installed(peer: Peer) -> bool:
    """Whether all it needs is there, here or in an environment of its own."""
    return all(peers().get(n, {}).get("python") or importlib.util.find_spec(n.replace("-", "_")) for n in peer.needs)


@contextmanager
def filled(
    seed: int,
    count: int,
    slow_count: int,
    codec: str = "none",
    keep: Path | None = None,
    broken: float = BROKEN,
    backlog: Backlog = BACKLOG,
) -> Iterator[Bench]:
    """Servers with the events in their topics."""
    slow_count, what = min(slow_count, count), {"broken": broken, "form": backlog.form}
    with servers(keep) as place:
        admin = KafkaAdminClient(bootstrap_servers=place.kafka.bootstrap)
        options = {"num_partitions": PARTITIONS, "replication_factor": 1}
        admin.create_topics(dict.fromkeys((events.topic, SLOW_TOPIC), options), wait_for_metadata=True)
        admin.close()
        took_s = send(place.kafka.bootstrap, seed, count, codec=codec, **what)
        CONSOLE.print(f"sent {count:,} events ({codec}) in {took_s:.1f} s", style="dim")
        if slow_count < count:
            send(place.kafka.bootstrap, seed, slow_count, topic=SLOW_TOPIC, codec=codec, **what)
        wanted = expected(seed, count, broken=broken)
        wanted_slow = expected(seed, slow_count, broken=broken) if slow_count < count else wanted
        wanted_copies = expected(seed, count, broken=broken, copies=True)
        yield Bench(place, count, slow_count, wanted, wanted_slow, wanted_copies, backlog)


def measure(bench: Bench, contenders: tuple[Peer, ...], repeats: int) -> list[Taken]:
    """The product and the peers in turn, `repeats` times; before, somebody reads it all, so that nobody pays for the broker's compiling."""
    found = []
    for peer in contenders:
        if peer.name == CONSUME_ONLY:
            bench.peer(peer, repeats)
    for number in range(repeats):
        last = number == repeats - 1
        turns: list[Callable[[], Taken]] = [partial(bench.product, number, last, dedupe) for dedupe in (True, False)]
        turns += [partial(bench.peer, peer, number) for peer in contenders]
        for turn in turns:
            found.append(turn())
            CONSOLE.print(f"round {number + 1}: {found[-1].contender}: {found[-1].per_s:,.0f} events/s", style="dim")
    return found


def medians(runs: list[Taken]) -> list[Taken]:
    """One row per contender: the median of each figure."""
    found = []
    for name in dict.fromkeys(run.contender for run in runs):
        of = [asdict(run) for run in runs if run.contender == name]
        found.append(
            Taken(name, of[0]["events"], *(statistics.median(r[field] for r in of) for field in list(of[0])[2:]))
        )
    return found


def main(given: argparse.Namespace, backlog: Backlog = BACKLOG) -> None:
    """Measure, print and store."""
    about, contenders = machine(), () if given.alone else tuple(p for p in backlog.contenders if installed(p))
    left_out = [p.name for p in backlog.contenders if p not in contenders and not given.alone]
    with filled(given.seed, given.events, given.slow_events, given.codec, given.keep, given.broken, backlog) as bench:
        runs = measure(bench, contenders, given.repeats)
        audited = bench.audited_rows
    rows = medians(runs)
    ours = rows[0]
    ratios = {row.contender: ours.per_s / row.per_s for row in rows[1:]}
    shown = [{**asdict(row), "ours / theirs": ratios.get(row.contender)} for row in rows]
    note = (
        f"all results are equal to those of the generator; audit of {audited:,} rows: 0 differences; the product commits to Postgres"
        f" (fsync on), the peers commit nothing; contenders with fewer events ran on the first {bench.slow_count:,} of them."
        + (f" Left out, not installed: {', '.join(left_out)}." if left_out else "")
    )
    table(
        f"Backlog of {given.events:,} {backlog.about} ({given.codec}, {100 * given.broken:g} % broken), median of {given.repeats}",
        shown,
        note,
    )
    sizes = {"events": given.events, "slow_events": bench.slow_count, "seed": given.seed, "codec": given.codec, "broken": given.broken,
             "repeats": given.repeats, "groups": bench.wanted.num_rows}  # fmt: skip
    results = {"medians": [asdict(r) for r in rows], "ratios": ratios, "audited_rows": audited, "audit_differences": 0, "note": note,
               "runs": [asdict(r) for r in runs]}  # fmt: skip
    suffix = ("" if given.codec == "none" else f"_{given.codec}") + (
        "" if given.broken == BROKEN else f"_broken_{given.broken:g}"
    )
    name = backlog.name + suffix
    save(given.out, name, about, sizes, json.loads(json.dumps(results)))
    by_rate: dict[str, Any] = {row.contender: row.per_s for row in rows}
    bars(
        given.out / f"{name}.png",
        f"Events per second on a backlog of {given.events:,} {backlog.about}",
        by_rate,
        "events/s",
        (OURS, OURS_RAW),
    )
    cpu = {row.contender: row.cpu_s_per_million for row in rows}
    bars(given.out / f"{name}_cpu.png", "CPU seconds per million events", cpu, "s", (OURS,))
