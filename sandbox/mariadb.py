"""MariaDB for the tests: the machine's own, in a folder, on a free port of 127.0.0.1.

Invariant: url answers ⇔ runs. It is Debian's package mariadb-server, without its service: data, socket and log lie in `folder`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pymysql

from sandbox.processes import LOOPBACK, Child, Server, ServerError, quote_log, start_on_free_ports

START_LIMIT_S = 60.0
SYSTEM_USER = "mysql"
FOLDERS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # Debian keeps the server where only root looks
REMEDY = "run 'apt-get install mariadb-server'"


def system_binaries() -> tuple[str, str]:
    """Paths of `mariadbd` and `mariadb-install-db`; ServerError where they are not installed."""
    found = [shutil.which(name, path=FOLDERS) for name in ("mariadbd", "mariadb-install-db")]
    if found[0] is None or found[1] is None:
        raise ServerError(f"no MariaDB server is installed (mariadbd and mariadb-install-db): {REMEDY}.")
    return found[0], found[1]


class SystemMariaDB(Server):
    """The machine's MariaDB in `folder`, for the user `watershed` with a fresh password.

    When we are root it runs as the user `mysql`, who gets `folder` and must be able to traverse the folders above it. The port stays the
    same over stop(), kill() and start().
    """

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder)
        self._child: Child | None = None
        self._port = 0
        self._password = secrets.token_urlsafe(18)

    @property
    def url(self) -> str:
        """The URL of the server, without a database."""
        return self.url_of("")

    def url_of(self, database: str) -> str:
        """mysql://watershed:<password>@127.0.0.1:<port>/<database>"""
        return f"mysql://watershed:{self._password}@{LOOPBACK}:{self._port}/{database}"

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.runs

    @property
    def log(self) -> Path:
        return self.folder / "mariadb.log"

    def connect(self, database: str | None = None) -> pymysql.Connection:
        """A connection as `watershed`, who may do everything; each statement is a transaction."""
        return pymysql.connect(
            host=LOOPBACK,
            port=self._port,
            user="watershed",
            password=self._password,
            database=database,
            autocommit=True,
            connect_timeout=5,
        )

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A new, empty database called `name`: its URL; dropped at the end."""
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        try:
            yield self.url_of(name)
        finally:
            if self.runs:
                self.execute(f"DROP DATABASE `{name}`")

    def execute(self, *statements: str, database: str | None = None) -> None:
        """Statements, one after the other."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self._child is not None:
            self._child.kill()

    def _start(self) -> None:
        server, install = system_binaries()
        user = SYSTEM_USER if os.geteuid() == 0 else None
        if user is not None:
            self.folder.chmod(0o755)
            shutil.chown(self.folder, user)
        data = self.folder / "data"
        if not data.exists():
            self._make(install, data, user)
        if self._port:
            self._child = self._launch(server, data, user, self._port)
        else:
            self._child = start_on_free_ports(1, lambda ports: self._launch(server, data, user, ports[0]))

    def _make(self, install: str, data: Path, user: str | None) -> None:
        command = [
            install,
            "--no-defaults",
            f"--datadir={data}",
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
        ]
        child = Child("mariadb-install-db", command, self.log, folder=self.folder, user=user)
        try:
            child.await_end(START_LIMIT_S)
        finally:
            child.kill()
        if child.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise ServerError(
                f"mariadb-install-db failed with code {child.returncode}. {quote_log(self.log, child.from_byte)}"
            )

    def _launch(self, server: str, data: Path, user: str | None, port: int) -> Child:
        first = self.folder / "users.sql"  # not as an argument: others may read those
        first.unlink(missing_ok=True)
        first.touch(mode=0o600)
        name = f"watershed@'{LOOPBACK}'"
        first.write_text(
            f"CREATE OR REPLACE USER {name} IDENTIFIED BY '{self._password}';\nGRANT ALL ON *.* TO {name};\n"
        )
        if user is not None:
            os.chown(first, pwd.getpwnam(user).pw_uid, -1)
        settings = {
            "datadir": str(data),
            "bind-address": LOOPBACK,
            "port": str(port),
            "socket": str(self.folder / "socket"),
            "pid-file": str(self.folder / "pid"),
            "init-file": str(first),
            "innodb-buffer-pool-size": "64M",
            "innodb-flush-log-at-trx-commit": "2",  # survives kill -9 of the server, not a power cut
            "default-time-zone": "+05:00",  # not ours: what is read must not depend on it
        }
        command = [server, "--no-defaults", "--skip-name-resolve", *(f"--{k}={v}" for k, v in settings.items())]
        child = Child("MariaDB", command, self.log, folder=self.folder, user=user)
        try:
            self._port = port
            child.await_ready(self._answers, START_LIMIT_S)
        except ServerError:
            child.stop()
            raise
        return child

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
