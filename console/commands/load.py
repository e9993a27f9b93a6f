"""`watershed load`: tables loaded now, one after another, each with a line of what became of its rows."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Shown

from console.commands.documents import print_document
from ingestion.loading.compare import Difference, compare
from pipeline.base.errors import DefinitionError, LakeError, WatershedError
from pipeline.definition.table import Table
from pipeline.definition.views_module import table_named
from tasks.context import Context, context
from tasks.loading import Loads

COUNTS = ("read", "added", "changed", "unchanged", "duplicates", "deleted", "gone", "rejected", "rows")


def load(
    tables: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE]...", help="Tables to load; all by default.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The load's name; one that was run before goes on, or is done. Now, by default.")
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Also compare with the version before: rows added, changed, gone.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Load reference data: each table's next version, adopted by every view that looks it up, and shown in Postgres."""
    parts = context()
    chosen = [table_named(parts.tables, one) for one in tables] if tables else list(parts.tables)
    if not chosen:
        raise DefinitionError(
            "the views module declares no TABLES, and its views look none up; docs/DATA-IN.md shows how"
        )
    load_name = name or datetime.now(UTC).isoformat(timespec="milliseconds")
    found, failed = [], list[tuple[Table, WatershedError]]()
    for table in chosen:
        try:
            found.append(_load(parts, table, load_name, diff))
        except WatershedError as error:  # the others are loaded all the same
            failed.append((table, error))
    if as_json:
        print_document({"loads": found, "failed": [{"table": t.name, "error": str(e)} for t, e in failed]})
    elif found:
        _show(found)
    for table, why in failed:
        typer.echo(f"{table.name}: not loaded, the version before stays: {why.report()}", err=True)
    if failed:
        raise typer.Exit(1)


def _load(parts: Context, table: Table, name: str, diff: bool) -> dict[str, Any]:
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(table.name, total=None)

        def say(what: str, rows: int) -> None:
            progress.update(task, description=f"{table.name}: {what}" + (f", {rows:,} rows" if rows else ""))

        loads = Loads(parts, say)
        made, cuts = loads.load(table, name)
    facts = made.facts
    found: dict[str, Any] = {
        "table": table.name,
        "version": made.version,
        "load": made.load,
        "counts": facts["counts"],
        "cursor": facts["cursor"],
        "attempts": facts.get("attempts", 1),
        "retries": facts.get("retries", 0),
        "reasons": _reasons(parts, facts["rejected"]),
        "adopted": [{"topic": c.topic, "number": c.number, "offsets": list(c.offsets)} for c in cuts],
    }
    if diff and facts["base"] is not None:
        try:
            found["difference"] = compare(parts.lake, table, facts["base"], made.version).document()
        except LakeError as error:  # the version is made all the same
            found["difference_error"] = f"it cannot be compared with version {facts['base']}: {error}"
    return found


def _reasons(parts: Context, files: list[str]) -> dict[str, int]:
    told = Counter(str(reason) for file in files for reason in parts.lake.read_table(file).column("reason").to_pylist())
    return dict(told.most_common(5))


def _show(found: list[dict[str, Any]]) -> None:
    shown = Shown()
    for title in ("table", "version", *COUNTS):
        shown.add_column(title, justify="left" if title == "table" else "right")
    for one in found:
        shown.add_row(one["table"], str(one["version"]), *(f"{one['counts'][name]:,}" for name in COUNTS))
    Console().print(shown)
    for one in found:
        for adopted in one["adopted"]:
            typer.echo(
                f"{one['table']}: version {one['version']} is in force in {adopted['topic']} from {adopted['offsets']} on"
            )
        if one["attempts"] > 1 or one["retries"]:
            typer.echo(f"{one['table']}: read {one['attempts']} times, {one['retries']:,} requests made again")
        for reason, count in one["reasons"].items():
            typer.echo(f"{one['table']}: {count:,} rejected: {reason}")
        if "difference_error" in one:
            typer.echo(f"{one['table']}: {one['difference_error']}")
        if "difference" in one:
            typer.echo(Difference.told(one["table"], one["difference"]))
