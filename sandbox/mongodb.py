"""A server of MongoDB's protocol for the tests: mongo-java-server, in memory, on a free port of 127.0.0.1.

Invariant: url answers ⇔ runs; it forgets everything when it ends. It is no MongoDB, and speaks the wire version 7 of one (4.0); finds,
sorts and filters are what is asked of it here. Needs a JDK, and mvn the first time.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sandbox.kafka import maven_jars
from sandbox.processes import LOOPBACK, Child, Server, ServerError, need_program, start_on_free_ports

START_LIMIT_S = 60.0


class JavaMongo(Server):
    """The server; `folder` holds its log. It knows no users."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder)
        self._child: Child | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """mongodb://127.0.0.1:<port>"""
        return f"mongodb://{LOOPBACK}:{self._port}"

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.runs

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self._child is not None:
            self._child.kill()

    def _start(self) -> None:
        need_program("javac", "MongoDB's stand-in", "install a JDK (apt-get install default-jdk-headless)")
        java = need_program("java", "MongoDB's stand-in", "install a JDK (apt-get install default-jdk-headless)")
        here = resources.files("sandbox").joinpath("mongo")
        jars = maven_jars("mongo", here.joinpath("pom.xml").read_bytes())
        (self.folder / "Serve.java").write_bytes(here.joinpath("Serve.java").read_bytes())

        def launch(ports: list[int]) -> Child:
            command = [java, "-Xmx256m", "-cp", f"{jars}/*", "Serve.java", str(ports[0])]
            child = Child("MongoDB's stand-in", command, self.folder / "mongo.log", folder=self.folder)
            try:
                child.await_ready(lambda: "serves" in child.log_text(), START_LIMIT_S)
            except ServerError:
                child.kill()
                raise
            self._port = ports[0]
            return child

        self._child = start_on_free_ports(1, launch)

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
