"""An operator's commands, killed -9 at each of their crash points and run again: exact in between, and done at the end."""

from __future__ import annotations

import json
import signal

import pytest

from tests.console.test_operator_commands import files, named, send
from tests.console.test_replay import OF_REPLAYS
from tests.end_to_end.test_refusals import delete_records
from tests.end_to_end.test_tables import OF_LOADS
from tests.support.system import System

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PURGE = ["purge.marked", "purge.written", "lake.deleted"]
REFOLD = ["rebuild.written"]
ROLLBACK = ["rollback.written"]
GENERATION = ["rebuild.begun", "rebuild.folded", "activate.written"]
# The last two in tests/console/test_replay.py and test_tables.py
OF_OPERATORS = (*PURGE, *REFOLD, *ROLLBACK, *GENERATION, *OF_REPLAYS, *OF_LOADS)


def die(system: System, at: str, *command: str) -> None:
    """The command dies there, and what is served is exact as it is (the reference is asked at the end of each test)."""
    done = system.run(*command, check=False, WATERSHED_CRASH=at)
    assert done.returncode == -signal.SIGKILL, f"{command} did not die at {at}: {done.stdout}{done.stderr}"
    assert [(v["differences"], v["counts"]) for v in system.audit()["views"]] == [(0, []), (0, [])]


def three_nights(system: System) -> None:
    system.run("init", "--partitions", "2")
    for night in range(3):
        send(system, 40 * night, 40 * night + 40)
        system.night(f"2013-01-0{night + 2}")
    send(system, 100, 150)
    system.catch_up()


def test_a_purge_killed_anywhere_is_finished_by_the_next_one(system: System) -> None:
    three_nights(system)
    for at in (*PURGE, "lake.deleted:2", "lake.deleted:3"):
        die(system, at, "purge", "--keep", "1")
    system.run("purge", "--keep", "1")
    assert files(system, "views") == named(system), "every file is named, and every named file is there"
    assert "purged no batch and 0 lake files" in system.run("purge", "--keep", "1").stdout
    send(system, 150, 170)
    system.night("2013-01-06", "--full")
    system.catch_up()
    system.assert_exact()


def test_a_rebuild_and_a_rollback_killed_before_their_commit_changed_nothing(system: System) -> None:
    three_nights(system)
    before = system.positions()
    die(system, REFOLD[0], "rebuild")
    assert system.positions() == before
    system.run("rebuild")
    die(system, ROLLBACK[0], "rollback")
    visible = json.loads(system.run("status", "--json").stdout)["cuts"][system.topic]
    assert [c["status"] for c in visible][-1] == "published"
    system.run("rollback")
    system.catch_up()
    system.assert_exact()


def test_accepting_a_loss_killed_anywhere_goes_on_from_there(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 100)
    system.night("2013-01-02")
    send(system, 100, 200)
    system.catch_up()
    send(system, 200, 260)
    delete_records(system, p0=70, p1=50)  # [50, 70) of partition 0 was never archived
    for at in GENERATION:
        done = system.run("init", "--rebuild", "--accept-loss", check=False, WATERSHED_CRASH=at)
        assert done.returncode == -signal.SIGKILL, f"it did not die at {at}: {done.stdout}{done.stderr}"
    assert "generation 2 answers now" in system.run("init", "--rebuild", "--accept-loss").stdout
    system.catch_up()
    assert {v["records"] for v in system.assert_exact()["views"]} == {240}
