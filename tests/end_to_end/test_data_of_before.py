"""Data that an earlier version made is taken on by the rebuild that `plan` announces: the log and the archive stay what they are.

made by BEFORE, then run by this version: plan, init --rebuild, speed, a night, both audits        0 differences, no archive made again

What a duplicate is, how times are read and which names count has changed since (FORMAT 2), so what was remembered is made anew.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from sandbox.weather import encode, readings
from tests.conftest import skip_or_fail
from tests.support.system import ROOT, System

BEFORE = "e79b2aa4095c55c400773c1c757ea28f334651e1"


@pytest.fixture(scope="module")
def checkout_of_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the commit BEFORE; it stands in the history of every whole clone."""
    done = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        skip_or_fail(f"the history of this checkout does not reach back to {BEFORE[:7]}: git fetch --unshallow")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def send(system: System, start: int, end: int) -> None:
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(encode(r) for r in readings()[start:end]))


def stamps(lake: Path) -> dict[str, int]:
    """path -> when it was written, for every file of the lake."""
    return {file.relative_to(lake).as_posix(): file.stat().st_mtime_ns for file in lake.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_what_the_version_before_made_is_taken_on_by_the_rebuild_that_plan_announces(
    system: System, checkout_of_before: Path
) -> None:
    now = system.environment["PYTHONPATH"]
    system.environment["PYTHONPATH"] = f"{system.folder}{os.pathsep}{checkout_of_before}"
    system.run("init", "--partitions", "2")
    send(system, 0, 400)
    system.catch_up()
    system.night("2013-01-01")
    send(system, 400, 600)
    system.night("2013-01-02")
    send(system, 600, 700)
    system.catch_up()
    archived = {path: when for path, when in stamps(system.lake).items() if path.startswith("master/")}
    served = system.query("SELECT * FROM serving.daily_weather ORDER BY 1, 2")

    system.environment["PYTHONPATH"] = now
    announced = system.run("plan", check=False)
    assert "watershed source 2" in announced.stderr and "next: watershed init --rebuild" in announced.stderr
    refused = system.run("speed", "--until-caught-up", check=False)
    assert refused.returncode and "init --rebuild" in refused.stderr + refused.stdout
    assert system.query("SELECT * FROM serving.daily_weather ORDER BY 1, 2") == served, (
        "it is served as before meanwhile"
    )
    system.run("init", "--partitions", "2", "--rebuild")
    system.assert_exact()
    system.catch_up()  # a rebuild folds what was archived
    again = system.query("SELECT * FROM serving.daily_weather ORDER BY 1, 2")
    assert [pair for pair in zip(again, served, strict=True) if pair[0] != pair[1]] == []
    assert {path: stamps(system.lake)[path] for path in archived} == archived, "an archived range was made again"

    send(system, 700, 900)
    system.catch_up()
    system.night("2013-01-03")
    system.assert_exact()
    system.run("rollback")
    system.assert_exact()
    system.night("2013-01-04")
    system.run("purge", "--keep", "1")
    system.assert_exact()
    assert [row["position"] for row in system.query("SELECT position FROM serving.freshness ORDER BY partition")] == [
        450,
        450,
    ]
