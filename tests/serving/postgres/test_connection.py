"""Errors of Postgres come out as one line that says what, where and what next; never with the password."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from pipeline.base.errors import StoreError
from sandbox.postgres import SystemPostgres
from serving.postgres.connection import StoreBusy, StoreUnavailable, engine, parse_url, patiently, place, transaction
from tests.contract.world import connected


def fails(url: str) -> StoreError:
    with connected(url) as engine, pytest.raises(StoreError) as failed, transaction(engine) as connection:
        connection.exec_driver_sql("SELECT 1")
    text = str(failed.value)
    assert "\n" not in text and "WATERSHED_POSTGRES" in text
    assert make_url(url).password not in text
    return failed.value


def test_a_wrong_password_is_one_line(real_postgres: SystemPostgres) -> None:
    error = fails(real_postgres.url_of("postgres", password="hunter22"))
    assert "the password is wrong or missing for user watershed: set `postgres` in luigi.cfg" in str(error)
    assert not isinstance(error, StoreUnavailable)


def test_a_missing_database_is_one_line(real_postgres: SystemPostgres) -> None:
    error = fails(real_postgres.url_of("nowhere"))
    assert "the database 'nowhere' does not exist" in str(error)
    assert not isinstance(error, StoreUnavailable)


def test_an_unreachable_server_is_one_line_and_worth_another_try() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening: refuses
        error = fails(f"postgresql://me:hunter22@127.0.0.1:{taken.getsockname()[1]}/db")
    assert "cannot be reached (Connection refused): start it, or set" in str(error)
    assert isinstance(error, StoreUnavailable)


def test_a_missing_socket_is_one_line(tmp_path: Path) -> None:
    error = fails(f"postgresql://me:hunter22@/db?host={tmp_path}")
    assert f"Postgres at me@{tmp_path}/db cannot be reached" in str(error)
    assert isinstance(error, StoreUnavailable)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_every_postgres_scheme_is_taken(postgres_url: str, scheme: str) -> None:
    with connected(postgres_url.replace("postgresql", scheme, 1)) as engine, transaction(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_sockets_are_taken(embedded_postgres_url: str) -> None:
    with connected(embedded_postgres_url) as engine, transaction(engine) as connection:
        assert connection.exec_driver_sql("SELECT current_setting('TimeZone')").scalar_one() == "UTC"
    assert place(parse_url("postgresql://postgres@/db?host=/run/pg")) == "postgres@/run/pg/db"


@pytest.mark.parametrize(
    "url", ["sqlite:///x.db", "mysql://u:hunter22@h/db", "nonsense", "postgresql://u:hunter22@h:port/db"]
)
def test_other_urls_are_refused_with_what_is_allowed(url: str) -> None:
    with pytest.raises(StoreError, match="allowed are postgresql://user:password@host:port/database") as refused:
        engine(url)
    assert "hunter22" not in str(refused.value)


def test_sessions_are_set_up(postgres_url: str) -> None:
    wanted = {
        "TimeZone": "UTC",
        "idle_in_transaction_session_timeout": "1500ms",
        "lock_timeout": "3s",
        "DateStyle": "ISO, YMD",
        "extra_float_digits": "1",
    }
    with connected(postgres_url, idle_timeout_s=1.5, lock_timeout_s=3) as engine:
        for _ in range(2):  # a rollback does not undo them
            with transaction(engine) as connection:
                for name, value in wanted.items():
                    shown = connection.execute(sa.text("SELECT current_setting(:name)"), {"name": name}).scalar_one()
                    assert shown == value
                connection.rollback()


def test_missing_tables_name_init(postgres_url: str) -> None:
    with (
        connected(postgres_url) as engine,
        pytest.raises(StoreError, match=r"relation \"ops.positions\" does not exist\): run `watershed init`"),
        transaction(engine) as connection,
    ):
        connection.exec_driver_sql("SELECT * FROM ops.positions")


def test_a_lost_connection_is_worth_another_try_and_the_pool_recovers(postgres_url: str) -> None:
    with connected(postgres_url) as engine, connected(postgres_url) as other:
        with pytest.raises(StoreUnavailable), transaction(engine) as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            with transaction(other) as killer:
                killer.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            connection.exec_driver_sql("SELECT 1")
        with transaction(engine) as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_a_server_that_is_killed_and_comes_back_is_used_again(crash_folder: Path) -> None:
    with SystemPostgres(crash_folder) as postgres, connected(postgres.url) as engine:
        with transaction(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE public.kept (n int)")
        postgres.kill()
        with pytest.raises(StoreUnavailable), transaction(engine) as connection:
            connection.exec_driver_sql("SELECT 1")
        postgres.start()
        with transaction(engine) as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM public.kept").scalar_one() == 0


@pytest.fixture
def deadlocked(postgres_url: str) -> Iterator[list[BaseException]]:
    """Two transactions that wait for each other; what they ended with."""
    ended: list[BaseException] = []
    with connected(postgres_url) as engine:
        with transaction(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE public.t AS SELECT n FROM generate_series(1, 2) n")
        both = threading.Barrier(2)

        def cross(first: int, second: int) -> None:
            try:
                with transaction(engine) as connection:
                    connection.execute(sa.text("UPDATE public.t SET n = n WHERE n = :n"), {"n": first})
                    both.wait(10)
                    connection.execute(sa.text("UPDATE public.t SET n = n WHERE n = :n"), {"n": second})
            except StoreError as error:
                ended.append(error)

        threads = [threading.Thread(target=cross, args=pair) for pair in ((1, 2), (2, 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield ended


def test_a_deadlock_is_busy(deadlocked: list[BaseException]) -> None:
    (error,) = deadlocked
    assert isinstance(error, StoreBusy) and "try again" in str(error)


def test_patience_tries_again_what_is_busy_and_nothing_else() -> None:
    tries: list[int] = []

    def busy_twice() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise StoreBusy("busy")
        return "done"

    assert patiently(busy_twice) == "done" and len(tries) == 3

    def broken() -> None:
        tries.append(1)
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        patiently(broken)
    assert len(tries) == 4
    with pytest.raises(StoreBusy):
        patiently(lambda: (_ for _ in ()).throw(StoreBusy("busy")), patience_s=0)


def test_nothing_is_committed_by_a_block_that_raises(postgres_url: str) -> None:
    with connected(postgres_url) as engine:
        with pytest.raises(RuntimeError), transaction(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE public.t (n int)")
            raise RuntimeError
        with transaction(engine) as connection:
            assert connection.exec_driver_sql("SELECT to_regclass('public.t')").scalar_one() is None
