"""Whatever is started while Postgres or Kafka starts waits for it, as long as it says, and then does its work."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import free_ports
from sandbox.weather import encode, readings
from tests.support.forking import popen
from tests.support.system import System, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def watershed(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "watershed", *arguments]


def run_while_away(system: System, server: Any, commands: dict[str, list[str]]) -> dict[str, str]:
    """What each command says, by its name: begun while the server is killed, which starts when all have said that they wait."""
    server.kill()
    with ExitStack() as stack:
        files = {name: stack.enter_context((system.folder / f"{name}.err").open("w")) for name in commands}
        children: dict[str, subprocess.Popen[str]] = {}
        for name, command in commands.items():
            children[name] = stack.enter_context(
                popen(command, system.environment, cwd=system.folder, stdout=files[name], stderr=files[name], text=True)
            )
        try:
            for name in commands:
                log = Path(files[name].name)
                wait_for(lambda log=log: "trying again for" in log.read_text(), f"{name} says that it waits", 90)
                assert children[name].poll() is None, log.read_text()
            server.start()
            for name, child in children.items():
                assert child.wait(timeout=120) == 0, f"{name}: {Path(files[name].name).read_text()}"
        finally:
            for child in children.values():
                child.kill()
    system.database.dispose()
    return {name: (system.folder / f"{name}.err").read_text() for name in commands}


def send(system: System, start: int, end: int) -> None:
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(map(encode, readings()[start:end])))


def test_commands_that_start_before_postgres_does_wait_and_do_their_work(own_system: System, own_servers: Any) -> None:
    system, postgres = own_system, own_servers[1]
    system.run("init", "--partitions", "2")
    for night in (1, 2):
        send(system, 40 * night - 40, 40 * night)
        system.night(f"2013-01-0{night}")
    send(system, 80, 100)
    system.catch_up()
    names = ("init", "plan", "purge", "audit", "rebuild")
    said = run_while_away(system, postgres, {name: watershed(name) for name in names})
    assert all("Postgres at" in text and "Traceback" not in text for text in said.values()), said
    assert "0 differences" in said["audit"] and "refolded" in said["rebuild"] and "generation 1" in said["init"]
    said = run_while_away(system, postgres, {"rollback": watershed("rollback")})
    assert "batch 1 is visible again" in said["rollback"]
    system.assert_exact()


def test_a_worker_a_night_and_commands_that_start_before_kafka_does_wait_and_do_their_work(
    own_system: System, own_servers: Any
) -> None:
    system, kafka = own_system, own_servers[0]
    system.run("init", "--partitions", "2")
    send(system, 0, 20)
    system.catch_up()
    send(system, 20, 40)
    commands = {name: watershed(name) for name in ("init", "audit")}
    commands |= {"worker": watershed("speed", "--until-caught-up"), "night": system.luigi("2013-01-02")}
    said = run_while_away(system, kafka, commands)
    assert all("Kafka at" in text and "Traceback" not in text for text in said.values()), said
    assert sum(system.positions().values()) == 40
    system.assert_exact()


def test_patience_with_kafka_has_an_end_and_a_worker_takes_no_lease_meanwhile(system: System) -> None:
    system.run("init", "--partitions", "1")
    nowhere = {"WATERSHED_KAFKA": f"127.0.0.1:{free_ports(1)[0]}", "WATERSHED_START_PATIENCE_S": "11"}
    for done in (system.run("speed", check=False, **nowhere), system.night("2013-01-02", check=False, **nowhere)):
        assert done.returncode != 0 and "trying again for" in done.stderr and "WATERSHED_KAFKA" in done.stderr
        assert "Traceback" not in done.stderr
    assert system.query("SELECT owner FROM ops.positions") == [{"owner": None}]
