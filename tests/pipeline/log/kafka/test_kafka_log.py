"""The blocks of a read tile its range and hold just the committed records, on real Kafka and on the embedded broker."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from pydantic import SecretStr

from pipeline.base.errors import LogError, Refused
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import (
    RAW_SCHEMA,
    AccessDenied,
    Block,
    LogTruncated,
    MissingTopic,
    RetentionPassed,
    Unreachable,
    last_hash,
    record_hash,
)
from sandbox.kafka import RealKafka
from tests.conftest import need_real_kafka
from tests.support.system import wait_for

BIG = 5 * 1024 * 1024


@dataclass(frozen=True)
class Written:
    """A topic, and per partition what a committed reader must see: {offset: (timestamp, key, value, headers)}."""

    log: KafkaLog
    topic: str
    rows: dict[int, dict[int, tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]]]
    ends: list[int]

    def expected(self, partition: int, start: int, end: int) -> list[tuple[Any, ...]]:
        return [(o, *row) for o, row in sorted(self.rows[partition].items()) if start <= o < end]


def rows_of(blocks: list[Block]) -> list[tuple[Any, ...]]:
    table = pa.Table.from_batches([block.batch for block in blocks], schema=RAW_SCHEMA)
    return [
        (r["offset"], r["timestamp_ms"], r["key"], r["value"], [(h["key"], h["value"]) for h in r["headers"]])
        for r in table.to_pylist()
    ]


def assert_tiles(blocks: list[Block], start: int, end: int) -> None:
    bounds = [start, *(block.end for block in blocks)]
    assert [block.start for block in blocks] == bounds[:-1]
    assert bounds[-1] == end


def new_topic(log: KafkaLog, partitions: int = 1, configs: dict[str, str] | None = None) -> str:
    topic = f"t-{uuid.uuid4().hex[:12]}"
    # Kafka's retention goes by the records' own timestamps: those of 2020 would be deleted at once.
    assert log.create_topic(topic, partitions, {"retention.ms": "-1", **(configs or {})})
    return topic


def producer(bootstrap: str, **config: Any) -> KafkaProducer:
    return KafkaProducer(bootstrap_servers=bootstrap, max_request_size=16 * 1024 * 1024, **config)


@pytest.fixture
def real_log(real_kafka: str) -> Iterator[KafkaLog]:
    with closing(KafkaLog(real_kafka)) as log:
        yield log


@pytest.fixture
def embedded_log(embedded_kafka: str) -> Iterator[KafkaLog]:
    with closing(KafkaLog(embedded_kafka)) as log:
        yield log


@pytest.fixture(params=["real_kafka", "embedded_kafka"])
def any_log(request: pytest.FixtureRequest) -> Iterator[KafkaLog]:
    with closing(KafkaLog(request.getfixturevalue(request.param))) as log:
        yield log


@pytest.fixture(scope="module")
def transactional(real_kafka: str) -> Iterator[Written]:
    """Plain records and transactions, committed and aborted, on two partitions; both end in aborted records."""
    topic = new_topic(log := KafkaLog(real_kafka), 2)
    rows: dict[int, dict[int, Any]] = {0: {}, 1: {}}

    def send(to: KafkaProducer, keep: bool, partition: int, value: bytes | None, key: bytes | None = b"k") -> None:
        at = 1_600_000_000_000 + len(rows[partition])
        headers = [("trace", bytes([len(rows[partition]) % 256]))] if len(rows[partition]) % 3 == 0 else []
        sent = to.send(topic, value, key=key, headers=headers, partition=partition, timestamp_ms=at)
        to.flush()
        if keep:
            rows[partition][sent.get(10).offset] = (at, key, value, headers)

    with_transactions = producer(real_kafka, transactional_id=topic)
    with_transactions.init_transactions()
    plain = producer(real_kafka)
    for turn, committed in enumerate([True, False, False, True, False, True, False]):
        for partition in (0, 1):
            send(plain, True, partition, b"plain %d" % turn)
        with_transactions.begin_transaction()
        for number in range(3 + turn):
            send(with_transactions, committed, number % 2, b"t %d %d" % (turn, number), key=None if turn % 2 else b"k")
        if committed:
            with_transactions.commit_transaction()
        else:
            with_transactions.abort_transaction()
    with_transactions.close()
    plain.close()
    with closing(
        KafkaConsumer(bootstrap_servers=real_kafka)
    ) as reader:  # of uncommitted ones: up to the high watermark
        parts = [TopicPartition(topic, partition) for partition in rows]  # the client answers them in any order
        wait_for(
            lambda: log.end_offsets(topic) == [reader.end_offsets(parts)[p] for p in parts],
            "the last transaction is decided",
        )
    yield Written(log, topic, rows, log.end_offsets(topic))
    log.close()


def test_transactions_leave_gaps_and_the_end_lies_behind_them(transactional: Written) -> None:
    for partition, end in enumerate(transactional.ends):
        offsets = sorted(transactional.rows[partition])
        assert end > offsets[-1] + 1, "the log must end in aborted and control records for this test to mean anything"
        assert len(offsets) < offsets[-1] + 1, "and must have gaps"


@pytest.mark.parametrize("partition", [0, 1])
def test_read_gives_just_the_committed_records_and_reaches_the_end(transactional: Written, partition: int) -> None:
    end = transactional.ends[partition]
    blocks = list(transactional.log.read(transactional.topic, partition, 0, end))
    assert_tiles(blocks, 0, end)
    assert rows_of(blocks) == transactional.expected(partition, 0, end)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_blocks_tile_any_range_at_any_block_size(transactional: Written, data: st.DataObject) -> None:
    partition = data.draw(st.integers(0, 1))
    start = data.draw(st.integers(0, transactional.ends[partition]))
    end = data.draw(st.integers(start, transactional.ends[partition]))
    max_records, max_bytes = data.draw(st.integers(1, 30)), data.draw(st.sampled_from([1, 10, 40, 10**6]))
    blocks = list(
        transactional.log.read(transactional.topic, partition, start, end, max_records=max_records, max_bytes=max_bytes)
    )
    assert_tiles(blocks, start, end)
    assert all(len(block) <= max_records for block in blocks)
    assert rows_of(blocks) == transactional.expected(partition, start, end)


def test_a_range_of_control_and_aborted_records_alone_is_read_to_its_end(transactional: Written) -> None:
    end = transactional.ends[0]
    start = max(transactional.rows[0]) + 1
    blocks = list(transactional.log.read(transactional.topic, 0, start, end))
    assert_tiles(blocks, start, end)
    assert rows_of(blocks) == []


def test_witness_is_the_hash_of_the_last_committed_record_below_the_offset(transactional: Written) -> None:
    for offset in [0, 1, 2, *range(4, transactional.ends[0] + 1, 3), transactional.ends[0]]:
        below = transactional.expected(0, 0, offset)
        expected = record_hash(*below[-1][:4]) if below else None
        assert transactional.log.witness(transactional.topic, 0, offset) == expected, offset


def test_an_open_transaction_holds_the_end_back_and_its_commit_lets_it_go(real_log: KafkaLog) -> None:
    topic = new_topic(real_log)
    plain, held = producer(real_log.bootstrap), producer(real_log.bootstrap, transactional_id=topic)
    plain.send(topic, b"before").get(10)
    held.init_transactions()
    held.begin_transaction()
    held.send(topic, b"held").get(10)
    plain.send(topic, b"behind").get(10)
    assert real_log.end_offsets(topic) == [1]
    with pytest.raises(LogTruncated, match=r"partition 0: the log ends at offset 1, below 3"):
        list(real_log.read(topic, 0, 0, 3))
    held.commit_transaction()
    assert real_log.end_offsets(topic) == [4]
    blocks = list(real_log.read(topic, 0, 0, 4))
    assert [row[3] for row in rows_of(blocks)] == [b"before", b"held", b"behind"]
    plain.close()
    held.close()


def test_every_kind_of_record_comes_back_as_it_was_sent(any_log: KafkaLog) -> None:
    topic = new_topic(any_log, 3)
    sent: dict[int, list[tuple[Any, ...]]] = {0: [], 1: [], 2: []}
    to = producer(any_log.bootstrap)
    kinds: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = [
        (b"key", b"value", []),
        (None, b"no key", [("a", b"1"), ("a", b"2"), ("empty", b"")]),
        (b"", b"", []),
        (b"deleted", None, [("why", b"tombstone")]),
        (b"big", b"x" * BIG, []),
        (b"\xff\xfe", bytes(range(256)), [("schlüssel", b"\xff")]),
    ]
    for number, (key, value, headers) in enumerate(kinds):
        for partition in (0, 2):
            at = [0, 1, 1_700_000_000_123, 1_500_000_000_000, 2, 3][number]
            meta = to.send(topic, value, key=key, headers=headers, partition=partition, timestamp_ms=at).get(20)
            sent[partition].append((meta.offset, at, key, value, headers))
    to.close()
    assert any_log.partitions(topic) == 3
    assert any_log.start_offsets(topic) == [0, 0, 0]
    assert any_log.end_offsets(topic) == [6, 0, 6]
    for partition, end in enumerate(any_log.end_offsets(topic)):
        blocks = list(any_log.read(topic, partition, 0, end, max_bytes=1024))
        assert rows_of(blocks) == sent[partition]
        assert any_log.witness(topic, partition, end) == (record_hash(*sent[partition][-1][:4]) if end else None)
        if blocks:
            assert_tiles(blocks, 0, end)
            assert last_hash(blocks[-1].batch) == any_log.witness(topic, partition, end)


def test_end_offset_is_right_after_a_batch_of_many_records(any_log: KafkaLog) -> None:
    topic = new_topic(any_log, 2)
    to = producer(any_log.bootstrap, linger_ms=500, batch_size=1_000_000)
    for number in range(1000):
        to.send(topic, b"%d" % number, partition=1)
    to.flush()
    to.close()
    assert any_log.end_offsets(topic) == [0, 1000]
    blocks = list(any_log.read(topic, 1, 0, 1000, max_records=64))
    assert [row[3] for row in rows_of(blocks)] == [b"%d" % number for number in range(1000)]
    assert_tiles(blocks, 0, 1000)


def test_a_read_stops_at_its_end_though_the_log_goes_on(any_log: KafkaLog) -> None:
    topic = new_topic(any_log)
    to = producer(any_log.bootstrap)
    for number in range(10):
        to.send(topic, b"%d" % number)
    to.flush()
    blocks = list(any_log.read(topic, 0, 3, 7))
    assert [row[3] for row in rows_of(blocks)] == [b"3", b"4", b"5", b"6"]
    assert list(any_log.read(topic, 0, 7, 7)) == []
    to.close()


def test_deleted_records_are_refused_loudly_also_by_the_witness(real_log: KafkaLog) -> None:
    topic = new_topic(real_log)
    to = producer(real_log.bootstrap)
    for number in range(10):
        to.send(topic, b"%d" % number).get(10)
    admin = KafkaAdminClient(bootstrap_servers=real_log.bootstrap)
    admin.delete_records({TopicPartition(topic, 0): 6})
    admin.close()
    assert real_log.start_offsets(topic) == [6]
    with pytest.raises(RetentionPassed, match=rf"{topic}, partition 0: offsets \[2, 6\) are gone") as refused:
        list(real_log.read(topic, 0, 2, 10))
    assert isinstance(refused.value, LogError | Refused) and "watershed init --rebuild" in str(refused.value)
    assert [row[3] for row in rows_of(list(real_log.read(topic, 0, 6, 10)))] == [b"6", b"7", b"8", b"9"]
    assert real_log.witness(topic, 0, 6) is None
    assert real_log.witness(topic, 0, 7) is not None
    to.close()


def test_records_deleted_under_a_running_read_are_refused_not_skipped(real_log: KafkaLog) -> None:
    topic = new_topic(real_log)
    to = producer(real_log.bootstrap)
    for _ in range(12):
        to.send(topic, b"x" * (2 * 1024 * 1024)).get(10)
    to.close()
    blocks = real_log.read(topic, 0, 0, 12, max_records=1)
    assert next(blocks).end == 1
    admin = KafkaAdminClient(bootstrap_servers=real_log.bootstrap)
    admin.delete_records({TopicPartition(topic, 0): 12})
    admin.close()
    with pytest.raises(RetentionPassed, match=r"are gone, the log starts at 12"):
        list(blocks)


def test_a_log_shorter_than_the_range_is_refused(any_log: KafkaLog) -> None:
    topic = new_topic(any_log)
    to = producer(any_log.bootstrap)
    to.send(topic, b"only").get(10)
    to.close()
    for question in (
        lambda: list(any_log.read(topic, 0, 0, 2)),
        lambda: list(any_log.read(topic, 0, 5, 6)),
        lambda: any_log.witness(topic, 0, 2),
    ):
        with pytest.raises(LogTruncated, match=rf"{topic}, partition 0: the log ends at offset 1, below"):
            question()


def test_a_topic_made_anew_has_another_id(any_log: KafkaLog) -> None:
    topic = new_topic(any_log)
    first = any_log.topic_id(topic)
    assert first
    admin = KafkaAdminClient(bootstrap_servers=any_log.bootstrap)
    admin.delete_topics([topic])
    admin.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            any_log.topic_id(topic)
        except MissingTopic:
            break
    any_log.create_topic(topic, 1)
    assert any_log.topic_id(topic) not in ("", first)


def test_describe_tells_a_compacted_topic(real_log: KafkaLog) -> None:
    plain, compacted = new_topic(real_log, 2), new_topic(real_log, 1, {"cleanup.policy": "compact"})
    assert real_log.describe(plain).partitions == 2
    assert not real_log.describe(plain).compacted
    assert real_log.describe(compacted).compacted
    assert real_log.describe(plain).topic_id == real_log.topic_id(plain)


def test_create_topic_twice_changes_nothing(any_log: KafkaLog) -> None:
    topic = new_topic(any_log, 2)
    assert any_log.create_topic(topic, 5) is False
    assert any_log.partitions(topic) == 2


def test_a_missing_topic_is_named_at_once_and_never_created(any_log: KafkaLog) -> None:
    topic = f"missing-{uuid.uuid4().hex[:8]}"
    started = time.monotonic()
    for question in (
        lambda: any_log.partitions(topic),
        lambda: any_log.end_offsets(topic),
        lambda: any_log.describe(topic),
        lambda: list(any_log.read(topic, 0, 0, 1)),
    ):
        with pytest.raises(MissingTopic, match=rf"has no topic '{topic}'.*watershed init"):
            question()
    assert time.monotonic() - started < 5
    existing = new_topic(any_log)
    with pytest.raises(MissingTopic, match=r"has no partition 1, only 0 to 0"):
        list(any_log.read(existing, 1, 0, 1))


def test_nobody_listening_and_somebody_else_listening_are_told_apart() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        with pytest.raises(Unreachable, match=r"nothing accepts connections there.*WATERSHED_KAFKA"):
            KafkaLog(f"127.0.0.1:{port}", timeout_s=1).partitions("t")
        deaf.listen()
        with pytest.raises(Unreachable, match=r"does not answer as a Kafka broker.*WATERSHED_KAFKA"):
            KafkaLog(f"127.0.0.1:{port}", timeout_s=1).partitions("t")
    with pytest.raises(LogError, match=r"'nonsense:port' is no address of Kafka") as wrong:
        KafkaLog("nonsense:port", timeout_s=1).partitions("t")
    assert not isinstance(wrong.value, Unreachable), "nobody need wait for that"


@pytest.mark.slow
def test_a_wrong_password_and_a_forbidden_topic_are_refused_at_once_and_told_apart(crash_folder: Path) -> None:
    need_real_kafka()
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secured.plain.sasl.jaas.config": f'{module} user_reader="right";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with RealKafka(crash_folder, settings=settings, listeners={"SECURED": "SASL_PLAINTEXT"}) as kafka:
        admin_log = KafkaLog(kafka.bootstrap)
        topic = new_topic(admin_log)
        secured = kafka.address("SECURED")

        def known_as(password: str) -> KafkaConnection:
            return KafkaConnection(secured, "SASL_PLAINTEXT", "PLAIN", username="reader", password=SecretStr(password))

        started = time.monotonic()
        with pytest.raises(
            AccessDenied, match=r"refuses the credentials of user 'reader'.*correct kafka_username and"
        ) as refused:
            KafkaLog(known_as("wrong-word")).partitions(topic)
        assert "wrong-word" not in str(refused.value)
        with pytest.raises(
            AccessDenied, match=rf"does not allow User:reader the operation Describe on topic '{topic}'"
        ):
            KafkaLog(known_as("right")).partitions(topic)
        assert time.monotonic() - started < 5
        with pytest.raises(AccessDenied, match=r"wants SASL \(PLAIN\).*set it to SASL_PLAINTEXT"):
            KafkaLog(secured, timeout_s=2).partitions(topic)
        admin_log.close()
