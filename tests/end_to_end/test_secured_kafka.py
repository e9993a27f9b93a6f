"""Kafka with TLS, SASL and ACLs, by settings alone: what is right works, what is wrong is one line that names the setting or the ACL."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest
from kafka import KafkaAdminClient, KafkaProducer

from pipeline.base.errors import SettingsError
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import AccessDenied, Unreachable
from sandbox.processes import wait_until
from speed_layer.consumer import LiveConsumer
from tests.support.secured import Secured, documented_acls, environment
from tests.support.system import System, wait_for

QUICK_S = 8.0  # "within seconds", on a busy machine
READ = [("Read", "topic"), ("DescribeConfigs", "topic")]
EVENT = '{{"id": "{id}", "station": "JFK", "observed_at": "2013-01-01T0{hour}:00:00Z", "temperature_f": 41.5}}'


@pytest.fixture
def topic(secured: Secured, topic_name: str) -> str:
    """A topic of one partition with three records, which `worker` may read."""
    with closing(KafkaLog(secured.kafka.bootstrap)) as log:
        log.create_topic(topic_name, 1)
    with closing(KafkaProducer(bootstrap_servers=secured.kafka.bootstrap, acks="all")) as to:
        for n in range(3):
            to.send(topic_name, key=b"k", value=str(n).encode())
    for user in ("worker", "CN=worker"):
        secured.allow(user, [(operation, kind, topic_name) for operation, kind in READ])
    return topic_name


def values(batches: list[pa.RecordBatch]) -> list[bytes]:
    return [value for batch in batches for value in batch.column("value").to_pylist()]


def polled(live: LiveConsumer, topic: str) -> list[bytes]:
    """What a live consumer reads of three records; what it raises."""
    live.assign({(topic, 0): 0})
    found: list[bytes] = []

    def all_there() -> bool:
        found.extend(values([block.batch for block in live.poll(50).values()]))
        return len(found) >= 3

    assert wait_until(all_there, 20), live.down_reason
    return found


RIGHT: dict[str, Callable[[Secured], KafkaConnection]] = {
    "PLAIN": lambda s: s.connection("USERS", sasl_mechanism="PLAIN"),
    "SCRAM-SHA-512": lambda s: s.connection("USERS"),
    "lower case": lambda s: s.connection("USERS", security_protocol="sasl_plaintext", sasl_mechanism="scram-sha-512"),
    "SCRAM-SHA-512 in TLS": lambda s: s.connection("USERSTLS"),
    "PLAIN in TLS": lambda s: s.connection("USERSTLS", sasl_mechanism="PLAIN"),
    "TLS with a private authority": lambda s: s.connection("TLS"),
    "mutual TLS": lambda s: s.connection("MUTUAL"),
    "mutual TLS, one file": lambda s: s.connection("MUTUAL", ssl_certfile=str(s.client[2]), ssl_keyfile=""),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_every_kind_of_connection_reads_the_log(secured: Secured, topic: str, kind: str) -> None:
    connection = RIGHT[kind](secured)
    with closing(KafkaLog(connection)) as log:
        described = log.describe(topic)
        assert (described.partitions, described.compacted, log.end_offsets(topic)) == (1, False, [3])
        assert values([block.batch for block in log.read(topic, 0, 0, 3)]) == [b"0", b"1", b"2"]
    with closing(LiveConsumer(connection)) as live:
        assert polled(live, topic) == [b"0", b"1", b"2"]


SECURITY = r"kafka_security_protocol \(WATERSHED_KAFKA_SECURITY_PROTOCOL\)"
WRONG: dict[str, tuple[Callable[[Secured], KafkaConnection], str]] = {
    "wrong password, SCRAM": (
        lambda s: s.connection("USERSTLS", password="hidden-word"),
        r"refuses the credentials of user 'worker' \(SCRAM-SHA-512\): correct kafka_username and kafka_password \(WATERSHED_KAFKA_PASSWORD",
    ),
    "wrong password, PLAIN": (
        lambda s: s.connection("USERS", password="hidden-word", sasl_mechanism="PLAIN"),
        "refuses the credentials of user 'worker'.*kafka_password",
    ),
    "unknown user": (lambda s: s.connection("USERS", username="nobody"), "refuses the credentials of user 'nobody'"),
    "mechanism": (
        lambda s: s.connection("USERS", sasl_mechanism="SCRAM-SHA-256"),
        "does not take the SASL mechanism SCRAM-SHA-256, only PLAIN, SCRAM-SHA-512: set kafka_sasl_mechanism",
    ),
    "wrong authority": (
        lambda s: s.connection("USERSTLS", ssl_cafile=str(s.other.cafile)),
        r"authority is not among those in .*/other.pem .*set kafka_ssl_cafile \(WATERSHED_KAFKA_SSL_CAFILE\)",
    ),
    "no authority": (
        lambda s: s.connection("TLS", ssl_cafile=""),
        "none that this machine trusts.*set kafka_ssl_cafile",
    ),
    "expired certificate": (
        lambda s: s.connection("EXPIRED"),
        "has a certificate that has expired: its administrator must renew it",
    ),
    "certificate of another host": (
        lambda s: s.connection("ELSEWHERE"),
        r"certificate for another name than 127\.0\.0\.1",
    ),
    "no client certificate": (
        lambda s: s.connection("MUTUAL", ssl_certfile="", ssl_keyfile=""),
        r"wants a certificate of the client, and none is set.*set kafka_ssl_certfile and kafka_ssl_keyfile \(WATERSHED_",
    ),
    "expired client certificate": (
        lambda s: s.connection("MUTUAL", ssl_certfile=str(s.old_client[0]), ssl_keyfile=str(s.old_client[1])),
        r"refuses the client certificate .*worker-of-yesterday\.crt\.pem .*it has expired.*set kafka_ssl_certfile",
    ),
    "client certificate of another authority": (
        lambda s: s.connection("MUTUAL", ssl_certfile=str(s.foreign_client[0]), ssl_keyfile=str(s.foreign_client[1])),
        r"refuses the client certificate .*foreigner\.crt\.pem .*its authority is none that the broker trusts",
    ),
    "plaintext to TLS": (
        lambda s: KafkaConnection(s.kafka.address("TLS")),
        f"speaks TLS, and {SECURITY} is PLAINTEXT: set it to SSL",
    ),
    "plaintext to mutual TLS": (
        lambda s: KafkaConnection(s.kafka.address("MUTUAL")),
        f"speaks TLS, and {SECURITY} is PLAINTEXT",
    ),
    "plaintext to SASL_SSL": (
        lambda s: KafkaConnection(s.kafka.address("USERSTLS")),
        f"speaks TLS, and {SECURITY} is PLAINTEXT.*SASL_SSL",
    ),
    "SASL without TLS to SASL_SSL": (
        lambda s: s.connection("USERSTLS", security_protocol="SASL_PLAINTEXT", ssl_cafile=""),
        f"speaks TLS, and {SECURITY} is SASL_PLAINTEXT: set it to SASL_SSL",
    ),
    "plaintext to SASL": (
        lambda s: KafkaConnection(s.kafka.address("USERS")),
        rf"wants SASL \(PLAIN, SCRAM-SHA-512\), and {SECURITY} is PLAINTEXT: set it to SASL_PLAINTEXT",
    ),
    "TLS to SASL_SSL": (
        lambda s: KafkaConnection(s.kafka.address("USERSTLS"), "SSL", ssl_cafile=str(s.authority.cafile)),
        rf"wants SASL \(PLAIN, SCRAM-SHA-512\), and {SECURITY} is SSL: set it to SASL_SSL",
    ),
    "TLS to plaintext": (
        lambda s: KafkaConnection(s.kafka.bootstrap, "SSL", ssl_cafile=str(s.authority.cafile)),
        f"speaks no TLS, and {SECURITY} is SSL: set it to PLAINTEXT",
    ),
    "SASL_SSL to SASL without TLS": (
        lambda s: s.connection("USERS", security_protocol="SASL_SSL"),
        f"speaks no TLS, and {SECURITY} is SASL_SSL: set it to SASL_PLAINTEXT",
    ),
    "SASL_SSL to TLS": (
        lambda s: s.connection(
            "TLS", security_protocol="SASL_SSL", sasl_mechanism="PLAIN", username="worker", password="x"
        ),
        f"wants no SASL there, and {SECURITY} is SASL_SSL: set it to SSL",
    ),
    "no right to describe": (
        lambda s: s.connection("USERS", username="lonely"),
        r"does not allow User:lonely the operation (Describe|Read) on topic 'TOPIC': .*--allow-principal 'User:lonely'.*--topic 'TOPIC'",
    ),
    "no right to read": (
        lambda s: s.connection("USERS", username="stranger"),
        "does not allow User:stranger the operation Read on topic 'TOPIC': .*--operation Read --topic 'TOPIC'.*docs/SETTINGS.md",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_the_broker_refuses_is_one_line_that_says_what_to_set(secured: Secured, topic: str, kind: str) -> None:
    make, said = WRONG[kind]
    connection = make(secured)
    if kind == "no right to read":
        secured.allow("stranger", [("Describe", "topic", topic)])
    began = time.monotonic()
    with closing(KafkaLog(connection)) as log, pytest.raises(AccessDenied) as refused:
        log.end_offsets(topic)
    in_log_s = time.monotonic() - began
    with closing(LiveConsumer(connection)) as live, pytest.raises(AccessDenied) as refused_live:
        polled(live, topic)
    for error in (refused.value, refused_live.value):
        assert re.search(said.replace("TOPIC", topic), str(error)) and connection.bootstrap in str(error)
        assert "\n" not in str(error) and "hidden-word" not in str(error) and secured.password not in str(error)
    assert in_log_s < QUICK_S and time.monotonic() - began < 2 * QUICK_S


def test_a_right_that_only_some_commands_need_is_named_when_it_is_missed(
    secured: Secured, topic: str, topic_name: str
) -> None:
    """DescribeConfigs: without it nobody would know whether the topic is compacted. Create: init alone."""
    secured.allow("lonely", [("Read", "topic", topic)])
    with closing(KafkaLog(secured.connection("USERS", username="lonely"))) as log:
        assert log.end_offsets(topic) == [3]
        with pytest.raises(AccessDenied, match=f"User:lonely the operation DescribeConfigs on topic '{topic}'"):
            log.describe(topic)
        missing = f"{topic_name}.missing"
        secured.allow("lonely", [("Read", "topic", missing)])
        with pytest.raises(AccessDenied, match=f"User:lonely the operation Create on topic '{missing}'"):
            log.create_topic(missing, 1)


def test_a_worker_without_the_group_goes_on_and_names_the_acl_once(
    secured: Secured, topic: str, capfd: pytest.CaptureFixture[str]
) -> None:
    secured.allow("lonely", [("Read", "topic", topic)])
    with closing(LiveConsumer(secured.connection("USERS", username="lonely"), group_id="watershed")) as live:
        assert polled(live, topic) == [b"0", b"1", b"2"]

        live.commit_group_offsets({(topic, 0): 3})

        def refused() -> bool:
            live.poll(20)
            return bool(live.group_commit_error)

        wait_for(refused, "the group's ACL is missed", 20)
        live._commit_at = 0.0  # as a minute later
        live.group_commit_error, before = "", live.group_commit_error
        wait_for(refused, "it is tried again", 20)
        assert live.group_commit_error == before
        live._commit_at = 0.0
        live.commit_group_offsets({(topic, 0): 3})
        wait_for(lambda: live.poll(20) is not None and live._commit.is_done, "it is tried a third time", 20)
    said = [line for line in "".join(capfd.readouterr()).splitlines() if "group offsets are not left" in line]
    assert len(said) == 2, said  # the test forgot the first one; of the same refusal there is no second word
    assert "User:lonely the operation Read on group 'watershed'" in said[0] and "--group 'watershed'" in said[0]


def test_a_running_reader_whose_password_was_changed_is_refused_when_it_connects_again(
    secured: Secured, topic: str
) -> None:
    """It does not wait, as it does for a broker that is down."""
    secured.allow("leaver", [("Read", "topic", topic)])
    with closing(LiveConsumer(secured.connection("USERSTLS", username="leaver"))) as live:
        assert polled(live, topic) == [b"0", b"1", b"2"]
        secured.set_passwords({"leaver": "another"})
        manager = live._consumer._client._manager
        manager.run(lambda: [conn.close(OSError("cut by the test")) for conn in list(manager._conns.values())])
        with pytest.raises(AccessDenied, match="refuses the credentials of user 'leaver'"):
            wait_until(lambda: live.poll(50) is None, 60)


def test_a_tls_port_that_says_nothing_does_not_hang_its_client(secured: Secured) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        connection = KafkaConnection(
            f"127.0.0.1:{deaf.getsockname()[1]}", "SSL", ssl_cafile=str(secured.authority.cafile)
        )
        began = time.monotonic()
        with (
            closing(KafkaLog(connection, timeout_s=1)) as log,
            pytest.raises(Unreachable, match="does not answer as a Kafka broker"),
        ):
            log.end_offsets("t")
        assert time.monotonic() - began < QUICK_S


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "missing file": (
        {"ssl_cafile": "/nowhere/ca.pem"},
        r"kafka_ssl_cafile \(WATERSHED_KAFKA_SSL_CAFILE\): /nowhere/ca.pem cannot be read",
    ),
    "no PEM": ({"ssl_cafile": __file__}, "holds no certificate of an authority in PEM"),
    "another's key": ({"ssl_keyfile": "foreign"}, "the key belongs to another certificate"),
    "encrypted key": ({"ssl_keyfile": "encrypted"}, "the private key is encrypted, and no setting holds a passphrase"),
    "no certificate": ({"ssl_certfile": ""}, r"kafka_ssl_keyfile \(.*\) is set without kafka_ssl_certfile"),
    "files without TLS": ({"security_protocol": "PLAINTEXT"}, "uses no TLS: set kafka_security_protocol to SSL"),
    "protocol": ({"security_protocol": "TLS"}, "is 'TLS'; allowed are PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
    "password without SASL": ({"password": "hidden-word"}, "kafka_password .* is set, and .* sends no user name"),
    "no mechanism": (
        {"security_protocol": "SASL_SSL"},
        "kafka_sasl_mechanism .* is not set, and SASL_SSL needs one of PLAIN",
    ),
    "no password": (
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "username": "me"},
        "kafka_password .* is not set.*WATERSHED_KAFKA_PASSWORD_FILE",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_settings_that_cannot_work_are_refused_before_any_broker_is_asked(secured: Secured, kind: str) -> None:
    differently, said = UNFIT[kind]
    files = {"foreign": str(secured.foreign_client[1]), "encrypted": str(secured.authority.encrypted_key("worker"))}
    with pytest.raises(SettingsError, match=said) as refused:
        connection = secured.connection(
            "MUTUAL", **{name: files.get(value, value) for name, value in differently.items()}
        )
        with closing(KafkaLog(connection)) as log:
            log.end_offsets("t")
    assert "hidden-word" not in str(refused.value) and "\n" not in str(refused.value)


# ---- the whole system
def test_the_documented_rights_are_enough_for_everything(secured: Secured, secured_system: System) -> None:
    """init makes the topic; a worker, a night and the audit use it: SCRAM-SHA-512 in TLS, with the rights of the page and no other."""
    assert len(documented_acls()) == 4
    secured_system.run("init", "--partitions", "2")
    secured_system.produce([(n % 2, b"JFK", EVENT.format(id=n, hour=n).encode()) for n in range(8)])
    secured_system.catch_up()
    assert secured_system.night("2013-01-02").returncode == 0
    with closing(KafkaAdminClient(bootstrap_servers=secured.kafka.bootstrap)) as admin:
        secured_system.worker()
        secured_system.produce([(n, b"JFK", EVENT.format(id=8 + n, hour=9).encode()) for n in range(2)])

        def left() -> dict[int, int]:
            (offsets,) = admin.list_group_offsets(["watershed"]).values()
            return {
                at.partition: int(found.offset) for at, found in offsets.items() if at.topic == secured_system.topic
            }

        wait_for(
            lambda: left() == secured_system.positions() == {0: 5, 1: 5},
            "the worker's positions are left for lag tools",
            120,
        )
    assert all(not view["differences"] and not view["counts"] for view in secured_system.audit("--reference")["views"])
    assert (
        secured_system.topic in secured_system.run("status").stdout
        and secured_system.topic in secured_system.run("plan").stdout
    )


REFUSED_COMMANDS = {
    "speed": "wrong password, SCRAM",
    "init": "wrong authority",
    "status": "expired certificate",
    "plan": "no client certificate",
}


@pytest.mark.slow
def test_each_command_ends_with_one_line_when_it_is_refused(secured: Secured, secured_system: System) -> None:
    """`speed` too, which waits for a broker that is down."""
    secured_system.run("init", "--partitions", "1")
    for command, kind in REFUSED_COMMANDS.items():
        make, said = WRONG[kind]
        done = secured_system.run(command, check=False, timeout=60, **environment(make(secured)))
        assert done.returncode == 1, (command, done.stdout, done.stderr)
        line = [line for line in done.stderr.splitlines() if "speed layer" not in line and line.strip()][-1]
        assert line.startswith("watershed: Kafka at ") and re.search(said, line), done.stderr
        assert (
            done.stderr.count("Kafka at ") == 1 and "Traceback" not in done.stderr and "hidden-word" not in done.stderr
        )
    night = secured_system.night("2013-01-02", check=False, **environment(WRONG["wrong password, SCRAM"][0](secured)))
    assert (
        night.returncode in (30, 35, 40)
        and "Traceback" not in night.stderr
        and "refuses the credentials" in night.stderr
    )
    assert "hidden-word" not in night.stderr + night.stdout


def test_a_worker_that_may_not_read_its_topic_names_the_acl_and_ends(secured: Secured, secured_system: System) -> None:
    secured_system.run("init", "--partitions", "1")
    secured_system.environment |= environment(secured.connection("USERSTLS", username="stranger"))
    done = secured_system.run("speed", check=False, timeout=60)
    assert done.returncode == 1
    said = (
        f"does not allow User:stranger the operation (Read|Describe|DescribeConfigs) on topic '{secured_system.topic}'"
    )
    assert re.search(said, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
