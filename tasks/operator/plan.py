"""`watershed plan`: what the next night would do, and which targets of the nights so far are stale, without doing anything.

    planned = targets whose complete() is false now
"""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from pipeline.handover import Cut
from tasks.context import context
from tasks.night.night import Night


def plan() -> None:
    """Print, per source, the range a night would take in now, and what earlier nights left undone."""
    console = Console()
    for topic in context().topics:
        night = context().night(topic)
        night.check_topic()
        ledger = night.store.ledger(night.generation)
        console.print(_next_night(night, ledger[-1]))
        undone = [(c, what) for c in ledger if c.number for what in _undone(night, c)]
        if not undone:
            console.print(f"{topic}: every target of {len(ledger) - 1} nights is complete")
            continue
        table = Table(title=f"{topic}: to be done")
        for name in ("cut", "night", "status", "target"):
            table.add_column(name)
        for cut, what in undone:
            table.add_row(str(cut.number), str(cut.date), cut.status, what)
        console.print(table)


def _next_night(night: Night, last: Cut) -> Table:
    ends = night.log.end_offsets(night.source.topic)
    table = Table(title=f"a night of {night.source.topic} would take in now (cut {last.number + 1})")
    for name in ("partition", "from", "to", "offsets"):
        table.add_column(name, justify="right")
    for partition, (start, end) in enumerate(zip(last.offsets, ends, strict=True)):
        table.add_row(str(partition), f"{start:,}", f"{max(start, end):,}", f"{max(0, end - start):,}")
    return table


def _undone(night: Night, cut: Cut) -> Iterator[str]:
    """The incomplete targets of one cut, in the order they would be made."""
    if cut.status not in ("chosen", "published") or night.covered(cut.number):
        return
    targets = night.targets(cut.number)
    for partition in range(night.generation.partitions):
        if targets.master(partition).manifest(night.lake) is None:
            yield f"Archive partition {partition}"
        if targets.clean(partition).with_identities(night.lake) is None:
            yield f"Clean partition {partition}"
    for view in night.views:
        if targets.view(view.name).manifest(night.lake, night.is_kept) is None:
            yield f"FoldView {view.name}"
    if not night.staged(cut.number):
        yield "Stage"
    if cut.status == "chosen":
        yield "Publish"
