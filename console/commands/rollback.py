"""`watershed rollback`: the last publish of a topic undone, and how far its answers go now."""

from typing import Annotated

import typer

from console.commands.chosen import one_topic
from serving.status import status
from serving.stores.operator import PostgresOperatorStore
from tasks.context import context
from tasks.current import try_write_current


def rollback(
    topic: Annotated[str | None, typer.Argument(help="The topic; needed when there are several.")] = None,
) -> None:
    """Undo the last publish of a topic: the batch before it is visible again, exact at once, also while workers run."""
    parts = context()
    topic = one_topic(topic, parts.topics, "watershed rollback")
    generation = parts.night(topic).generation
    cut = PostgresOperatorStore(parts.engine, parts.views, crash=parts.crash).rollback(generation)
    try_write_current(parts.night(topic))
    undone = max((c for c in parts.store.ledger(generation) if c.status == "withdrawn"), key=lambda c: c.number)
    typer.echo(
        f"{topic}: batch {undone.number} (night {undone.date}) is withdrawn; batch {cut.number} is visible again, cut {list(cut.offsets)}"
    )
    for p in (p for p in status(parts.engine).partitions if p.topic == topic):
        behind = undone.offsets[p.partition] - p.position
        note = f", {behind:,} offsets behind the withdrawn cut: workers read them again" if behind > 0 else ""
        typer.echo(f"  partition {p.partition}: exact up to position {p.position:,}{note}")
    typer.echo(f"its night {undone.date} will not run again; the next night of another date covers everything")
