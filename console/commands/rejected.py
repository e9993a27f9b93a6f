"""`watershed rejected`: the records and rows that were rejected, where they are and why; the newest of them, and counts of all by reason.

Values may be anybody's data: a table shows their beginning, `--json` all of it.
"""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.commands.chosen import one_topic, refuse_unknown
from console.commands.documents import print_document
from console.commands.rejected_rows import print_rows, rows_document
from console.commands.rejections import by_reason, since_ms, states, when
from console.commands.row_places import feed_listings, rows_wanted, table_listings
from console.commands.shortened import encoded, shorten
from pipeline.settings import Settings, by_source
from serving.rejected.listing import Listing, Rejection, Wanted, listing

LIMIT = 20


def rejected(
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="One topic; without --table and --feed, all of them by default.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The rows that the loads of one table rejected.")
    ] = None,
    feed: Annotated[str | None, typer.Option(metavar="FEED", help="The rows that one feed rejected.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Only reasons that have this text, in any case.")] = "",
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only records from then on, as 2024-03-01 or 2024-03-01T12:00:00Z."),
    ] = None,
    view: Annotated[str | None, typer.Option(metavar="VIEW", help="Only what this view alone rejected.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Records to show, the newest; counts are of all.")] = LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output, with whole values.")] = False,
) -> None:
    """Show rejected records, and rows that loads and feeds rejected: where they are, why, and how many of each reason."""
    settings = Settings.load()
    rows = rows_wanted(reason, since_ms(since), (), ())
    every = topic is None and table is None and feed is None and view is None
    found = _of_topics(settings, topic, Wanted(reason, rows.since_ms, view), limit) if every or topic or view else []
    tables = list(table_listings(settings, table, rows, limit)) if every or table else []
    feeds = list(feed_listings(settings, feed, rows, limit)) if every or feed else []
    if as_json:
        print_document(
            {
                "topics": [_document(one) for one in found],
                "tables": [rows_document(one) for one in tables],
                "feeds": [rows_document(one) for one in feeds],
            }
        )
        return
    console = Console()
    for one in found:
        _print(console, one)
    for rejected_by in (*tables, *feeds):
        print_rows(console, rejected_by)


def _of_topics(settings: Settings, topic: str | None, wanted: Wanted, limit: int) -> list[Listing]:
    view, declared = wanted.view, settings.load_views()
    refuse_unknown([view] if view is not None else [], declared)
    topics = list(by_source(declared))
    if topic is not None:
        topics = [one_topic(topic, topics, "watershed rejected --topic")]
    if view is not None:
        topics = [t for t in topics if any(v.name == view and v.source.topic == t for v in declared)]
    return [listing(state, wanted, limit) for _, _, state in states(settings, topics, "rejected")]


def _document(found: Listing) -> dict[str, Any]:
    counts = [{"view": view, "reason": reason, "records": n} for (view, reason), n in found.counts.most_common()]
    return {
        "topic": found.topic,
        "total": found.total,
        "counts": counts,
        "in_no_kept_manifest": found.unnamed,
        "records": [_record(r) for r in found.records],
    }


def _record(r: Rejection) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(r, name) for name in ("partition", "offset", "timestamp_ms", "view", "reason")}
    row |= encoded("key", r.key) | encoded("value", r.value)
    return {**row, "replay_of": r.origin, "replay": None if r.replay is None else asdict(r.replay)}


def _print(console: Console, found: Listing) -> None:
    if not found.total:
        console.print(f"{found.topic}: no such record is rejected", highlight=False, soft_wrap=True)
    else:
        console.print(_counts(found))
        if found.records:
            console.print(_records(found))
    for view, count in found.unnamed.items():
        console.print(
            f"{found.topic}: {count:,} older records that {view} rejected are in no kept batch's manifest any more; they are counted in"
            " serving.view_accounting",
            highlight=False,
            soft_wrap=True,
        )


def _counts(found: Listing) -> Table:
    told = [
        ((f"view {view}: " if view else "") + shorten(reason, 200), count)
        for (view, reason), count in found.counts.most_common()
    ]
    return by_reason(f"{found.total:,} rejected of {found.topic}, by reason", "records", told)


def _records(found: Listing) -> Table:
    title = "the newest of them" if found.total > len(found.records) else "all of them, oldest first"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("partition\noffset", justify="right", no_wrap=True)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("reason, value, replay", overflow="fold")
    for r in found.records:
        lines = [
            escape((f"view {r.view}: " if r.view else "") + shorten(r.reason, 200)),
            f"[dim]{escape(shorten(r.value))}[/]",
        ]
        lines += [f"replay of {escape(r.origin)}"] if r.origin else []
        lines += [_replayed(r)] if r.replay is not None else []
        table.add_row(f"{r.partition}\n{r.offset:,}", when(r.timestamp_ms).replace(" ", "\n"), "\n".join(lines))
    return table


def _replayed(r: Rejection) -> str:
    assert r.replay is not None
    if r.replay.sent_offset is None:
        return "[yellow]a replay of it was begun and not finished; `watershed replay` finishes it[/]"
    mended = " with another value" if r.replay.mended else ""
    return f"[green]replayed{mended}: offset {r.replay.sent_offset:,}[/]"


__all__ = ["rejected"]
