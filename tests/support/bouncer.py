"""PgBouncer in transaction mode before a Postgres of the tests, with one server connection: what a client leaves behind, the next has.

A transaction may run on a server connection that others used before and will use after it, and on another one than the transaction before.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url

from sandbox.postgres import SYSTEM_USER
from sandbox.processes import LOOPBACK, Child, Server, ServerError, start_on_free_ports

START_LIMIT_S = 30.0


def pgbouncer() -> str | None:
    """The program, which Debian keeps where only root looks."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class PgBouncer(Server):
    """A pool before the database of `behind` (a URL with user and password), which clients come to with the same user and password."""

    def __init__(self, folder: Path, behind: str, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self._behind = make_url(behind)
        self._settings = {"default_pool_size": "1", "query_wait_timeout": "30", **(settings or {})}
        self._child: Child | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """postgresql://user:password@127.0.0.1:<port>/database; the pool's side."""
        return self._behind.set(host=LOOPBACK, port=self._port).render_as_string(hide_password=False)

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.runs

    @property
    def log(self) -> Path:
        return self.folder / "pgbouncer.log"

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _start(self) -> None:
        self._child = start_on_free_ports(1, lambda ports: self._launch(ports[0]))

    def _launch(self, port: int) -> Child:
        program = pgbouncer()
        if program is None:
            raise ServerError("PgBouncer is not installed: run 'apt-get install pgbouncer'.")
        behind, self._port = self._behind, port
        users, config = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        users.write_text(f'"{behind.username}" "{behind.password}"\n')
        lines = {
            "listen_addr": LOOPBACK,
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "pool_mode": "transaction",
            **self._settings,
        }
        config.write_text(
            f"[databases]\n* = host={behind.host} port={behind.port}\n\n[pgbouncer]\n"
            + "".join(f"{k} = {v}\n" for k, v in lines.items())
        )
        user = SYSTEM_USER if os.geteuid() == 0 else None  # it refuses to be root
        if user is not None:
            entry = pwd.getpwnam(user)
            for path in (self.folder, users, config):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        users.chmod(0o600)
        child = Child("PgBouncer", [program, str(config)], self.log, folder=self.folder, user=user)
        try:
            child.await_ready(lambda: "process up" in child.log_text(), START_LIMIT_S)
        except ServerError:
            child.stop()
            raise
        return child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
