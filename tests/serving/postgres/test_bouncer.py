"""Through PgBouncer in transaction mode nothing of ours reaches other clients, and nothing that we rely on is lost."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg2
import pytest

from sandbox.weather import encode, readings
from serving.postgres.connection import brief_transaction, reading, transaction
from tests.contract import test_hostile_defaults as hostile
from tests.contract.world import connected, drop_everything
from tests.serving import test_operator_store as operating
from tests.support.bouncer import PgBouncer
from tests.support.hostile import HOSTILE, make_hostile
from tests.support.system import System

# What PgBouncer itself keeps apart for each client (client_encoding, DateStyle, TimeZone, ...) is not for us to leak.
ASKED = (
    "SELECT name, setting FROM pg_settings WHERE source = 'session' AND name NOT IN"
    " ('application_name', 'client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone', 'standard_conforming_strings') ORDER BY 1"
)


def seen_by_another(url: str) -> list[tuple[str, str]]:
    """The settings that a client of the pool finds changed for the session, and what is prepared there, on the only server connection."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(ASKED)
            found = list(cursor.fetchall())
            cursor.execute("SELECT name, statement FROM pg_prepared_statements")
            return found + list(cursor.fetchall())
    finally:
        connection.close()


def backend(url: str) -> int:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])
    finally:
        connection.close()


def test_nothing_leaks_to_other_clients(bouncer: PgBouncer) -> None:
    before = seen_by_another(bouncer.url)
    with connected(bouncer.url) as engine:
        with transaction(engine) as connection:
            ours = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with reading(engine) as connection:
            connection.exec_driver_sql("SELECT 1")
        with brief_transaction(engine, 50) as connection:
            connection.exec_driver_sql("SELECT 1")
            connection.rollback()
    assert backend(bouncer.url) == ours, "one server connection, and so the next client has what we leave behind"
    assert seen_by_another(bouncer.url) == before == []


def test_nothing_is_lost_when_the_server_connection_is_another_one(bouncer: PgBouncer, postgres_url: str) -> None:
    with connected(bouncer.url, idle_timeout_s=0.7, lock_timeout_s=3) as engine:
        pids = set()
        for _ in range(2):
            with transaction(engine) as connection:
                asked = "SELECT pg_backend_pid(), current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
                pid, *shown = connection.exec_driver_sql(asked).one()
                assert shown == ["700ms", "3s"]
            pids.add(pid)
            with connected(postgres_url) as direct, transaction(direct) as connection:
                connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
        assert len(pids) == 2


def test_a_stalled_holder_of_a_lock_blocks_others_only_for_its_idle_timeout(
    bouncer: PgBouncer, postgres_url: str
) -> None:
    with connected(bouncer.url, idle_timeout_s=0.5) as engine, connected(postgres_url) as other:
        with transaction(other) as connection:
            connection.exec_driver_sql("CREATE TABLE public.t AS SELECT 1 AS n")
        stalled = engine.connect()
        stalled.begin()
        stalled.exec_driver_sql("SELECT * FROM public.t FOR UPDATE")
        began_s = time.monotonic()
        with transaction(other, lock_timeout_ms=30000) as connection:
            connection.exec_driver_sql("UPDATE public.t SET n = 2")
        assert time.monotonic() - began_s < 15
        stalled.invalidate()
        stalled.close()


@pytest.mark.parametrize("name", ["repeatable read", "read only"])
def test_the_contract_holds_through_it(bouncer: PgBouncer, postgres_url: str, name: str) -> None:
    make_hostile(postgres_url, HOSTILE[name])
    two = PgBouncer(bouncer.folder / "two", postgres_url, settings={"default_pool_size": "3"})
    two.folder.mkdir(exist_ok=True)
    bouncer.folder.chmod(0o755)
    with two, connected(two.url) as engine:
        for test in hostile.BY_ITSELF:
            drop_everything(engine)
            test(operating.Operated(engine))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_init_a_worker_a_night_and_an_audit_pass_through_it(
    server_folder: Path, tmp_path: Path, real_kafka: str, bouncer: PgBouncer, postgres_url: str, topic_name: str
) -> None:
    make_hostile(postgres_url, HOSTILE["repeatable read"] | HOSTILE["other forms"])
    with PgBouncer(
        bouncer.folder.with_name(f"{bouncer.folder.name}-wide"), postgres_url, settings={"default_pool_size": "8"}
    ) as wide:
        system = System(tmp_path, real_kafka, wide.url, topic_name)
        try:
            system.run("init", "--partitions", "2")
            events = list(map(encode, readings()[:200]))
            system.produce((n % 2, e.key, e.value) for n, e in enumerate(events[:120]))
            system.catch_up()
            system.night("2013-01-01")
            system.produce((n % 2, e.key, e.value) for n, e in enumerate(events[120:]))
            system.catch_up()
            assert sum(system.positions().values()) == 200
            assert all(not v["differences"] and not v["counts"] for v in system.audit()["views"])
        finally:
            system.stop_all()
