"""Feeds, declared: the rows of an origin that become records of a Source's topic, each of them once.

    FEEDS = (feed, ...) of a views module, names all different; a topic's Source is that of its views

How far a feed has come is no part of this: it is in Kafka, in the transactions that carry the records.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ingestion.origin import Origin
from ingestion.origins.topic import Topic
from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError, did_you_mean
from pipeline.definition.formats import Json
from pipeline.definition.marks import FromRecord
from pipeline.definition.record import Column, column_named
from pipeline.definition.source import Source
from pipeline.definition.table import check_cursor
from pipeline.definition.views_module import load_views


@dataclass(frozen=True)
class Feed(metaclass=Declared):
    """Rows of `origin` onto the topic of `source`, keyed by its key; what the source would reject is not sent, and kept with its place.

    Without `cursor`, each part of the origin (a file) is sent once, and one that changed since is refused. With `cursor`, a column of the
    record that is never null, a number or a time, the rows are sent that are above the greatest one sent so far, and those at it that
    were not sent. The usual mistakes: a file that grows, instead of new files; a cursor that a row may get late, below the greatest.
    """

    name: str
    origin: Origin
    source: Source
    cursor: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,99}", self.name):
            raise DefinitionError(
                f"Feed: name {self.name!r} is none; allowed are up to 100 letters, digits, '.', '_' and '-'"
            )
        what = f"Feed({self.name})"
        if not isinstance(self.origin, Origin):
            raise DefinitionError(
                f"{what}: origin={self.origin!r} is no origin; allowed is one of ingestion's, as Files('in/*.csv')"
            )
        if isinstance(self.origin, Topic) and self.cursor is None:
            raise DefinitionError(
                f"{what}: a topic goes on growing; give cursor=, the column by which new records are known"
            )
        check_source(self.source, what)
        if self.cursor is not None:
            check_cursor(self.source.record, self.cursor, what)

    @property
    def key_column(self) -> Column:
        """The column whose value is the records' key."""
        return column_named(self.source.record, self.source.key, f"Feed({self.name}): key")

    @property
    def cursor_column(self) -> Column | None:
        """The column that `cursor` names."""
        return None if self.cursor is None else column_named(self.source.record, self.cursor, f"Feed({self.name})")


def check_source(source: Source, what: str) -> None:
    """DefinitionError unless rows can be written as events of the source: plain JSON, nothing outside of the value."""
    if not isinstance(source, Source):
        raise DefinitionError(f"{what}: source={source!r} is no Source")
    if not isinstance(source.format, Json) or source.format.framed:
        raise DefinitionError(
            f"{what}: topic {source.topic} has format={source.format!r}; a feed writes Json() alone: feed it by a producer of your own"
        )
    if source.exploded:
        raise DefinitionError(f"{what}: topic {source.topic} has explode=; a feed's row is one row of its record")
    for column in source.columns:
        if column.mark(FromRecord):
            raise DefinitionError(
                f"{what}: {source.record.__name__}.{column.name} is read from around the event; a feed's row is the event alone: key and"
                " timestamp follow from it"
            )


def feed_named(feeds: Sequence[Feed], name: str) -> Feed:
    """The feed of that name; DefinitionError lists those there are."""
    known = {feed.name: feed for feed in feeds}
    if name not in known:
        there = f"there are {', '.join(known)}." if known else "the views module declares no FEEDS."
        raise DefinitionError(f"there is no feed {name!r}; {there}{did_you_mean(name, list(known))}")
    return known[name]


def load_feeds(module: str) -> tuple[Feed, ...]:
    """FEEDS of an importable module; () where it declares none. DefinitionError when it is not what it must be."""
    sources = {view.source.topic: view.source for view in load_views(module)}
    given = getattr(sys.modules[module], "FEEDS", ())
    what = f"views module {module!r}"
    if not isinstance(given, tuple) or not all(isinstance(one, Feed) for one in given):
        raise DefinitionError(
            f"{what} has FEEDS that is no tuple of Feed values; allowed is FEEDS = (feed, ...), and (feed,) of one"
        )
    names = [feed.name for feed in given]
    for feed in given:
        if names.count(feed.name) > 1:
            raise DefinitionError(f"{what} has two feeds named {feed.name!r}; rename one")
        if sources.setdefault(feed.source.topic, feed.source) != feed.source:
            raise DefinitionError(
                f"{what}: feed {feed.name!r} has another Source for topic {feed.source.topic!r} than its views; a topic has one"
            )
    return given


__all__ = ["Feed", "check_source", "load_feeds"]
