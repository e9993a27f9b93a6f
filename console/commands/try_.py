"""`watershed try`: the declared views over a sample, before anything is set up. Postgres is not asked; with --file Kafka is not either."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.commands.chosen import one_topic
from console.commands.documents import print_document
from console.commands.sampled import asked_schemas, sample_of
from console.commands.shortened import encoded, shorten
from console.commands.tried import SHOWN, columns_table, show_table
from ingestion.sample import Sample
from ingestion.table_trial import try_table
from ingestion.trial import Rejected, Times, Trial, trial
from pipeline.base.errors import Refused
from pipeline.decode.schemas import NO_SCHEMAS
from pipeline.definition.views_module import table_named
from pipeline.fold.in_force import newest_tables
from pipeline.lake.lake import Lake
from pipeline.settings import Settings, by_source

RECORDS = 10_000
UNITS_S = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def try_(
    topic: Annotated[str | None, typer.Option(metavar="TOPIC", help="The source to try; all by default.")] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One JSON object a line, instead of the topic's records.")
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="A table, by the first rows of its origin, instead of the views."),
    ] = None,
    records: Annotated[
        int, typer.Option(min=1, help="Records to look at, the topic's oldest and newest; of a table its first rows.")
    ] = RECORDS,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Run the declared views over a sample of a topic or a file, or load a table's first rows, and keep nothing; no Postgres is asked."""
    settings = Settings.load()
    if table is not None:
        if topic is not None or file is not None:
            raise Refused("--table is tried by its own origin: give it without --topic and --file")
        chosen = table_named(settings.load_tables(), table)
        show_table(try_table(chosen, lambda name: settings.origin_secret(name).get_secret_value(), records), as_json)
        return
    sources = by_source(settings.load_views())
    if topic is not None or file is not None:
        topic = one_topic(topic, list(sources), "watershed try --topic")
        sources = {topic: sources[topic]}
    found = []
    for name, views in sources.items():
        sample = sample_of(None if file else name, file, records)
        source = views[0].source
        schemas = asked_schemas(settings) if source.format.registered else NO_SCHEMAS
        tables = newest_tables(Lake(settings.lake), views)
        found.append((sample, trial(source, views, sample, schemas=schemas, tables=tables)))
    if as_json:
        print_document({"sources": [_document(sample, of) for sample, of in found]})
        return
    console = Console()
    for sample, of in found:
        _print(console, sample, of)


def _document(sample: Sample, of: Trial) -> dict[str, Any]:
    return {
        **asdict(of),
        "origin": sample.origin,
        "records": len(sample),
        "rejected": [_example(r) for r in of.rejected],
        "views": [{**asdict(v), "rejected": [_example(r) for r in v.rejected]} for v in of.views],
    }


def _example(r: Rejected) -> dict[str, Any]:
    row: dict[str, Any] = {"count": r.count, "reason": r.reason, "partition": r.partition, "offset": r.offset}
    return row | encoded("key", r.key) | encoded("value", r.value)


def _print(console: Console, sample: Sample, of: Trial) -> None:
    c = of.counts
    say = partial(console.print, highlight=False, soft_wrap=True)
    where = f"file {sample.origin}" if sample.is_file else f"topic {of.topic}, {len(sample.partitions)} partitions"
    say(f"[bold]{escape(where)}[/]: {c.records:,} records looked at")
    say(f"  accepted {c.accepted:,}, duplicates {c.duplicates:,}, rejected {c.rejected:,}, tombstones {c.tombstones:,}")
    if of.rejected:
        console.print(_reasons(f"rejected records of {of.topic}", sample, of.rejected))
    if c.accepted:
        console.print(columns_table(f"columns of the accepted records of {of.topic}", of.columns))
    if of.times is not None:
        for line in _about_times(of.times):
            say(line)
    if of.rates:
        say(f"rate: {_rate(sum(of.rates.values()))} by the newest record timestamps")
    for a in of.across:
        partitions = ", ".join(map(str, a.partitions))
        meaning = ": copies in different partitions are never seen to be duplicates" if a.is_identity else ""
        say(
            f"[yellow]{'identity' if a.is_identity else 'key'} {escape(a.column)}: {a.values:,} of {a.of:,} values stand in"
            f" several partitions, as {escape(shorten(a.example, 30))} in {partitions}{meaning}[/]"
        )
    for view in of.views:
        v = view.counts
        say(
            f"view {view.name}: {v.folded:,} folded into {view.groups:,} groups, {v.filtered:,} filtered,"
            f" {v.rejected:,} rejected"
        )
        if view.rejected:
            console.print(_reasons(f"records that {view.name} rejects", sample, view.rejected))


def _reasons(title: str, sample: Sample, reasons: list[Rejected]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column("records", justify="right", no_wrap=True)
    table.add_column("reason, and the first of them", overflow="fold")
    for r in reasons[:SHOWN]:
        place = sample.place(r.partition, r.offset)
        table.add_row(f"{r.count:,}", f"{escape(shorten(r.reason, 200))}\n[dim]{place}: {escape(shorten(r.value))}[/]")
    if len(reasons) > SHOWN:
        table.add_row(f"{sum(r.count for r in reasons[SHOWN:]):,}", f"{len(reasons) - SHOWN} other reasons")
    return table


def _about_times(t: Times) -> list[str]:
    lines = [f"event times from {shorten(t.first)} to {shorten(t.last)}, {_long((t.last - t.first).total_seconds())}"]
    late = f"{t.late:,} late, by {_long(t.median_late_s)} (median) to {_long(t.latest_s)}" if t.late else "none late"
    lines.append(f"  {late}, against the greatest time before in their partition")
    if t.behind_record_s is not None:
        least, median, greatest = map(_long, t.behind_record_s)
        lines.append(f"  before their record's timestamp by {least} to {greatest}, median {median}")
    if t.implausible:
        hint = f": {t.hint}" if t.hint else ""
        lines.append(f"[yellow]  {t.implausible:,} lie before 1990 or after tomorrow{escape(hint)}[/]")
    return lines


def _long(seconds: float) -> str:
    """A length of time in its largest unit, with one decimal."""
    for unit, of_s in UNITS_S:
        if abs(seconds) >= of_s:
            return f"{seconds / of_s:,.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f} events/s" if per_s >= 10 else f"{per_s * 60:,.1f} events/min"


__all__ = ["try_"]
