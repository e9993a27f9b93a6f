"""Postgres with TLS, by the URL alone: a private authority is verified, and what is wrong is one line, at once."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy.engine import make_url

from pipeline.base.errors import StoreError
from sandbox.postgres import SystemPostgres
from sandbox.processes import wait_until
from serving.postgres.connection import StoreUnavailable, engine, transaction
from tests.conftest import need_real_postgres
from tests.contract.world import connected
from tests.support.certificates import Authority
from tests.support.system import System


class TlsPostgres(NamedTuple):
    server: SystemPostgres
    authority: Authority
    other: Authority

    def url(self, options: str, database: str = "postgres", **how: str) -> str:
        """OTHER and OURS in the options are the authorities' files."""
        found = options.replace("OURS", str(self.authority.cafile)).replace("OTHER", str(self.other.cafile))
        return f"{self.server.url_of(database, **how)}?{found}"


@pytest.fixture(scope="module")
def tls(server_folder: Path) -> Iterator[TlsPostgres]:
    need_real_postgres()
    folder = server_folder / f"tls-{uuid.uuid4().hex[:8]}"
    authority, other = Authority(folder / "tls"), Authority(folder / "tls", "other")
    with SystemPostgres(folder / "postgres", tls=authority.issue("postgres")[:2]) as server:
        yield TlsPostgres(server, authority, other)


def fails(url: str) -> StoreError:
    with connected(url) as engine, pytest.raises(StoreError) as failed, transaction(engine) as connection:
        connection.exec_driver_sql("SELECT 1")
    text = str(failed.value)
    assert "\n" not in text and "WATERSHED_POSTGRES" in text
    assert make_url(url).password not in text
    return failed.value


def test_a_private_authority_is_verified_and_the_session_is_encrypted(tls: TlsPostgres) -> None:
    with connected(tls.url("sslmode=verify-full&sslrootcert=OURS")) as engine, transaction(engine) as connection:
        used = connection.exec_driver_sql("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").one()
        assert used.ssl and used.version in ("TLSv1.2", "TLSv1.3")


WRONG = {
    "sslmode=verify-full&sslrootcert=OTHER": "not signed by an authority in .*other.pem, or that has expired",
    "sslmode=verify-full&sslrootcert=system": "not signed by an authority in system",
    "sslmode=verify-full&sslrootcert=/nowhere/root.crt": "/nowhere/root.crt is no PEM file of an authority",
    "sslmode=verifyfull": 'invalid sslmode value: "verifyfull"',
    "sslmod=verify-full": 'invalid (dsn|connection option).*"sslmod"',
    "sslmode=require&sslcert=OURS&sslkey=/nowhere/key": "cannot be asked with this URL .*/nowhere/key",
}


@pytest.mark.parametrize("options", WRONG)
def test_what_tls_refuses_is_one_line_and_no_reason_to_wait(tls: TlsPostgres, options: str) -> None:
    error = fails(tls.url(options))
    assert not isinstance(error, StoreUnavailable)
    assert re.search(WRONG[options], str(error)), error


def test_a_wrong_password_is_told_from_a_wrong_authority(tls: TlsPostgres) -> None:
    error = fails(tls.url("sslmode=verify-full&sslrootcert=OURS", password="hidden-word"))
    assert "the password is wrong or missing for user watershed" in str(error) and not isinstance(
        error, StoreUnavailable
    )


def test_a_server_without_tls_is_refused(tls: TlsPostgres, real_postgres: SystemPostgres) -> None:
    error = fails(f"{real_postgres.url}?sslmode=verify-full&sslrootcert={tls.authority.cafile}")
    assert "speaks no TLS, and the URL wants it (sslmode=verify-full)" in str(error) and not isinstance(
        error, StoreUnavailable
    )


def test_a_certificate_of_another_host_is_refused(tls: TlsPostgres, crash_folder: Path) -> None:
    files = tls.authority.issue("elsewhere", host="192.0.2.1")[:2]
    with SystemPostgres(crash_folder, tls=files) as server:
        error = fails(f"{server.url}?sslmode=verify-full&sslrootcert={tls.authority.cafile}")
    assert 'certificate for another name (server certificate for "192.0.2.1"' in str(error) and not isinstance(
        error, StoreUnavailable
    )


def test_a_server_that_wants_a_client_certificate_names_the_options(tls: TlsPostgres, crash_folder: Path) -> None:
    crash_folder.chmod(0o755)
    settings = {"ssl_ca_file": str(tls.authority.cafile)}
    with SystemPostgres(crash_folder, tls=tls.authority.issue("strict")[:2], settings=settings) as server:
        rule = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
        with connected(server.url) as before, transaction(before) as connection:
            (server.data / "pg_hba.conf").write_text(rule)
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        url = f"{server.url}?sslmode=verify-full&sslrootcert={tls.authority.cafile}"
        assert wait_until(lambda: "sslcert=FILE&sslkey=FILE" in outcome(url), 10), outcome(url)
        assert not isinstance(fails(url), StoreUnavailable)
        certificate, key, _ = tls.authority.issue("watershed")
        assert outcome(f"{url}&sslcert={certificate}&sslkey={key}") == ""


def outcome(url: str) -> str:
    """Why no session is had; '' when one is."""
    with connected(url) as engine:
        try:
            with transaction(engine) as connection:
                connection.exec_driver_sql("SELECT 1")
        except StoreError as error:
            return str(error)
    return ""


def test_a_password_among_the_options_is_not_shown(tls: TlsPostgres) -> None:
    url = make_url(tls.url("sslmode=verify-full&sslrootcert=OURS"))
    moved = (
        url.set(password=None).update_query_dict({"password": str(url.password)}).render_as_string(hide_password=False)
    )
    made = engine(moved)
    assert str(url.password) not in repr(made) + str(made.url)
    with transaction(made) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    made.dispose()


def test_commands_take_such_a_url(tls: TlsPostgres, tmp_path: Path, real_kafka: str, topic_name: str) -> None:
    with tls.server.database(f"test_{uuid.uuid4().hex}") as plain:
        name = str(make_url(plain).database)
        system = System(tmp_path, real_kafka, tls.url("sslmode=verify-full&sslrootcert=OURS", name), topic_name)
        system.run("init", "--partitions", "1")
        assert topic_name in system.run("status").stdout
        system.environment["WATERSHED_POSTGRES"] = tls.url("sslmode=verify-full&sslrootcert=OTHER", name)
        for done in (system.run("speed", check=False, timeout=60), system.run("status", check=False)):
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
            assert "not signed by an authority in" in done.stderr and str(make_url(plain).password) not in done.stderr
        system.stop_all()
