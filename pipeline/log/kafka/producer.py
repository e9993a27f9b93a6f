"""`pipeline.log.producer.Producer` on Kafka: a transactional producer, whose transactional id is the writer's name.

append = one transaction        begin = InitProducerId, which raises the epoch of the id: the broker refuses whoever had it before
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.log.kafka.client import (
    IsolationLevel,
    KafkaAdminClient,
    OffsetSpec,
    TopicPartition,
    explained,
    kafka_errors,
    needing,
    open_client,
)
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.log import Unreachable
from pipeline.log.producer import Fenced, Outgoing

TRANSACTION_S = (
    30.0  # an open transaction of a process that died holds up readers this long, or until the next one begins
)
MAX_REQUEST_BYTES = 64 * 1024 * 1024  # the topic's max.message.bytes decides


class KafkaLogProducer:
    """A writer of one topic by `name`; connects with `begin`, in the process that uses it."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        name: str,
        *,
        timeout_s: float = 10.0,
        crash: CrashPoints | None = None,
    ) -> None:
        self.connection, self.topic, self.name = connection, topic, name
        self._timeout_s, self._crash = timeout_s, crash or NoCrash()
        self._producer: Any = None

    def begin(self) -> None:
        """See Producer.begin; AccessDenied without the rights Write and Describe on the transactional id."""
        self._producer, _ = open_client(
            KafkaProducer,
            self.connection,
            topics=[self.topic],
            timeout_s=self._timeout_s,
            acks="all",
            transactional_id=self.name,
            transaction_timeout_ms=round(TRANSACTION_S * 1000),
            delivery_timeout_ms=round(TRANSACTION_S * 1000),
            request_timeout_ms=round(self._timeout_s * 1000),
            max_block_ms=round(TRANSACTION_S * 1000),
            max_request_size=MAX_REQUEST_BYTES,
            allow_auto_create_topics=False,
            reconnect_backoff_max_ms=1000,
            metrics_enabled=False,
        )
        try:
            with needing("Write"):
                self._producer.init_transactions()
        except (kafka_errors.KafkaError, OSError) as error:
            raise self._explained(error) from error

    def ends(self) -> list[int]:
        """See Producer.ends."""
        admin, _ = open_client(KafkaAdminClient, self.connection, topics=[self.topic], timeout_s=self._timeout_s)
        try:
            found = admin.describe_topics([self.topic])[0]
            partitions = [TopicPartition(self.topic, p) for p in range(len(found["partitions"]))]
            told = admin.list_partition_offsets(
                dict.fromkeys(partitions, OffsetSpec.LATEST), isolation_level=IsolationLevel.READ_UNCOMMITTED
            )
            return [int(told[at].offset) for at in partitions]
        except (kafka_errors.KafkaError, OSError) as error:
            raise self._explained(error) from error
        finally:
            admin.close()

    def append(self, records: Sequence[Outgoing]) -> list[int]:
        """See Producer.append; Unreachable when the broker does not answer within the time of a transaction."""
        until_s = time.monotonic() + TRANSACTION_S
        try:
            with needing("Write"):
                self._producer.begin_transaction()
                sent = [self._send(record) for record in records]
                self._producer.flush(timeout=TRANSACTION_S)
                offsets = [int(one.get(timeout=max(0.1, until_s - time.monotonic())).offset) for one in sent]
                self._crash.reach("replay.sent")
                self._producer.commit_transaction()
        except (kafka_errors.KafkaError, OSError) as error:
            raise self._explained(error) from error
        return offsets

    def _send(self, record: Outgoing) -> Any:
        return self._producer.send(
            self.topic,
            partition=record.partition,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            timestamp_ms=record.timestamp_ms,
        )

    def close(self) -> None:
        """See Producer.close."""
        if self._producer is not None:
            self._producer.close(timeout=self._timeout_s)
            self._producer = None

    def _explained(self, error: Exception) -> Exception:
        error.writer = self.name  # type: ignore[attr-defined]  # for the ACL that may be missing
        if isinstance(error, (kafka_errors.ProducerFencedError, kafka_errors.InvalidProducerEpochError)):
            return Fenced(
                f"topic {self.topic}: another writer named {self.name!r} has begun since; nothing more was sent"
            )
        if isinstance(error, kafka_errors.KafkaTimeoutError):
            return Unreachable(
                f"Kafka at {self.connection.bootstrap} did not take records of {self.topic} in {TRANSACTION_S:g} s ({error});"
                " the same command goes on where it was"
            )
        return explained(error, self.connection, self.topic)


def cause(error: Exception) -> Exception:
    """The error of the request that made a producer refuse all that came after, where that is what it says."""
    found = error.args[1] if len(error.args) == 2 else None
    if not isinstance(found, kafka_errors.KafkaError):
        return error
    if isinstance(found, kafka_errors.AuthorizationError):
        found.operation = "Write"
    return found  # type: ignore[no-any-return]  # kafka-python has no types


__all__ = ["KafkaLogProducer", "cause"]
