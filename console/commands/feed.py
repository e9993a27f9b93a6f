"""`watershed feed`: the new rows of declared feeds onto their topics, in transactions that carry how far each feed has come."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Annotated

import typer

from console.commands.documents import print_document
from console.commands.fed import BatchRows, FeedBars, document, opened, say, stopping, tell
from ingestion.feed import Feed, feed_named, load_feeds
from ingestion.feeding import BATCH_ROWS, Fed, Feeding
from ingestion.retrying import Retrier
from pipeline.base.errors import DefinitionError, OriginAway, WatershedError
from pipeline.log.log import Unreachable
from pipeline.settings import Settings

EVERY_S = 5.0


def feed(
    feeds: Annotated[list[str] | None, typer.Argument(metavar="[FEED]...", help="Feeds; all by default.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again and again, until SIGTERM; files once nobody writes them.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="S", min=0.1, help="Seconds between two looks of --follow.")
    ] = EVERY_S,
    batch: BatchRows = BATCH_ROWS,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Send the new rows of the declared feeds onto their topics, each once. Safe to kill, and to run again."""
    settings = Settings.load()
    chosen = _chosen(feeds or [], load_feeds(settings.views))
    with stopping() as asked, FeedBars() as bars:
        runs = [_Run(settings, one, batch, asked, bars.show) for one in chosen]
        left = runs
        while left and not asked.is_set():
            left = [run for run in left if not asked.is_set() and run.goes_on(follow)]
            if left:
                asked.wait(every)
        for run in runs:
            run.close()
    if as_json:
        print_document({"feeds": [document(run.feed.name, run.feed.source.topic, run.fed) for run in runs]})
    else:
        for run in runs:
            tell(run.feed.name, run.feed.source.topic, run.fed)
    for run in runs:
        if run.failed is not None:
            typer.echo(f"watershed: {run.failed.report()}", err=True)
    raise typer.Exit(1 if any(run.failed is not None for run in runs) else 0)


class _Run:
    """One feed of a call; one that fails leaves the others alone."""

    def __init__(
        self,
        settings: Settings,
        feed: Feed,
        batch: int,
        asked: threading.Event,
        show: Callable[[str, Fed, str], None],
    ) -> None:
        self.feed, self.fed = feed, Fed()
        self.failed: WatershedError | None = None
        self._open: Callable[[], AbstractContextManager[Feeding]] = lambda: opened(settings, feed, batch, asked, show)
        self._stack = ExitStack()
        self._feeding: Feeding | None = None

    def goes_on(self, follow: bool) -> bool:
        """Look once; True while there is another look to be made. What is away is looked for again, when following without an end."""
        try:
            if follow:
                self._look(settled=True)
            else:  # all that a look had not committed is gone with it, so that it may begin anew
                Retrier(say, count=self._retried)(lambda: self._look(settled=False))
        except WatershedError as error:
            if follow and isinstance(error, OriginAway | Unreachable):
                say(f"{self.feed.name}: {error}; trying again")
                return True
            self.failed = error
            return False
        if not follow:
            self.close()
        return follow

    def _look(self, settled: bool) -> None:
        try:
            if self._feeding is None:
                self._feeding = self._stack.enter_context(self._open())
                self._feeding.fed = self.fed
            self._feeding.look(settled=settled)
        except WatershedError:
            self.close()
            raise

    def _retried(self) -> None:
        self.fed.retries += 1

    def close(self) -> None:
        """Let go of connections."""
        self._stack.close()
        self._feeding = None


def _chosen(names: list[str], declared: tuple[Feed, ...]) -> list[Feed]:
    if not declared:
        raise DefinitionError("the views module declares no feeds; write FEEDS = (feed, ...), a tuple of Feed values")
    for name in names:
        feed_named(declared, name)
    return [one for one in declared if not names or one.name in names]


__all__ = ["feed"]
