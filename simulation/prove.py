"""Many schedules on all cores, and what they came to, for a person.

    proved  <=>  no schedule of the seeds [seed, seed + schedules) broke, and readings > 0

A failure names the seed, the shortest schedule found, and the command that plays it again.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.base.errors import SettingsError, did_you_mean
from pipeline.definition.view import View
from pipeline.log.log import Log
from simulation.play import Played, play
from simulation.sample import Sample, sample
from simulation.schedule import Decision
from simulation.shrink import shrink
from simulation.world import UNSEEN, Sizes

AT_ONCE = 8  # schedules that a process plays before it reports
SHOWN = {
    "commit": "commits that landed",
    "split": "commits split at a cut",
    "fenced": "zombies fenced",
    "takeover": "takeovers of a lease",
    "publish": "batches published",
    "covered": "batches covered by a later one",
    "rollback": "rollbacks",
    "purge": "purges",
    "refold": "partitions refolded",
    "generation": "generations that took over",
    "lost": "replies lost of what had landed",  # of commits, cuts, batches, rollbacks and purges, not of leases
    "delayed": "transactions that landed late",
    "crash": "crashes",
}
TRACE_LINES = 60
Samples = Mapping[str, Sample]  # topic -> records of it
NO_SAMPLES: Samples = {}


@dataclass
class Summary:
    """Result of the schedules; `within` counts the schedules in which something happened at least once."""

    schedules: int = 0
    total: Counter[str] = field(default_factory=Counter)
    within: Counter[str] = field(default_factory=Counter)
    failure: Played | None = None
    took_s: float = 0.0

    def add(self, played: Played) -> None:
        """Take in one schedule."""
        self.schedules += 1
        seen = Counter(played.seen)
        seen["lost"] = sum(n for name, n in played.seen.items() if name.startswith("lost ") and name[5:] not in UNSEEN)
        self.total += seen
        self.within += Counter(name for name, n in seen.items() if n)
        if played.broken is not None and (self.failure is None or played.seed < self.failure.seed):
            self.failure = played

    def share(self, name: str) -> float:
        """The share of the schedules in which it happened."""
        return self.within[name] / self.schedules if self.schedules else 0.0


def views_of(views: Sequence[View], seed: int) -> tuple[View, ...]:
    """Views that a seed plays: one after another by itself, and now and then all of its source together."""
    view = views[seed % len(views)]
    if (seed // len(views)) % 4:
        return (view,)
    return tuple(v for v in views if v.source == view.source)


def play_seed(
    views: Sequence[View], seed: int, sizes: Sizes, samples: Samples, decisions: Sequence[Decision] | None = None
) -> Played:
    """The schedule of a seed: its views, and their topic's sample when there is one."""
    chosen = views_of(views, seed)
    taken = samples.get(chosen[0].source.topic)
    parts = None if taken is None else taken.events(random.Random(f"{seed} events"), sizes.partitions, sizes.records)
    return play(chosen, seed, sizes, decisions=decisions, parts=parts)


def play_some(views: Sequence[View], seeds: Sequence[int], sizes: Sizes, samples: Samples) -> list[Played]:
    """Play these seeds up to the first that breaks; runs in a process of its own."""
    found = []
    for seed in seeds:
        found.append(play_seed(views, seed, sizes, samples))
        found[-1].decisions = found[-1].decisions if found[-1].broken else []
        if found[-1].broken:
            break
    return found


def run(
    views: Sequence[View],
    seed: int,
    schedules: int,
    sizes: Sizes,
    jobs: int = 0,
    tell: Callable[[Summary], None] | None = None,
    samples: Samples = NO_SAMPLES,
) -> Summary:
    """Play the seeds from `seed` on; 0 schedules is no end. Stops at the first that breaks, or at Ctrl-C."""
    summary, began = Summary(), time.monotonic()
    chunks = _chunks(seed, schedules)
    jobs = jobs or os.cpu_count() or 1
    if schedules and schedules <= AT_ONCE:
        for played in play_some(views, range(seed, seed + schedules), sizes, samples):
            summary.add(played)
        summary.took_s = time.monotonic() - began
        return summary
    with ProcessPoolExecutor(jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        running: set[Future[list[Played]]] = set()
        try:
            while summary.failure is None:
                for seeds in chunks:
                    running.add(pool.submit(play_some, views, seeds, sizes, samples))
                    if len(running) > jobs:
                        break
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    for played in future.result():
                        summary.add(played)
                summary.took_s = time.monotonic() - began
                if tell is not None:
                    tell(summary)
        except KeyboardInterrupt:
            if schedules:
                raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return summary


def _chunks(seed: int, schedules: int) -> Iterator[range]:
    for start in count(seed, AT_ONCE):
        end = min(start + AT_ONCE, seed + schedules) if schedules else start + AT_ONCE
        if start >= end:
            return
        yield range(start, end)


def named(views: Sequence[View], names: Sequence[str]) -> list[View]:
    """The views of these names, all without any; SettingsError for a name that is none."""
    known = {v.name: v for v in views}
    for name in names:
        if name not in known:
            raise SettingsError(
                f"there is no view {name!r}; there are {', '.join(known)}.{did_you_mean(name, list(known))}"
            )
    return [known[name] for name in names] if names else list(views)


def samples_of(views: Sequence[View], log: Log, records: int) -> Samples:
    """A sample of every topic that the views read."""
    return {topic: sample(log, topic, records) for topic in dict.fromkeys(v.source.topic for v in views)}


def prove(
    views: Sequence[View],
    names: Sequence[str],
    seed: int,
    schedules: int,
    sizes: Sizes,
    jobs: int = 0,
    log: Log | None = None,
    records: int = 0,
) -> int:
    """Play, show it, and return the exit code: 1 when a schedule broke. With a log, events are the newest `records` of the topic."""
    console = Console()
    chosen = named(views, names)
    samples = samples_of(chosen, log, records) if log is not None else NO_SAMPLES
    for topic, taken in samples.items():
        said = f"events: the newest {len(taken):,} records of topic {topic}, from {len(taken.partitions)} partitions"
        console.print(said, soft_wrap=True)
    console.print(
        f"{', '.join(v.name for v in chosen)}: {sizes.workers} workers, {sizes.nights} nights, an operator, refolds and rebuilds on"
        f" {sizes.partitions} partitions, in memory; every transaction is followed by a reading that must equal a recompute of the log"
    )
    with _progress(console, schedules) as progress:
        task = progress.add_task("schedules", total=schedules or None)
        summary = run(
            chosen, seed, schedules, sizes, jobs, lambda s: progress.update(task, completed=s.schedules), samples
        )
        progress.update(task, completed=summary.schedules)
    console.print(_table(summary))
    if summary.failure is None:
        console.print(f"[green]no difference in {summary.schedules:,} schedules[/] of the seeds from {seed} on")
        return 0
    _show_failure(console, chosen, names, sizes, summary.failure, samples, records)
    return 1


def _progress(console: Console, schedules: int) -> Progress:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([TimeRemainingColumn()] if schedules else []),
    ]
    return Progress(*columns, console=console, transient=True)


def _table(summary: Summary) -> Table:
    table = Table("what was tried", "in all", "in % of the schedules", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    rate = f"{summary.schedules / summary.took_s:.1f} a second" if summary.took_s else ""
    table.add_row("schedules", f"{summary.schedules:,}", rate)
    table.add_row("steps of the scheduler", f"{summary.total['steps']:,}", "")
    table.add_row("places to be interrupted at", f"{summary.total['points']:,}", "")
    for name, text in SHOWN.items():
        table.add_row(text, f"{summary.total[name]:,}", f"{100 * summary.share(name):.0f}")
    table.add_row("readings compared with a recompute", f"{summary.total['readings']:,}", "")
    table.add_row("differences", "1" if summary.failure else "0", "")
    return table


def _show_failure(
    console: Console,
    views: Sequence[View],
    names: Sequence[str],
    sizes: Sizes,
    failure: Played,
    samples: Samples,
    records: int,
) -> None:
    def replay(decisions: Sequence[Decision]) -> Played:
        return play_seed(views, failure.seed, sizes, samples, decisions)

    console.print(f"[red]seed {failure.seed}: {failure.broken}[/]", soft_wrap=True, highlight=False)
    console.print("looking for a shorter schedule, up to a minute ...")
    shortest = shrink(failure, replay)
    console.print(f"the shortest schedule found has {len(shortest.decisions)} of {len(failure.decisions)} steps:")
    console.print(f"  {' '.join(map(str, shortest.decisions))}", soft_wrap=True, highlight=False, markup=False)
    for line in shortest.trace[-TRACE_LINES:]:
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"play it again: {command(names, failure.seed, sizes, records)}", soft_wrap=True, highlight=False)


def command(names: Sequence[str], seed: int, sizes: Sizes, records: int = 0) -> str:
    """The command that plays a seed again; on a sample (of so many records) only while the topic's newest records stay the same."""
    given = [f"--{name} {value}" for name, value in vars(sizes).items() if value != getattr(Sizes(), name)]
    given += [f"--sample {records}"] if records else []
    return " ".join(["watershed prove", *names, f"--seed {seed}", "--schedules 1", *given])
