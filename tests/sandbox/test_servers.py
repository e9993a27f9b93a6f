"""The servers that every other test relies on do what they promise: real starts, real crashes, data that stays."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg2
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from pipeline.base.errors import WatershedError
from sandbox import kafka as sandbox_kafka
from sandbox import postgres as sandbox_postgres
from sandbox import processes
from sandbox.embedded_broker import EmbeddedBroker
from sandbox.kafka import RealKafka
from sandbox.postgres import AnyPostgres, EmbeddedPostgres, SystemPostgres
from tests.conftest import need_real_kafka, need_real_postgres


def make_topic(bootstrap: str, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        admin.close()


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=8 * 1024 * 1024)
    try:
        futures = [producer.send(topic, value, partition=0) for value in values]
        for future in futures:
            future.get(timeout=30)
    finally:
        producer.close()


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values of partition 0; fails if they are not there within 30 s."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none", max_partition_fetch_bytes=8 << 20)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        values: list[bytes] = []
        deadline = time.monotonic() + 30
        while len(values) < count:
            assert time.monotonic() < deadline, f"{len(values)} of {count} records after 30 s"
            for records in consumer.poll(timeout_ms=200).values():
                values += [record.value for record in records]
        return values
    finally:
        consumer.close()


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.mark.kafka
def test_real_kafka_gives_back_what_was_sent_also_five_megabytes(real_kafka: str, topic_name: str) -> None:
    make_topic(real_kafka, topic_name)
    values = [b"one", os.urandom(5 * 1024 * 1024), b""]
    produce(real_kafka, topic_name, values)
    assert consume(real_kafka, topic_name, 3) == values


@pytest.mark.kafka
@pytest.mark.slow
def test_real_kafka_keeps_address_and_data_over_kill_and_restart(crash_folder: Path) -> None:
    need_real_kafka()
    with RealKafka(crash_folder) as kafka:
        bootstrap, first_pid = kafka.bootstrap, kafka.pid
        make_topic(bootstrap, "kept")
        produce(bootstrap, "kept", [b"before the crash"])
        kafka.kill()
        assert not kafka.runs
        kafka.start()
        assert kafka.bootstrap == bootstrap
        assert kafka.pid != first_pid
        assert consume(bootstrap, "kept", 1) == [b"before the crash"]
        kafka.restart()
        produce(bootstrap, "kept", [b"after"])
        assert consume(bootstrap, "kept", 2) == [b"before the crash", b"after"]
    assert not processes.port_answers(int(bootstrap.rpartition(":")[2]))


@pytest.mark.kafka
def test_real_kafka_starts_elsewhere_when_its_port_is_taken(
    crash_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_real_kafka()
    with socket.socket() as taken:
        taken.bind((processes.LOOPBACK, 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        choices = iter([[port, *processes.free_ports(1)], processes.free_ports(2)])
        monkeypatch.setattr(processes, "free_ports", lambda count: next(choices))
        with RealKafka(crash_folder) as kafka:
            assert kafka.bootstrap != f"{processes.LOOPBACK}:{port}"
    assert next(choices, None) is None


@pytest.mark.kafka
def test_kafka_that_cannot_start_quotes_the_end_of_its_log(crash_folder: Path) -> None:
    need_real_kafka()
    with pytest.raises(WatershedError, match=r"(?s)StorageTool failed with code 1\..*The end of its log.*io\.threads"):
        RealKafka(crash_folder / "format", settings={"num.io.threads": "many"}).start()
    with pytest.raises(WatershedError, match=r"(?s)ended with code 1 before it was ready\..*its log.*no\.such\.Class"):
        RealKafka(crash_folder / "start", settings={"metric.reporters": "no.such.Class"}).start()


def test_missing_java_is_one_clear_line(crash_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(crash_folder))
    with pytest.raises(WatershedError) as caught:
        RealKafka(crash_folder).start()
    assert "needs the program 'java'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_maven_is_one_clear_line(crash_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATERSHED_CACHE", str(crash_folder / "cache"))
    monkeypatch.setenv("PATH", str(crash_folder))
    with pytest.raises(
        WatershedError, match=r"^fetching the jars of kafka needs the program 'mvn'.*install maven\)\.$"
    ):
        sandbox_kafka.kafka_jars()


def test_missing_postgres_is_one_clear_line(crash_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(crash_folder))
    monkeypatch.setattr(sandbox_postgres, "INSTALLED", crash_folder)
    with pytest.raises(WatershedError, match=r"^no Postgres server is installed.*apt-get install postgresql.*$"):
        SystemPostgres(crash_folder / "postgres").start()


def test_each_test_gets_an_empty_database_of_its_own(real_postgres: SystemPostgres) -> None:
    with real_postgres.database("one") as one, real_postgres.database("two") as two:
        query(one, "CREATE TABLE here (a int)")
        assert query(two, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
        left_open = psycopg2.connect(one)
    left_open.close()
    assert query(real_postgres.url, "SELECT count(*) FROM pg_database WHERE datname IN ('one', 'two')") == [(0,)]


def test_wrong_password_is_refused(real_postgres: SystemPostgres) -> None:
    assert query(real_postgres.url, "SELECT 1") == [(1,)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(real_postgres.url_of("postgres", password="wrong"), "SELECT 1")


def test_password_is_in_no_argument_of_any_process(real_postgres: SystemPostgres) -> None:
    password = real_postgres.url.partition("watershed:")[2].partition("@")[0]
    listed = " ".join(word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or [])
    assert str(real_postgres.data) in listed
    assert password not in listed


def crash_and_come_back(postgres: AnyPostgres) -> None:
    """Commit, kill -9, start: the commit is there, what was not committed is not, the URL is the same."""
    url = postgres.url
    query(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    with contextlib.closing(psycopg2.connect(url)) as unfinished, unfinished.cursor() as cursor:
        cursor.execute("INSERT INTO kept VALUES (43)")
        postgres.kill()
        assert not postgres.runs
        postgres.start()
    assert postgres.url == url
    assert query(url, "SELECT answer FROM kept") == [(42,)]
    postgres.restart()
    assert query(url, "SELECT answer FROM kept") == [(42,)]


def test_real_postgres_keeps_commits_over_kill_and_restart(crash_folder: Path) -> None:
    need_real_postgres()
    with SystemPostgres(crash_folder / "postgres") as postgres:
        crash_and_come_back(postgres)
    assert not postgres.runs


def test_embedded_postgres_keeps_commits_over_kill_and_restart(crash_folder: Path) -> None:
    with EmbeddedPostgres(crash_folder / "postgres") as postgres:
        crash_and_come_back(postgres)
    assert not postgres.runs


def test_real_postgres_starts_elsewhere_when_its_port_is_taken(
    crash_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_real_postgres()
    with socket.socket() as taken:
        taken.bind((processes.LOOPBACK, 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        choices = iter([[port], processes.free_ports(1)])
        monkeypatch.setattr(processes, "free_ports", lambda count: next(choices))
        with SystemPostgres(crash_folder / "postgres") as postgres:
            assert f":{port}/" not in postgres.url
            assert query(postgres.url, "SELECT 1") == [(1,)]
    assert next(choices, None) is None


def test_embedded_servers_answer_over_their_urls(
    embedded_postgres_url: str, embedded_kafka: str, topic_name: str
) -> None:
    assert query(embedded_postgres_url, "SELECT current_setting('listen_addresses')") == [("",)]
    make_topic(embedded_kafka, topic_name)
    produce(embedded_kafka, topic_name, [b"one", b"two"])
    assert consume(embedded_kafka, topic_name, 2) == [b"one", b"two"]


STARTER = """
import sys
from sandbox.embedded_broker import EmbeddedBroker
from sandbox.postgres import EmbeddedPostgres
keep = sys.argv[2] == "keep"
postgres = EmbeddedPostgres(sys.argv[1] + "/postgres", keep=keep).start()
broker = EmbeddedBroker(sys.argv[1] + "/broker", keep=keep).start()
print(postgres.url, postgres.pid, broker.bootstrap, broker.pid)
"""


def started_elsewhere(folder: Path, keep: str) -> tuple[str, int, str, int]:
    """Start both embedded servers in another interpreter, which has ended when this returns; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(folder), keep],
        capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.stderr == ""
    url, postgres_pid, bootstrap, broker_pid = done.stdout.split()
    return url, int(postgres_pid), bootstrap, int(broker_pid)


def test_kept_servers_outlive_their_starter_and_are_stopped_by_another(crash_folder: Path) -> None:
    url, postgres_pid, bootstrap, broker_pid = started_elsewhere(crash_folder, "keep")
    try:
        assert query(url, "SELECT 1") == [(1,)]
        make_topic(bootstrap, "kept")
        postgres = EmbeddedPostgres(crash_folder / "postgres", keep=True)
        assert (postgres.runs, postgres.url, postgres.pid) == (True, url, postgres_pid)
        postgres.stop()
        assert not postgres.runs
    finally:
        processes.stop_pid(broker_pid)
        processes.stop_pid(postgres_pid, first=signal.SIGINT)
    assert not processes.pid_runs(broker_pid)


def test_servers_that_are_not_kept_end_with_their_starter(crash_folder: Path) -> None:
    _, postgres_pid, _, broker_pid = started_elsewhere(crash_folder, "end")
    assert not processes.pid_runs(postgres_pid)
    assert not processes.pid_runs(broker_pid)


def test_embedded_broker_starts_elsewhere_when_its_port_is_taken(
    crash_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind((processes.LOOPBACK, 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        choices = iter([[port], processes.free_ports(1)])
        monkeypatch.setattr(processes, "free_ports", lambda count: next(choices))
        with EmbeddedBroker(crash_folder) as broker:
            assert broker.bootstrap != f"{processes.LOOPBACK}:{port}"
    assert next(choices, None) is None


def test_stop_ends_a_process_that_ignores_the_first_signal(tmp_path: Path) -> None:
    program = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()\n" * 2
    )
    child = processes.Child("deaf", [sys.executable, "-c", program], tmp_path / "log", folder=tmp_path)
    child.await_ready(lambda: "deaf" in child.log_text(), 20)
    assert processes.stop_pid(child.pid, limit_s=0.3) is False
    assert not processes.pid_runs(child.pid)


def test_a_child_that_is_never_ready_is_named_with_its_log(tmp_path: Path) -> None:
    program = "import time; print('half way', flush=True); time.sleep(600)"
    child = processes.Child("sleeper", [sys.executable, "-c", program], tmp_path / "log", folder=tmp_path)
    try:
        with pytest.raises(WatershedError, match=r"(?s)sleeper was not ready within 1 s\..*half way"):
            child.await_ready(lambda: False, 1.0)
    finally:
        child.kill()
