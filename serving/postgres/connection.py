"""Connections to Postgres, and what their errors mean to a user.

    a failed statement  =>  StoreError with one line: what, where, the next command; never a password
    StoreUnavailable    <=>  the same call may succeed later, as it is: workers and nights retry it

A transaction that ended with an error has an unknown outcome: whoever called throws away what was built on it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg2
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pipeline.base.errors import StoreError

T = TypeVar("T")
SETTING = "`postgres` in luigi.cfg, section [watershed], or WATERSHED_POSTGRES"
CONNECT_TIMEOUT_S = 10
# A peer that vanished (machine off, cable out) is noticed in about 10 s, well before TCP would.
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10000,
}
BUSY = {"55P03", "40P01", "40001"}  # lock_timeout, deadlock, serialization failure
TRANSIENT_CLASSES = ("08", "53", "57")  # connection exceptions, resources, operator intervention
TRANSIENT = {"25P03", "25P02"} | BUSY  # idle in transaction for too long


class StoreUnavailable(StoreError):
    """Postgres does not answer now, or broke off: the same call may succeed later."""


class StoreBusy(StoreUnavailable):
    """A lock was not had in time: nothing changed, try again at once."""


def parse_url(url: str) -> URL:
    """The URL for psycopg2; StoreError when it is no Postgres URL. `postgres://` and other drivers' names will do."""
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise StoreError(f"the Postgres URL cannot be read; {_allowed_urls()}: set {SETTING}") from None
    if parsed.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise StoreError(f"{parsed.drivername}:// is no Postgres URL; {_allowed_urls()}: set {SETTING}")
    return parsed.set(drivername="postgresql+psycopg2")


def _allowed_urls() -> str:
    return (
        "allowed are postgresql://user:password@host:port/database and postgresql://user@/database?host=/socket/folder"
    )


def place(url: URL) -> str:
    """user@host:port/database, without the password."""
    host = url.host or url.query.get("host") or "the local socket"
    host = host if isinstance(host, str) else ",".join(host)
    user = f"{url.username}@" if url.username else ""
    return f"{user}{host}{f':{url.port}' if url.port else ''}/{url.database or url.username or ''}"


def engine(
    url: str,
    *,
    application_name: str = "watershed",
    idle_timeout_s: float = 2.0,
    lock_timeout_s: float = 10.0,
    pool_size: int = 5,
) -> Engine:
    """An engine whose sessions speak UTC and cannot hold locks for long; connects when it is first used.

    `idle_timeout_s` ends a transaction whose client stopped answering in the middle (0: never; must be shorter than a
    lease for workers); `lock_timeout_s` ends a wait for a lock with StoreBusy (0: never). Make it in the process that
    uses it: an engine does not survive a fork.
    """
    parsed = parse_url(url)
    arguments: dict[str, Any] = {"application_name": application_name, **KEEPALIVE}
    if "connect_timeout" not in parsed.query:
        arguments["connect_timeout"] = CONNECT_TIMEOUT_S
    made = sa.create_engine(parsed, pool_pre_ping=True, pool_size=pool_size, connect_args=arguments)
    settings = {
        "timezone": "UTC",
        "datestyle": "ISO, YMD",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "client_min_messages": "warning",
        "client_encoding": "UTF8",
        "idle_in_transaction_session_timeout": str(round(idle_timeout_s * 1000)),
        "lock_timeout": str(round(lock_timeout_s * 1000)),
    }

    @sa.event.listens_for(made, "connect")
    def prepare(connection: Any, record: Any) -> None:
        before, connection.autocommit = connection.autocommit, True
        with connection.cursor() as cursor:
            # set_config, not SET: one round trip, and values as parameters.
            calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
            cursor.execute("SELECT " + calls, [part for pair in settings.items() for part in pair])
        connection.autocommit = before

    return made


@contextmanager
def transaction(engine: Engine, *, isolation: str | None = None) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises; errors of Postgres as StoreError.

    `connection.rollback()` inside ends it without effect. When the commit itself raises, it is not known
    whether it landed.
    """
    try:
        with engine.connect() as connection:
            if isolation is not None:
                connection = connection.execution_options(isolation_level=isolation)
            connection.begin()  # not left to the first statement: COPY goes past SQLAlchemy
            yield connection
            connection.commit()
    except (sa.exc.DBAPIError, psycopg2.Error) as error:
        raise explain(error, engine.url) from error


@contextmanager
def brief_transaction(engine: Engine, lock_timeout_ms: int) -> Iterator[Connection]:
    """A transaction that neither waits long for a lock nor holds one for long while this process is stopped."""
    with transaction(engine) as connection:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(lock_timeout_ms)}")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 2000")
        yield connection


def patiently(call: Callable[[], T], *, patience_s: float = 60.0) -> T:
    """Call, and call again while it ends with StoreBusy; for whole transactions, which change nothing then."""
    retrying = Retrying(
        retry=retry_if_exception_type(StoreBusy),
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        stop=stop_after_delay(patience_s),
        reraise=True,
    )
    return retrying(call)


def explain(error: BaseException, url: URL) -> StoreError:
    """The error as a user should read it."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    lines = [line.strip() for line in str(original).splitlines() if line.strip()]
    text = lines[0] if lines else type(original).__name__
    code: str | None = getattr(original, "pgcode", None)
    where = f"Postgres at {place(url)}"
    if code is None and isinstance(original, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        return _explain_connection(" ".join(lines), text, where, url)
    if code in ("3F000", "42P01", "42883", "42703"):
        return StoreError(f"{where} lacks what `watershed init` makes ({text}): run `watershed init`")
    if code == "42501":
        return StoreError(f"{where}: {text}; the user {url.username} needs CREATE on the database for `watershed init`")
    if code in BUSY:
        return StoreBusy(f"{where} is busy: {text}; try again")
    if code is not None and (code in TRANSIENT or code.startswith(TRANSIENT_CLASSES)):
        return StoreUnavailable(f"{where} broke off: {text}; try again")
    return StoreError(f"{where} refused a statement: {text} (SQLSTATE {code})")


def _explain_connection(text: str, first: str, where: str, url: URL) -> StoreError:
    """libpq gives no code when a connection cannot be made: its text has to do."""
    if "password authentication failed" in text or "no password supplied" in text:
        return StoreError(f"{where}: the password is wrong or missing for user {url.username}: set {SETTING}")
    if "database" in text and "does not exist" in text:
        return StoreError(
            f"{where}: the database {url.database!r} does not exist: make it (createdb), or set {SETTING}"
        )
    if "role" in text and "does not exist" in text:
        return StoreError(f"{where}: the user {url.username!r} does not exist: make it (createuser), or set {SETTING}")
    if "pg_hba.conf" in text or "authentication" in text:
        return StoreError(f"{where} does not let us in: {first}: set {SETTING}")
    reason = first.rsplit("failed: ", 1)[-1]
    return StoreUnavailable(f"{where} cannot be reached ({reason}): start it, or set {SETTING}")


__all__ = [
    "Engine",
    "StoreBusy",
    "StoreUnavailable",
    "brief_transaction",
    "engine",
    "explain",
    "parse_url",
    "patiently",
    "place",
    "transaction",
]
