"""MariaDB in a folder: what was committed is there after a crash, at the same address; its password is in no argument of a process."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from sandbox.mariadb import SystemMariaDB, system_binaries
from sandbox.processes import ServerError
from tests.conftest import skip_or_fail


def test_what_was_committed_is_there_after_a_crash_at_the_same_address(crash_folder: Path) -> None:
    try:
        system_binaries()
    except ServerError as error:
        skip_or_fail(str(error))
    with SystemMariaDB(crash_folder / "mariadb") as mariadb:
        url = mariadb.url
        mariadb.execute("CREATE DATABASE a", "CREATE TABLE a.t (n int)", "INSERT INTO a.t VALUES (7)")
        password = str(urlsplit(url).password).encode()
        assert len(password) > 16
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert password not in process.read_bytes()
            except OSError:  # it has ended
                continue
        mariadb.kill()
        assert not mariadb.runs
        mariadb.start()
        assert mariadb.url == url
        with mariadb.connect("a") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT n FROM t")
            assert cursor.fetchall() == ((7,),)
