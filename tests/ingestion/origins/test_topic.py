"""A topic of the real Kafka as an origin: each committed record once, with its offset."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from kafka import KafkaProducer

from ingestion.origin import Origin, Reading
from ingestion.origins.topic import Topic
from pipeline.base.errors import DefinitionError, OriginAway, OriginError
from pipeline.log.kafka.log import KafkaLog
from sandbox.processes import free_ports

Make = Callable[..., Reading]
pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("waits")]


def test_every_committed_record_comes_once_with_its_offset(real_kafka: str, topic_name: str, reading: Make) -> None:
    KafkaLog(real_kafka).create_topic(topic_name, 2)
    producer = KafkaProducer(bootstrap_servers=real_kafka, acks="all", transactional_id=topic_name)
    producer.init_transactions()
    values = [f'{{"n": {n}, "price": {n}.10}}'.encode() for n in range(1000)] + [
        b"no JSON",
        None,
        b"[1]",
        b'{"n": 1, "n": 2}',
    ]
    for keep in (True, False, True):
        producer.begin_transaction()
        for value in values if keep else [b'{"n": -1}']:
            producer.send(topic_name, value, key=b"k", partition=0)
        producer.flush()  # what is aborted is in the log too
        (producer.commit_transaction if keep else producer.abort_transaction)()
    producer.close()
    given = replace(reading(), log=lambda: KafkaLog(real_kafka))
    origin = Topic(topic_name)
    parts = origin.parts(given)
    assert [part.name for part in parts] == [f"{topic_name}, partition 0", f"{topic_name}, partition 1"]
    assert list(origin.read(parts[1], given)) == []
    rows = list(origin.read(parts[0], given))
    found = [row for one in rows for row in one.batch.to_pylist()]
    offsets = [n for one in rows for n in one.numbers.tolist()]
    assert found == [{"n": n, "price": Decimal(f"{n}.10")} for _ in range(2) for n in range(1000)]
    again = 1004 + 1 + 2  # the first transaction with its mark, the aborted one with its own
    assert offsets == [*range(1000), *range(again, again + 1000)] and {one.unit for one in rows} == {"offset"}
    broken = [(b.number, b.reason.partition(":")[0], b.raw) for one in rows for b in one.broken]
    assert broken[:4] == [
        (1000, "is no JSON", b"no JSON"),
        (1001, "has no value", b""),
        (1002, "is no object but a list", b"[1]"),
        (1003, "is no JSON", b'{"n": 1, "n": 2}'),
    ]
    assert [number for number, _, _ in broken[4:]] == [again + 1000, again + 1001, again + 1002, again + 1003]
    few = replace(given, limit=7)
    assert [n for one in origin.read(parts[0], few) for n in one.numbers] == list(range(7))


def test_a_topic_that_is_not_there_is_an_error_and_a_broker_that_is_not_is_away(
    real_kafka: str, topic_name: str, reading: Make
) -> None:
    with pytest.raises(OriginError, match=topic_name) as refused:
        Topic(topic_name).parts(replace(reading(), log=lambda: KafkaLog(real_kafka)))
    assert not isinstance(refused.value, OriginAway)
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(OriginAway, match="tried 6 times"):
        Topic(topic_name).parts(replace(reading(), log=lambda: KafkaLog(nobody, timeout_s=0.2)))


def test_a_declaration_is_a_value() -> None:
    origin = Topic("prices")
    assert (
        isinstance(origin, Origin)
        and pickle.loads(pickle.dumps(origin)) == origin
        and hash(origin) == hash(Topic("prices"))
    )
    assert origin.describe() == {"kind": "Topic", "name": "prices"}
    with pytest.raises(DefinitionError, match="name of Topic is ''"):
        Topic("")
