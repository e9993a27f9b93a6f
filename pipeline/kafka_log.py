"""Reading ranges of a Kafka log with kafka-python: the one module of pipeline that imports kafka.

Invariant: position(read) = end when a read ends, whatever the polls brought; an empty poll means nothing. Ends are last
stable offsets taken from Fetch responses, on every broker alike: ListOffsets is wrong on the embedded one.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import kafka
from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, OffsetSpec, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource
from kafka.cluster import ClusterMetadata, collect_hosts
from kafka.consumer.fetcher import Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.protocol.consumer import FetchRequest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pipeline.errors import LogError
from pipeline.log import (
    MAX_BYTES,
    MAX_RECORDS,
    AccessDenied,
    Block,
    LogTruncated,
    MissingTopic,
    RetentionPassed,
    TopicDescription,
    Unreachable,
    blocks_of,
    last_hash,
)

T = TypeVar("T")
ADDRESS_HELP = "check the setting kafka in luigi.cfg, or WATERSHED_KAFKA"
# One fetch per partition is in flight at a time, so these bound the memory of a reader (before decompression).
FETCH_MAX_BYTES = 50 * 1024 * 1024
PARTITION_FETCH_MAX_BYTES = 4 * 1024 * 1024
POLL_MS = 20  # a poll that passes control records only waits this out before its position can be seen
WITNESS_SPAN = 64
CONSUMER_CONFIG: Mapping[str, Any] = {
    "isolation_level": "read_committed",
    "auto_offset_reset": "none",  # any word but earliest and latest would do: raise, never jump
    "enable_auto_commit": False,
    "check_crcs": True,
    "fetch_max_bytes": FETCH_MAX_BYTES,
    "max_partition_fetch_bytes": PARTITION_FETCH_MAX_BYTES,
    "enable_incremental_fetch_sessions": False,  # full answers name every partition's last stable offset
    "reconnect_backoff_max_ms": 1000,
    "retry_backoff_ms": 20,
    "metrics_enabled": False,
    # receive_buffer_bytes is ignored by 3.0.12, and SO_RCVBUF would end the kernel's own tuning: left alone.
    "socket_options": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
}


# --- private parts of kafka-python, as of 3.0.12: nothing outside this section touches them -------------------------

KAFKA_PYTHON_FROM, KAFKA_PYTHON_BELOW = (3, 0, 12), (4,)
_PARTS = (
    (Fetcher, "_handle_fetch_response"),
    (Fetcher, "_handle_fetch_error"),
    (SubscriptionState, "all_consumed_offsets"),
    (KafkaConnectionManager, "send"),
    (KafkaConnectionManager, "run"),
    (KafkaNetClient, "cluster"),
    (ClusterMetadata, "set_topics"),
    (ClusterMetadata, "topic_id"),
    (ClusterMetadata, "leader_for_partition"),
)


def check_kafka_python() -> None:
    """Raise LogError unless the installed kafka-python has the parts that this section builds on."""
    version = tuple(int(part) for part in kafka.__version__.split(".")[:3] if part.isdigit())
    missing = [f"{owner.__name__}.{name}" for owner, name in _PARTS if not hasattr(owner, name)]
    if missing or not KAFKA_PYTHON_FROM <= version < KAFKA_PYTHON_BELOW:
        lacks = f" and lacks {', '.join(missing)}" if missing else ""
        raise LogError(
            f"kafka-python {kafka.__version__} is installed{lacks}; 3.0.12 or a later 3.x is needed "
            f"(before it, partitions stall silently): run pip install 'kafka-python>=3.0.12,<4'"
        )


class _Client(KafkaNetClient):  # type: ignore[misc]  # kafka-python has no types
    """The network client, asking for `topics` from its first metadata request on, and never creating one.

    Without this, kafka-python ignores allow_auto_create_topics: reading a missing topic would make it.
    """

    def __init__(self, topics: Sequence[str], **config: Any) -> None:
        super().__init__(**config)
        self.cluster.config["allow_auto_create_topics"] = False
        if topics:
            self.cluster.set_topics(topics)

    def abandon(self) -> None:
        """Close it with its thread, when the object that was to own it could not be made."""
        self.close()
        self._net.stop()


def _last_stable_offsets(admin: KafkaAdminClient, topic: str, at: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Last stable offset per partition, from Fetch responses; `at`: partition -> (leader, an offset in its range).

    Raises StaleMetadata, which is retriable, when an answer is missing or is an error that may pass.
    """
    ends: dict[int, int] = {}
    for leader in {leader for leader, _ in at.values()}:
        wanted = [
            FetchRequest.FetchTopic.FetchPartition(
                partition=partition,
                current_leader_epoch=-1,
                fetch_offset=offset,
                last_fetched_epoch=-1,
                log_start_offset=-1,
                partition_max_bytes=1,
            )
            for partition, (node, offset) in at.items()
            if node == leader
        ]
        request = FetchRequest(
            max_wait_ms=1,  # the embedded broker answers nothing at all to 0
            min_bytes=0,
            max_bytes=1,
            isolation_level=IsolationLevel.READ_COMMITTED,
            session_id=0,
            session_epoch=-1,
            topics=[FetchRequest.FetchTopic(topic=topic, partitions=wanted)],
            forgotten_topics_data=[],
            rack_id="",
            min_version=4,
            max_version=12,
        )
        answer = admin._manager.run(admin._manager.send, request, leader)
        for part in (part for one in answer.responses for part in one.partitions):
            error = kafka_errors.for_code(part.error_code)
            if error is kafka_errors.TopicAuthorizationFailedError:
                raise error(topic)
            if error is kafka_errors.NoError and part.last_stable_offset >= 0:
                ends[part.partition_index] = part.last_stable_offset
    if ends.keys() != at.keys():
        raise kafka_errors.StaleMetadata(f"no last stable offset for {topic}, partitions {sorted(at.keys() - ends)}")
    return ends


def positions(consumer: KafkaConsumer) -> dict[TopicPartition, int]:
    """The next offset of every assigned partition, behind control and aborted records already passed; asks nobody."""
    return {at: int(known.offset) for at, known in consumer._subscription.all_consumed_offsets().items()}


def watch_fetches(
    consumer: KafkaConsumer, answered: Callable[[Any, Any], None], failed: Callable[[Any, Exception], None]
) -> None:
    """Call `answered(node_id, fetch_response)` and `failed(node_id, error)` for every fetch of `consumer`.

    They run on the consumer's I/O thread, before poll sees the records: they must be short and must not raise.
    """
    fetcher = consumer._fetcher
    take_answer, take_error = fetcher._handle_fetch_response, fetcher._handle_fetch_error

    def on_answer(node_id: Any, fetch_offsets: Any, send_time: float, response: Any) -> None:
        answered(node_id, response)
        take_answer(node_id, fetch_offsets, send_time, response)

    def on_error(node_id: Any, error: Exception) -> None:
        failed(node_id, error)
        take_error(node_id, error)

    fetcher._handle_fetch_response, fetcher._handle_fetch_error = on_answer, on_error


# --- connections and their errors ------------------------------------------------------------------------------------


def open_client(
    kind: Callable[..., T], bootstrap: str, *, topics: Sequence[str] = (), timeout_s: float, **config: Any
) -> tuple[T, _Client]:
    """A connected KafkaConsumer or KafkaAdminClient and its network client; raises Unreachable or AccessDenied.

    It starts a thread: open it in the process that uses it (Luigi forks), and close it.
    """
    check_kafka_python()
    clients: list[_Client] = []

    def make_client(**settings: Any) -> _Client:
        clients.append(_Client(topics, **settings))
        return clients[-1]

    try:
        opened = kind(
            bootstrap_servers=bootstrap,
            bootstrap_timeout_ms=round(timeout_s * 1000),
            kafka_client=make_client,
            **config,
        )
    except (kafka_errors.KafkaError, OSError, ValueError, TypeError) as error:
        for client in clients:
            client.abandon()
        raise explained(error, bootstrap) from error
    return opened, clients[0]


def explained(error: Exception, bootstrap: str, topic: str = "", partition: int | None = None) -> LogError:
    """`error` as a LogError that says what, where and what to do next."""
    here = f"Kafka at {bootstrap}"
    what = f"topic {topic!r}" + ("" if partition is None else f", partition {partition}") if topic else "this request"
    if isinstance(error, LogError):
        return error
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError | kafka_errors.UnsupportedSaslMechanismError):
        return AccessDenied(f"{here} refuses the credentials: correct the user, the password or the SASL mechanism")
    if isinstance(error, kafka_errors.AuthorizationError):
        return AccessDenied(f"{here} does not allow {what} to this user: ask its administrator for the right to it")
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return MissingTopic(f"{here} has no {what}: `watershed init` creates topics, or {ADDRESS_HELP}")
    if isinstance(error, kafka_errors.InvalidTopicError):
        return MissingTopic(f"{topic!r} cannot be a topic's name; allowed: letters, digits, '.', '_', '-', up to 249")
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        return LogError(f"{what} is compressed, and its codec is not installed ({error}): pip install it")
    if isinstance(error, kafka_errors.CorruptRecordError):
        return LogError(f"{here} sent a damaged record of {what} ({error}): repair that broker's log first")
    if isinstance(error, kafka_errors.RetriableError | OSError):
        return Unreachable(f"{here} {_silence(bootstrap)}: {ADDRESS_HELP}; `watershed up` starts an embedded broker")
    if isinstance(error, ValueError | TypeError):
        return Unreachable(f"{bootstrap!r} is no address of Kafka (allowed: host:port[,host:port...]): {ADDRESS_HELP}")
    return LogError(f"{here} could not answer for {what}: {error}")


def _silence(bootstrap: str) -> str:
    """Tells a port where nothing listens from one where something else, or a secured broker, does."""
    for host, port, _ in collect_hosts(bootstrap):
        try:
            with socket.create_connection((host, port), timeout=0.5):
                return "accepts connections but does not answer as a Kafka broker (another program, or TLS or SASL?)"
        except OSError:
            continue
    return "cannot be reached (nothing accepts connections there)"


# --- the log ---------------------------------------------------------------------------------------------------------


class KafkaLog:
    """`pipeline.log.Log` on Kafka. Connects when first asked, so it may be made before a fork, and used after it.

    `bootstrap` is host:port[,host:port...]; `security` are kafka-python's security_protocol, sasl_* and ssl_* settings.
    A question that gets no answer is asked again for `timeout_s`; a read that gets no further for `stall_s` raises.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        security: Mapping[str, Any] | None = None,
        timeout_s: float = 10.0,
        stall_s: float = 30.0,
    ) -> None:
        self.bootstrap = bootstrap
        self._security = dict(security or {})
        self._timeout_s, self._stall_s = timeout_s, stall_s
        self._admin: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    def partitions(self, topic: str) -> int:
        return len(self._ask(topic, lambda admin: self._metadata(admin, topic)["partitions"]))

    def topic_id(self, topic: str) -> str:
        return self._ask(topic, lambda admin: _topic_id(self._metadata(admin, topic)))

    def start_offsets(self, topic: str) -> list[int]:
        return list(self._ask(topic, lambda admin: self._starts(admin, topic)).values())

    def end_offsets(self, topic: str) -> list[int]:
        return list(self._ask(topic, lambda admin: self._ends(admin, topic)).values())

    def describe(self, topic: str) -> TopicDescription:
        def question(admin: KafkaAdminClient) -> TopicDescription:
            found = self._metadata(admin, topic)
            told = admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
            configs = {name: str(one["value"]) for name, one in told.get("topic", {}).get(topic, {}).items()}
            return TopicDescription(topic, len(found["partitions"]), _topic_id(found), configs)

        return self._ask(topic, question)

    def create_topic(self, topic: str, partitions: int, configs: Mapping[str, str] | None = None) -> bool:
        """Create the topic and wait until it can be used; False when it was there already, whatever its settings."""

        def question(admin: KafkaAdminClient) -> bool:
            wanted = {"num_partitions": partitions, "replication_factor": -1, "configs": dict(configs or {})}
            try:
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
        if not 0 <= start <= end:
            raise LogError(f"{topic}, partition {partition}: there is no offset range [{start}, {end})")
        if start < end:
            self._check_range(topic, partition, start, end)
            yield from self._read(TopicPartition(topic, partition), start, end, max_records, max_bytes)

    def _read(self, at: TopicPartition, start: int, end: int, max_records: int, max_bytes: int) -> Iterator[Block]:
        consumer, _ = open_client(
            KafkaConsumer,
            self.bootstrap,
            topics=[at.topic],
            timeout_s=self._timeout_s,
            **{**CONSUMER_CONFIG, **self._security},
        )
        position, moved_at = start, time.monotonic()
        try:
            consumer.assign([at])
            consumer.seek(at, start)
            while position < end:
                records = consumer.poll(timeout_ms=POLL_MS, max_records=max_records).get(at, [])
                reached = min(positions(consumer)[at], end)
                if reached > position:
                    yield from blocks_of(records, position, reached, max_bytes)
                    position, moved_at = reached, time.monotonic()
                elif time.monotonic() - moved_at > self._stall_s:
                    raise Unreachable(
                        f"Kafka at {self.bootstrap} sent nothing more of {at.topic}, partition {at.partition} for "
                        f"{self._stall_s:g} s at offset {position} (wanted up to {end}): run the command again to go on"
                    )
        except (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError) as error:
            raise self.out_of_range(at.topic, at.partition, position) from error
        except kafka_errors.KafkaError as error:
            raise explained(error, self.bootstrap, at.topic, at.partition) from error
        finally:
            consumer.close(autocommit=False)

    def witness(self, topic: str, partition: int, offset: int) -> bytes | None:
        first = self._ask(topic, lambda admin: self._starts(admin, topic, partition))[partition]
        found, span = None, WITNESS_SPAN
        start = offset
        while found is None and start > first:
            start = max(first, offset - span)
            for block in self.read(topic, partition, start, offset):
                found = last_hash(block.batch) or found
            span *= 16
        if offset <= first:
            self._check_range(topic, partition, first, offset)
        return found

    def out_of_range(self, topic: str, partition: int, position: int) -> LogError:
        """The error to raise when the broker says that `position` is not in its log: which side, and the repair."""
        try:
            self._check_range(topic, partition, position, position)
        except LogError as error:
            return error
        return LogTruncated(
            f"{topic}, partition {partition}: the log was cut back below offset {position} and has grown again; "
            f"`watershed init --rebuild` starts a new generation from the master dataset"
        )

    def close(self) -> None:
        with self._lock:
            admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _check_range(self, topic: str, partition: int, start: int, end: int) -> None:
        first = self._ask(topic, lambda admin: self._starts(admin, topic, partition))[partition]
        if start < first:
            raise RetentionPassed(
                f"{topic}, partition {partition}: offsets [{start}, {first}) are gone, the log starts at {first} now "
                f"(retention): raise the topic's retention.ms, then `watershed init --rebuild` starts a new generation"
            )
        last = self._ask(topic, lambda admin: self._ends(admin, topic, partition))[partition]
        if last < end:
            raise LogTruncated(
                f"{topic}, partition {partition}: the log ends at offset {last}, below {end}, which it had reached: it "
                f"was truncated, or the topic was made anew, or {self.bootstrap} is another Kafka; {ADDRESS_HELP}, "
                f"or `watershed init --rebuild` starts a new generation from the master dataset"
            )

    def _ask(self, topic: str, question: Callable[[KafkaAdminClient], T]) -> T:
        attempts = Retrying(
            retry=retry_if_exception_type(kafka_errors.RetriableError),
            stop=stop_after_delay(self._timeout_s),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        )
        try:
            return attempts(lambda: question(self._connected()))
        except (kafka_errors.KafkaError, OSError) as error:
            raise explained(error, self.bootstrap, topic) from error

    def _connected(self) -> KafkaAdminClient:
        with self._lock:
            if self._admin is None:
                limit_ms = round(self._timeout_s * 1000)
                self._admin, _ = open_client(
                    KafkaAdminClient,
                    self.bootstrap,
                    timeout_s=self._timeout_s,
                    request_timeout_ms=limit_ms,
                    reconnect_backoff_max_ms=1000,
                    **self._security,
                )
            return self._admin

    def _metadata(self, admin: KafkaAdminClient, topic: str) -> dict[str, Any]:
        """The broker's answer for one topic, its partitions in order; raises MissingTopic at once."""
        found: dict[str, Any] = admin.describe_topics([topic])[0]
        error = kafka_errors.for_code(found["error_code"])
        if error is kafka_errors.UnknownTopicOrPartitionError:
            raise explained(error(topic), self.bootstrap, topic)
        if error is not kafka_errors.NoError:
            raise error(topic)
        found["partitions"] = sorted(found["partitions"], key=lambda one: int(one["partition_index"]))
        return found

    def _leaders(self, admin: KafkaAdminClient, topic: str, only: int | None) -> dict[int, int]:
        found = self._metadata(admin, topic)["partitions"]
        leaders = {one["partition_index"]: one["leader_id"] for one in found if only in (None, one["partition_index"])}
        if not leaders:
            raise MissingTopic(
                f"Kafka at {self.bootstrap}: topic {topic!r} has no partition {only}, only 0 to {len(found) - 1}; "
                f"`watershed init` notes a topic's partitions"
            )
        if any(leader < 0 for leader in leaders.values()):
            raise kafka_errors.LeaderNotAvailableError(topic)
        return leaders

    def _starts(self, admin: KafkaAdminClient, topic: str, only: int | None = None) -> dict[int, int]:
        return _listed(admin, topic, list(self._leaders(admin, topic, only)), OffsetSpec.EARLIEST)

    def _ends(self, admin: KafkaAdminClient, topic: str, only: int | None = None) -> dict[int, int]:
        leaders = self._leaders(admin, topic, only)
        near = _listed(admin, topic, list(leaders), OffsetSpec.LATEST)
        ends = _last_stable_offsets(admin, topic, {p: (leaders[p], near[p]) for p in leaders})
        return {p: ends[p] for p in leaders}


def _listed(admin: KafkaAdminClient, topic: str, partitions: list[int], spec: OffsetSpec) -> dict[int, int]:
    asked = {TopicPartition(topic, p): spec for p in partitions}
    told = admin.list_partition_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
    return {p: int(told[TopicPartition(topic, p)].offset) for p in partitions}


def _topic_id(found: Mapping[str, Any]) -> str:
    text = str(found.get("topic_id") or "")
    return "" if set(text) <= {"0", "-"} else text
