"""Findings of a trial on a terminal: columns of what was accepted, and a table's rows with what a load would make of them."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.commands.documents import print_document
from console.commands.shortened import encoded, shorten
from ingestion.table_trial import TableTrial
from ingestion.trial import ColumnSummary

CELL_WIDTH, SHOWN = 19, 12


def show_table(of: TableTrial, as_json: bool) -> None:
    """The trial of a table, for a person or as JSON with whole values."""
    if as_json:
        rejected = [{k: v for k, v in vars(r).items() if k != "raw"} | encoded("raw", r.raw) for r in of.rejected]
        print_document({**asdict(of), "rejected": rejected})
        return
    console, c = Console(), of.counts
    say = partial(console.print, highlight=False, soft_wrap=True)
    where = f"{of.parts[0]} and {len(of.parts) - 1} more" if len(of.parts) > 1 else "".join(of.parts)
    say(f"[bold]table {of.table}[/]: {c.read:,} rows looked at, of {escape(where)}")
    say(f"  accepted {c.added:,}, duplicates {c.duplicates:,}, deleted {c.deleted:,}, rejected {c.rejected:,}")
    for line in of.said:
        say(f"  {escape(line)}")
    if of.rejected:
        console.print(_reasons(of))
    if c.added:
        console.print(columns_table(f"columns of the accepted rows of {of.table}", of.columns))


def _reasons(of: TableTrial) -> Table:
    table = Table(title=f"rejected rows of {of.table}", title_justify="left", box=SIMPLE)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("reason, and the first of them", overflow="fold")
    for r in of.rejected[:SHOWN]:
        place = escape(f"{r.part}, {r.unit} {r.number:,}")
        table.add_row(f"{r.count:,}", f"{escape(shorten(r.reason, 200))}\n[dim]{place}: {escape(shorten(r.raw))}[/]")
    if len(of.rejected) > SHOWN:
        others = of.rejected[SHOWN:]
        table.add_row(f"{sum(r.count for r in others):,}", f"{len(others)} other reasons")
    return table


def columns_table(title: str, columns: Sequence[ColumnSummary]) -> Table:
    """Nulls, distinct values and edges, a row a column."""
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("column", overflow="fold")
    for name in ("nulls", "distinct"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("least", "greatest"):
        table.add_column(name, no_wrap=True)
    for column in columns:
        edges = (escape(shorten(edge, CELL_WIDTH)) for edge in (column.least, column.greatest))
        table.add_row(column.name, f"{column.nulls:,}", f"{column.distinct:,}", *edges)
    return table


__all__ = ["SHOWN", "columns_table", "show_table"]
