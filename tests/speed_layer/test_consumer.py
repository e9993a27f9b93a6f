"""What the always-on reader returns tiles each partition's range, through pauses, reassignment and a broker's death."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import RetriableError

from pipeline.base.errors import LogError
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import Block, MissingTopic, RetentionPassed, TopicRecreated
from sandbox.kafka import RealKafka
from speed_layer.consumer import LiveConsumer
from tests.conftest import need_real_kafka

LIMIT_S = 20.0


class Reader:
    """A LiveConsumer with a note of everything it returned; checks on the way that blocks tile."""

    def __init__(self, bootstrap: str, **config: Any) -> None:
        self.live = LiveConsumer(bootstrap, **config)
        self.values: dict[int, list[bytes]] = {}
        self.ends: dict[tuple[str, int], int] = {}

    def assign(self, wanted: Mapping[tuple[str, int], int]) -> None:
        self.ends.update(wanted)
        self.live.assign(wanted)

    def poll(self, **how: Any) -> dict[tuple[str, int], Block]:
        blocks = self.live.poll(**how)
        for at, block in blocks.items():
            assert block.start == self.ends[at], "a block must begin where the one before ended"
            self.ends[at] = block.end
            self.values.setdefault(at[1], []).extend(block.batch.column("value").to_pylist())
        assert all(self.live.positions[at] == self.ends[at] for at in self.live.positions)
        return blocks

    def poll_until(self, done: Callable[[], bool], **how: Any) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < deadline, f"not done after {LIMIT_S} s: {self.ends}, {self.live.down_reason!r}"
            self.poll(**how)


def new_topic(bootstrap: str, partitions: int) -> str:
    log = KafkaLog(bootstrap)
    topic = f"live-{uuid.uuid4().hex[:12]}"
    assert log.create_topic(topic, partitions, {"retention.ms": "-1"})
    log.close()
    return topic


def send(bootstrap: str, topic: str, partition: int, values: list[bytes], **config: Any) -> None:
    to = KafkaProducer(bootstrap_servers=bootstrap, max_request_size=16 * 1024 * 1024, **config)
    sent = [to.send(topic, value, partition=partition) for value in values]
    for one in sent:
        one.get(20)
    to.close()


def group_offsets(admin: KafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    try:
        left = admin.list_group_offsets([group])[group]
    except RetriableError:  # the topic of groups is being made
        return {}
    return {at: one.offset for at, one in left.items() if one.offset >= 0}


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


@pytest.fixture(params=["real_kafka", "embedded_kafka"])
def broker(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def reader(broker: str) -> Iterator[Reader]:
    made = Reader(broker, group_id=f"group-{uuid.uuid4().hex[:8]}")
    yield made
    made.live.close()


def test_every_record_comes_once_and_the_lag_goes_to_zero(reader: Reader, broker: str) -> None:
    topic = new_topic(broker, 3)
    send(broker, topic, 0, numbers(0, 500))
    send(broker, topic, 1, numbers(0, 20))
    reader.assign({(topic, 0): 0, (topic, 1): 5, (topic, 2): 0})
    reader.poll_until(lambda: (topic, 0) in reader.live.lag and bool(reader.values), max_records=100)
    assert reader.live.lag[(topic, 0)] + reader.live.positions[(topic, 0)] == 500
    reader.poll_until(lambda: reader.live.lag == {(topic, p): 0 for p in range(3)}, max_records=100)
    assert reader.values == {0: numbers(0, 500), 1: numbers(5, 20)}
    assert reader.live.end_offsets == {(topic, 0): 500, (topic, 1): 20, (topic, 2): 0}
    send(broker, topic, 2, numbers(0, 3))
    reader.poll_until(lambda: reader.values.get(2) == numbers(0, 3))
    assert not reader.live.broker_down


def test_a_record_arrives_within_a_fraction_of_a_second(reader: Reader, broker: str) -> None:
    topic = new_topic(broker, 1)
    reader.assign({(topic, 0): 0})
    reader.poll_until(lambda: (topic, 0) in reader.live.end_offsets)
    send(broker, topic, 0, [b"now"])
    started = time.monotonic()
    reader.poll_until(lambda: reader.values == {0: [b"now"]}, timeout_ms=1000)
    assert time.monotonic() - started < 0.5


def test_changing_the_assignment_leaves_the_other_partitions_alone(reader: Reader, broker: str) -> None:
    topic = new_topic(broker, 3)
    for partition in range(3):
        send(broker, topic, partition, numbers(0, 50))
    reader.assign({(topic, 0): 0, (topic, 1): 0})
    reader.poll_until(lambda: len(reader.values.get(0, [])) > 3 or len(reader.values.get(1, [])) > 3, max_records=1)
    reader.live.pause([(topic, 1)])
    reader.assign({**reader.live.positions, (topic, 2): 10})
    assert reader.live.paused == {(topic, 1)}
    reader.poll_until(
        lambda: len(reader.values.get(0, [])) == 50 and len(reader.values.get(2, [])) == 40, max_records=7
    )
    paused_at = len(reader.values.get(1, []))
    assert paused_at < 50
    reader.poll(timeout_ms=300)
    assert len(reader.values.get(1, [])) == paused_at
    reader.live.resume([(topic, 1)])
    reader.assign({at: position for at, position in reader.live.positions.items() if at[1] == 1})
    reader.poll_until(lambda: len(reader.values.get(1, [])) == 50, max_records=7)
    assert reader.values == {0: numbers(0, 50), 1: numbers(0, 50), 2: numbers(10, 50)}
    reader.assign({})
    assert reader.poll(timeout_ms=10) == {}


def test_seek_reads_again_from_there_and_an_unknown_partition_is_named(reader: Reader, broker: str) -> None:
    topic = new_topic(broker, 1)
    send(broker, topic, 0, numbers(0, 10))
    reader.assign({(topic, 0): 0})
    reader.poll_until(lambda: len(reader.values.get(0, [])) == 10)
    reader.live.seek((topic, 0), 4)
    reader.ends[(topic, 0)] = 4
    reader.poll_until(lambda: len(reader.values[0]) == 16)
    assert reader.values[0][10:] == numbers(4, 10)
    with pytest.raises(LogError, match=f"{topic}, partition 7 is not assigned"):
        reader.live.pause([(topic, 7)])


def test_group_offsets_are_left_without_joining_the_group(
    reader: Reader, broker: str, request: pytest.FixtureRequest
) -> None:
    topic = new_topic(broker, 2)
    send(broker, topic, 0, numbers(0, 5))
    reader.assign({(topic, 0): 0, (topic, 1): 0})
    reader.poll_until(lambda: len(reader.values.get(0, [])) == 5)
    group = reader.live._group_id
    admin = KafkaAdminClient(bootstrap_servers=broker)
    slowest_s, found = 0.0, {}
    deadline = time.monotonic() + LIMIT_S
    while not found and time.monotonic() < deadline:
        started = time.monotonic()
        reader.live.commit_group_offsets(reader.live.positions)
        slowest_s = max(slowest_s, time.monotonic() - started)
        reader.poll(timeout_ms=50)
        found = group_offsets(admin, group)
    assert found == {TopicPartition(topic, 0): 5, TopicPartition(topic, 1): 0}, reader.live.group_commit_error
    assert slowest_s < 0.5
    if "embedded" not in request.node.name:  # kafka-python cannot decode that broker's answer about groups
        assert not admin.describe_groups([group])[group]["members"]
    send(broker, topic, 0, numbers(5, 8))
    reader.poll_until(lambda: reader.ends[(topic, 0)] == 8)
    reader.live.commit_group_offsets(reader.live.positions)
    # Nothing follows them: polls leave them
    reader.poll_until(lambda: group_offsets(admin, group)[TopicPartition(topic, 0)] == 8)
    send(broker, topic, 0, numbers(8, 10))
    reader.poll_until(lambda: reader.ends[(topic, 0)] == 10)
    reader.live.commit_group_offsets(reader.live.positions)
    started = time.monotonic()
    reader.live.close()
    assert time.monotonic() - started < 5
    assert group_offsets(admin, group)[TopicPartition(topic, 0)] == 10
    admin.close()


def test_control_and_aborted_records_move_the_position_without_rows(real_kafka: str) -> None:
    topic = new_topic(real_kafka, 1)
    reader = Reader(real_kafka)
    reader.assign({(topic, 0): 0})
    to = KafkaProducer(bootstrap_servers=real_kafka, transactional_id=topic)
    to.init_transactions()
    for turn, keep in enumerate([True, False, True, False, False]):
        to.begin_transaction()
        to.send(topic, b"%d" % turn).get(10)
        to.send(topic, b"%d" % turn).get(10)
        if keep:
            to.commit_transaction()
        else:
            to.abort_transaction()
        reader.poll_until(lambda upto=3 * (turn + 1): reader.ends[(topic, 0)] == upto)
    assert reader.values[0] == [b"0", b"0", b"2", b"2"]
    assert reader.live.lag == {(topic, 0): 0}
    reader.live.close()
    to.close()


def test_retention_passing_the_position_raises_and_loses_nothing_of_the_others(real_kafka: str) -> None:
    topic = new_topic(real_kafka, 2)
    send(real_kafka, topic, 0, numbers(0, 10))
    send(real_kafka, topic, 1, numbers(0, 10))
    admin = KafkaAdminClient(bootstrap_servers=real_kafka)
    admin.delete_records({TopicPartition(topic, 0): 6})
    admin.close()
    reader = Reader(real_kafka)
    reader.assign({(topic, 0): 2, (topic, 1): 0})
    with pytest.raises(RetentionPassed, match=rf"{topic}, partition 0: offsets \[2, 6\) are gone"):
        reader.poll_until(lambda: False, max_records=3)
    reader.assign({(topic, 1): reader.live.positions[(topic, 1)]})
    reader.poll_until(lambda: reader.ends[(topic, 1)] == 10)
    assert reader.values == {1: numbers(0, 10)}
    reader.live.close()


def test_a_topic_made_anew_or_missing_is_refused(real_kafka: str) -> None:
    topic = new_topic(real_kafka, 1)
    send(real_kafka, topic, 0, numbers(0, 3))
    reader = Reader(real_kafka)
    reader.assign({(topic, 0): 0})
    reader.poll_until(lambda: reader.ends[(topic, 0)] == 3)
    admin = KafkaAdminClient(bootstrap_servers=real_kafka)
    admin.delete_topics([topic])
    with pytest.raises(MissingTopic, match=f"has no topic '{topic}'"):
        reader.poll_until(lambda: False)
    assert KafkaLog(real_kafka).create_topic(topic, 1)
    send(real_kafka, topic, 0, numbers(0, 9))
    with pytest.raises(TopicRecreated, match=f"topic {topic} was deleted and made anew .*--accept-loss"):
        reader.poll_until(lambda: False)
    assert reader.values == {0: numbers(0, 3)}
    reader.live.close()
    admin.close()


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_loses_and_repeats_nothing(crash_folder: Path) -> None:
    need_real_kafka()
    with RealKafka(crash_folder) as kafka:
        topic = new_topic(kafka.bootstrap, 2)
        send(kafka.bootstrap, topic, 0, numbers(0, 10), acks="all")
        reader = Reader(kafka.bootstrap)
        reader.assign({(topic, 0): 0, (topic, 1): 0})
        reader.poll_until(lambda: len(reader.values.get(0, [])) == 10)
        kafka.kill()
        reader.poll_until(lambda: reader.live.broker_down)
        assert kafka.bootstrap in reader.live.down_reason
        assert reader.poll() == {}
        late = Reader(kafka.bootstrap)
        late.assign({(topic, 0): 4})
        assert late.poll() == {} and late.live.broker_down
        kafka.start()
        send(kafka.bootstrap, topic, 0, numbers(10, 20), acks="all")
        send(kafka.bootstrap, topic, 1, numbers(0, 5), acks="all")
        reader.poll_until(lambda: reader.ends == {(topic, 0): 20, (topic, 1): 5})
        assert reader.values == {0: numbers(0, 20), 1: numbers(0, 5)} and not reader.live.broker_down
        late.poll_until(lambda: late.ends == {(topic, 0): 20})
        assert late.values == {0: numbers(4, 20)} and not late.live.broker_down
        reader.live.close()
        late.live.close()
