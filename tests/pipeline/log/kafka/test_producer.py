"""Records are appended all or none, by the newest writer of a name alone: on real Kafka, and as far as it can on the embedded broker."""

from __future__ import annotations

import time

import pytest

from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.kafka.producer import KafkaLogProducer
from pipeline.log.log import AccessDenied
from pipeline.log.producer import Fenced, Outgoing
from sandbox.processes import free_ports
from tests.support.secured import Secured

RECORDS = [
    Outgoing(0, b"k", b"v", (("a", b"1"), ("b", b""))),
    Outgoing(1, None, b"x"),
    Outgoing(0, b"k", b""),
    Outgoing(0, b"l", b"\x00" * 2_000_000),
]


class Died(Exception):
    """Raised where a crash point would end the process."""


class Dies:
    def reach(self, name: str) -> None:
        assert name == "replay.sent"
        raise Died


def rows(
    log: KafkaLog, topic: str, partition: int
) -> list[tuple[int, bytes | None, int | None, list[tuple[str, bytes]]]]:
    blocks = log.read(topic, partition, 0, log.end_offsets(topic)[partition])
    found = [row for block in blocks for row in block.batch.to_pylist()]
    sizes = [None if r["value"] is None else len(r["value"]) for r in found]
    return [
        (r["offset"], r["key"], size, [(h["key"], h["value"]) for h in r["headers"]])
        for r, size in zip(found, sizes, strict=True)
    ]


@pytest.mark.parametrize("broker", ["real_kafka", "embedded_kafka"])
def test_records_are_appended_as_they_were_given(broker: str, topic_name: str, request: pytest.FixtureRequest) -> None:
    address: str = request.getfixturevalue(broker)
    log = KafkaLog(address)
    log.create_topic(topic_name, 2, {"max.message.bytes": "4000000"} if broker == "real_kafka" else None)
    writer = KafkaLogProducer(KafkaConnection(address), topic_name, f"writer-{topic_name}")
    writer.begin()
    given = RECORDS if broker == "real_kafka" else RECORDS[:3]
    offsets = writer.append(given)
    writer.close()
    for partition in (0, 1):
        here = [(r, at) for r, at in zip(given, offsets, strict=True) if r.partition == partition]
        expected = [(at, r.key, None if r.value is None else len(r.value), list(r.headers)) for r, at in here]
        assert rows(log, topic_name, partition) == expected
    log.close()


def test_a_later_writer_of_the_name_aborts_what_is_open_and_fences_the_one_before(
    real_kafka: str, topic_name: str
) -> None:
    log = KafkaLog(real_kafka)
    log.create_topic(topic_name, 1)
    connection, name = KafkaConnection(real_kafka), f"w-{topic_name}"
    died = KafkaLogProducer(connection, topic_name, name, crash=Dies())
    died.begin()
    with pytest.raises(Died):
        died.append([Outgoing(0, None, b"open")])
    assert log.end_offsets(topic_name) == [0] and died.ends() == [1], "it is in the log, and nobody may read it"
    before, after = (KafkaLogProducer(connection, topic_name, name) for _ in range(2))
    before.begin()
    assert log.end_offsets(topic_name) == before.ends(), "all that is in the log is decided"
    (first,) = before.append([Outgoing(0, None, b"first")])
    after.begin()
    (second,) = after.append([Outgoing(0, None, b"second")])
    with pytest.raises(Fenced, match="has begun since"):
        before.append([Outgoing(0, None, b"zombie")])
    assert rows(log, topic_name, 0) == [(first, None, 5, []), (second, None, 6, [])]
    for one in (after, before, died):
        one.close()
    log.close()


def test_a_record_keeps_the_timestamp_that_it_is_given(real_kafka: str, topic_name: str) -> None:
    log = KafkaLog(real_kafka)
    log.create_topic(topic_name, 1)
    writer = KafkaLogProducer(KafkaConnection(real_kafka), topic_name, f"w-{topic_name}")
    writer.begin()
    writer.append([Outgoing(0, None, b"old", (), 1_709_287_200_000), Outgoing(0, None, b"new")])
    writer.close()
    (block,) = log.read(topic_name, 0, 0, 2)
    old, new = block.batch.column("timestamp_ms").to_pylist()
    assert old == 1_709_287_200_000 and abs(new / 1000 - time.time()) < 300
    log.close()


def test_without_the_right_to_the_transactional_id_it_is_named(secured: Secured, topic_name: str) -> None:
    log = KafkaLog(secured.kafka.bootstrap)
    log.create_topic(topic_name, 1)
    log.close()
    secured.allow("worker", [("Read", "topic", topic_name), ("Write", "topic", topic_name)])
    writer = KafkaLogProducer(secured.connection("USERSTLS"), topic_name, f"watershed-replay-{topic_name}")
    with pytest.raises(AccessDenied) as refused:
        writer.begin()
    assert f"--operation Write --transactional-id 'watershed-replay-{topic_name}'" in str(refused.value)
    writer.close()
    secured.allow("worker", [("Write", "transactional_id", f"watershed-replay-{topic_name}")])
    allowed = KafkaLogProducer(secured.connection("USERSTLS"), topic_name, f"watershed-replay-{topic_name}")
    allowed.begin()
    assert allowed.append([Outgoing(0, b"k", b"v")]) == [0]
    allowed.close()


def test_a_broker_that_is_not_there_is_one_line() -> None:
    (port,) = free_ports(1)
    writer = KafkaLogProducer(KafkaConnection(f"127.0.0.1:{port}"), "t", "w", timeout_s=0.5)
    with pytest.raises(Exception, match="WATERSHED_KAFKA"):
        writer.begin()
    writer.close()
