"""Connections to Postgres, and what their errors mean to a user.

    a failed statement  =>  StoreError with one line: what, where, the next command; never a password
    StoreUnavailable    <=>  the same call may succeed later, as it is: workers and nights retry it

    a transaction's isolation, and all that its SQL rests on = what is said here        never a default of session, role or database

Writers are READ COMMITTED and READ WRITE: after a lock, a new statement must see what is true now. Readers are REPEATABLE READ and
READ ONLY: all their statements see one instant. A transaction that ended with an error has an unknown outcome, unless it is
NothingChanged or StoreBusy: whoever called throws away what was built on it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import psycopg2
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pipeline.base.errors import StoreError
from serving.postgres.pinned import pin

T = TypeVar("T")
SETTING = "`postgres` in luigi.cfg, section [watershed], or WATERSHED_POSTGRES"
CONNECT_TIMEOUT_S = 10
WRITERS, READERS = "READ COMMITTED", "REPEATABLE READ"
BRIEF_IDLE_MS = 2000
# Names of our options on an engine, or on one of its connections.
LOCK_MS, IDLE_MS, PATIENCE = "watershed_lock_timeout_ms", "watershed_idle_timeout_ms", "watershed_outage_patience"
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


class NothingChanged(StoreUnavailable):
    """Postgres went away before the commit was asked for: the transaction had no effect, and may be tried again."""


class OutcomeUnknown(StoreUnavailable):
    """Postgres went away while it committed: the transaction landed, or it did not."""


def parse_url(url: str) -> URL:
    """The URL for psycopg2; StoreError when it is no Postgres URL. `postgres://` and other drivers' names will do."""
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise StoreError(f"the Postgres URL cannot be read; {_allowed_urls()}: set {SETTING}") from None
    if parsed.drivername.split("+")[0] not in ("postgres", "postgresql"):
        raise StoreError(f"{parsed.drivername}:// is no Postgres URL; {_allowed_urls()}: set {SETTING}")
    # libpq takes a password among the options too, where SQLAlchemy would show it.
    hidden = parsed.query.get("password")
    if isinstance(hidden, str):
        parsed = parsed.difference_update_query(["password"]).set(password=parsed.password or hidden)
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
    outage_patience_s: float = 0.0,
    say: Callable[[str], None] = lambda why: None,
) -> Engine:
    """An engine whose transactions each pin what they rely on, and cannot hold locks for long; connects when it is first used.

    `idle_timeout_s` ends a transaction whose client stopped answering in the middle (0: never; must be shorter than a
    lease for workers); `lock_timeout_s` ends a wait for a lock with StoreBusy (0: never). A Postgres that is away is waited for by
    serving.stores.transactions, for `outage_patience_s` at most, and `say` is told. Make it in the process that uses it: an engine does
    not survive a fork.
    """
    parsed = parse_url(url)
    # In the packet that opens the connection, which PgBouncer too keeps apart for each client.
    arguments: dict[str, Any] = {"application_name": application_name, "client_encoding": "UTF8", **KEEPALIVE}
    if "connect_timeout" not in parsed.query:
        arguments["connect_timeout"] = CONNECT_TIMEOUT_S
    options = {
        "postgresql_readonly": False,
        LOCK_MS: round(lock_timeout_s * 1000),
        IDLE_MS: round(idle_timeout_s * 1000),
        PATIENCE: (outage_patience_s, say),
    }
    # No ping when a connection leaves the pool: the statement that pins is one.
    made = sa.create_engine(
        parsed, isolation_level=WRITERS, pool_size=pool_size, connect_args=arguments, execution_options=options
    )
    sa.event.listen(made, "begin", _pin)
    return made


def _pin(connection: Connection) -> None:
    """SQLAlchemy calls it as each transaction begins, also after a rollback in the middle of a block."""
    options = connection.get_execution_options()
    version = int((connection.dialect.server_version_info or (0,))[0])
    reads = options["postgresql_readonly"]
    connection.exec_driver_sql(
        pin(version, lock_timeout_ms=options[LOCK_MS], idle_timeout_ms=options[IDLE_MS], reads=reads)
    )


def outage_patience(engine: Engine) -> tuple[float, Callable[[str], None]]:
    """Seconds for which a Postgres that is away is waited for, and who is told."""
    found: tuple[float, Callable[[str], None]] = engine.get_execution_options()[PATIENCE]
    return found


def transaction(engine: Engine, *, lock_timeout_ms: int | None = None) -> AbstractContextManager[Connection]:
    """One transaction that may write: committed when the block ends, rolled back when it raises; errors of Postgres as StoreError.

    `connection.rollback()` inside ends it without effect. When the commit itself raises, it is not known
    whether it landed: OutcomeUnknown.
    """
    return _transaction(engine, {} if lock_timeout_ms is None else {LOCK_MS: int(lock_timeout_ms)})


def reading(engine: Engine) -> AbstractContextManager[Connection]:
    """One transaction that reads: all its statements see the same instant, a standby answers it too, and it writes nothing."""
    return _transaction(engine, {"isolation_level": READERS, "postgresql_readonly": True})


@contextmanager
def _transaction(engine: Engine, options: dict[str, Any]) -> Iterator[Connection]:
    committing = False
    try:
        connection = _begun(engine, options)
        with connection:
            yield connection
            committing = connection.in_transaction()  # not so when the block has rolled back
            connection.commit()
    except (sa.exc.DBAPIError, psycopg2.Error) as error:
        found = explain(error, engine.url)
        if type(found) is StoreUnavailable:
            found = (OutcomeUnknown if committing else NothingChanged)(str(found))
        raise found from error


def _begun(engine: Engine, options: dict[str, Any]) -> Connection:
    """A connection in a transaction; another one when it broke while it lay in the pool: nothing was asked of it yet."""
    for last in (False, True):
        connection = engine.connect().execution_options(**options)
        try:
            connection.begin()  # not left to the first statement: COPY goes past SQLAlchemy
        except sa.exc.DBAPIError as error:
            connection.close()
            if last or not error.connection_invalidated:
                raise
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise AssertionError("the second try returned or raised")


@contextmanager
def brief_transaction(engine: Engine, lock_timeout_ms: int) -> Iterator[Connection]:
    """A transaction that neither waits long for a lock nor holds one for long while this process is stopped."""
    brief = engine.get_execution_options()[IDLE_MS]
    with _transaction(
        engine, {LOCK_MS: int(lock_timeout_ms), IDLE_MS: min(brief, BRIEF_IDLE_MS) or BRIEF_IDLE_MS}
    ) as connection:
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
    if isinstance(original, psycopg2.ProgrammingError) and code is None and text.startswith("invalid dsn"):
        return StoreError(f"{where} cannot be asked with this URL ({text}); {_allowed_urls()}: set {SETTING}")
    if code in ("3F000", "42P01", "42883", "42703"):
        return StoreError(
            f"{where} lacks what `watershed init` makes ({text}): run `watershed init`", repair="watershed init"
        )
    if code == "42501":
        return StoreError(f"{where}: {text}; the user {url.username} needs CREATE on the database for `watershed init`")
    if code == "25006" or "during recovery" in text:
        return StoreError(
            f"{where} takes no writes ({text}): it is a standby, or was made read-only; name the primary, or several hosts with"
            f" ?target_session_attrs=read-write: set {SETTING}"
        )
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
    if said := _tls_refusal(text, url):
        return StoreError(f"{where} {said}: set {SETTING}")
    reason = first.rsplit("failed: ", 1)[-1]
    return StoreUnavailable(f"{where} cannot be reached ({reason}): start it, or set {SETTING}")


def _tls_refusal(text: str, url: URL) -> str:
    """Fault between the TLS of the URL and the server's, which no other try mends; '' when it is not that."""
    root = url.query.get("sslrootcert", "")
    reason = text.rsplit("failed: ", 1)[-1]
    if "certificate verify failed" in text:
        return (
            f"has a certificate that is not signed by an authority in {root or 'the default root.crt'}, or that has expired; name its"
            f" authority's PEM file in the URL, ?sslmode=verify-full&sslrootcert=FILE"
        )
    if "does not match host name" in text:
        return f"has a certificate for another name ({reason}); name the host in the URL as its certificate does"
    if "does not support SSL" in text:
        return f"speaks no TLS, and the URL wants it (sslmode={url.query.get('sslmode')}); turn on ssl at the server, or change sslmode"
    if "root certificate file" in text:
        file = root or "~/.postgresql/root.crt, libpq's default,"
        return f"cannot be verified: {file} is no PEM file of an authority; name it in the URL, sslrootcert=FILE"
    if "valid client certificate" in text or any(
        f"alert {a}" in text for a in ("certificate required", "unknown ca", "bad certificate")
    ):
        return (
            f"wants a client certificate that it trusts ({reason}); name its files in the URL, sslcert=FILE&sslkey=FILE"
        )
    if any(words in text for words in ("private key file", "certificate file", "invalid sslmode value")):
        return f"cannot be asked with this URL ({reason}); its sslmode, sslcert and sslkey are for libpq"
    return ""


__all__ = [
    "Engine",
    "NothingChanged",
    "OutcomeUnknown",
    "StoreBusy",
    "StoreUnavailable",
    "brief_transaction",
    "engine",
    "explain",
    "outage_patience",
    "parse_url",
    "patiently",
    "place",
    "reading",
    "transaction",
]
