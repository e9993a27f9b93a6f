"""`watershed feed`: the new rows of declared feeds onto their topics, in transactions that carry how far each feed has come."""

from typing import Annotated, Any

import typer

from console.commands.documents import print_document
from console.commands.fed import FeedBars, document, opened, say, stopping, tell
from ingestion.feed import Feed, load_feeds
from ingestion.feeding import BATCH_ROWS, Feeding
from pipeline.base.errors import DefinitionError, OriginAway, Refused, did_you_mean
from pipeline.log.log import Unreachable
from pipeline.settings import Settings


def feed(
    feeds: Annotated[list[str] | None, typer.Argument(metavar="[FEED]...", help="Feeds; all by default.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again and again, until SIGTERM; files once nobody writes them.")
    ] = False,
    every: Annotated[float, typer.Option(metavar="S", min=0.1, help="Seconds between two looks of --follow.")] = 5.0,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="Rows of one transaction, at most.")
    ] = BATCH_ROWS,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Send the new rows of the declared feeds onto their topics, each once. Safe to kill, and to run again."""
    settings = Settings.load()
    chosen = _chosen(feeds or [], load_feeds(settings.views))
    found: list[dict[str, Any]] = []
    with stopping() as asked, FeedBars() as bars:
        if follow and len(chosen) > 1:
            raise Refused(f"--follow takes one feed, and each its own process: say which, of {_names(chosen)}")
        for one in chosen:
            if asked.is_set():
                break
            feeding: Feeding | None = None
            while True:
                try:
                    with opened(settings, one, batch, asked, bars.show) as feeding_now:
                        if feeding is not None:
                            feeding_now.fed = feeding.fed
                        feeding = feeding_now
                        feeding.look()
                        while follow and not asked.wait(every):
                            feeding.look(settled=True)
                    break
                except (OriginAway, Unreachable) as error:
                    if not follow or asked.wait(every):
                        raise
                    say(f"{error}; trying again")
            if not as_json:
                tell(one.name, one.source.topic, feeding.fed)
            found.append(document(one.name, one.source.topic, feeding.fed))
    if as_json:
        print_document({"feeds": found})


def _chosen(names: list[str], declared: tuple[Feed, ...]) -> list[Feed]:
    known = [one.name for one in declared]
    if not known:
        raise DefinitionError("the views module declares no feeds; write FEEDS = (feed, ...), a tuple of Feed values")
    for name in names:
        if name not in known:
            raise DefinitionError(
                f"there is no feed {name!r}; there are {', '.join(known)}.{did_you_mean(name, known)}"
            )
    return [one for one in declared if not names or one.name in names]


def _names(chosen: list[Feed]) -> str:
    return ", ".join(one.name for one in chosen)


__all__ = ["feed"]
