"""Apache Kafka, the real one: a single KRaft node on 127.0.0.1 from jars that Maven fetches once per user.

Invariant: the folder is the broker. After stop() or kill(), start() serves the same topics, offsets and cluster id on
the same address. The jars are those that kafka/pom.xml beside this file pins: their cache is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from sandbox.processes import LOOPBACK, Child, Server, ServerError, need_program, quote_log, start_on_free_ports

START_LIMIT_S = 90.0
FETCH_LIMIT_S = 600.0
READY_MARK = "Kafka Server started"
LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024
SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "message.max.bytes": str(LARGEST_MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(LARGEST_MESSAGE_BYTES),
    # One node: the internal topics cannot have more than one replica.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Tests wait for what these do: group joins, retention, compaction, the end of forgotten transactions.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.initial.task.delay.ms": "200",
    "log.retention.check.interval.ms": "300",
    "log.segment.delete.delay.ms": "500",
    "log.cleaner.backoff.ms": "300",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # After kill -9 the controller takes the broker back only when the dead one's session has run out.
    "broker.session.timeout.ms": "2500",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
}
LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


class RealKafka(Server):
    """Kafka 4.1 in `folder`; `bootstrap` is its address. Needs java (17 or newer), and mvn the first time.

    `settings` replaces or adds lines of server.properties. `listeners` are further ones, name -> SSL, SASL_PLAINTEXT, ...: each answers
    at `address(name)`, and its keys and users are settings that begin with listener.name.<name in lower case>. `bootstrap` stays without
    any security. Topics are never made by themselves: create them.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        settings: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self._settings = {**SETTINGS, **(settings or {})}
        self._protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        self._child: Child | None = None
        self._ports: list[int] = []

    @property
    def bootstrap(self) -> str:
        """127.0.0.1:<port>, the same for the life of this object; raises ServerError before the first start."""
        if not self._ports:
            raise ServerError("this Kafka was never started: call start() before asking for its address.")
        return f"{LOOPBACK}:{self._ports[0]}"

    def address(self, listener: str) -> str:
        """127.0.0.1:<port> of a further listener; raises ServerError before the first start, or when there is none of that name."""
        if not self._ports or listener not in self._protocols:
            raise ServerError(
                f"this Kafka has no listener {listener} now: start it with one of that name in `listeners`."
            )
        return f"{LOOPBACK}:{self._ports[list(self._protocols).index(listener)]}"

    @property
    def pid(self) -> int:
        """The process id of the JVM; raises ServerError before the first start."""
        if self._child is None:
            raise ServerError("this Kafka was never started: it has no process id.")
        return self._child.pid

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.runs

    @property
    def log(self) -> Path:
        return self.folder / "kafka.log"

    def kill(self) -> None:
        """SIGKILL, as a crash: what was acknowledged is there again after start()."""
        if self._child is not None:
            self._child.kill()

    def _start(self) -> None:
        java = need_program("java", "Kafka", "install Java 17 or newer (apt-get install default-jre-headless)")
        classpath = f"{kafka_jars()}/*"
        if self._ports:
            self._child = self._launch(java, classpath, self._ports)
        else:
            self._child = start_on_free_ports(
                len(self._protocols), lambda ports: self._make_and_launch(java, classpath, ports)
            )

    def _make_and_launch(self, java: str, classpath: str, ports: list[int]) -> Child:
        """Format the folder for these ports (the controller's is written into it) and start."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        listeners = ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in zip(self._protocols, ports, strict=True))
        settings = {
            **self._settings,
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in self._protocols.items()
            ),
            "log.dirs": str(self.folder / "data"),
            "listeners": listeners,
            "advertised.listeners": listeners,
            "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{ports[1]}",
        }
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        properties = self.folder / "server.properties"
        properties.touch(mode=0o600)  # it may hold the passwords of users
        properties.write_text(text, encoding="utf-8")
        (self.folder / "log4j2.properties").write_text(LOG4J, encoding="utf-8")
        command = ["kafka.tools.StorageTool", "format", "--standalone", "--cluster-id", _random_cluster_id()]
        formatting = self._java(java, classpath, "256m", [*command, "--config", "server.properties"])
        try:
            formatting.await_end(START_LIMIT_S)
        finally:
            formatting.kill()
        if formatting.returncode != 0:
            raise ServerError(
                f"Kafka's StorageTool failed with code {formatting.returncode}. "
                f"{quote_log(self.log, formatting.from_byte)}"
            )
        return self._launch(java, classpath, ports)

    def _launch(self, java: str, classpath: str, ports: list[int]) -> Child:
        child = self._java(java, classpath, "512m", ["kafka.Kafka", "server.properties"])
        bootstrap = f"{LOOPBACK}:{ports[0]}"
        try:
            child.await_ready(lambda: READY_MARK in child.log_text() and _answers(bootstrap), START_LIMIT_S)
        except BaseException:
            child.kill()
            raise
        self._ports = ports
        return child

    def _java(self, java: str, classpath: str, heap: str, arguments: list[str]) -> Child:
        options = [f"-Xmx{heap}", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"]
        options.append("-Dlog4j2.configurationFile=log4j2.properties")
        return Child("Kafka", [java, *options, "-cp", classpath, *arguments], self.log, folder=self.folder)

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()


def cache_folder() -> Path:
    """Folder of this user's downloads: WATERSHED_CACHE, else watershed in XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("WATERSHED_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser().resolve() / "watershed"


def kafka_jars() -> Path:
    """The folder of Kafka's jars; see maven_jars."""
    return maven_jars("kafka", resources.files("sandbox").joinpath("kafka", "pom.xml").read_bytes())


def maven_jars(name: str, pom: bytes) -> Path:
    """The folder of a server's jars, fetched with Maven if this user does not have those of the present pom.xml.

    It appears by a rename, so it is there whole or not at all, however many programs fetch at once.
    """
    jars = cache_folder() / f"{name}-{hashlib.sha256(pom).hexdigest()[:16]}"
    if jars.is_dir():
        return jars
    maven = need_program("mvn", f"fetching the jars of {name}", "install Maven (apt-get install maven)")
    try:
        jars.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=jars.parent))
    except OSError as error:
        raise ServerError(
            f"the cache {jars.parent} cannot be written: {error.strerror}; set WATERSHED_CACHE to a folder that can."
        ) from error
    try:
        (work / "pom.xml").write_bytes(pom)
        command = [
            maven,
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DoutputDirectory=jars",
            "-DincludeScope=runtime",
        ]
        fetch = Child("Maven", command, work / "maven.log", folder=work)
        try:
            fetch.await_end(FETCH_LIMIT_S)
        finally:
            fetch.kill()
        if fetch.returncode != 0 or not any((work / "jars").glob(f"{name}*.jar")):
            raise ServerError(
                f"Maven could not fetch the jars of {name} (code {fetch.returncode}): is its package index reachable? "
                f"{quote_log(work / 'maven.log')}"
            )
        try:
            (work / "jars").rename(jars)
        except OSError:
            if not jars.is_dir():  # else another program was quicker, with the same jars
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return jars


def missing_programs() -> list[str]:
    """Programs that RealKafka needs and that are missing here: of 'java' and 'mvn', or [] when it can start."""
    pom = resources.files("sandbox").joinpath("kafka", "pom.xml").read_bytes()
    fetched = (cache_folder() / f"kafka-{hashlib.sha256(pom).hexdigest()[:16]}").is_dir()
    needed = ["java"] if fetched else ["java", "mvn"]
    return [name for name in needed if shutil.which(name) is None]


def _random_cluster_id() -> str:
    """22 characters of URL-safe base64; a leading dash would be read as an option."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return text if not text.startswith("-") else "A" + text[1:]


def _answers(bootstrap: str) -> bool:
    """True when a client gets the cluster's metadata from it."""
    try:
        client = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=2000, request_timeout_ms=2000)
    except KafkaError:
        return False
    try:
        return bool(client.describe_cluster().get("brokers"))
    except KafkaError:
        return False
    finally:
        client.close()
