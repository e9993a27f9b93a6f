"""Connections to the databases that an Sql origin reads: each in one transaction that sees one instant, and writes nothing.

    values read = values stored        times in UTC, intervals as text, JSON's numbers exact, whatever session or server have as defaults

A database that does not answer, or closes the connection, is OriginAway; everything else that it says is an OriginError.
No password is in either.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.pool import NullPool

from ingestion.origins.declaring import need
from pipeline.base.errors import OriginAway, OriginError

CONNECT_TIMEOUT_S = 10
SILENCE_S = 900  # after which a database that says nothing more counts as away
MYSQL_TIMESTAMP = 7  # type code of its columns that are instants; a DATETIME has no zone
POSTGRES_INTERVAL = 1186
ALLOWED = "postgresql://user:password@host/database, mysql://user:password@host/database or sqlite:////path/to/file"
POSTGRES_BEGIN = (
    "SET LOCAL TIME ZONE 'UTC'",
    "SET LOCAL intervalstyle = 'iso_8601'",
    "SET LOCAL synchronize_seqscans = off",  # read twice, a table has the same order
    "SET LOCAL cursor_tuple_fraction = 1.0",  # all rows are wanted, not the first ones soon
)
MYSQL_BEGIN = (
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION net_write_timeout = 3600",  # a reader that is slow does not lose the connection
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)
# The drivers call much operational that is no use to try again: a wrong password, a database or column that is not there.
MYSQL_AWAY = {0, 1040, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1317, 1927, 2002, 2003, 2006, 2013, 2055, 4031}
POSTGRES_FINAL = ("authentication failed", "does not exist", "pg_hba.conf", "no password supplied", "permission denied")
POSTGRES_AWAY = ("08", "53", "57", "40001", "40P01", "55P03", "25P0")


class Database:
    """The database behind a credential: `connected()` gives a connection in its transaction, `kind` is postgresql, mysql or sqlite."""

    def __init__(self, credential: str, secret: str) -> None:
        try:
            url = make_url(secret)
        except (sa.exc.ArgumentError, ValueError):
            raise OriginError(f"the credential {credential} is no URL of a database; allowed are {ALLOWED}") from None
        name = url.drivername.partition("+")[0]
        kinds = {
            "postgres": "postgresql",
            "postgresql": "postgresql",
            "mysql": "mysql",
            "mariadb": "mysql",
            "sqlite": "sqlite",
        }
        if name not in kinds:
            raise OriginError(f"the credential {credential} is a URL of {name}; allowed are {ALLOWED}")
        self.kind, self.credential, self._url = kinds[name], credential, url

    @property
    def place(self) -> str:
        """The credential's name and user@host/database, for messages."""
        from serving.postgres.connection import place

        return f"{self.credential} ({self._url.database if self.kind == 'sqlite' else place(self._url)})"

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection in a transaction that sees one instant; when the block is left early, it is cut off and not read to its end."""
        with self.explained():
            made = self._engine()
            connection = made.connect()
            driver = connection.connection.driver_connection
            try:
                begin = {"postgresql": POSTGRES_BEGIN, "mysql": MYSQL_BEGIN, "sqlite": ()}[self.kind]
                for statement in begin:
                    connection.exec_driver_sql(statement)
                yield connection
            except BaseException:
                _cut(connection, driver)
                raise
            finally:
                connection.close()
                made.dispose()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """The errors of drivers as OriginAway or OriginError, in one line."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise self._explain(error.orig or error, error.connection_invalidated) from error
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            raise OriginError(f"{self.place}: {self._said(error)}") from error
        except (
            OSError,
            ValueError,
        ) as error:  # drivers let them through: a socket that broke, a year that Python does not know
            kind = OriginAway if isinstance(error, OSError) else OriginError
            raise kind(f"{self.place}: {self._said(error)}") from error

    def converters(self, description: Sequence[Sequence[Any]] | None) -> list[Callable[[Any], Any] | None]:
        """For each column of a cursor's description, what makes of the driver's value what it means; None or []: it is that."""
        if self.kind != "mysql" or description is None:
            return []
        return [_instant if one[1] == MYSQL_TIMESTAMP else None for one in description]

    def bound(self, since: Any) -> Any:
        """A value of a cursor column as this database compares it; None where it cannot be told, so that all rows are read."""
        if isinstance(since, datetime) and self.kind == "sqlite":
            return None  # there a time is text or a number, of the writer's choice
        if isinstance(since, datetime) and since.tzinfo is not None and self.kind == "mysql":
            return since.astimezone(UTC).replace(tzinfo=None)
        return since

    def _engine(self) -> Engine:
        if self.kind == "sqlite":
            return sa.create_engine("sqlite://", creator=self._open_sqlite, poolclass=NullPool)
        if self.kind == "mysql":
            need("pymysql", "a database of MySQL or MariaDB")
            timeouts = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": SILENCE_S, "write_timeout": SILENCE_S}
            arguments = {"charset": "utf8mb4", **timeouts}
            arguments = {name: value for name, value in arguments.items() if name not in self._url.query}
            url = self._url.set(drivername="mysql+pymysql")
            return sa.create_engine(url, isolation_level="REPEATABLE READ", connect_args=arguments, poolclass=NullPool)
        return self._postgres()

    def _postgres(self) -> Engine:
        import psycopg2.extensions

        from serving.postgres.connection import KEEPALIVE, parse_url

        arguments = {
            "application_name": "watershed",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "client_encoding": "UTF8",
            **KEEPALIVE,
        }
        arguments = {name: value for name, value in arguments.items() if name not in self._url.query}
        made = sa.create_engine(
            parse_url(self._url.render_as_string(hide_password=False)),
            isolation_level="REPEATABLE READ",
            connect_args=arguments,
            poolclass=NullPool,
            json_deserializer=partial(json.loads, parse_float=Decimal),
            execution_options={"postgresql_readonly": True},
        )
        # As a timedelta a month would be thirty days.
        as_text = psycopg2.extensions.new_type((POSTGRES_INTERVAL,), "INTERVAL_AS_TEXT", lambda value, cursor: value)

        @sa.event.listens_for(made, "connect")
        def register(connection: Any, record: Any) -> None:
            psycopg2.extensions.register_type(as_text, connection)

        return made

    def _open_sqlite(self) -> sqlite3.Connection:
        file = Path(self._url.database or "").expanduser()
        if not self._url.database or self._url.database == ":memory:" or not file.is_file():
            raise OriginError(f"{self.place}: there is no such file; name one by sqlite:////path/to/file")
        # By default it would make a file that is not there.
        return sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True, check_same_thread=False)

    def _explain(self, error: BaseException, invalidated: bool) -> OriginError:
        said = self._said(error)
        return (OriginAway if invalidated or self._is_away(error, said) else OriginError)(f"{self.place}: {said}")

    def _is_away(self, error: BaseException, said: str) -> bool:
        if self.kind == "sqlite":
            return "locked" in said
        if self.kind == "mysql":
            number = error.args[0] if error.args else None
            return number in MYSQL_AWAY
        state = getattr(error, "pgcode", None)
        if state:
            return bool(state.startswith(POSTGRES_AWAY))
        operational = type(error).__name__ in ("OperationalError", "InterfaceError")
        return operational and not any(words in said for words in POSTGRES_FINAL)

    def _said(self, error: BaseException) -> str:
        """The driver's words in one line; of MySQL without the number's brackets, of none with a password."""
        words = error.args[1] if self.kind == "mysql" and len(error.args) > 1 else error
        line = " ".join(str(words).split()) or type(error).__name__
        return hidden(line, self._url)


def hidden(line: str, url: URL) -> str:
    """The line without the URL's password, which a driver may quote."""
    passwords = [
        url.password,
        *(value for name, value in url.query.items() if "pass" in name and isinstance(value, str)),
    ]
    for password in filter(None, map(str, filter(None, passwords))):
        line = line.replace(password, "***").replace(quote(password, safe=""), "***")
    return line


def _cut(connection: Connection, driver: Any) -> None:
    """Drop the connection as it is: rows that nobody wants are not read to their end, which PyMySQL does when they are forgotten."""
    unread = getattr(driver, "_result", None)
    if unread is not None:
        unread.unbuffered_active = False
    connection.invalidate()


def _instant(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
