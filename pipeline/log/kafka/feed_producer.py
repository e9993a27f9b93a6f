"""A feed's writer on Kafka: records, and how far the feed has come, in one transaction.

append = one transaction over the topic and CURSORS        read_committed of CURSORS = what is read_committed in the topic

CURSORS is a compacted topic, as Kafka Connect keeps the offsets of its sources: the offsets of a consumer group would be forgotten after
offsets.retention.minutes (a week) of rest, and all would be sent again; and they have room for 4 KiB.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.base.crash import CrashPoints
from pipeline.base.errors import LogError
from pipeline.log.kafka.client import (
    CONSUMER_CONFIG,
    IsolationLevel,
    KafkaAdminClient,
    KafkaConsumer,
    OffsetSpec,
    TopicPartition,
    kafka_errors,
    needing,
    open_client,
    positions,
)
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.kafka.producer import TRANSACTION_S, KafkaLogProducer, cause
from pipeline.log.kafka.ready_batches import TOO_LARGE, Columns, SentBatch, send_columns
from pipeline.log.log import TopicDescription
from pipeline.log.partitioner import Numbers

CURSORS = "watershed.feeds"
MESSAGE_BYTES = 1_048_588  # Kafka's default for max.message.bytes
MOST_BYTES = 900_000  # of a cursor: below that
UNDECIDED_S = (
    2 * TRANSACTION_S
)  # another feed that died with its cursor sent holds up readers for as long as its transaction may last


class KafkaFeedProducer(KafkaLogProducer):
    """The writer of one feed: `begin`, then `cursor`, then `append` as often as there is something.

    A second one that begins fences this one: its next `append` raises Fenced. After an error of `append` its outcome is unknown: begin
    anew, and ask for the cursor.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        feed: str,
        *,
        name: str | None = None,
        timeout_s: float = 10.0,
        crash: CrashPoints | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(connection, topic, name or f"watershed-feed-{feed}", timeout_s=timeout_s, crash=crash)
        self.feed = feed
        self._say = say
        self.described: TopicDescription

    def begin(self) -> None:
        """Fence earlier writers of the feed, abort what they left open, and see to CURSORS."""
        self._guarded(self._make_cursors)
        super().begin()

    def cursor(self) -> bytes | None:
        """The cursor of the newest committed transaction of the feed; None before the first. LogError where it cannot be told yet."""
        found: bytes | None = self._guarded(self._read_cursor)
        return found

    def send_all(self, partitions: Numbers, keys: pa.Array, values: pa.Array, cursor: bytes | None) -> None:
        """Append the records and the cursor (None: of a feed that keeps none) in one transaction; Fenced when another writer has begun.

        `keys` and `values` are binary, none of them null; the records of a partition stay in their order.
        """
        if cursor is not None and len(cursor) > MOST_BYTES:
            raise LogError(
                f"feed {self.feed} would have to remember {len(cursor):,} bytes, and {MOST_BYTES:,} fit: it has too many files or too many"
                " rows of one cursor value; make several feeds of it"
            )
        self._guarded(lambda: self._transaction(partitions, keys, values, cursor))

    def _transaction(self, partitions: Numbers, keys: pa.Array, values: pa.Array, cursor: bytes | None) -> None:
        producer, stamp = self._producer, time.time_ns() // 1_000_000
        most_bytes = int(self.described.configs.get("max.message.bytes", MESSAGE_BYTES))
        with needing("Write"):
            producer.begin_transaction()
            producer.partitions_for(self.topic)  # the leaders are known then
            sent: list[SentBatch] = []
            records = Columns.of(keys, values)
            for partition in np.unique(partitions).tolist():
                at, rows = TopicPartition(self.topic, partition), np.flatnonzero(partitions == partition)
                sent += send_columns(producer, at, records, rows, stamp, most_bytes)
            self._settle(sent)
            self._crash.reach("feed.sent")
            if cursor is not None:
                one = producer.send(CURSORS, value=cursor, key=self.feed.encode(), partition=0)
                producer.flush(timeout=TRANSACTION_S)
                one.get(timeout=TRANSACTION_S)
            self._crash.reach("feed.offsets")
            self._crash.reach("feed.before_commit")
            producer.commit_transaction()
        self._crash.reach("feed.after_commit")

    def _settle(self, sent: Sequence[SentBatch]) -> None:
        """Wait until the broker has all batches; the error of the first that it refused."""
        self._producer.flush(timeout=TRANSACTION_S)
        for one in (batch.future for batch in sent):
            if not one.wait(TRANSACTION_S):
                raise kafka_errors.KafkaTimeoutError(f"no answer within {TRANSACTION_S:g} s")
            if one.failed():
                raise one.exception
            _, _, refused = one.value
            if refused is not None:
                raise refused(0)

    def _make_cursors(self) -> None:
        """CURSORS is there and compacted, and so is the feed's own topic there."""
        with closing(KafkaLog(self.connection, timeout_s=self._timeout_s)) as log:
            self.described = log.describe(self.topic)
            log.create_topic(CURSORS, 1, {"cleanup.policy": "compact"})
            policy = log.describe(CURSORS).configs.get("cleanup.policy")
        if policy != "compact":
            raise LogError(
                f"topic {CURSORS} has cleanup.policy={policy}, so that Kafka would forget how far feeds are: set it to compact"
                f" (kafka-configs.sh --alter --topic {CURSORS} --add-config cleanup.policy=compact)"
            )

    def _read_cursor(self) -> bytes | None:
        at, until_s = TopicPartition(CURSORS, 0), time.monotonic() + UNDECIDED_S
        end = self._cursors_end(at)
        found: bytes | None = None
        consumer, _ = open_client(
            KafkaConsumer, self.connection, topics=[CURSORS], timeout_s=self._timeout_s, **CONSUMER_CONFIG
        )
        try:
            consumer.assign([at])
            consumer.seek_to_beginning(at)
            told = False
            while consumer.position(at) < end and positions(consumer).get(at, 0) < end:
                for record in consumer.poll(timeout_ms=500).get(at, ()):
                    found = record.value if record.key == self.feed.encode() else found
                if time.monotonic() > until_s:
                    raise LogError(
                        f"topic {CURSORS}: the transaction of another feed is open for {UNDECIDED_S:g} s: run this again when it is done"
                    )
                if not told and time.monotonic() > until_s - UNDECIDED_S + 5:
                    self._say(f"topic {CURSORS}: waiting for the transaction of another feed")
                    told = True
            return found
        finally:
            consumer.close()

    def _cursors_end(self, at: TopicPartition) -> int:
        admin, _ = open_client(KafkaAdminClient, self.connection, topics=[CURSORS], timeout_s=self._timeout_s)
        try:
            told = admin.list_partition_offsets(
                {at: OffsetSpec.LATEST}, isolation_level=IsolationLevel.READ_UNCOMMITTED
            )
            return int(told[at].offset)
        finally:
            admin.close()

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (kafka_errors.KafkaError, OSError) as error:
            found = cause(error)
            if not isinstance(found, TOO_LARGE):
                raise self._explained(found) from error
            raise LogError(
                f"topic {self.topic}: a row is larger than its max.message.bytes allows, or that was lowered while the feed ran; nothing of"
                f" this transaction counts; run again, the feed goes on behind the one before ({' '.join(str(found).split())})"
            ) from error


__all__ = ["CURSORS", "KafkaFeedProducer"]
