"""`watershed ingest`: files, or standard input, onto a declared source's topic; each is a feed of its own and goes on where it was."""

from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from console.commands.chosen import one_topic
from console.commands.documents import print_document
from console.commands.fed import BatchRows, FeedBars, document, opened, stopping, tell
from ingestion.feed import Feed
from ingestion.feeding import BATCH_ROWS
from ingestion.origin import Origin
from ingestion.origins.files import Files
from ingestion.origins.stdin import Stdin
from pipeline.settings import Settings, by_source

STDIN = "-"


def ingest(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic of a declared source.")],
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files of any format that their suffix tells; - is JSON lines."),
    ],
    batch: BatchRows = BATCH_ROWS,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Send the rows of files, or of standard input, onto a topic: each file once, however often this is run or killed."""
    settings = Settings.load()
    sources = {name: views[0].source for name, views in by_source(settings.load_views()).items()}
    source = sources[one_topic(topic, list(sources), "watershed ingest")]
    feeds = [(shown, Feed(_name(topic, shown), _origin(shown), source)) for shown in files]
    found: list[dict[str, Any]] = []
    with stopping() as asked, FeedBars() as bars:
        for shown, feed in feeds:
            if asked.is_set():
                break
            lasting = shown != STDIN
            with opened(settings, feed, batch, asked, bars.show, shown, lasting) as feeding:
                feeding.look()
            if not as_json:
                tell(shown, topic, feeding.fed)
            found.append(document(shown, topic, feeding.fed))
    if as_json:
        print_document({"files": found})


def _origin(shown: str) -> Origin:
    return Stdin() if shown == STDIN else Files(shown if "://" in shown else str(Path(shown).absolute()))


def _name(topic: str, shown: str) -> str:
    """The feed of a file: by its topic and where it is."""
    if shown == STDIN:
        return f"stdin.{uuid4().hex}"
    where = shown if "://" in shown else str(Path(shown).absolute())
    return f"file.{blake2b(f'{topic} {where}'.encode(), digest_size=16).hexdigest()}"


__all__ = ["ingest"]
