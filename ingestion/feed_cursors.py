"""Progress of feeds, as their committed transactions say: read without fencing whoever feeds.

newest(feed) = the cursor that the feed's next run begins with, as long as no transaction is under way
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from ingestion.feed_cursor import Cursor
from pipeline.log.kafka.feed_producer import CURSORS
from pipeline.log.log import Log, MissingTopic


@dataclass(frozen=True)
class FeedCommit:
    """One committed transaction of a feed: its time, and the cursor behind it as it stands in Kafka."""

    feed: str
    at: datetime
    told: bytes

    @property
    def cursor(self) -> Cursor:
        """The cursor; Refused where a newer Watershed wrote it."""
        return Cursor.from_bytes(self.told, self.feed)


def feed_commits(log: Log) -> list[FeedCommit]:
    """Transactions that Kafka still has, in their order; of each feed at least the newest, for the topic is compacted."""
    try:
        start, end = log.start_offsets(CURSORS)[0], log.end_offsets(CURSORS)[0]
    except MissingTopic:
        return []
    found = []
    for block in log.read(CURSORS, 0, start, end):
        for row in block.batch.select(["timestamp_ms", "key", "value"]).to_pylist():
            if row["value"] is not None:
                name, at = row["key"].decode(), datetime.fromtimestamp(row["timestamp_ms"] / 1000, UTC)
                found.append(FeedCommit(name, at, row["value"]))
    return found


def newest_commits(log: Log) -> dict[str, FeedCommit]:
    """By feed; also feeds of others who have the same Kafka."""
    return {commit.feed: commit for commit in feed_commits(log)}


__all__ = ["FeedCommit", "feed_commits", "newest_commits"]
