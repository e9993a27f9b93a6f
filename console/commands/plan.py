"""`watershed plan`: the range that the next night would take in, and what earlier nights left undone; nothing is done."""

from rich.console import Console
from rich.table import Table

from tasks.operator.plan import SourcePlan, plans

KAFKA_PATIENCE_S = 1.0  # somebody waits for the answer, and Postgres alone can say most of it


def plan() -> None:
    """Show what the next night would do, and which targets are stale.

    Anything that only Kafka knows is left open where it does not answer, and its error comes last, with exit code 1.
    """
    console = Console()
    for found in plans(KAFKA_PATIENCE_S):
        console.print(_next_night(found))
        if not found.undone:
            console.print(f"{found.topic}: every target of {found.nights} nights is complete")
            continue
        table = Table(title=f"{found.topic}: to be done")
        for name in ("cut", "night", "status", "target"):
            table.add_column(name, no_wrap=True, overflow="fold")
        for cut, step in found.undone:
            table.add_row(str(cut.number), str(cut.date), cut.status, step)
        console.print(table)


def _next_night(found: SourcePlan) -> Table:
    table = Table(title=f"a night of {found.topic} would take in now (cut {found.next_number})")
    for name in ("partition", "from", "to", "offsets"):
        table.add_column(name, justify="right", no_wrap=True)
    for partition, start in enumerate(found.starts):
        if found.ends is None:
            table.add_row(str(partition), f"{start:,}", "?", "?")
            continue
        end = found.ends[partition]
        table.add_row(str(partition), f"{start:,}", f"{max(start, end):,}", f"{max(0, end - start):,}")
    return table
