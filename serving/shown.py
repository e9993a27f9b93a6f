"""`watershed status` and `watershed audit` as a person or a program sees them.

Invariant: --json prints one JSON document on standard output and nothing else; progress goes to standard error.
"""

import json
import random
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.base.errors import DefinitionError, LogError, SettingsError, did_you_mean
from pipeline.lake.lake import Lake
from pipeline.log.kafka.log import KafkaLog
from pipeline.settings import Settings, by_source
from serving.answers import PartitionStatus, Status
from serving.answers import status as read_status
from serving.audit.audit import Audit, Report
from serving.generations.create import require
from serving.postgres.connection import engine


def audit(
    names: tuple[str, ...], reference: bool, as_json: bool, seed: int | None, at: str | None = None, batch: bool = False
) -> int:
    """Audit the named views (all when none is named) and print what was found; 0 when exact, 1 when not."""
    settings = Settings.load()
    views = settings.load_views()
    known = [v.name for v in views]
    for name in names:
        if name not in known:
            raise DefinitionError(f"there is no view {name!r}; there are {', '.join(known)}.{did_you_mean(name, known)}")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    chosen = [v for v in views if not names or v.name in names]
    vector = _vector(at, batch, {v.source.topic for v in chosen}) if at is not None else None
    database = engine(settings.postgres_url(), application_name="watershed audit")
    for of_source in by_source(views).values():
        require(database, of_source[0].source, of_source)
    with _Bars() as bars:
        log, lake = KafkaLog(settings.kafka_connection()), Lake(settings.lake)
        reports = Audit(database, log, lake, seed, reference, bars.show, batch, vector).run(chosen)
    if as_json:
        _document({"reference": reference, "seed": seed, "views": [asdict(r) for r in reports]})
    else:
        _print(reports, reference, seed)
    return 0 if all(r.exact for r in reports) else 1


def _vector(text: str, batch: bool, topics: set[str]) -> dict[int, int]:
    """partition -> offset, from 0:123,1:456 or the JSON of that mapping or of a list."""
    if batch:
        raise SettingsError("--batch audits the visible batch at its own cut, and --at at another vector: give one of them")
    if len(topics) > 1:
        raise SettingsError(f"--at gives one source's offsets, and the views are of {', '.join(sorted(topics))}: name views of one")
    try:
        if text.lstrip().startswith(("{", "[")):
            found = json.loads(text)
            pairs: list[Any] = list(found.items()) if isinstance(found, dict) else list(enumerate(found))
        else:
            pairs = [part.split(":") for part in text.split(",")]
        vector = {int(partition): int(offset) for partition, offset in pairs}
        if len(vector) != len(pairs):
            raise ValueError("a partition is given twice")
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"--at {text!r} is no vector ({error}); write partition:offset for every partition, 0:123,1:456, or JSON"
        ) from None
    return vector


def _document(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content, default=str, indent=1) + "\n")


class _Bars:
    """One bar per stage, on standard error."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}/{task.total:,}"), TimeElapsedColumn())
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, what: str, done: int, of: int) -> None:
        """Move the bar named `what`."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=of)
        self.progress.update(self.tasks[what], completed=done, total=of)


def _print(reports: list[Report], reference: bool, seed: int) -> None:
    console = Console()
    how = (
        "the independent plain-Python reference, which shares no kernel"
        if reference
        else f"the layers' kernels at other block boundaries (seed {seed})"
    )
    for compared in dict.fromkeys(r.compared for r in reports):
        console.print(f"comparing {compared}", highlight=False, soft_wrap=True)
    table = Table(title=f"audit against the log, recomputed by {how}")
    for name in ("view", "rows", "records", "positions", "differences"):
        table.add_column(name, justify="left" if name in ("view", "positions") else "right")
    for r in reports:
        positions = ", ".join(f"{p}:{o:,}" for p, o in sorted(r.positions.items()))
        table.add_row(r.view, f"{r.rows:,}", f"{r.records:,}", positions, f"{r.differences:,}")
    console.print(table)
    for r in reports:
        for line in r.counts:
            console.print(f"[red]{line}")
        for example in r.examples:
            console.print(f"[red]{r.view} {example['group']}")
            console.print(f"  served     {example['served']}\n  recomputed {example['recomputed']}")
    total = sum(r.differences + len(r.counts) for r in reports)
    console.print(f"[bold {'green' if not total else 'red'}]{total:,} differences")


def status(as_json: bool) -> None:
    """Print positions, lag, cuts and workers; what only Kafka knows is left open where it does not answer, and its error raised then."""
    settings = Settings.load()
    found = read_status(engine(settings.postgres_url(), application_name="watershed status"))
    log, ends, trouble = KafkaLog(settings.kafka_connection()), dict[str, list[int]](), None
    for topic in found.ledger:
        try:
            ends[topic] = log.end_offsets(topic)
        except LogError as error:
            trouble = trouble or error
    rows = [_row(p, ends.get(p.topic, [])) for p in found.partitions]
    if as_json:
        ledgers = {topic: [asdict(c) for c in ledger] for topic, ledger in found.ledger.items()}
        _document({"partitions": rows, "cuts": ledgers, "workers": dict(found.workers)})
    else:
        _print_status(found, rows)
    if trouble is not None:
        raise trouble


def _row(p: PartitionStatus, ends: list[int]) -> dict[str, Any]:
    """One partition; a topic made anew may have fewer."""
    end = ends[p.partition] if p.partition < len(ends) else None
    return {**asdict(p), "log_end": end, "lag": None if end is None else end - p.position}


def _print_status(found: Status, rows: list[dict[str, Any]]) -> None:
    console = Console()
    console.print(_partitions(rows))
    for topic, ledger in found.ledger.items():
        cuts = Table(title=f"cuts of {topic}")
        for name in ("number", "night", "offsets", "status", "chosen"):
            cuts.add_column(name)
        for c in ledger[-10:]:
            cuts.add_row(str(c.number), str(c.date or "start"), str(list(c.offsets)), c.status, _ago(c.chosen_at))
        console.print(cuts)
        console.print(f"workers of {topic}: {', '.join(found.workers.get(topic, [])) or 'none: run `watershed speed`'}")


def _partitions(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="partitions")
    for name in ("partition", "cut", "position", "log end", "lag", "cut at", "position at", "worker"):
        table.add_column(name, justify="right" if name in ("cut", "position", "log end", "lag") else "left")
    for r in rows:
        held = r["worker"] if r["lease_s"] is not None and r["lease_s"] > 0 else "-"
        figures = ("?" if r[name] is None else f"{r[name]:,}" for name in ("cut", "position", "log_end", "lag"))
        table.add_row(f"{r['topic']}/{r['partition']}", *figures, _ago(r["cut_at"]), _ago(r["position_at"]), held)
    return table


def _ago(then: datetime) -> str:
    seconds = (datetime.now(UTC) - then).total_seconds()
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{then:%Y-%m-%d %H:%M} UTC"
