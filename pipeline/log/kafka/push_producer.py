"""The writer of pushed records on Kafka: idempotent, acknowledged by all in-sync replicas, and without transactions.

settled(offsets) => each record is in the log, once, at its offset        settled(error) => nobody knows how many of them are
    settled(TooLarge) => none of them is

A transaction for each handful of records would cost more than they do. What a client sends again, since it heard nothing, is another
record of the same identity: a duplicate, for the layers to find.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
from kafka import KafkaProducer

from pipeline.base.errors import LogError
from pipeline.columns.arrays import Ints
from pipeline.log.kafka.client import TopicPartition, explained, kafka_errors, needing, open_client
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.kafka.producer import MAX_REQUEST_BYTES, cause
from pipeline.log.kafka.ready_batches import HEADER_BYTES, TOO_LARGE, Columns, SentBatch, record_bytes, send_columns
from pipeline.log.log import TopicDescription, Unacknowledged, Unreachable, refuse_compacted
from pipeline.log.partitioner import Numbers

MESSAGE_BYTES = 1_048_588  # Kafka's default for max.message.bytes
Settled = Callable[[Ints | LogError], None]


class TooLarge(LogError):
    """The topic takes no batch of this size by now: nothing was sent, and another writer makes smaller ones."""


class KafkaPushProducer:
    """One topic's writer; connected when it is made, or an error that says why not. After `settled(error)` make another one."""

    described: TopicDescription

    def __init__(self, connection: KafkaConnection, topic: str, *, timeout_s: float, connect_s: float = 5.0) -> None:
        self.connection, self.topic, self._timeout_s, self._connect_s = connection, topic, timeout_s, connect_s
        with closing(KafkaLog(connection, timeout_s=connect_s)) as log:
            self.described = log.describe(topic)
        refuse_compacted(self.described)
        self._most_bytes = int(self.described.configs.get("max.message.bytes", MESSAGE_BYTES))
        within_ms = round(timeout_s * 1000)
        self._producer: Any
        self._producer, self._client = open_client(
            KafkaProducer,
            connection,
            topics=[topic],
            timeout_s=connect_s,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=within_ms,
            request_timeout_ms=within_ms,
            max_block_ms=round(connect_s * 1000),
            max_request_size=MAX_REQUEST_BYTES,
            allow_auto_create_topics=False,
            reconnect_backoff_max_ms=1000,
            retry_backoff_ms=20,
            metrics_enabled=False,
        )
        try:
            self.changed()
        except LogError:
            self.close(0)
            raise

    def changed(self) -> bool:
        """True where the topic has another number of partitions by now than `described` says: make another writer."""
        try:
            found = self._producer.partitions_for(self.topic)
        except (kafka_errors.KafkaError, OSError) as error:
            raise self._unsent(error) from error
        return len(found) != self.described.partitions

    @property
    def connected(self) -> bool:
        """True while there is a connection to a broker."""
        return any(self._client.connected(broker.node_id) for broker in self._client.cluster.brokers())

    def too_large(self, keys: pa.Array, values: pa.Array) -> Ints:
        """The rows whose record is larger than the topic's max.message.bytes allows."""
        return np.flatnonzero(record_bytes(keys, values) + HEADER_BYTES > self._most_bytes)

    @property
    def most_bytes(self) -> int:
        """The topic's max.message.bytes."""
        return self._most_bytes

    def send(self, partitions: Numbers, keys: pa.Array, values: pa.Array, stamp_ms: int, settled: Settled) -> None:
        """Hand over records (binary, none null, at least one), in order within a partition; `settled` is called once, from any thread.

        LogError where none of them was handed over.
        """
        sending = _Sending(len(keys), settled, self._explained)
        try:
            with needing("Write"):
                records = Columns.of(keys, values)
                for partition in np.unique(partitions).tolist():
                    at, rows = TopicPartition(self.topic, partition), np.flatnonzero(partitions == partition)
                    sending.add(rows, send_columns(self._producer, at, records, rows, stamp_ms, self._most_bytes))
        except (kafka_errors.KafkaError, OSError) as error:
            if not sending.parts:
                raise self._unsent(error) from error
            sending.fail(error)
        sending.begin()

    def close(self, timeout_s: float) -> None:
        """Wait so long for what is on its way, give up the rest (it is settled, by an error), and let go of connections."""
        try:
            self._producer.close(timeout=timeout_s)
        except kafka_errors.KafkaError:  # its flush was not done in time, and it would go on trying
            self._producer._sender.force_close()
            self._producer._sender.join(self._timeout_s)

    def _unsent(self, error: Exception) -> LogError:
        """The error of what came before anything was handed over."""
        return self._forbidden(cause(error)) or Unreachable(
            f"Kafka at {self.connection.bootstrap} did not tell the partitions of {self.topic} within {self._connect_s:g} s"
            f" ({_said(cause(error))}); nothing was sent"
        )

    def _explained(self, error: Exception, none: bool = False) -> LogError:
        """The error of what was handed over; `none`: all of it was refused as too large."""
        if none:
            return TooLarge(
                f"topic {self.topic} takes no batch of events as large as its max.message.bytes was ({self._most_bytes:,}): it was lowered;"
                " nothing was sent, and the limit is read again: send the events again"
            )
        error = cause(error)
        return self._forbidden(error) or Unacknowledged(
            f"Kafka at {self.connection.bootstrap} did not acknowledge events of {self.topic} within {self._timeout_s:g} s"
            f" ({_said(error)}): they may be in the topic or not"
        )

    def _forbidden(self, error: Exception) -> LogError | None:
        """The error where the right or the topic is missing; None otherwise."""
        if "ClusterAuthorizationFailedError" in str(error):  # kafka-python keeps no more of it than its name
            error = kafka_errors.TopicAuthorizationFailedError(
                {self.topic}
            )  # who may write to a topic gets a producer's id
        if isinstance(error, kafka_errors.AuthorizationError):
            error.operation = "Write"
            return explained(error, self.connection, self.topic)
        if isinstance(error, kafka_errors.UnknownTopicOrPartitionError | kafka_errors.InvalidTopicError):
            return explained(error, self.connection, self.topic)
        return None


def _said(error: Exception) -> str:
    return " ".join(str(error).split())


class _Sending:
    """Batches of one send: counts down until each has its answer."""

    def __init__(self, records: int, settled: Settled, explain: Callable[[Exception, bool], LogError]) -> None:
        self.parts: list[tuple[Ints, SentBatch]] = []
        self._offsets = np.full(records, -1, np.int64)
        self._settled, self._explain = settled, explain
        self._error: Exception | None = None
        self._none = True  # every batch, so far, was refused as too large
        self._left = 0
        self._lock = threading.Lock()

    def add(self, rows: Ints, batches: list[SentBatch]) -> None:
        """Batches that have these rows, in order."""
        start = 0
        for batch in batches:
            self.parts.append((rows[start : start + batch.records], batch))
            start += batch.records

    def fail(self, error: Exception) -> None:
        """Part of it was not handed over."""
        self._error, self._none = error, False

    def begin(self) -> None:
        """Listen to all of them, once all are known."""
        self._left = len(self.parts)
        for rows, batch in self.parts:
            batch.future.add_callback(self._answered, rows)
            batch.future.add_errback(self._refused)

    def _answered(self, rows: Ints, answer: Any) -> None:
        base, _, refused = answer
        if refused is not None:
            self._refused(refused(0))
            return
        self._offsets[rows] = base + np.arange(len(rows))
        self._one_less(None)

    def _refused(self, error: Any) -> None:
        self._one_less(error if isinstance(error, Exception) else kafka_errors.KafkaError(str(error)))

    def _one_less(self, error: Exception | None) -> None:
        with self._lock:
            self._error = self._error or error
            self._none = self._none and isinstance(error, TOO_LARGE)
            self._left -= 1
            last = self._left == 0
        if last:
            self._settled(self._offsets if self._error is None else self._explain(self._error, self._none))


__all__ = ["KafkaPushProducer", "Settled", "TooLarge"]
