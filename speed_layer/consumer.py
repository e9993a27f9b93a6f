"""The always-on reader of a worker's partitions: the one module of speed_layer that imports kafka.

Invariant: for every assigned partition, the blocks that poll has returned since `assign` or `seek` set its position
tile [that position, position now). A broker that is down changes nothing of it: poll returns {} until it is back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors

from pipeline.base.errors import LogError
from pipeline.log.kafka.client import CONSUMER_CONFIG, explained, open_client, positions, watch_fetches
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.fetch import fit, take
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import MAX_RECORDS, AccessDenied, Block, Unreachable, joined, refuse_recreated

log = structlog.get_logger("speed")

Partition = tuple[str, int]  # (topic, partition)

FETCH_WAIT_MS = 100  # how long a broker holds a fetch without records; also the delay of a newly assigned partition
CONNECT_S = 1.0
SECURED_CONNECT_S = 5.0  # TLS and SCRAM take eight round trips, and work on both sides
NO_LEADER = -1
REQUEST_TIMEOUT_MS = 10_000
METADATA_MAX_AGE_MS = 30_000
REBUILD_AFTER_S = 15.0  # all brokers may have moved to other addresses: begin again with the bootstrap servers
MISSING_AFTER_S = 5.0
GROUP_COMMIT_EVERY_S = 1.0
GROUP_REFUSED_EVERY_S = 60.0


class LiveConsumer:
    """Reads what it is assigned, from positions that the caller keeps, and reconnects by itself. Not thread-safe.

    It joins no group; `group_id` only names where `commit_group_offsets` leaves offsets for lag tools. It connects at
    the first poll, so it may be made while the broker is down, and before a fork.
    """

    def __init__(self, kafka: KafkaConnection | str, *, group_id: str = "") -> None:
        self.connection, self._group_id = KafkaConnection.of(kafka), group_id
        self.bootstrap = self.connection.bootstrap
        secured = self.connection.tls or self.connection.sasl
        self._connect_s = SECURED_CONNECT_S if secured else CONNECT_S
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._ends: dict[Partition, int] = {}
        self._topic_ids: dict[str, str] = {}
        self._missing_since: dict[str, float] = {}
        self._failures: dict[Any, tuple[float, str]] = {}  # node -> since when, and why; '' is the bootstrap
        self._consumer: KafkaConsumer | None = None
        self._cluster: Any = None
        self._committer: KafkaConsumer | None = None
        self._to_commit: dict[Partition, int] = {}
        self._committing: dict[Partition, int] = {}  # what self._commit is about
        self._commit: Any = None
        self._commit_at = 0.0
        self.group_commit_error = ""

    # -- what to read ---------------------------------------------------------------------------------------------

    def assign(self, wanted: Mapping[Partition, int]) -> None:
        """Read just these partitions, from these positions (next offsets).

        A partition that was assigned and stands at the given position goes on undisturbed: nothing of it is fetched
        again, and it stays paused if it was. A caller's likely mistake: this replaces the assignment, it does not add.
        """
        moved = [at for at, position in wanted.items() if self._positions.get(at) != position]
        self._positions = {TopicPartition(*at): int(position) for at, position in wanted.items()}
        self._paused &= self._positions.keys()
        self._ends = {at: end for at, end in self._ends.items() if at in self._positions}
        topics = {topic for topic, _ in self._positions}
        self._topic_ids = {topic: known for topic, known in self._topic_ids.items() if topic in topics}
        self._missing_since.clear()
        if self._consumer is not None:
            self._place(self._consumer, moved)

    def seek(self, at: Partition, position: int) -> None:
        """Go on with this assigned partition at another position."""
        self.assign({**self._positions, self._known(at): position})

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Return nothing more of these until `resume`; what was fetched is kept."""
        for at in map(self._known, partitions):
            self._paused.add(at)
            if self._consumer is not None:
                self._consumer.pause(TopicPartition(*at))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Undo `pause`."""
        for at in map(self._known, partitions):
            self._paused.discard(at)
            if self._consumer is not None:
                self._consumer.resume(TopicPartition(*at))

    def poll(self, timeout_ms: int = 100, max_records: int = MAX_RECORDS) -> dict[Partition, Block]:
        """Blocks that have arrived, one for every partition whose position moved; waits up to `timeout_ms` for the first.

        A block may have no rows (only control records were passed): note its `end` all the same. Returns {} while the
        broker is down (see `down_reason`; connecting may then take a second). Raises RetentionPassed, LogTruncated,
        TopicRecreated, MissingTopic and AccessDenied, which do not pass by themselves.
        """
        if self._to_commit or self._commit is not None:
            self._leave_group_offsets()
        try:
            self._check_topics()
            return self._poll(self._connected(), timeout_ms, max_records)
        except LogError as error:
            self._disconnect()  # the next poll begins again, at the positions that the caller knows of
            if not isinstance(error, Unreachable):
                raise
            self._failures.setdefault("", (time.monotonic(), str(error)))
            return {}

    def _poll(self, consumer: KafkaConsumer, timeout_ms: int, max_records: int) -> dict[Partition, Block]:
        try:
            batches = take(consumer, timeout_ms, max_records)
        except (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError) as error:
            raise self._out_of_range(error) from error
        except kafka_errors.KafkaError as error:
            topics = ", ".join(sorted({topic for topic, _ in self._positions}))
            raise explained(error, self.connection, topics) from error
        self._check_topics()
        blocks: dict[Partition, Block] = {}
        for at, reached in positions(consumer).items():
            start = self._positions[at]
            if reached > start:
                blocks[at] = Block(joined(batches.get(at, [])), start, reached)
                self._positions[at] = reached
        return blocks

    # -- how it stands --------------------------------------------------------------------------------------------

    @property
    def positions(self) -> dict[Partition, int]:
        """Per assigned partition, the next offset that poll will return."""
        return dict(self._positions)

    @property
    def paused(self) -> frozenset[Partition]:
        return frozenset(self._paused)

    @property
    def end_offsets(self) -> dict[Partition, int]:
        """Last stable offset per partition, as the last fetch told it; one that was not fetched yet is missing."""
        return dict(self._ends)

    @property
    def lag(self) -> dict[Partition, int]:
        """Offsets (not records: there are gaps) from position to end offset, for the partitions of `end_offsets`."""
        return {at: max(end - self._positions[at], 0) for at, end in self._ends.items() if at in self._positions}

    @property
    def down_reason(self) -> str:
        """Reason why some assigned partition cannot be fetched now, or '' when the brokers that lead them answer."""
        for _, reason in self._failing():
            return reason
        for topic, partition in self._positions if self._cluster is not None else ():
            if self._cluster.leader_for_partition(TopicPartition(topic, partition)) == NO_LEADER:
                return f"Kafka at {self.bootstrap}: {topic}, partition {partition} has no leader now"
        return ""

    @property
    def broker_down(self) -> bool:
        return bool(self.down_reason)

    # -- offsets for other people's tools ---------------------------------------------------------------------------

    def commit_group_offsets(self, offsets: Mapping[Partition, int]) -> None:
        """Leave next offsets under `group_id`, at most once a second, without waiting; failure is no error.

        Nothing reads them back: the position of record is in Postgres. A failure that does not pass by itself is logged once and
        tried again once a minute, so that an ACL that is added is seen; `group_commit_error` tells of the last one.
        """
        self._to_commit.update(offsets)
        self._leave_group_offsets()

    def _leave_group_offsets(self) -> None:
        """Begin a commit of what is due, when one may begin; poll asks too, so that the last offsets before a pause are left."""
        now = time.monotonic()
        if not self._group_id or self._consumer is None or now < self._commit_at or self.broker_down:
            return
        if self._commit is not None:
            if not self._commit.is_done:
                return
            if self._commit.failed():  # due again, but for partitions that somebody else may have by now
                self._to_commit = {
                    at: end for at, end in self._committing.items() if at in self._positions
                } | self._to_commit
            self._commit = None
        if not self._to_commit:
            return
        self._commit_at = now + GROUP_COMMIT_EVERY_S
        try:
            self._commit = self._group_committer().commit_async(self._due_group_offsets(), self._group_committed)
        except (LogError, kafka_errors.KafkaError) as error:
            self._group_committed(None, error)
            # Connecting in vain takes a second or more, in which nothing is read
            self._commit_at = now + GROUP_REFUSED_EVERY_S

    def close(self) -> None:
        """Let go of the connections, after a last try to leave the group offsets that are due (a second; 5 with TLS or SASL)."""
        if self._committer is not None:
            try:
                if self._commit is not None and not self._commit.succeeded():
                    # May still be under way: said twice is said once
                    self._to_commit = {**self._committing, **self._to_commit}
                if self._to_commit and not self.broker_down:
                    self._committer.commit(self._due_group_offsets(), timeout_ms=round(self._connect_s * 1000))
            except kafka_errors.KafkaError as error:
                self._group_committed(None, error)
            self._committer.close(autocommit=False, timeout_ms=round(CONNECT_S * 1000))
            self._committer = None
        self._disconnect()

    def _group_committer(self) -> KafkaConsumer:
        """A consumer of its own: on the reading one, a group id would make every poll wait for the coordinator."""
        if self._committer is None:
            self._committer, _ = open_client(
                KafkaConsumer,
                self.connection,
                timeout_s=self._connect_s,
                group_id=self._group_id,
                request_timeout_ms=REQUEST_TIMEOUT_MS,
                **CONSUMER_CONFIG,
            )
        return self._committer

    def _due_group_offsets(self) -> dict[TopicPartition, OffsetAndMetadata]:
        due = {TopicPartition(*at): OffsetAndMetadata(offset, "", -1) for at, offset in self._to_commit.items()}
        self._committing, self._to_commit = self._to_commit, {}
        return due

    def _group_committed(self, offsets: Any, answer: Any) -> None:
        """Note what became of a commit; on the I/O thread, or on the caller's when there was no connection."""
        refused = isinstance(answer, kafka_errors.AuthorizationError | AccessDenied)
        if not isinstance(answer, Exception):
            self.group_commit_error = ""
        elif not refused:
            self.group_commit_error = str(answer)
        else:
            if isinstance(answer, kafka_errors.GroupAuthorizationFailedError):
                answer = type(answer)(self._group_id)
            said = str(explained(answer, self.connection, ", ".join(sorted({topic for topic, _ in self._positions}))))
            if said != self.group_commit_error:
                log.warning("group offsets are not left for lag tools; all else goes on", why=said)
            self.group_commit_error = said
            self._commit_at = time.monotonic() + GROUP_REFUSED_EVERY_S

    # -- the connection -------------------------------------------------------------------------------------------

    def _connected(self) -> KafkaConsumer:
        """The consumer, made (again) when there is none; raises Unreachable."""
        since = min((since for since, _ in self._failing()), default=None)
        if self._consumer is not None and since is not None and time.monotonic() - since > REBUILD_AFTER_S:
            self._disconnect()
        if self._consumer is None:
            consumer, client = open_client(
                KafkaConsumer,
                self.connection,
                topics=sorted({topic for topic, _ in self._positions}),
                timeout_s=self._connect_s,
                fetch_max_wait_ms=FETCH_WAIT_MS,
                metadata_max_age_ms=METADATA_MAX_AGE_MS,
                request_timeout_ms=REQUEST_TIMEOUT_MS,
                **CONSUMER_CONFIG,
            )
            if slow := fit(consumer):
                log.warning("reading record by record", reason=slow)
            watch_fetches(consumer, self._answered, self._failed)
            self._consumer, self._cluster = consumer, client.cluster
            self._failures.clear()
            self._place(consumer, self._positions)
        return self._consumer

    def _place(self, consumer: KafkaConsumer, moved: Iterable[Partition]) -> None:
        """Hand the assignment on. kafka-python keeps the state of the partitions that stay."""
        consumer.assign([TopicPartition(*at) for at in self._positions])
        for at in moved:
            consumer.seek(TopicPartition(*at), self._positions[at])
        if self._paused:
            consumer.pause(*(TopicPartition(*at) for at in self._paused))

    def _disconnect(self) -> None:
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=round(CONNECT_S * 1000))
        self._consumer = self._cluster = None

    def _answered(self, node: Any, response: Any) -> None:
        """On the I/O thread: note the end offsets; single assignments, so that no lock is needed."""
        for topic in response.responses:
            for part in topic.partitions:
                if part.error_code == 0 and (topic.topic, part.partition_index) in self._positions:
                    self._ends[TopicPartition(topic.topic, part.partition_index)] = part.last_stable_offset
        self._failures.pop(node, None)

    def _failed(self, node: Any, error: Exception) -> None:
        """On the I/O thread."""
        self._failures.setdefault(node, (time.monotonic(), f"Kafka at {self.bootstrap} does not answer ({error})"))

    def _failing(self) -> list[tuple[float, str]]:
        """The failures that keep an assigned partition from being fetched."""
        if self._cluster is None:
            return list(self._failures.values())
        leaders = {self._cluster.leader_for_partition(TopicPartition(*at)) for at in self._positions}
        return [failure for node, failure in list(self._failures.items()) if node in leaders]

    # -- what cannot be read any more -------------------------------------------------------------------------------

    def _known(self, at: Partition) -> Partition:
        if at not in self._positions:
            raise LogError(f"{at[0]}, partition {at[1]} is not assigned; assigned are {sorted(self._positions)}")
        return at

    def _out_of_range(self, error: Exception) -> LogError:
        named = error.divergent_offsets if isinstance(error, kafka_errors.LogTruncationError) else error.args[0]
        at = next(iter(named))
        log = KafkaLog(self.connection)
        try:
            return log.out_of_range(at.topic, at.partition, self._positions[at])
        finally:
            log.close()

    def _check_topics(self) -> None:
        """Raise when a topic was made anew, or has been missing for a while though its brokers answer."""
        now = time.monotonic()
        for topic in {topic for topic, _ in self._positions} if self._cluster is not None else ():
            if topic in self._cluster.unauthorized_topics:
                raise explained(kafka_errors.TopicAuthorizationFailedError({topic}), self.connection, topic)
            if self._cluster.partitions_for_topic(topic) is None and not self.broker_down:
                if now - self._missing_since.setdefault(topic, now) > MISSING_AFTER_S:
                    error = kafka_errors.UnknownTopicOrPartitionError(topic)
                    raise explained(error, self.connection, topic)
                continue
            self._missing_since.pop(topic, None)
            found = str(self._cluster.topic_id(topic) or "")
            if found:
                refuse_recreated(topic, found, self._topic_ids.setdefault(topic, found))
