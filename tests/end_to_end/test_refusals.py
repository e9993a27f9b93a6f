"""What would break the promise is refused by workers and nights, on real Kafka; the command named mends it and says what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from pipeline.log.kafka.log import KafkaLog
from sandbox.kafka import RealKafka
from sandbox.weather import encode, readings
from tests.conftest import need_real_kafka
from tests.support.system import VIEWS, System, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@contextmanager
def admin(system: System) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=system.kafka)
    try:
        yield client
    finally:
        client.close()


def send(system: System, start: int, end: int, partitions: int = 2) -> None:
    events = [encode(r) for r in readings()[start:end]]
    system.produce((n % partitions, e.key, e.value) for n, e in enumerate(events))


def delete_records(system: System, **before: int) -> None:
    """What retention does: partition p0=… loses everything below the offset."""
    with admin(system) as client:
        client.delete_records({TopicPartition(system.topic, int(name[1:])): offset for name, offset in before.items()})


def recreate(system: System, partitions: int) -> None:
    log = KafkaLog(system.kafka)
    before = log.topic_id(system.topic)
    with admin(system) as client:
        client.delete_topics([system.topic])

    def made() -> bool:
        log.create_topic(system.topic, partitions)
        return log.topic_id(system.topic) != before

    wait_for(made, "the topic is made anew")
    log.close()


def refused(done: CompletedProcess[str], *said: str) -> None:
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    for words in said:
        assert words in done.stderr, done.stderr


def records(found: dict[str, Any]) -> set[int]:
    return {v["records"] for v in found["views"]}


def test_retention_that_passed_unarchived_offsets_is_refused_and_mended_without_them(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 100)
    system.night("2013-01-02")  # archived: [0, 50) of both
    send(system, 100, 200)
    system.catch_up()
    send(system, 200, 260)
    delete_records(system, p0=70, p1=50)  # [50, 70) of partition 0 is gone, and was never archived
    refused(system.run("speed", "--until-caught-up", check=False), "offsets [50, 70) are gone", "init --rebuild")
    refused(system.night("2013-01-03", check=False), "offsets [50, 70) are gone", "init --rebuild")
    told = system.run("init", "--rebuild", check=False)
    refused(told, "partition 0", "20 offsets are lost", "50 records that were served", "--accept-loss")
    assert "partition 1" not in told.stderr
    mended = system.run("init", "--rebuild", "--accept-loss")
    assert "20 offsets are lost" in mended.stdout and "generation 2 answers now" in mended.stdout
    system.catch_up()
    assert records(system.assert_exact()) == {240}
    system.night("2013-01-04")
    send(system, 260, 280)
    system.catch_up()
    assert records(system.assert_exact()) == {260}


def test_a_topic_made_anew_is_refused_and_starts_over_keeping_the_archive(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 60)
    system.night("2013-01-02")
    send(system, 60, 80)
    system.catch_up()
    recreate(system, 2)
    send(system, 80, 180)  # more than before: every old position is a valid offset of the new topic
    for done in (
        system.run("speed", check=False),
        system.night("2013-01-03", check=False),
        system.run("init", check=False),
    ):
        refused(done, "deleted and", "init --rebuild --accept-loss")
    told = system.run("init", "--rebuild", check=False)
    refused(told, "60 archived records and 20 that only the speed layer had counted", "--accept-loss")
    mended = system.run("init", "--rebuild", "--accept-loss").stdout
    assert "60 archived records of the old topic are kept" in mended
    system.catch_up()
    assert records(system.assert_exact()) == {100}
    system.night("2013-01-03")
    aside = list((system.lake / f"master/{system.topic}").glob("topic_id=*/partition=*/_*.json"))
    assert sum(f["rows"] for m in aside for f in json.loads(m.read_text())["files"]) == 60
    send(system, 180, 200)
    system.catch_up()
    assert records(system.assert_exact()) == {120}


def test_a_topic_made_anew_with_fewer_records_is_refused_as_well(system: System) -> None:
    """On Kafka a log is cut back by deleting the topic: the id tells, before any offset can."""
    system.run("init", "--partitions", "1")
    send(system, 0, 40, partitions=1)
    system.catch_up()
    recreate(system, 1)
    send(system, 40, 50, partitions=1)
    refused(system.run("speed", "--until-caught-up", check=False), "was deleted and", "init --rebuild --accept-loss")
    system.run("init", "--rebuild", "--accept-loss")
    system.catch_up()
    assert records(system.assert_exact()) == {10}


def test_added_partitions_are_refused_and_taken_in_without_loss(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 60)
    system.night("2013-01-02")
    send(system, 60, 80)
    system.catch_up()
    with admin(system) as client:
        client.create_partitions({system.topic: 3})
    wait_for(lambda: KafkaLog(system.kafka).partitions(system.topic) == 3, "the third partition is there")
    send(system, 80, 140, partitions=3)
    for done in (system.run("speed", "--until-caught-up", check=False), system.night("2013-01-03", check=False)):
        refused(done, "3 partitions", "init --rebuild")
    mended = system.run("init", "--rebuild").stdout
    assert "1 partitions were added. No event is lost" in mended
    system.catch_up()
    assert records(system.assert_exact()) == {140}
    assert len(system.positions()) == 3
    system.night("2013-01-03")
    send(system, 140, 170, partitions=3)
    system.catch_up()
    assert records(system.assert_exact()) == {170}


def test_a_topic_that_is_compacted_is_refused_until_it_is_not(system: System) -> None:
    system.run("init", "--partitions", "1")
    send(system, 0, 20, partitions=1)
    log = KafkaLog(system.kafka)

    def clean_by(policy: str) -> None:
        wanted = ConfigResource(ConfigResourceType.TOPIC, system.topic, {"cleanup.policy": policy})
        with admin(system) as client:
            client.alter_configs([wanted])
        wait_for(lambda: log.describe(system.topic).compacted == (policy == "compact"), f"cleanup.policy={policy}")

    clean_by("compact")
    commands = (("speed", "--until-caught-up"), ("speed",), ("init",))
    for done in (*(system.run(*words, check=False) for words in commands), system.night("2013-01-02", check=False)):
        refused(done, "is compacted", "cleanup.policy=delete")
    clean_by("delete")
    system.catch_up()
    assert records(system.assert_exact()) == {20}
    log.close()


def cut_back(kafka: RealKafka, topic: str, offset: int) -> None:
    """What a disk that lost its last writes does: the broker comes up with a log that ends below what it had acknowledged.

    Record batches are cut off whole, from the one with base offset `offset` on.
    """
    kafka.kill()
    (log,) = (kafka.folder / "data" / f"{topic}-0").glob("*.log")
    raw, at = log.read_bytes(), 0
    while at < len(raw) and int.from_bytes(raw[at : at + 8], "big") < offset:
        at += 12 + int.from_bytes(raw[at + 8 : at + 12], "big")
    with log.open("r+b") as file:
        file.truncate(at)
    for beside in log.parent.iterdir():
        if beside.suffix in (".index", ".timeindex", ".snapshot", ".txnindex"):
            beside.unlink()
    for checkpoint in (kafka.folder / "data").glob("*-checkpoint"):
        checkpoint.unlink()
    kafka.start()


@pytest.fixture
def own_kafka(crash_folder: Path) -> Iterator[RealKafka]:
    """A broker whose disk this test may damage."""
    need_real_kafka()
    with RealKafka(crash_folder / "kafka") as kafka:
        yield kafka


def test_a_log_that_was_cut_back_and_grew_again_is_refused_and_gone_on_from_the_archive(
    tmp_path: Path, own_kafka: RealKafka, postgres_url: str, topic_name: str
) -> None:
    system = System(tmp_path, own_kafka.bootstrap, postgres_url, topic_name)
    system.run("init", "--partitions", "1")
    send(system, 0, 30, partitions=1)
    system.night("2013-01-02")  # archived: [0, 30)
    send(system, 30, 40, partitions=1)
    send(system, 40, 50, partitions=1)
    system.catch_up()
    cut_back(own_kafka, system.topic, 40)
    log = KafkaLog(own_kafka.bootstrap)
    assert log.end_offsets(system.topic) == [40], "the topic is the same one, and shorter"
    log.close()
    refused(
        system.run("speed", "--until-caught-up", check=False),
        "partition 0",
        "the log ends at offset 40, below 50",
        "init --rebuild",
    )
    refused(system.night("2013-01-03", check=False), "partition 0", "ends at offset 40, below 50")
    send(system, 60, 80, partitions=1)  # other records at the offsets from 40 on, beyond the position
    refused(system.run("speed", "--until-caught-up", check=False), "the record at offset 49", "--accept-loss")
    refused(system.night("2013-01-03", check=False), "--accept-loss")
    refused(
        system.run("init", "--rebuild", check=False),
        "holds other records now",
        "0 offsets are lost",
        "20 records",
        "--accept-loss",
    )
    system.run("init", "--rebuild", "--accept-loss")
    system.catch_up()
    assert records(system.assert_exact()) == {60}
    system.night("2013-01-03")
    system.assert_exact()
    system.stop_all()


@pytest.mark.parametrize("damage", ["missing", "of another cut"])
def test_identities_that_are_missing_or_of_another_cut_are_made_again(system: System, damage: str) -> None:
    system.run("init", "--partitions", "1")
    send(system, 0, 40, partitions=1)
    system.night("2013-01-02")
    (manifest,) = (system.lake / "identities").glob("*/*/cut=1/*.json")
    if damage == "missing":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text().replace('"position": 40', '"position": 39'))
    send(system, 20, 60, partitions=1)  # the first twenty are duplicates from below the cut
    refused(system.run("speed", "--until-caught-up", check=False), "identities at cut 1", "init --rebuild")
    assert "nothing is lost" in system.run("init", "--rebuild").stdout
    system.catch_up()
    system.assert_exact()
    assert system.query("SELECT duplicates FROM serving.accounting") == [{"duplicates": 20}]


def test_two_deployments_with_different_definitions_on_one_postgres_are_refused(system: System) -> None:
    system.run("init", "--partitions", "1")
    send(system, 0, 20, partitions=1)
    system.catch_up()
    mine = VIEWS.format(topic=system.topic)
    system.define(mine.replace("VIEWS = (hourly_weather, daily_weather)", "VIEWS = (hourly_weather,)"))
    for arguments in (("speed", "--until-caught-up"), ("init",), ("audit",), ("rollback",), ("purge",)):
        refused(system.run(*arguments, check=False), "view daily_weather is gone", "init --rebuild")
    refused(system.night("2013-01-02", check=False), "view daily_weather is gone", "init --rebuild")
    system.define(mine)
    system.assert_exact()
