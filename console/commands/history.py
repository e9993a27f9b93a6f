"""`watershed history`: which version of what was made when, from what; of one dataset, or the newest events of all."""

from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from console.commands.documents import print_document
from console.commands.history_lines import details, summary
from console.commands.waiting import patient_database, patient_log
from ingestion.feed import load_feeds
from ingestion.feed_cursors import FeedCommit, feed_commits
from ingestion.history import Event, feed_events, table_events, topic_events, view_events
from pipeline.base.errors import Refused, did_you_mean
from pipeline.settings import Settings
from serving.history import History, read_history

LIMIT = 20


def history(
    dataset: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="A table, view, topic or feed; all by default.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Events to show, the newest.")] = LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output, with all that is known.")] = False,
) -> None:
    """Show lineage: which version of what was made when, from which files, query, cursor, log and definition."""
    settings = Settings.load()
    every = _Events(settings)
    events = every.of(dataset) if dataset is not None else every.all()
    newest = sorted(events, key=lambda event: event["at"], reverse=True)
    if as_json:
        print_document({"dataset": dataset, "total": len(newest), "events": newest[:limit]})
    elif not newest:
        typer.echo(f"{dataset or 'nothing'} has no history yet")
    else:
        Console().print(_table(dataset, newest, limit))


class _Events:
    """The datasets that there are, by name, and their events."""

    def __init__(self, settings: Settings) -> None:
        self._views = {view.name: view for view in settings.load_views()}
        feeds = load_feeds(settings.views)
        self._history: History = read_history(patient_database(settings, "history"))
        self._commits = self._read_commits(settings) if feeds else []
        cuts = self._history.cuts
        told = [name for views in self._history.views.values() for name in views]
        self._names = {
            "table": list(dict.fromkeys((*(t.name for t in settings.load_tables()), *self._history.tables))),
            "view": list(dict.fromkeys((*self._views, *told))),
            "topic": list(dict.fromkeys((*(v.source.topic for v in self._views.values()), *(c.topic for c in cuts)))),
            "feed": [feed.name for feed in feeds],
        }

    @staticmethod
    def _read_commits(settings: Settings) -> list[FeedCommit]:
        log = patient_log(settings)
        try:
            return feed_commits(log)
        finally:
            log.close()

    def of(self, name: str) -> list[Event]:
        """Events of what has that name; Refused where nothing has."""
        kinds = [kind for kind, names in self._names.items() if name in names]
        if not kinds:
            known = [one for names in self._names.values() for one in names]
            raise Refused(f"there is no dataset {name!r}; there are {', '.join(known)}.{did_you_mean(name, known)}")
        return [event for kind in kinds for event in self._of(kind, name)]

    def all(self) -> list[Event]:
        """Events of everything; a view's batches are its topic's cuts, and are told once, as those."""
        return [
            event
            for kind, names in self._names.items()
            if kind != "view"
            for name in names
            for event in self._of(kind, name)
        ]

    def _of(self, kind: str, name: str) -> list[Event]:
        match kind:
            case "table":
                return table_events(self._history, name, {view.name: view.tables for view in self._views.values()})
            case "view":
                return view_events(self._history, name, self._views[name].tables if name in self._views else None)
            case "topic":
                return topic_events(self._history, name)
        return feed_events(self._commits, name)


def _table(dataset: str | None, events: list[Event], limit: int) -> Table:
    title = dataset or "everything"
    more = f", the newest {limit:,} of {len(events):,}" if len(events) > limit else ", newest first"
    table = Table(title=f"history of {title}{more}", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("time (UTC)", no_wrap=True)
    if dataset is None:
        table.add_column("dataset", overflow="fold", max_width=20)
    table.add_column("what", overflow="fold")
    for event in events[:limit]:
        lines: list[Any] = [escape(summary(event))]
        lines += [f"[dim]{escape(line)}[/]" for line in (details(event) if dataset is not None else [])]
        cells = [f"{event['at']:%Y-%m-%d\n%H:%M:%S}", *([escape(event["name"])] if dataset is None else [])]
        table.add_row(*cells, "\n".join(lines))
    return table


__all__ = ["history"]
