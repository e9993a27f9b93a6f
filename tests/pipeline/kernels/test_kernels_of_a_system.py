"""`init` compiles all that a system of these views needs: a worker, a night and an audit after it compile nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.system import System, wait_for

TOLD = "compiling "


def kept(folder: Path) -> set[str]:
    """The names of what is compiled."""
    return {path.name for path in folder.glob("kernels-*/*")}


def weather(number: int) -> tuple[int, bytes, bytes]:
    event = {
        "id": f"reading-{number}",
        "station": "JFK",
        "observed_at": f"2013-01-{1 + number % 28:02}T0{number % 10}:00:00Z",
        "temperature_f": number % 70,
    }
    return number % 2, b"JFK", json.dumps(event).encode()


@pytest.mark.slow
def test_after_init_a_worker_a_night_and_an_audit_compile_nothing(embedded_system: System, tmp_path: Path) -> None:
    system, place = embedded_system, tmp_path / "compiled"
    system.environment["WATERSHED_KERNEL_CACHE"] = str(place)
    done = system.run("init", "--partitions", "2", timeout=400)
    assert done.stderr.count(TOLD) == 1 and str(place) in done.stderr, done.stderr
    compiled = kept(place)
    assert len(compiled) > 20

    system.produce([weather(n % 290) for n in range(300)])
    worker = system.worker()
    wait_for(
        lambda: sum(row["position"] for row in system.query("SELECT position FROM ops.positions")) == 300,
        "all is committed",
    )
    assert system.night("2013-02-01").returncode == 0
    system.produce([weather(n) for n in range(300, 340)])
    wait_for(
        lambda: sum(row["position"] for row in system.query("SELECT position FROM ops.positions")) == 340,
        "all is committed",
    )
    system.assert_exact()
    assert system.night("2013-02-02").returncode == 0
    worker.terminate()
    worker.wait(timeout=30)
    assert kept(place) == compiled
    assert TOLD not in (system.folder / "worker.log").read_text()
    assert TOLD not in system.run("init").stderr


@pytest.mark.slow
def test_a_worker_on_a_cold_cache_says_that_it_compiles_and_where(embedded_system: System, tmp_path: Path) -> None:
    system = embedded_system
    system.run("init")
    done = system.run("speed", "--until-caught-up", timeout=400, WATERSHED_KERNEL_CACHE=str(tmp_path / "cold"))
    assert done.stderr.count("kernels, once, into ") == 1 and str(tmp_path / "cold") in done.stderr


def test_a_folder_that_others_may_write_ends_a_command_with_one_line_and_the_next_command(
    embedded_system: System, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    done = embedded_system.run("init", check=False, WATERSHED_KERNEL_CACHE=str(tmp_path / "open"))
    assert done.returncode == 1
    said, next_command = done.stderr.splitlines()
    assert said.startswith("watershed: compiled code is not taken from")
    assert next_command == f"  next: chmod go-w {tmp_path / 'open'}"
