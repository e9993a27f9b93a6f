"""Feeding: rows of an origin become records of a topic, each once, whatever is killed when.

    rows taken = sent + rejected, in every transaction        records committed in the topic <=> counted by the committed cursor

How: the writer of the feed fences the one before, reads the cursor of the newest committed transaction, and goes on behind it; each of
its transactions carries records and the cursor that counts them. Rows are judged by the layers' own decoder before they are sent.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, cast
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.feed import Feed
from ingestion.feed_cursor import Cursor
from ingestion.feed_sieve import Sieve
from ingestion.feed_spool import Spool, Spooled
from ingestion.origin import Part, Reading, Rows
from ingestion.rejected.feed_files import write_rejects
from ingestion.rejected.rows import SCHEMA, rejected_table
from ingestion.typed import typed
from pipeline.base.errors import OriginError, Refused
from pipeline.base.types import ColumnType
from pipeline.definition.paths import shown
from pipeline.lake.lake import Lake
from pipeline.log.log import TopicDescription
from pipeline.log.partitioner import Numbers, partitions_of

BATCH_ROWS = 50_000  # of one transaction of Kafka's
BATCH_BYTES = 32 * 1024 * 1024
BATCH_S = 5.0  # rows do not wait longer than this for others to go with
SHOWN = 10  # rejected rows that a run shows


NONE = pa.array([], pa.binary())


class FeedProducer(Protocol):
    """The feed's writer; pipeline.log.kafka.feed_producer tells of each."""

    described: TopicDescription

    def begin(self) -> None:
        """Fence whoever fed before."""

    def cursor(self) -> bytes | None:
        """The newest committed cursor."""

    def send_all(self, partitions: Numbers, keys: pa.Array, values: pa.Array, cursor: bytes | None) -> None:
        """One transaction."""


class Reject(NamedTuple):
    """A rejected row, as it is shown."""

    part: str
    number: int
    unit: str
    reason: str


@dataclass
class Fed:
    """Rows that one run took; rows = sent + rejected. `first` has the first of the rejected ones; `retries` are requests made again."""

    sent: int = 0
    rejected: int = 0
    retries: int = 0
    first: list[Reject] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows taken."""
        return self.sent + self.rejected


class Judged(NamedTuple):
    """Rows on their way: accepted ones as keys and values (binary), and rejected ones (rejected.rows.SCHEMA)."""

    keys: pa.Array
    values: pa.Array
    rejected: pa.Table
    cursors: pa.Array | None = None  # values of the cursor column, where the feed has one

    @property
    def rows(self) -> int:
        """Rows, of either kind."""
        return len(self.keys) + int(self.rejected.num_rows)


@dataclass
class Feeding:
    """One feed, one process. `lasting=False`: no cursor is kept, as for what is read only once. `stop()` ends it between transactions."""

    feed: Feed
    producer: FeedProducer
    lake: Lake
    reading: Reading
    batch_rows: int = BATCH_ROWS
    lasting: bool = True
    stop: Callable[[], bool] = lambda: False
    progress: Callable[[Fed, str], None] = lambda fed, part: None
    fed: Fed = field(default_factory=Fed)

    def begin(self) -> None:
        """Fence whoever feeds it now, and learn how far it is; once before `look`, and again after an error."""
        self.producer.begin()
        kept, topic_id = self.producer.cursor() if self.lasting else None, self.producer.described.topic_id
        self._cursor = Cursor(topic_id) if kept is None else Cursor.from_bytes(kept, self.feed.name)
        if self._cursor.topic_id != topic_id:
            raise Refused(
                f"feed {self.feed.name}: topic {self.feed.source.topic} was made anew since, and has not what was sent to the one before;"
                " give the Feed another name, and all is sent again"
            )
        self._committed = kept or b""
        self._gathered: list[Judged] = []
        self._since_s = time.monotonic()
        self._seen: dict[str, str] = {}

    def look(self, settled: bool = False) -> None:
        """Send what there is now. `settled`: only parts that were there, just so, at the look before: nobody is writing them."""
        parts = list(self.feed.origin.parts(self.reading))
        if self.feed.cursor is not None:
            self._by_cursor(parts)
            return
        before, self._seen = self._seen, {part.name: part.version for part in parts}
        left = self._cursor.left(parts, self.feed.name) if self.lasting else parts
        for part in left:
            if self.stop():
                break
            if not settled or part.name == self._cursor.part or before.get(part.name) == part.version:
                self._take(part)
        self.commit()

    def _take(self, part: Part) -> None:
        cursor = self._cursor
        cursor.part, cursor.version = part.name, part.version
        for rows in self.feed.origin.read(part, self.reading):
            for piece in pieces(behind(rows, cursor.number), self.batch_rows):
                judged = self.judge(piece, part)
                self.gather(judged)
                cursor.number = last_of(piece)
                self.flush_when_due(part.name)
            if self.stop():
                return
        cursor.finish()

    def judge(self, rows: Rows, part: Part) -> Judged:
        """The rows by the layers' own decoder. OriginError, with the part's name, where they are of another kind altogether."""
        feed = self.feed
        try:
            found = typed(rows, feed.source.record, feed.origin.textual, values=True)
        except OriginError as error:
            raise type(error)(f"{part.name}: {error.text}", repair=error.repair) from None
        keys = key_bytes(found.accepted.column(feed.source.key), feed.key_column.type)
        assert found.values is not None, "they were asked for"
        cursors = None if feed.cursor is None else found.accepted.column(feed.cursor)
        return Judged(keys, found.values, rejected_table(found.rejected, part, found.unit), cursors)

    def _by_cursor(self, parts: Sequence[Part]) -> None:
        """Send the rows above what was sent, once the reading is whole; in the order of the cursor, so that it may end between any two."""
        column, cursor = self.feed.cursor_column, self._cursor
        assert column is not None, "asked for by a feed with a cursor"
        sieve = Sieve(cursor, column.type, self.feed.name)
        reading = replace(self.reading, cursor=shown(column.path), since=sieve.since)
        with Spool(column.type.arrow) as spool:
            for part in parts:
                for rows in self.feed.origin.read(part, reading):
                    for piece in pieces(rows, self.batch_rows):
                        judged = self.judge(piece, part)
                        assert judged.cursors is not None, "the feed has a cursor"
                        spool.add(sieve.new(Spooled(judged.keys, judged.values, judged.cursors)))
                        self.gather(Judged(NONE, NONE, sieve.newly_rejected(judged.rejected)))
                        if self.stop():
                            self._gathered = []
                            return
            cursor.refused = sieve.refused
            for chunk in spool.ordered(self.batch_rows):
                sieve.advance(chunk)
                self.gather(Judged(chunk.keys, chunk.values, SCHEMA.empty_table()))
                self.commit()
                self.progress(self.fed, str(cursor.since))
                if self.stop():
                    return
        self.commit()

    def gather(self, judged: Judged) -> None:
        """Rows that go with the next transaction."""
        if not self._gathered:
            self._since_s = time.monotonic()
        self._gathered.append(judged)

    def flush_when_due(self, where: str) -> None:
        """Commit when there is enough, or it has waited long enough."""
        rows = sum(one.rows for one in self._gathered)
        size = sum(one.values.nbytes + one.rejected.nbytes for one in self._gathered)
        if rows >= self.batch_rows or size >= BATCH_BYTES or time.monotonic() - self._since_s >= BATCH_S:
            self.commit()
            self.progress(self.fed, where)

    def commit(self) -> None:
        """One transaction with the rows that are gathered and the cursor behind them; none where nothing has changed."""
        cursor, gathered = self._cursor, self._gathered
        rejected = pa.concat_tables([SCHEMA.empty_table(), *(one.rejected for one in gathered)])
        sent = sum(len(one.keys) for one in gathered)
        if rejected.num_rows:
            cursor.rejects = write_rejects(self.lake, self.feed.name, rejected, cursor.rejects, self.feed.source)
        cursor.sent, cursor.rejected = cursor.sent + sent, cursor.rejected + rejected.num_rows
        told = cursor.to_bytes()
        if any(one.rows for one in gathered) or (self.lasting and told != self._committed):
            keys = pa.concat_arrays([NONE, *(one.keys for one in gathered)])
            values = pa.concat_arrays([NONE, *(one.values for one in gathered)])
            partitions = partitions_of(keys, self.producer.described.partitions)
            self.producer.send_all(partitions, keys, values, told if self.lasting else None)
        self._gathered, self._committed = [], told
        self.fed.sent, self.fed.rejected = self.fed.sent + sent, self.fed.rejected + rejected.num_rows
        shown = rejected.select(["part", "number", "unit", "reason"]).slice(0, SHOWN - len(self.fed.first)).to_pylist()
        self.fed.first += [Reject(**row) for row in shown]


def behind(rows: Rows, number: int) -> Rows:
    """The rows whose place is behind that one."""
    if number <= 0 or not len(rows.numbers) + len(rows.broken):
        return rows
    first = int(np.searchsorted(rows.numbers, number, side="right"))
    broken = [row for row in rows.broken if row.number > number]
    return Rows(rows.batch.slice(first), rows.numbers[first:], broken, rows.unit)


def pieces(rows: Rows, count: int) -> Iterator[Rows]:
    """The same rows, at most `count` given ones at a time; broken ones go with those that they stand among."""
    given = rows.batch.num_rows
    low = -1
    for start in range(0, max(given, 1), count):
        end = start + count
        high = int(rows.numbers[end]) if end < given else None
        broken = [row for row in rows.broken if row.number > low and (high is None or row.number < high)]
        piece = Rows(rows.batch.slice(start, count), rows.numbers[start:end], broken, rows.unit)
        if piece.batch.num_rows or broken:
            yield piece
        low = high - 1 if high is not None else low


def last_of(rows: Rows) -> int:
    """The place of the last row, given or broken."""
    last: int = max([*rows.numbers[-1:].tolist(), *(row.number for row in rows.broken)])
    return last


def key_bytes(column: pa.Array, type: ColumnType) -> pa.Array:
    """The key of each record (binary): the text of its value in UTF-8, of bytes themselves."""
    if type.kind in ("str", "bytes"):
        return column.cast(pa.binary())
    if type.kind == "uuid":
        distinct = column.dictionary_encode()
        shown_ids = [str(UUID(bytes=one)).encode() for one in distinct.dictionary.to_pylist()]
        return pa.array(shown_ids, pa.binary()).take(distinct.indices)
    if type.kind == "datetime":
        texts: Any = pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ")
        return cast("pa.Array", texts.cast(pa.binary()))
    return column.cast(pa.string()).cast(pa.binary())


__all__ = ["Fed", "FeedProducer", "Feeding", "Judged", "Reject", "behind", "key_bytes", "pieces"]
