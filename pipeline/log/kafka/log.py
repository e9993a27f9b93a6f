"""Reading ranges of a Kafka log.

Invariant: position(read) = end when a read ends, whatever the polls brought; an empty poll means nothing. Ends are last
stable offsets taken from Fetch responses, on every broker alike: ListOffsets is wrong on the embedded one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pipeline.base.errors import LogError
from pipeline.log.kafka.client import (
    ADDRESS_HELP,
    CONSUMER_CONFIG,
    IsolationLevel,
    KafkaAdminClient,
    KafkaConsumer,
    OffsetSpec,
    TopicPartition,
    explained,
    kafka_errors,
    last_stable_offsets,
    needing,
    open_client,
    positions,
    topic_configs,
)
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.fetch import fit, take, tiled
from pipeline.log.log import (
    MAX_BYTES,
    MAX_RECORDS,
    Block,
    LogTruncated,
    MissingTopic,
    RetentionPassed,
    TopicDescription,
    Unreachable,
    last_hash,
)

T = TypeVar("T")
POLL_MS = 20  # a poll that passes control records only waits this out before its position can be seen
WITNESS_SPAN = 64  # offsets: how far below a position its witness is looked for first


class Caller(Protocol):
    """Somebody who makes a call, and makes it again while he thinks that it may yet succeed."""

    def __call__(self, call: Callable[[], T], /) -> T: ...


def call_once(call: Callable[[], T], /) -> T:
    """The call's answer, or its error."""
    return call()


class KafkaLog:
    """`pipeline.log.log.Log` on Kafka. Connects when first asked, and again in a forked process.

    `kafka` is a KafkaConnection, or host:port[,host:port...] where neither TLS nor SASL is wanted.
    A question that gets no answer is asked again for `timeout_s`, then raises Unreachable; `caller` makes each question, and may ask
    anew. A read that gets no further for `stall_s` raises.
    """

    def __init__(
        self,
        kafka: KafkaConnection | str,
        *,
        timeout_s: float = 10.0,
        stall_s: float = 30.0,
        caller: Caller = call_once,
    ) -> None:
        self.connection, self._caller = KafkaConnection.of(kafka), caller
        self._timeout_s, self._stall_s = timeout_s, stall_s
        self._admin: KafkaAdminClient | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._asking = threading.Lock()  # nights read several partitions at once

    @property
    def bootstrap(self) -> str:
        """host:port[,host:port...], for messages."""
        return self.connection.bootstrap

    def partitions(self, topic: str) -> int:
        """Number of partitions, asked of the broker anew: a topic may get more while this process runs. See Log.partitions."""
        return len(self._ask(topic, lambda admin: self._metadata(admin, topic)["partitions"]))

    def topic_id(self, topic: str) -> str:
        """UUID that the controller gave the topic; '' before Kafka 2.8, where one made anew cannot be told. See Log.topic_id."""
        return self._ask(topic, lambda admin: _topic_id(self._metadata(admin, topic)))

    def start_offsets(self, topic: str) -> list[int]:
        """Log start offset per partition, as ListOffsets(EARLIEST) gives it. See Log.start_offsets."""
        return list(self._ask(topic, lambda admin: self._starts(admin, topic)).values())

    def end_offsets(self, topic: str) -> list[int]:
        """Last stable offset per partition, asked with isolation read_committed. See Log.end_offsets."""
        return list(self._ask(topic, lambda admin: self._ends(admin, topic)).values())

    def describe(self, topic: str) -> TopicDescription:
        """Metadata and configs of the topic; AccessDenied without the right DescribeConfigs: compaction is seen there. See Log.describe."""

        def question(admin: KafkaAdminClient) -> TopicDescription:
            found = self._metadata(admin, topic)
            with needing("DescribeConfigs"):  # else nobody would know whether the topic is compacted
                configs = topic_configs(admin, topic)
            return TopicDescription(topic, len(found["partitions"]), _topic_id(found), configs)

        return self._ask(topic, question)

    def create_topic(self, topic: str, partitions: int, configs: Mapping[str, str] | None = None) -> bool:
        """Create the topic and wait until it can be used; False when it was there already, whatever its settings."""

        def question(admin: KafkaAdminClient) -> bool:
            wanted = {"num_partitions": partitions, "replication_factor": -1, "configs": dict(configs or {})}
            try:
                with needing("Create"):
                    admin.create_topics({topic: wanted}, timeout_ms=round(self._timeout_s * 1000))
            except kafka_errors.TopicAlreadyExistsError:
                return False
            admin.wait_for_topics([topic], timeout_ms=round(self._timeout_s * 1000))
            return True

        return self._ask(topic, question)

    def read(
        self,
        topic: str,
        partition: int,
        start: int,
        end: int,
        *,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> Iterator[Block]:
        """Blocks through a consumer of its own, closed with the iterator; Unreachable after `stall_s` without progress. See Log.read.

        The usual mistake: to drop the iterator half-way; its connection and buffers then wait for the garbage collector.
        """
        if not 0 <= start <= end:
            raise LogError(f"{topic}, partition {partition}: there is no offset range [{start}, {end})")
        if start < end:
            self._check_range(topic, partition, start, end)
            yield from self._read(TopicPartition(topic, partition), start, end, max_records, max_bytes)

    def _read(self, at: TopicPartition, start: int, end: int, max_records: int, max_bytes: int) -> Iterator[Block]:
        consumer, _ = open_client(
            KafkaConsumer,
            self.connection,
            topics=[at.topic],
            timeout_s=self._timeout_s,
            **CONSUMER_CONFIG,
        )
        position, moved_at = start, time.monotonic()
        try:
            fit(consumer)
            consumer.assign([at])
            consumer.seek(at, start)
            while position < end:
                batches = take(consumer, POLL_MS, max_records, max_bytes).get(at, [])
                reached = min(positions(consumer)[at], end)
                if reached > position:
                    yield from tiled(batches, position, reached)
                    position, moved_at = reached, time.monotonic()
                elif time.monotonic() - moved_at > self._stall_s:
                    raise Unreachable(
                        f"Kafka at {self.bootstrap} sent nothing more of {at.topic}, partition {at.partition} for "
                        f"{self._stall_s:g} s at offset {position} (wanted up to {end}): run the command again to go on"
                    )
        except (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError) as error:
            raise self.out_of_range(at.topic, at.partition, position) from error
        except kafka_errors.KafkaError as error:
            raise explained(error, self.connection, at.topic, at.partition) from error
        finally:
            consumer.close(autocommit=False)

    def witness(self, topic: str, partition: int, offset: int) -> bytes | None:
        """`record_hash` looked for in spans that grow downwards from `offset`, since control records leave gaps. See Log.witness."""
        first = self._ask(topic, lambda admin: self._starts(admin, topic, partition))[partition]
        found, span = None, WITNESS_SPAN
        start = offset
        while found is None and start > first:
            start = max(first, offset - span)
            for block in self.read(topic, partition, start, offset):
                found = last_hash(block.batch) or found
            span *= 16
        return found

    def out_of_range(self, topic: str, partition: int, position: int) -> LogError:
        """The error to raise when the broker says that `position` is not in its log: which side, and the repair."""
        try:
            self._check_range(topic, partition, position, position)
        except LogError as error:
            return error
        return LogTruncated(
            f"{topic}, partition {partition}: the log was cut back below offset {position} and has grown again; "
            f"`watershed init --rebuild` starts a new generation from the master dataset",
            repair="watershed init --rebuild",
        )

    def close(self) -> None:
        """Close the admin client; the next question opens another one. Not for a client that another process has inherited."""
        with self._lock:
            admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _check_range(self, topic: str, partition: int, start: int, end: int) -> None:
        first = self._ask(topic, lambda admin: self._starts(admin, topic, partition))[partition]
        if start < first:
            raise RetentionPassed(
                f"{topic}, partition {partition}: offsets [{start}, {first}) are gone, the log starts at {first} now "
                f"(retention): raise the topic's retention.ms, then `watershed init --rebuild` starts a new generation",
                repair="watershed init --rebuild",
            )
        last = self._ask(topic, lambda admin: self._ends(admin, topic, partition))[partition]
        if last < end:
            raise LogTruncated(
                f"{topic}, partition {partition}: the log ends at offset {last}, below {end}, which it had reached: it "
                f"was truncated, or the topic was made anew, or {self.bootstrap} is another Kafka; {ADDRESS_HELP}, "
                f"or `watershed init --rebuild` starts a new generation from the master dataset",
                repair="watershed init --rebuild",
            )

    def _ask(self, topic: str, question: Callable[[KafkaAdminClient], T]) -> T:
        return self._caller(lambda: self._answer(topic, question))

    def _answer(self, topic: str, question: Callable[[KafkaAdminClient], T]) -> T:
        attempts = Retrying(
            retry=retry_if_exception_type(kafka_errors.RetriableError),
            stop=stop_after_delay(self._timeout_s),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        )
        try:
            return attempts(lambda: self._asked(question))
        except (kafka_errors.KafkaError, OSError) as error:
            raise explained(error, self.connection, topic) from error

    def _asked(self, question: Callable[[KafkaAdminClient], T]) -> T:
        with self._asking:
            return question(self._connected())

    def _connected(self) -> KafkaAdminClient:
        with self._lock:
            if self._admin is None or self._pid != os.getpid():  # a fork inherits the client without its thread
                self._pid = os.getpid()
                limit_ms = round(self._timeout_s * 1000)
                self._admin, _ = open_client(
                    KafkaAdminClient,
                    self.connection,
                    timeout_s=self._timeout_s,
                    request_timeout_ms=limit_ms,
                    reconnect_backoff_max_ms=1000,
                )
            return self._admin

    def _metadata(self, admin: KafkaAdminClient, topic: str) -> dict[str, Any]:
        """The broker's answer for one topic, its partitions in order; raises MissingTopic at once."""
        found: dict[str, Any] = admin.describe_topics([topic])[0]
        error = kafka_errors.for_code(found["error_code"])
        if error is kafka_errors.UnknownTopicOrPartitionError:
            raise explained(error(topic), self.connection, topic)
        if error is not kafka_errors.NoError:
            with needing("Describe"):
                raise error(topic)
        found["partitions"] = sorted(found["partitions"], key=lambda one: int(one["partition_index"]))
        return found

    def _leaders(self, admin: KafkaAdminClient, topic: str, only: int | None) -> dict[int, int]:
        found = self._metadata(admin, topic)["partitions"]
        leaders = {one["partition_index"]: one["leader_id"] for one in found if only in (None, one["partition_index"])}
        if not leaders:
            raise MissingTopic(
                f"Kafka at {self.bootstrap}: topic {topic!r} has no partition {only}, only 0 to {len(found) - 1}; "
                f"`watershed init` notes a topic's partitions",
                repair="watershed init",
            )
        if any(leader < 0 for leader in leaders.values()):
            raise kafka_errors.LeaderNotAvailableError(topic)
        return leaders

    def _starts(self, admin: KafkaAdminClient, topic: str, only: int | None = None) -> dict[int, int]:
        return _listed(admin, topic, list(self._leaders(admin, topic, only)), OffsetSpec.EARLIEST)

    def _ends(self, admin: KafkaAdminClient, topic: str, only: int | None = None) -> dict[int, int]:
        leaders = self._leaders(admin, topic, only)
        near = _listed(admin, topic, list(leaders), OffsetSpec.LATEST)
        ends = last_stable_offsets(admin, topic, {p: (leaders[p], near[p]) for p in leaders})
        return {p: ends[p] for p in leaders}


def _listed(admin: KafkaAdminClient, topic: str, partitions: list[int], spec: OffsetSpec) -> dict[int, int]:
    asked = {TopicPartition(topic, p): spec for p in partitions}
    told = admin.list_partition_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
    return {p: int(told[TopicPartition(topic, p)].offset) for p in partitions}


def _topic_id(found: Mapping[str, Any]) -> str:
    text = str(found.get("topic_id") or "")
    return "" if set(text) <= {"0", "-"} else text
