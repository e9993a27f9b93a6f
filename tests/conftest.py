"""Servers for the tests: real ones, one of each for the whole run, on free ports, in temporary folders.

Invariant: tests share servers and nothing else. A test gets a database of its own (`postgres_url`) and topic names of
its own (`topic_name`), so any order and any subset gives the same result. A test that crashes a server starts its own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.embedded_broker import EmbeddedBroker
from sandbox.kafka import RealKafka, missing_programs
from sandbox.postgres import EmbeddedPostgres, SystemPostgres, system_binaries
from sandbox.processes import ServerError
from tests.support.bouncer import PgBouncer, pgbouncer
from tests.support.budget import Budget
from tests.support.secured import Secured, documented_acls, environment
from tests.support.system import System

# By the budget that stands at the end of a run (tests/support/budget.py).
LONGEST = """
    data_of_before crashes end_to_end planted_lookups families feeds tables push_faults push
    operator_crashes row_replays simulation planted_bugs planted_replacements demo_whole demo up luigid
    refusals operator_commands nights patience fast_equals_reference both_stores planted_in_postgres benchmarks
    secured_kafka secrets lake_is_open backlog definition_changes fetch identity_snapshots walk machine fetch_real
    sketches_postgres messages json_blocks modes splitting data_in_loads data_in_page memory_of_files sql_values lookup
"""
SAID = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SAID] = []
    # A broker of a test lives for minutes and carries little: the second compiler of the JVM would cost more than it gives.
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    config.pluginmanager.register(Budget(), "budget")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before several processes would each compile the same."""
    if getattr(session.config.option, "numprocesses", None) and not hasattr(session.config, "workerinput"):
        from pipeline.kernels.compiling import compile_all, needed
        from pipeline.warm_up import ALWAYS

        compile_all([one for one in needed(*ALWAYS, "sketches") if not one.is_kept()], lambda title: None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For several processes: what takes longest first, so that none of them is left alone with it at the end."""
    if hasattr(config, "workerinput"):
        ranks = {name: rank for rank, name in enumerate(LONGEST.split())}
        items.sort(key=lambda item: ranks.get(item.path.stem.removeprefix("test_"), len(ranks)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a process of pytest-xdist: hand what was said to the one that has the terminal."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["said"] = session.config.stash[SAID]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[SAID].extend(getattr(node, "workeroutput", {}).get("said", []))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.stash[SAID]:
        terminalreporter.section("counted")
        terminalreporter.write_line("\n".join(config.stash[SAID]))


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """For what a run must show although it passed: how much was tried. It stands at the end of the run."""
    return request.config.stash[SAID].append


def skip_or_fail(reason: str) -> None:
    """Without a server its tests are skipped, with the reason; under CI=true that is a failure."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"CI=true and {reason}", pytrace=False)
    print(f"skipped: {reason}")
    pytest.skip(reason)


def need_real_kafka() -> None:
    """For tests that start a RealKafka of their own: skip (or fail under CI=true) without Java and Maven."""
    missing = missing_programs()
    if missing:
        skip_or_fail(f"the real Kafka needs {' and '.join(missing)}: apt-get install default-jre-headless maven")


def need_real_postgres() -> None:
    """For tests that start a SystemPostgres of their own: skip (or fail under CI=true) without its binaries."""
    try:
        system_binaries()
    except ServerError as error:
        skip_or_fail(str(error))


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A temporary folder that every user can traverse: pytest's own is closed to the user that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="watershed-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def crash_folder(server_folder: Path) -> Path:
    """A folder for a server that one test starts, crashes and stops by itself."""
    folder = server_folder / f"crash-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def real_kafka_server(server_folder: Path) -> Iterator[RealKafka]:
    """The shared Kafka; do not stop it, others use it."""
    need_real_kafka()
    with RealKafka(server_folder / "kafka") as kafka:
        yield kafka


@pytest.fixture(scope="session")
def real_kafka(real_kafka_server: RealKafka) -> str:
    """The bootstrap address of the shared Apache Kafka. Topics are not made by themselves."""
    return real_kafka_server.bootstrap


@pytest.fixture(scope="session")
def secured(server_folder: Path) -> Iterator[Secured]:
    """A shared Kafka with TLS, users and an authorizer: nobody has rights but those that a test gives him on its own topic."""
    need_real_kafka()
    made = Secured(server_folder / "secured")
    with made.kafka:
        made.add_users()
        made.allow("worker", [("Read", "group", "watershed")])
        yield made


@pytest.fixture(scope="session")
def real_postgres(server_folder: Path) -> Iterator[SystemPostgres]:
    """The shared Postgres of this machine; tests want `postgres_url`."""
    need_real_postgres()
    with SystemPostgres(server_folder / "postgres") as postgres:
        yield postgres


@pytest.fixture
def postgres_url(real_postgres: SystemPostgres) -> Iterator[str]:
    """The URL of an empty database of the real Postgres, this test's own."""
    with real_postgres.database(f"test_{uuid.uuid4().hex}") as url:
        yield url


@pytest.fixture
def bouncer(server_folder: Path, postgres_url: str) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before this test's own database, with one server connection."""
    if pgbouncer() is None:
        skip_or_fail("PgBouncer is not installed: apt-get install pgbouncer")
    with PgBouncer(server_folder / f"bouncer-{uuid.uuid4().hex[:8]}", postgres_url) as made:
        yield made


@pytest.fixture(scope="session")
def embedded_kafka(server_folder: Path) -> Iterator[str]:
    """The bootstrap address of the embedded broker (see sandbox/embedded_broker.py for what it cannot do)."""
    with EmbeddedBroker(server_folder / "broker") as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def embedded_postgres(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """The shared embedded Postgres; tests want `embedded_postgres_url`."""
    with EmbeddedPostgres(server_folder / "embedded-postgres") as postgres:
        yield postgres


@pytest.fixture
def embedded_postgres_url(embedded_postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of an empty database of the embedded Postgres, this test's own."""
    with embedded_postgres.database(f"test_{uuid.uuid4().hex}") as url:
        yield url


@pytest.fixture
def topic_name() -> str:
    """A topic name that no other test uses."""
    return f"test.{uuid.uuid4().hex}"


@pytest.fixture
def system(tmp_path: Path, real_kafka: str, postgres_url: str, topic_name: str) -> Iterator[System]:
    """The whole system on real Kafka and Postgres: a topic, a database and a lake of this test's own."""
    made = System(tmp_path, real_kafka, postgres_url, topic_name)
    yield made
    made.stop_all()


@pytest.fixture
def secured_system(tmp_path: Path, secured: Secured, postgres_url: str, topic_name: str) -> Iterator[System]:
    """A system whose commands come to Kafka by SASL_SSL as `worker`; the test itself is the broker's administrator."""
    made = System(tmp_path, secured.kafka.bootstrap, postgres_url, topic_name)
    made.environment |= environment(secured.connection("USERSTLS"))
    secured.allow("worker", [(operation, kind, topic_name) for operation, kind in documented_acls() if kind == "topic"])
    yield made
    made.stop_all()


@pytest.fixture
def embedded_system(
    tmp_path: Path, embedded_kafka: str, embedded_postgres_url: str, topic_name: str
) -> Iterator[System]:
    """The same on the embedded broker and Postgres."""
    made = System(tmp_path, embedded_kafka, embedded_postgres_url, topic_name)
    yield made
    made.stop_all()


@pytest.fixture
def own_servers(crash_folder: Path) -> Iterator[tuple[RealKafka, SystemPostgres]]:
    """A Kafka and a Postgres that this test may kill."""
    need_real_kafka()
    need_real_postgres()
    with RealKafka(crash_folder / "kafka") as kafka, SystemPostgres(crash_folder / "postgres") as postgres:
        yield kafka, postgres


@pytest.fixture
def own_system(tmp_path: Path, own_servers: tuple[RealKafka, SystemPostgres], topic_name: str) -> Iterator[System]:
    """A system on them."""
    kafka, postgres = own_servers
    with postgres.database("crashes") as url:
        made = System(tmp_path, kafka.bootstrap, url, topic_name)
        yield made
        made.stop_all()
