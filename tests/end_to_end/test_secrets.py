"""Secrets are nowhere but where the user put them: each test plants marked ones, runs the commands at the level DEBUG, and searches
everything that was written or shown: output, logs, notes, arguments of processes, tables, the lake, Luigi's page, metrics.

A process's environment is not searched: that is where the user may have put them (docs/SETTINGS.md says so).
"""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from pipeline.base.errors import SettingsError
from pipeline.log.kafka.connection import KafkaConnection, Unshown
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import AccessDenied
from pipeline.settings import Settings
from sandbox.processes import free_ports
from tests.support.secured import Secured
from tests.support.system import System, wait_for

# Read by every Python that starts in the system's folder: each library says all it can say.
LOUD = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
logging.getLogger("sqlalchemy").setLevel(logging.DEBUG)
"""
EVENT = '{{"id": "{id}", "station": "JFK", "observed_at": "2013-01-01T0{id}:00:00Z", "temperature_f": 41.5}}'
KAFKA, POSTGRES, REGISTRY = "WATERSHED_KAFKA_PASSWORD", "WATERSHED_POSTGRES", "WATERSHED_SCHEMA_REGISTRY_PASSWORD"


class Planted:
    """A system with its secrets taken out of the environment, and the search for them."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system, self.folder = system, folder
        self.secrets = {name: system.environment.pop(name) for name in (KAFKA, POSTGRES)}
        self.secrets[REGISTRY] = "of-the-registry-4f1c7a90b2"
        system.environment |= {
            "WATERSHED_SCHEMA_REGISTRY": f"http://127.0.0.1:{free_ports(1)[0]}",
            "WATERSHED_SCHEMA_REGISTRY_USERNAME": "ann",
        }
        self.words = [self.secrets[KAFKA], str(make_url(self.secrets[POSTGRES]).password), self.secrets[REGISTRY]]
        assert all(len(word) > 16 for word in self.words)
        (system.folder / "sitecustomize.py").write_text(LOUD)
        system.environment["PYTHONFAULTHANDLER"] = (
            "1"  # a crash is dumped; and each command is an interpreter of its own, which reads LOUD
        )
        self.own: set[Path] = set()  # files that hold the secrets because the test wrote them there

    def by_environment(self) -> None:
        self.system.environment |= self.secrets

    def by_dotenv(self) -> None:
        self._write(
            self.system.folder / ".env", "".join(f"{name}='{secret}'\n" for name, secret in self.secrets.items())
        )

    def by_luigi_cfg(self) -> None:
        lines = (f"{name.removeprefix('WATERSHED_').lower()} = {secret}\n" for name, secret in self.secrets.items())
        self._write(self.system.folder / "luigi.cfg", "[watershed]\n" + "".join(lines))

    def by_files(self) -> None:
        for name, secret in self.secrets.items():
            file = self.folder / f"{name.lower()}.secret"
            self._write(file, secret + "\n")
            self.system.environment[f"{name}_FILE"] = str(file)

    def _write(self, file: Path, text: str) -> None:
        file.write_text(text)
        file.chmod(0o600)
        self.own.add(file)

    def found_in(self, data: bytes) -> list[str]:
        """The secrets that are in it, plain, in base64, or as bytes that Python shows."""
        forms = {word: (word.encode(), base64.b64encode(word.encode()).rstrip(b"=")) for word in self.words}
        return [word for word, several in forms.items() if any(form in data for form in several)]

    def assert_nowhere(self, said: str) -> None:
        """Not in what was said, in no file below the system's folder, in no row, in no statement of a session."""
        assert not self.found_in(said.encode()), lines_with(said, self.words)
        files = [file for file in self.system.folder.rglob("*") if file.is_file() and file not in self.own]
        for file in files:
            assert not self.found_in(file.read_bytes()), (
                f"{file}: {lines_with(file.read_bytes().decode(errors='replace'), self.words)}"
            )
        tables = self.system.query(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname !~ '^pg_|^inf'"
        )
        assert len(tables) > 5
        for table in tables:
            rows = self.system.query(f"SELECT t::text AS row FROM {table['name']} t")
            assert not self.found_in("\n".join(row["row"] for row in rows).encode()), table

    def assert_not_shown_by_processes(self) -> None:
        """Neither in the arguments of any process of this machine that we may read, nor in Postgres' list of sessions."""
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = process.read_bytes()
            except OSError:  # it has ended
                continue
            assert not self.found_in(arguments), arguments
        sessions = self.system.query("SELECT application_name, query FROM pg_stat_activity")
        assert any("watershed" in (row["application_name"] or "") for row in sessions)
        assert not self.found_in(json.dumps(sessions).encode())


def lines_with(text: str, words: list[str]) -> list[str]:
    return [line[:300] for line in text.splitlines() if any(word in line for word in words)][:3]


@pytest.fixture
def planted(secured_system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    yield Planted(secured_system, tmp_path_factory.mktemp("secrets"))


WAYS: dict[str, Callable[[Planted], None]] = {
    "environment": Planted.by_environment,
    ".env": Planted.by_dotenv,
    "luigi.cfg": Planted.by_luigi_cfg,
    "files": Planted.by_files,
}


def said_by(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_no_command_shows_a_secret_wherever_it_comes_from(planted: Planted, way: str) -> None:
    """PLAIN, which sends the password as it is; a worker that crashes; and a wrong password, which is a secret too."""
    system = planted.system
    WAYS[way](planted)
    system.environment |= {"WATERSHED_KAFKA_SASL_MECHANISM": "PLAIN", "WATERSHED_METRICS_PORT": str(free_ports(1)[0])}
    said = said_by(system.run("init", "--partitions", "1"))
    for mark in ("Starting KafkaAdminClient with configuration", "SaslAuthenticateRequest(***)", "sqlalchemy.pool"):
        assert mark in said, "the libraries do say all they can"
    worker = system.worker()
    system.produce([(0, b"JFK", EVENT.format(id=n).encode()) for n in range(5)])
    wait_for(lambda: system.positions() == {0: 5}, "the worker has committed", 120)
    planted.assert_not_shown_by_processes()
    with urllib.request.urlopen(
        f"http://127.0.0.1:{system.environment['WATERSHED_METRICS_PORT']}/metrics", timeout=10
    ) as page:
        assert not planted.found_in(page.read())
    worker.send_signal(signal.SIGSEGV)
    assert worker.wait(60) == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in (system.folder / "worker.log").read_text()
    if way == "files":
        said += said_by(system.night("2013-01-02", "--log-level", "DEBUG"))
        said += said_by(system.run("audit")) + said_by(system.run("plan"))
        assert list(system.lake.rglob("*.json")) and list(system.lake.rglob("*.parquet")), "the lake is searched, too"
    said += said_by(system.run("status"))
    planted.words.append("a-wrong-and-marked-word")
    said += said_by(
        system.run(
            "status", check=False, WATERSHED_KAFKA_PASSWORD="a-wrong-and-marked-word", WATERSHED_KAFKA_PASSWORD_FILE=""
        )
    )
    assert "refuses the credentials of user 'worker' (PLAIN)" in said
    planted.assert_nowhere(said)


@pytest.mark.slow
def test_neither_the_notes_of_up_nor_luigis_page_hold_a_secret(planted: Planted) -> None:
    """`up` on a broker and a Postgres of one's own: it starts a worker and luigid, and a night goes through luigid."""
    system = planted.system
    planted.by_files()
    said = said_by(system.run("up"))
    try:
        notes = json.loads((system.folder / ".watershed/pids.json").read_text())
        page = notes["processes"]["luigid"]["where"]
        system.produce([(0, b"JFK", EVENT.format(id=n).encode()) for n in range(5)])
        command = [
            part
            for part in system.luigi("2013-01-02", "--scheduler-port", page.rpartition(":")[2])
            if part != "--local-scheduler"
        ]
        said += said_by(system._call(command, True, 300, {}))
        planted.assert_not_shown_by_processes()
        for state in ("DONE", "FAILED"):
            asked = urllib.parse.quote(json.dumps({"status": state, "upstream_status": ""}))
            with urllib.request.urlopen(f"{page}/api/task_list?data={asked}", timeout=10) as answer:
                tasks = answer.read()
            assert not planted.found_in(tasks)
            assert (b"Publish" in tasks) == (state == "DONE")
        planted.assert_nowhere(said)
    finally:
        said_by(system.run("down"))


# ---- where a secret may come from
def load(folder: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Settings:
    for name in [name for name in os.environ if name.startswith("WATERSHED_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


def test_the_first_place_that_has_a_secret_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """environment, .env, luigi.cfg: at each the text or the file."""
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "luigi.cfg").write_text("[watershed]\nkafka_password_file = three\n")

    def password(**environment: str) -> str:
        found = load(tmp_path, monkeypatch, environment).kafka_password
        return found.get_secret_value() if found is not None else ""

    assert password() == "three"
    (tmp_path / ".env").write_text("WATERSHED_KAFKA_PASSWORD_FILE=two\n")
    assert password() == "two"
    (tmp_path / ".env").write_text("WATERSHED_KAFKA_PASSWORD=dotenv\n")
    assert password() == "dotenv"
    assert password(WATERSHED_KAFKA_PASSWORD_FILE=str(tmp_path / "one")) == "one"
    assert password(WATERSHED_KAFKA_PASSWORD="direct") == "direct"
    assert password(WATERSHED_KAFKA_PASSWORD="", WATERSHED_KAFKA_PASSWORD_FILE="") in ("", "dotenv")
    (tmp_path / "url").write_text("postgresql://me:secret@db/x\n")
    assert (
        load(tmp_path, monkeypatch, {"WATERSHED_POSTGRES_FILE": str(tmp_path / "url")}).postgres_url()
        == "postgresql://me:secret@db/x"
    )


BROKEN = {
    "missing": (None, "cannot be read"),
    "empty": (b"\n", "is empty"),
    "several lines": (b"user\nhidden-word\n", "holds several lines"),
    "no text": (b"\xff\xfehidden-word", "is no text in UTF-8"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_holds_no_secret_is_refused_and_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data, said = BROKEN[kind]
    if data is not None:
        (tmp_path / "secret").write_bytes(data)
    with pytest.raises(
        SettingsError, match=f"WATERSHED_KAFKA_PASSWORD_FILE in the environment: .*secret.* {said}"
    ) as refused:
        load(tmp_path, monkeypatch, {"WATERSHED_KAFKA_PASSWORD_FILE": str(tmp_path / "secret")})
    assert "hidden-word" not in str(refused.value)


def test_a_secret_and_its_file_at_one_place_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"WATERSHED_POSTGRES": "postgresql://me:hidden-word@db/x", "WATERSHED_POSTGRES_FILE": "anything"}
    with pytest.raises(
        SettingsError, match="the environment sets both WATERSHED_POSTGRES and WATERSHED_POSTGRES_FILE"
    ) as refused:
        load(tmp_path, monkeypatch, both)
    assert "hidden-word" not in str(refused.value)


def test_credentials_without_a_broker_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker, which would be used instead, knows no users."""
    settings = load(
        tmp_path,
        monkeypatch,
        {"WATERSHED_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "WATERSHED_KAFKA_PASSWORD": "hidden-word"},
    )
    with pytest.raises(
        SettingsError, match=r"kafka_security_protocol .* is set, and kafka \(WATERSHED_KAFKA\) is not"
    ) as refused:
        settings.kafka_connection()
    assert "hidden-word" not in str(refused.value)


# ---- what shows values
def test_no_repr_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "WATERSHED_KAFKA": "broker:9093",
        "WATERSHED_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "WATERSHED_KAFKA_SASL_MECHANISM": "PLAIN",
        "WATERSHED_KAFKA_USERNAME": "me",
        "WATERSHED_KAFKA_PASSWORD": "hidden-word",
        "WATERSHED_POSTGRES": "postgresql://me:hidden-word@db/x",
    }
    settings = load(tmp_path, monkeypatch, given)
    connection = settings.kafka_connection()
    assert connection.arguments()["sasl_plain_password"] == "hidden-word"
    shown = [settings, settings.model_dump(), connection, asdict(connection), connection.arguments(), vars(connection)]
    shown += [vars(KafkaLog(connection)), settings.model_dump_json(), f"{connection}"]
    assert "hidden-word" not in repr(shown)
    assert repr(Unshown("hidden-word")[:4]) == "'***'"


def test_a_setting_of_the_wrong_type_is_named_and_a_secret_is_not_quoted() -> None:
    with pytest.raises(SettingsError, match=r"setting metrics_port .*found 'x'"):
        _with_argument({"metrics_port": "x"})
    with pytest.raises(SettingsError, match="setting kafka_password") as refused:
        _with_argument({"kafka_password": ["hidden-word"]})
    assert "hidden-word" not in str(refused.value)


def _with_argument(given: dict[str, object]) -> None:
    class Bound(Settings):
        def __init__(self) -> None:
            super().__init__(**given)  # type: ignore[arg-type]

    Bound.load()


def test_kafka_pythons_own_messages_at_debug_hold_no_token(secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    """It logs its configuration, each request, and each request's bytes: with PLAIN the password is in all three."""
    plain = secured.connection("USERS", sasl_mechanism="PLAIN")
    wrong = KafkaConnection(plain.bootstrap, "SASL_PLAINTEXT", "PLAIN", "worker", SecretStr("hidden-word"))
    with caplog.at_level(logging.DEBUG, logger="kafka"):
        for connection in (plain, wrong):
            with closing(KafkaLog(connection)) as log, pytest.raises(AccessDenied):
                log.end_offsets("no-such-topic")
    for mark in ("SaslAuthenticateRequest(***)", "Send: '<", "'sasl_plain_password': '***'"):
        assert mark in caplog.text, "it does say all it can"
    assert secured.password not in caplog.text and "hidden-word" not in caplog.text
