"""Feeds as commands run and show them: a line of progress, a summary, and the first rejected rows."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from console.commands.shortened import shorten
from ingestion.feed import Feed
from ingestion.feeding import Fed, Feeding
from ingestion.origin import Reading
from pipeline.base.crash import crash_points
from pipeline.lake.lake import Lake
from pipeline.log.kafka.feed_producer import KafkaFeedProducer
from pipeline.settings import Settings

BatchRows = Annotated[
    int, typer.Option("--batch", metavar="N", min=1, max=1_000_000, help="Rows of one transaction, at most.")
]


class FeedBars:
    """A line a feed, on standard error: rows sent and rejected, rows a second, and where it is."""

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
        )
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "FeedBars":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def show(self, feed: str, fed: Fed, where: str) -> None:
        """Tell how far it is."""
        if feed not in self.tasks:
            self.tasks[feed] = self.progress.add_task(feed, said="")
        elapsed_s = self.progress.tasks[self.tasks[feed]].elapsed or 1.0
        said = f"{fed.sent:,} sent, {fed.rejected:,} rejected, {fed.rows / max(elapsed_s, 0.1):,.0f} rows/s, {shorten(where, 40)}"
        self.progress.update(self.tasks[feed], said=said)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the transaction that is under way is still committed."""
    asked = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def opened(
    settings: Settings,
    feed: Feed,
    batch: int,
    asked: threading.Event,
    show: Callable[[str, Fed, str], None],
    shown_as: str | None = None,
    lasting: bool = True,
) -> Iterator[Feeding]:
    """The feed, begun; whoever fed it before is fenced."""
    producer = KafkaFeedProducer(
        settings.kafka_connection(), feed.source.topic, feed.name, crash=crash_points(), say=say
    )

    def secret(name: str) -> str:
        return settings.origin_secret(name).get_secret_value()

    def retried() -> None:
        feeding.fed.retries += 1

    feeding = Feeding(
        feed,
        producer,
        Lake(settings.lake),
        Reading(secret, report=say, retried=retried),
        batch,
        lasting,
        asked.is_set,
        lambda fed, where: show(shown_as or feed.name, fed, where),
    )
    try:
        feeding.begin()
        yield feeding
    finally:
        producer.close()


def document(name: str, topic: str, fed: Fed) -> dict[str, Any]:
    """One feed as JSON."""
    rejected = [row._asdict() for row in fed.first]
    counts = {"in": fed.rows, "sent": fed.sent, "rejected": fed.rejected, "retries": fed.retries}
    return {"feed": name, "topic": topic, **counts, "first": rejected}


def tell(name: str, topic: str, fed: Fed) -> None:
    """One feed for a person."""
    typer.echo(f"{name}: in {fed.rows:,} = sent {fed.sent:,} to topic {topic} + rejected {fed.rejected:,}")
    for row in fed.first:
        typer.echo(f"  {row.part}, {row.unit} {row.number}: {shorten(row.reason, 200)}")
    if fed.retries:
        typer.echo(f"  {fed.retries:,} requests or readings were made again")
    if fed.rejected > len(fed.first):
        typer.echo(f"  and {fed.rejected - len(fed.first):,} more")


def say(text: str) -> None:
    """A line on standard error."""
    typer.echo(text, err=True)


__all__ = ["FeedBars", "document", "opened", "say", "stopping", "tell"]
