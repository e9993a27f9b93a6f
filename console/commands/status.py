"""`watershed status`: how every partition stands, the cuts and the workers; it fits the terminal, whatever its width.

lag = log end - position        unknown while Kafka does not answer, which is not 0
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from console.commands.documents import print_document
from pipeline.base.errors import LogError
from pipeline.log.kafka.log import KafkaLog
from pipeline.settings import Settings
from serving.postgres.connection import engine
from serving.status import PartitionStatus, Status
from serving.status import status as read_status

KAFKA_PATIENCE_S = 1.5  # somebody waits for the answer, and Postgres alone can say most of it
WIDE = 100  # columns of a terminal that has room for the log's end beside the lag
KEPT_CUTS = 10


def status(as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False) -> None:
    """Positions, cuts, lag, workers and batches.

    What only Kafka knows is left open where it does not answer, and its error comes last, with exit code 1.
    """
    settings = Settings.load()
    found = read_status(engine(settings.postgres_url(), application_name="watershed status"))
    log, ends, trouble = KafkaLog(settings.kafka_connection(), timeout_s=KAFKA_PATIENCE_S), dict[str, list[int]](), None
    for topic in found.ledger:
        try:
            ends[topic] = log.end_offsets(topic)
        except LogError as error:
            trouble = error
            break  # the next topic would wait as long again
    rows = [_row(p, ends.get(p.topic, [])) for p in found.partitions]
    if as_json:
        ledgers = {topic: [asdict(c) for c in ledger] for topic, ledger in found.ledger.items()}
        print_document({"partitions": rows, "cuts": ledgers, "workers": dict(found.workers)})
    else:
        _print(found, rows)
    if trouble is not None:
        raise trouble


def _row(p: PartitionStatus, ends: list[int]) -> dict[str, Any]:
    """One partition; a topic made anew may have fewer."""
    end = ends[p.partition] if p.partition < len(ends) else None
    return {**asdict(p), "log_end": end, "lag": None if end is None else end - p.position}


def _print(found: Status, rows: list[dict[str, Any]]) -> None:
    console = Console()
    for topic, ledger in found.ledger.items():
        console.print(_partitions(topic, [r for r in rows if r["topic"] == topic], console.width))
        cuts = Table(title=f"cuts of {topic}", title_justify="left", box=SIMPLE)
        for name in ("number", "night", "offsets", "status", "chosen"):
            cuts.add_column(name, no_wrap=name != "offsets", overflow="fold")
        for c in ledger[-KEPT_CUTS:]:
            cuts.add_row(str(c.number), str(c.date or "start"), str(list(c.offsets)), c.status, _ago(c.chosen_at))
        console.print(cuts)
        workers = ", ".join(found.workers.get(topic, [])) or "none: run `watershed speed`"
        console.print(f"workers of {topic}: {workers}", soft_wrap=True)


def _partitions(topic: str, rows: list[dict[str, Any]], width: int) -> Table:
    """A row a partition. On a narrow terminal the log's end goes first, then the worker's name is cut; the partition never."""
    table = Table(title=f"partitions of {topic}", title_justify="left", box=SIMPLE)
    figures = ["cut", "position", *(["log end"] if width >= WIDE else []), "lag"]
    for name in ("partition", *figures, "cut at", "position at"):
        table.add_column(name, justify="right" if name not in ("cut at", "position at") else "left", no_wrap=True)
    table.add_column("worker", no_wrap=True, overflow="ellipsis", ratio=1)
    for r in rows:
        held = r["worker"] if r["lease_s"] is not None and r["lease_s"] > 0 else "-"
        shown = ("?" if (value := r[name.replace(" ", "_")]) is None else f"{value:,}" for name in figures)
        table.add_row(str(r["partition"]), *shown, _ago(r["cut_at"]), _ago(r["position_at"]), held)
    return table


def _ago(then: datetime) -> str:
    """The age in its largest unit: short, so that a row fits 80 columns."""
    seconds = max(0.0, (datetime.now(UTC) - then).total_seconds())
    for unit, of_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * of_s:
            return f"{seconds // of_s:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
