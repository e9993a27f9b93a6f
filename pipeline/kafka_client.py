"""Connections to Kafka, what kafka-python 3.0.12 hides that is needed, and its errors in plain words.

With kafka_fetch and kafka_transport, where pipeline imports kafka. Invariant: what leaves `open_client` is connected and creates
no topics; what cannot connect raises a LogError that tells a wrong address from refused credentials.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
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

from pipeline.errors import LogError
from pipeline.kafka_transport import widen
from pipeline.log import AccessDenied, MissingTopic, Unreachable

__all__ = [
    "ADDRESS_HELP",
    "CONSUMER_CONFIG",
    "ConfigResource",
    "IsolationLevel",
    "KafkaAdminClient",
    "KafkaConsumer",
    "OffsetSpec",
    "TopicPartition",
    "explained",
    "kafka_errors",
    "last_stable_offsets",
    "open_client",
    "positions",
    "watch_fetches",
]

T = TypeVar("T")
ADDRESS_HELP = "check the setting kafka in luigi.cfg, or WATERSHED_KAFKA"
# One fetch per partition is in flight at a time, so these bound the memory of a reader (before decompression).
FETCH_MAX_BYTES = 50 * 1024 * 1024
PARTITION_FETCH_MAX_BYTES = 2 * 1024 * 1024
CREDENTIAL_ERRORS = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
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
    (KafkaConnectionManager, "_connect"),
    (KafkaConnectionManager, "maybe_raise_auth_failure"),
    (KafkaNetClient, "cluster"),
    (ClusterMetadata(), "_topics"),
    (ClusterMetadata, "topic_id"),
    (ClusterMetadata, "leader_for_partition"),
)


def check_kafka_python() -> None:
    """Raise LogError unless the installed kafka-python has the parts that this section builds on."""
    version = tuple(int(part) for part in kafka.__version__.split(".")[:3] if part.isdigit())
    missing = [f"{getattr(at, '__name__', type(at).__name__)}.{name}" for at, name in _PARTS if not hasattr(at, name)]
    if missing or not KAFKA_PYTHON_FROM <= version < KAFKA_PYTHON_BELOW:
        lacks = f" and lacks {', '.join(missing)}" if missing else ""
        raise LogError(
            f"kafka-python {kafka.__version__} is installed{lacks}; 3.0.12 or a later 3.x is needed "
            f"(before it, partitions stall silently): run pip install 'kafka-python>=3.0.12,<4'"
        )


class _Client(KafkaNetClient):  # type: ignore[misc]  # kafka-python has no types
    """The network client, without two faults of kafka-python, and asking for `topics` in its first metadata request.

    It ignores allow_auto_create_topics: reading a missing topic would make it. And it forgets that the broker refused
    the credentials, and tries them again until the time is up, to say no more than that there was no connection.
    """

    def __init__(self, topics: Sequence[str], **config: Any) -> None:
        super().__init__(**config)
        self.cluster.config["allow_auto_create_topics"] = False
        self.cluster._topics = set(topics)  # set_topics would start a bootstrap that no timeout ends
        self._welcome, self._drops = False, 0
        connect = self._manager._connect

        async def connect_noting_refusal(node: Any, conn: Any, **how: Any) -> None:
            await connect(node, conn, **how)
            self._note_refusal(node.node_id, conn)

        self._manager._connect = connect_noting_refusal
        widen(self._manager)

    def _note_refusal(self, node_id: Any, conn: Any) -> None:
        """Put a refusal where get_connection looks, which raises it at the next attempt.

        The answer that says so is mostly lost with the connection, which the broker closes right behind it. So, until
        a first connection has succeeded, losing two just after the broker's first answer counts as a refusal too.
        """
        error = conn.init_future.exception
        self._welcome = self._welcome or conn.init_future.succeeded()
        began = conn.sasl_enabled and conn.parser is not None and conn.broker_version_data is not None
        if began and not self._welcome and isinstance(error, kafka_errors.KafkaConnectionError):
            self._drops += 1
            if self._drops > 1:
                error = kafka_errors.SaslAuthenticationFailedError("it closed the connection while authenticating")
        if isinstance(error, CREDENTIAL_ERRORS):
            self._manager._auth_failures[node_id] = error

    def abandon(self) -> None:
        """Close it with its thread, when the object that was to own it could not be made."""
        self.close()
        self._net.stop()


def last_stable_offsets(admin: KafkaAdminClient, topic: str, at: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Last stable offset per partition, from Fetch responses; `at`: partition -> (leader, an offset in its range).

    Raises StaleMetadata, which is retriable, when an answer is missing or is an error that may pass.
    """
    ends: dict[int, int] = {}
    for leader in {leader for leader, _ in at.values()}:
        wanted = [
            FetchRequest.FetchTopic.FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1)
            for partition, (node, offset) in at.items()
            if node == leader
        ]
        request = FetchRequest(
            max_wait_ms=1,  # the embedded broker answers nothing at all to 0
            min_bytes=0,
            max_bytes=1,
            isolation_level=IsolationLevel.READ_COMMITTED,
            session_epoch=-1,  # no fetch session
            topics=[FetchRequest.FetchTopic(topic=topic, partitions=wanted)],
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
    if isinstance(error, CREDENTIAL_ERRORS):
        return AccessDenied(f"{here} refuses the credentials: correct the user, the password or the SASL mechanism")
    if isinstance(error, kafka_errors.AuthorizationError):
        return AccessDenied(f"{here} does not allow {what} to this user: ask its administrator for the right to it")
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return MissingTopic(f"{here} has no {what}: `watershed init` creates topics, or {ADDRESS_HELP}")
    if isinstance(error, kafka_errors.InvalidTopicError):
        return MissingTopic(f"{topic!r} cannot be a topic's name; allowed: letters, digits, '.', '_', '-', up to 249")
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        return LogError(f"{what} is compressed, and {error}: run pip install 'kafka-python[lz4,snappy,zstd]'")
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
