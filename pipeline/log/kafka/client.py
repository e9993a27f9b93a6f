"""Connections to Kafka, what kafka-python 3.0.12 hides that is needed, and its errors in plain words.

With kafka_fetch and kafka_transport, where pipeline imports kafka. Invariant: what leaves `open_client` is connected and creates
no topics; what cannot connect raises a LogError that tells a wrong address from refused credentials. No password is logged at any level.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import kafka
from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, OffsetSpec, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResourceType
from kafka.cluster import ClusterMetadata, collect_hosts
from kafka.consumer.fetcher import Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.protocol.admin import DescribeConfigsRequest
from kafka.protocol.consumer import FetchRequest
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslBytesRequest

from pipeline.base.errors import LogError
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.probe import certificate_refused, refusal
from pipeline.log.kafka.transport import widen
from pipeline.log.log import AccessDenied, MissingTopic, Unreachable

__all__ = [
    "ADDRESS_HELP",
    "CONSUMER_CONFIG",
    "IsolationLevel",
    "KafkaAdminClient",
    "KafkaConsumer",
    "OffsetSpec",
    "TopicPartition",
    "explained",
    "kafka_errors",
    "last_stable_offsets",
    "needing",
    "open_client",
    "positions",
    "topic_configs",
    "watch_fetches",
]

T = TypeVar("T")
ADDRESS_HELP = "check the setting kafka in luigi.cfg, or WATERSHED_KAFKA"
PASSWORD_HELP = "correct kafka_username and kafka_password (WATERSHED_KAFKA_PASSWORD, or the file that WATERSHED_KAFKA_PASSWORD_FILE names)"
DROPS = 2  # connections lost before a first one has served: then the broker is asked why
# One fetch per partition is in flight at a time, so these bound the memory of a reader (before decompression). A response is smaller
# than what malloc maps by itself (base.memory.MAPPED_BYTES), so that its pages are used again; as large as what one poll may return.
FETCH_MAX_BYTES = 30 * 1024 * 1024
PARTITION_FETCH_MAX_BYTES = 6 * 1024 * 1024
CREDENTIAL_ERRORS = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
LOST = (kafka_errors.KafkaConnectionError, kafka_errors.KafkaProtocolError)  # closed, or what came was not Kafka's
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
            f"(before it, partitions stall silently)",
            repair="pip install 'kafka-python>=3.0.12,<4'",
        )


class _Dropped(kafka_errors.KafkaError):  # type: ignore[misc]  # kafka-python has no types
    """The broker accepts connections and closes them before they are of use."""


class _CertificateRefused(kafka_errors.KafkaError):  # type: ignore[misc]
    """Distrust of a broker's certificate; the text goes on after the broker's address."""


class _NoTokens(logging.Filter):
    """kafka-python logs every request at the level DEBUG, also the one with the password in it, and its bytes."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_without_token, record.args))
        return True


def _without_token(argument: Any) -> Any:
    if isinstance(argument, SaslAuthenticateRequest | SaslBytesRequest):
        return f"{type(argument).__name__}(***)"
    return f"<{len(argument)} bytes>" if isinstance(argument, bytes | bytearray | memoryview) else argument


for _name in ("kafka.net.connection", "kafka.protocol.parser"):
    logging.getLogger(_name).addFilter(_NoTokens())


class _Client(KafkaNetClient):  # type: ignore[misc]
    """The network client, without three faults of kafka-python, and asking for `topics` in its first metadata request.

    It ignores allow_auto_create_topics: reading a missing topic would make it. It forgets that it was refused, or that it trusts no
    certificate, and tries again until the time is up, to say no more than that there was no connection. And it waits for ever for the
    other side of a TLS handshake.
    """

    def __init__(self, topics: Sequence[str], **config: Any) -> None:
        super().__init__(**config)
        self.cluster.config["allow_auto_create_topics"] = False
        self.cluster._topics = set(topics)  # set_topics would start a bootstrap that no timeout ends
        self._drops = 0
        connect = self._manager._connect

        async def connect_noting_refusal(node: Any, conn: Any, timeout_at: float | None = None, **how: Any) -> None:
            def give_up() -> None:
                if conn.transport is None:
                    conn.close(kafka_errors.KafkaConnectionError("the connection was not made in time"))

            timer = None if timeout_at is None else self._net.call_at(timeout_at, give_up)
            try:
                await connect(node, conn, timeout_at=timeout_at, **how)
            finally:
                if timer is not None:
                    self._net.cancel(timer)
            conn.close_future.add_errback(lambda error: self._note_refusal(node, conn, error))

        self._manager._connect = connect_noting_refusal
        widen(self._manager)

    def _note_refusal(self, node: Any, conn: Any, error: Exception) -> None:
        """Put a refusal where get_connection looks, which raises it at the next attempt.

        What the broker says before it closes a connection is mostly lost with it. So, until the client is set up, losing two
        connections that had been accepted ends the attempt: during SASL it is a refusal, else `open_client` asks the broker why.
        """
        cause = error.__context__
        accepted = conn.parser is not None or isinstance(cause, OSError)  # ssl.SSLError too: in the handshake
        if isinstance(cause, ssl.SSLCertVerificationError):
            error = _CertificateRefused(certificate_refused(cause, node.host, self._manager.config["ssl_cafile"]))
        elif isinstance(error, LOST) and accepted and not self._manager.bootstrapped:
            self._drops += 1
            if self._drops >= DROPS:
                began = conn.sasl_enabled and conn.broker_version_data is not None and not conn.init_future.succeeded()
                error = kafka_errors.SaslAuthenticationFailedError(str(error)) if began else _Dropped(str(error))
        if isinstance(error, (*CREDENTIAL_ERRORS, _CertificateRefused, _Dropped)):
            self._manager._auth_failures[node.node_id] = error

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


def topic_configs(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    """All settings of a topic; TopicAuthorizationFailedError without the right to see them, which describe_configs passes over."""
    request = DescribeConfigsRequest(resources=[(ConfigResourceType.TOPIC, topic, None)], include_synonyms=False)
    (found,) = admin._manager.run(admin._manager.send, request).results
    error = kafka_errors.for_code(found.error_code)
    if error is not kafka_errors.NoError:
        raise error(topic)
    return {one.name: str(one.value) for one in found.configs}


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
    kind: Callable[..., T], connection: KafkaConnection, *, topics: Sequence[str] = (), timeout_s: float, **config: Any
) -> tuple[T, _Client]:
    """A connected KafkaConsumer or KafkaAdminClient and its network client; raises SettingsError, Unreachable or AccessDenied.

    It starts a thread: open it in the process that uses it (Luigi forks), and close it.
    """
    check_kafka_python()
    connection.check_files()
    until = time.monotonic() + timeout_s
    while True:
        left_s = max(until - time.monotonic(), 0.001)
        clients: list[_Client] = []

        def make_client(clients: list[_Client] = clients, **settings: Any) -> _Client:
            clients.append(_Client(topics, **settings))
            return clients[-1]

        try:
            opened = kind(
                bootstrap_servers=connection.bootstrap,
                bootstrap_timeout_ms=round(left_s * 1000),
                kafka_client=make_client,
                **config,
                **connection.arguments(),
            )
        except (kafka_errors.KafkaError, OSError, ValueError, TypeError) as error:
            for client in clients:
                client.abandon()
            if isinstance(error, _Dropped) and time.monotonic() < until and not _refusals(connection):
                continue  # it may be starting, or stopping
            raise explained(error, connection) from error
        return opened, clients[0]


@contextmanager
def needing(operation: str) -> Iterator[None]:
    """Have `explained` name this operation of an ACL where the broker allows no more than it did."""
    try:
        yield
    except kafka_errors.AuthorizationError as error:
        error.operation = operation
        raise


def explained(error: Exception, connection: KafkaConnection, topic: str = "", partition: int | None = None) -> LogError:
    """`error` as a LogError that says what, where and what to do next."""
    here = f"Kafka at {connection.bootstrap}"
    what = f"topic {topic!r}" + ("" if partition is None else f", partition {partition}") if topic else "this request"
    if isinstance(error, LogError):
        return error
    if isinstance(error, kafka_errors.AuthorizationError):
        return AccessDenied(f"{here} {_forbidden(error, connection, topic)}")
    if isinstance(error, _CertificateRefused):
        return AccessDenied(f"{here} {error.args[0]}")
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return MissingTopic(
            f"{here} has no {what}: `watershed init` creates topics, or {ADDRESS_HELP}", repair="watershed init"
        )
    if isinstance(error, kafka_errors.InvalidTopicError):
        return MissingTopic(f"{topic!r} cannot be a topic's name; allowed: letters, digits, '.', '_', '-', up to 249")
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        return LogError(f"{what} is compressed, and {error}", repair="pip install 'kafka-python[lz4,snappy,zstd]'")
    if isinstance(error, kafka_errors.CorruptRecordError):
        return LogError(f"{here} sent a damaged record of {what} ({error}): repair that broker's log first")
    if isinstance(error, (kafka_errors.RetriableError, OSError, _Dropped, *CREDENTIAL_ERRORS)):
        return _shut_out(error, connection)
    if isinstance(error, ValueError | TypeError):
        return LogError(
            f"{connection.bootstrap!r} is no address of Kafka (allowed: host:port[,host:port...]): {ADDRESS_HELP}"
        )
    return LogError(f"{here} could not answer for {what}: {error}")


def _shut_out(error: Exception, connection: KafkaConnection) -> LogError:
    """No connection was had: refused for a reason that the broker shows, for the credentials, or nobody answers."""
    here = f"Kafka at {connection.bootstrap}"
    if said := _refusals(connection):
        return AccessDenied(f"{here} {said}")
    if isinstance(error, CREDENTIAL_ERRORS):
        return AccessDenied(
            f"{here} refuses the credentials of user {connection.username!r} ({connection.sasl_mechanism}): {PASSWORD_HELP}"
        )
    return Unreachable(
        f"{here} {_silence(connection.bootstrap)}: {ADDRESS_HELP}; `watershed up` starts an embedded broker"
    )


def _forbidden(error: Exception, connection: KafkaConnection, topic: str) -> str:
    """The ACL that is missing, and the command that adds it."""
    operation = getattr(error, "operation", "Read")
    named: Any = error.args[0] if error.args else ()
    if isinstance(error, kafka_errors.GroupAuthorizationFailedError):
        resource, name = "group", named if isinstance(named, str) else ""
    elif isinstance(error, kafka_errors.TransactionalIdAuthorizationFailedError):
        resource, name = "transactional-id", getattr(error, "writer", f"watershed-replay-{topic}")
    elif isinstance(error, kafka_errors.ClusterAuthorizationFailedError):
        resource, name = "cluster", ""
    else:
        resource, name = "topic", ", ".join(sorted(named)) if isinstance(named, set | frozenset) else topic
    what = f"{resource} {name!r}" if name else resource
    of = f"--{resource}" + (f" '{name}'" if name else "")
    return (
        f"does not allow {connection.user} the operation {operation} on {what}: have its administrator add that ACL (kafka-acls.sh --add"
        f" --allow-principal '{connection.user}' --operation {operation} {of}); docs/SETTINGS.md lists all that are needed"
    )


def _refusals(connection: KafkaConnection) -> str:
    """Objection of the first broker that has one; '' when none is seen to."""
    found = (refusal(connection, host, port) for host, port, _ in collect_hosts(connection.bootstrap))
    return next(filter(None, found), "")


def _silence(bootstrap: str) -> str:
    """Tells a port where nothing listens from one where something else does."""
    for host, port, _ in collect_hosts(bootstrap):
        try:
            with socket.create_connection((host, port), timeout=0.5):
                return "accepts connections but does not answer as a Kafka broker (another program, or TLS or SASL?)"
        except OSError:
            continue
    return "cannot be reached (nothing accepts connections there)"
