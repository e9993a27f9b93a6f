"""Rejected rows of loads and feeds, as a terminal shows them and as a document holds them."""

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.commands.rejections import by_reason
from console.commands.shortened import encoded, shorten
from ingestion.rejected.listing import RejectedRow, RowListing

PART_WIDTH = 26


def rows_document(found: RowListing) -> dict[str, Any]:
    """One table or feed, with whole rows."""
    counts = [{"reason": reason, "rows": n} for reason, n in found.counts.most_common()]
    states = {"total": found.total, "replayed": found.replayed, "superseded": found.superseded, "not_kept": found.lost}
    return {found.kind: found.name, **states, "counts": counts, "rows": [_row(found.kind, row) for row in found.rows]}


def _row(kind: str, row: RejectedRow) -> dict[str, Any]:
    told = asdict(row)
    raw, maker, version = told.pop("raw"), told.pop("maker"), told.pop("version")
    by = {"version": maker} if kind == "table" else {}
    return {**by, **told, "at": row.at.isoformat(), "part_version": version} | encoded("raw", raw)


def print_rows(console: Console, found: RowListing) -> None:
    """Counts by reason, and the rows; a line where there are none."""
    what = f"{found.kind} {found.name}"
    if not found.total:
        console.print(f"{what}: no such row is rejected", highlight=False, soft_wrap=True)
    else:
        console.print(_counts(what, found))
        if found.rows:
            console.print(_rows(found))
    notes = [
        (found.replayed, "were taken through by a replay"),
        (found.superseded, "older ones were read again by a later load"),
        (found.lost, "were too many to be kept, and are counted in the load alone"),
    ]
    for count, what_of in notes:
        if count:
            console.print(f"{what}: {count:,} {what_of}", highlight=False, soft_wrap=True)


def _counts(what: str, found: RowListing) -> Table:
    told = [(shorten(reason, 200), count) for reason, count in found.counts.most_common()]
    return by_reason(f"{found.total:,} rejected rows of {what}, by reason", "rows", told)


def _rows(found: RowListing) -> Table:
    title = "the newest of them" if found.total > len(found.rows) else "all of them, newest first"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("where", overflow="fold", max_width=PART_WIDTH)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("reason, row", overflow="fold")
    for row in found.rows:
        by = f"\nversion {row.maker}" if found.kind == "table" else ""
        where = f"{escape(ending(row.part))}\n{row.unit} {row.number:,}{by}"
        raw = shorten(row.raw) if row.raw else "-"
        table.add_row(
            where, f"{row.at:%Y-%m-%d\n%H:%M:%S}", f"{escape(shorten(row.reason, 200))}\n[dim]{escape(raw)}[/]"
        )
    return table


def ending(part: str, width: int = PART_WIDTH) -> str:
    """The end of a part's name, where its file is named."""
    return part if len(part) <= width else "…" + part[1 - width :]


__all__ = ["ending", "print_rows", "rows_document"]
