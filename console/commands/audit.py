"""`watershed audit`: what Postgres serves, held against a recompute of the log; every row and column."""

import json
import random
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from console.commands.chosen import refuse_unknown
from console.commands.documents import print_document
from console.commands.waiting import patient_database, patient_log, patient_schemas
from pipeline.base.errors import SettingsError
from pipeline.lake.lake import Lake
from pipeline.settings import Settings, by_source
from serving.audit.audit import Audit, Report
from serving.generations.create import require


def audit(
    views: Annotated[list[str] | None, typer.Argument(help="Views to audit; all by default.")] = None,
    reference: Annotated[
        bool, typer.Option(help="Recompute with the independent plain-Python f, which shares no kernel.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the block boundaries, to repeat an audit.")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Audit the visible batch alone, at its cut.")] = False,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="VECTOR",
            help="0:123,1:456: audit the visible batch merged with a refold up to these offsets, from its cut to the log's end.",
        ),
    ] = None,
) -> None:
    """Recompute from the log and compare every row and column with what Postgres serves. Exit 1 if any differs."""
    settings = Settings.load()
    declared = settings.load_views()
    refuse_unknown(views or (), declared)
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    chosen = [v for v in declared if not views or v.name in views]
    vector = _vector(at, batch, {v.source.topic for v in chosen}) if at is not None else None
    database = patient_database(settings, "audit")
    for of_source in by_source(declared).values():
        require(database, of_source[0].source, of_source)
    with _Bars() as bars:
        log, lake = patient_log(settings), Lake(settings.lake)
        schemas = patient_schemas(settings, database)
        reports = Audit(database, log, lake, seed, reference, bars.show, batch, vector, schemas).run(chosen)
    if as_json:
        print_document({"reference": reference, "seed": seed, "views": [asdict(r) for r in reports]})
    else:
        _print(reports, reference, seed)
    raise typer.Exit(0 if all(r.exact for r in reports) else 1)


def _vector(text: str, batch: bool, topics: set[str]) -> dict[int, int]:
    """partition -> offset, from 0:123,1:456 or the JSON of that mapping or of a list."""
    if batch:
        raise SettingsError(
            "--batch audits the visible batch at its own cut, and --at at another vector: give one of them"
        )
    if len(topics) > 1:
        raise SettingsError(
            f"--at gives one source's offsets, and the views are of {', '.join(sorted(topics))}: name views of one"
        )
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


class _Bars:
    """One bar per stage, on standard error."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,}"),
            TimeElapsedColumn(),
        )
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
