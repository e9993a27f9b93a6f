"""A replay of a feed: rejected rows that are accepted now go onto its topic, in one transaction with the cursor that says so.

    sent and marked, or neither        taken = sent + rejected, before and after

The transaction carries the records, and a cursor that names a new file of the chain: which rows of those before it are taken, and
those that were rejected again. Whoever feeds is fenced, and so is another replay; a replay that died sent all or nothing.

A feed with a cursor column reads its newest rows again, also those that it rejected: those it leaves to the replay (feed_sieve), and tells
them by their bytes. Where the columns of the record changed it cannot, and sends them itself: then the replay leaves them.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ingestion.feed import Feed
from ingestion.feed_cursor import Cursor
from ingestion.feeding import FeedProducer, key_bytes
from ingestion.origin import Origin, Reading
from ingestion.rejected.chosen import Taken, choose, take_by_rule, take_from_file
from ingestion.rejected.feed_files import read_rejects, record_mark, recorded_mark, write_rejects
from ingestion.rejected.rows import RowsWanted
from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import Refused
from pipeline.lake.lake import Lake
from pipeline.log.partitioner import partitions_of

OTHER_COLUMNS = (
    "the record's columns changed since it was rejected, and the feed sends by itself what it reads again; give a row that it does not read"
    " again with --file"
)


@dataclass(frozen=True)
class FeedReplay:
    """One feed, its producer, and the rows that are wanted; `mended` is a file of rows in their place."""

    feed: Feed
    lake: Lake
    wanted: RowsWanted
    mended: Origin | None = None
    reading: Reading = Reading(str)  # noqa: RUF009 -- frozen
    crash: CrashPoints = NoCrash()  # noqa: RUF009 -- frozen

    def plan(self, cursor: Cursor | None) -> Taken:
        """Decide what would be sent; nothing is changed. Refused where nothing was fed."""
        if cursor is None:
            command = f"watershed feed {self.feed.name}"
            raise Refused(f"feed {self.feed.name} has sent nothing yet: run `{command}`", repair=command)
        record = self.feed.source.record
        chosen = choose(read_rejects(self.lake, cursor.rejects), self.wanted, f"feed {self.feed.name}")
        if self.mended is not None:
            return take_from_file(chosen, self.mended, self.reading, record)
        taken = take_by_rule(chosen, record, self.feed.origin.textual)
        return taken if self.feed.cursor is None else self._without_other_columns(taken)

    def _without_other_columns(self, taken: Taken) -> Taken:
        now, chosen = record_mark(self.feed.source), taken.chosen
        same = np.array([recorded_mark(kept) == now for kept in chosen.files], np.bool_)
        kept = same[chosen.file[taken.of]] if len(taken.of) else np.empty(0, np.bool_)
        places = pa.array(np.flatnonzero(kept), pa.int64())
        left = taken.left | dict.fromkeys(taken.of[~kept].tolist(), OTHER_COLUMNS)
        accepted, values = taken.accepted.take(places), taken.values.take(places)
        return Taken(chosen, accepted, values, taken.of[kept], taken.again, taken.of_again, left)

    def run(self, producer: FeedProducer) -> Taken:
        """Fence whoever feeds, decide anew by the cursor that is committed then, and send; the rows that were taken."""
        producer.begin()
        told = producer.cursor()
        cursor = None if told is None else Cursor.from_bytes(told, self.feed.name)
        taken = self.plan(cursor)
        assert cursor is not None, "a plan needs one"
        if cursor.topic_id != producer.described.topic_id:
            raise Refused(
                f"feed {self.feed.name}: topic {self.feed.source.topic} was made anew since its rows were rejected; give the Feed another"
                " name, and all is sent again"
            )
        count = taken.accepted.num_rows
        if count:
            feed, before = self.feed, cursor.rejects
            cursor.rejects = write_rejects(self.lake, feed.name, taken.again, before, feed.source, taken.places)
            cursor.sent, cursor.rejected = cursor.sent + count, cursor.rejected - count
            self.crash.reach("replay.kept")
            keys = key_bytes(taken.accepted.column(feed.source.key), feed.key_column.type)
            partitions = partitions_of(keys, producer.described.partitions)
            producer.send_all(partitions, keys, taken.values, cursor.to_bytes())
        return taken


__all__ = ["FeedReplay"]
