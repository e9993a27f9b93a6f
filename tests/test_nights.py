"""Nights overlap, die and come late; the ledger of cuts keeps their ranges tiling the log."""

from __future__ import annotations

import json
import subprocess
import sys

from sandbox.weather import encode, readings
from tests.system import System
from tests.test_end_to_end import kill_night_at_task


def send(system: System, start: int, end: int) -> None:
    events = [encode(r) for r in readings()[start:end]]
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(events))


def cuts(system: System) -> dict[int, tuple[str, str]]:
    found = json.loads(system.run("status", "--json").stdout)["cuts"][system.topic]
    return {c["number"]: (str(c["date"]), c["status"]) for c in found}


def test_a_night_that_a_later_one_overtook_is_covered_and_changes_nothing(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 200)
    kill_night_at_task(system, "2013-01-02", 3)  # its cut is chosen, nothing else is done
    send(system, 200, 300)
    system.night("2013-01-03")
    assert cuts(system) == {0: ("None", "published"), 1: ("2013-01-02", "chosen"), 2: ("2013-01-03", "published")}
    before = system.query("SELECT * FROM serving.daily_weather ORDER BY 1, 2")
    done = system.night("2013-01-02")
    assert "Publish" in done.stderr and "FoldView" not in done.stderr, "a covered night folds nothing"
    assert cuts(system)[1] == ("2013-01-02", "covered")
    assert system.query("SELECT * FROM serving.daily_weather ORDER BY 1, 2") == before
    send(system, 300, 350)
    system.night("2013-01-04")
    system.assert_exact()


def test_an_empty_night_is_covered_by_the_one_before(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 50)
    system.night("2013-01-02")
    system.night("2013-01-03")
    assert cuts(system)[2] == ("2013-01-03", "covered")
    system.assert_exact()


def test_range_tools_ask_which_dates_are_done_in_one_call(system: System) -> None:
    system.run("init", "--partitions", "1")
    system.produce([(0, b"k", encode(readings()[0]).value)])
    system.night("2013-01-02")
    program = (
        "from datetime import date\n"
        "from tasks import Nightly\n"
        "print(sorted(map(str, Nightly.bulk_complete([date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3)]))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=system.environment, cwd=system.folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['2013-01-02']"


def test_a_target_whose_manifest_names_other_inputs_is_made_again(system: System) -> None:
    system.run("init", "--partitions", "1")
    events = [encode(r) for r in readings()[:20]]
    system.produce((0, e.key, e.value) for e in events)
    kill_night_at_task(system, "2013-01-02", 8)  # archived, cleaned, one view folded
    (manifest,) = (system.lake / "views/hourly_weather").glob("fingerprint=*/cut=1/manifest.json")
    forged = json.loads(manifest.read_text())
    forged["inputs"]["view_fingerprint"] = "0" * 16
    manifest.write_text(json.dumps(forged))
    assert "FoldView hourly_weather" in system.run("plan").stdout
    system.night("2013-01-02")
    assert json.loads(manifest.read_text())["inputs"]["view_fingerprint"] != "0" * 16
    system.assert_exact()
