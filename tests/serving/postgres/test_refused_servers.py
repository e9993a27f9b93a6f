"""A database that could not hold every key, and a server that takes no writes: one line each, which names the repair."""

from __future__ import annotations

import uuid
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from pipeline.base.errors import Refused, StoreError
from pipeline.log.kafka.connection import KafkaConnection
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import MissingTopic
from sandbox.postgres import SystemPostgres
from serving.generations.create import install, set_up
from serving.postgres.connection import StoreUnavailable, reading, transaction
from tests.contract.world import connected, plan
from tests.support.hostile import execute
from tests.support.system import System


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_utf8_is_refused_and_nothing_is_made(
    real_postgres: SystemPostgres, encoding: str
) -> None:
    name = f"test_{uuid.uuid4().hex}"
    execute(real_postgres.url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    try:
        with connected(real_postgres.url_of(name)) as engine:
            for call in (lambda: set_up(engine), lambda: install(engine, [plan()])):
                with pytest.raises(
                    Refused,
                    match=rf"'{name}' has the encoding {encoding}.*createdb --encoding=UTF8 --template=template0",
                ):
                    call()
            with reading(engine) as connection:
                assert connection.exec_driver_sql("SELECT to_regnamespace('ops')").scalar_one() is None
    finally:
        execute(real_postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_standby_answers_readers_and_refuses_writers_with_the_repair(crash_folder: Path) -> None:
    with SystemPostgres(crash_folder) as postgres:
        postgres.stop()
        (postgres.data / "standby.signal").touch()
        postgres.start()
        url = make_url(postgres.url)
        with connected(postgres.url) as engine:
            with reading(engine) as connection:
                assert connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one()
            said = r"takes no writes .*standby.*target_session_attrs=read-write"
            with pytest.raises(StoreError, match=said) as refused, transaction(engine) as connection:
                connection.exec_driver_sql("CREATE TABLE public.t (n int)")
            assert not isinstance(refused.value, StoreUnavailable) and str(url.password) not in str(refused.value)


def test_init_says_so_before_it_makes_a_topic(
    real_postgres: SystemPostgres, real_kafka: str, tmp_path: Path, topic_name: str
) -> None:
    name = f"test_{uuid.uuid4().hex}"
    execute(real_postgres.url, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    system = System(tmp_path, real_kafka, real_postgres.url_of(name), topic_name)
    try:
        done = system.run("init", check=False)
        assert done.returncode == 1 and "createdb --encoding=UTF8" in done.stderr and "Traceback" not in done.stderr, (
            done.stderr
        )
        with closing(KafkaLog(KafkaConnection(real_kafka))) as log, pytest.raises(MissingTopic):
            log.describe(topic_name)
    finally:
        system.stop_all()
        execute(real_postgres.url, f"DROP DATABASE {name} WITH (FORCE)")
