"""Nights overlap, die and come late; the ledger of cuts keeps their ranges tiling the log."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pyarrow.parquet as pq
import pytest

from sandbox.processes import free_ports
from sandbox.weather import encode, readings
from tests.end_to_end.test_end_to_end import kill_night_at_task
from tests.support.system import System


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
        [sys.executable, "-c", program],
        env=system.environment,
        cwd=system.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['2013-01-02']"


def test_a_target_whose_manifest_names_other_inputs_is_made_again(system: System) -> None:
    system.run("init", "--partitions", "1")
    events = [encode(r) for r in readings()[:20]]
    system.produce((0, e.key, e.value) for e in events)
    kill_night_at_task(system, "2013-01-02", 8)  # archived, cleaned, one view folded
    (manifest,) = (system.lake / "views/hourly_weather").glob("fingerprint=*/cut=1/_manifest.json")
    forged = json.loads(manifest.read_text())
    forged["inputs"]["view_fingerprint"] = "0" * 16
    manifest.write_text(json.dumps(forged))
    assert "FoldView hourly_weather" in system.run("plan").stdout
    system.night("2013-01-02")
    assert json.loads(manifest.read_text())["inputs"]["view_fingerprint"] != "0" * 16
    system.assert_exact()


def test_a_view_whose_carried_files_were_purged_under_it_is_no_base_and_is_folded_anew(system: System) -> None:
    system.run("init", "--partitions", "1")
    send_days(system, 0)
    system.night("2013-01-02")
    send_days(system, 1)
    system.night("2013-01-03")
    (manifest,) = (system.lake / "views/daily_weather").glob("fingerprint=*/cut=2/_manifest.json")
    slept = json.loads(manifest.read_text())  # as a night would leave it that read its base before that was purged
    carried = [file for file in slept["files"] if "/cut=1/" in file["path"]]
    assert carried, "the second night wrote every date again"
    for file in carried:
        file["path"] = file["path"].replace("/cut=1/", "/cut=0/")
    slept["facts"]["base"] = 0  # which is purged by now
    manifest.write_text(json.dumps(slept))
    send_days(system, 2)
    system.night("2013-01-04")
    (made,) = (system.lake / "views/daily_weather").glob("fingerprint=*/cut=3/_manifest.json")
    found = json.loads(made.read_text())
    assert found["facts"]["base"] == 0 and all((system.lake / file["path"]).exists() for file in found["files"])
    system.assert_exact()
    system.run("audit")


def send_days(system: System, turn: int) -> None:
    """A third of the events of a few days, so that the night of the last ones leaves the dates before untouched."""
    events = [encode(r) for r in readings()[300 * turn : 300 * (turn + 1)]]
    system.produce((0, e.key, e.value) for e in events)


def test_what_is_cleaned_while_it_is_archived_equals_what_is_cleaned_afterwards(system: System) -> None:
    """The clean manifest is removed, and the range is cleaned again from the master dataset: the same counts, rows and identities."""
    system.run("init", "--partitions", "2")
    send(system, 0, 400)
    archive_one(system)
    assert len(list((system.lake / "clean").rglob("*.json"))) == 1, "archiving a range did not clean it"
    system.night("2013-01-02")
    manifests = sorted((system.lake / "clean").rglob("*.json"))
    before = {path: json.loads(path.read_text()) for path in manifests}
    rows = {
        file: pq.read_table(system.lake / file) for m in before.values() for file in [f["path"] for f in m["files"]]
    }
    remembered = {path: pq.read_table(path) for path in sorted((system.lake / "identities").rglob("cut=1/*.parquet"))}
    assert rows and remembered
    for path in (*manifests, *(system.lake / "identities").rglob("cut=1/*.json")):
        path.unlink()
    send(system, 400, 450)
    system.night("2013-01-03")
    assert {path: json.loads(path.read_text()) for path in manifests} == before
    assert all(pq.read_table(system.lake / file).equals(table) for file, table in rows.items())
    assert all(pq.read_table(path).equals(table) for path, table in remembered.items())
    system.assert_exact()


def test_what_the_cleaning_lacks_keeps_nothing_from_the_archive(system: System) -> None:
    """Retention goes on while somebody mends the identities: the next night's range is archived all the same."""
    system.run("init", "--partitions", "1")
    send_days(system, 0)
    system.night("2013-01-02")
    (manifest,) = (system.lake / "identities").rglob("cut=1/*.json")
    whole = manifest.read_text()
    manifest.write_text("no manifest")
    send_days(system, 1)
    failed = system.night("2013-01-03", check=False)
    assert failed.returncode != 0 and "is no manifest of Watershed" in failed.stderr
    assert [path.name for path in sorted((system.lake / "master").rglob("*.json"))] == ["_0-300.json", "_300-600.json"]
    manifest.write_text(whole)
    system.night("2013-01-03")
    system.assert_exact()


def archive_one(system: System) -> None:
    """The first tasks of the night 2013-01-02 alone: its cut, and one partition's archive."""
    cut = ["--date", "2013-01-02"]
    one = ["--topic", system.topic, "--generation", "1", "--number", "1", "--partition", "0"]
    for task in (["ChooseCut", *cut], ["Archive", *one]):
        command = [sys.executable, "-m", "luigi", "--module", "tasks", *task, "--local-scheduler"]
        command += ["--lock-pid-dir", str(system.folder / "luigi")]
        subprocess.run(command, env=system.environment, cwd=system.folder, capture_output=True, check=True)


@pytest.mark.timeout(300)
def test_a_night_that_starts_before_postgres_does_waits_and_is_published(own_system: System, own_servers: Any) -> None:
    system, postgres = own_system, own_servers[1]
    system.run("init", "--partitions", "1")
    system.produce((0, e.key, e.value) for e in map(encode, readings()[:50]))
    postgres.kill()
    night = system.start_night("2013-01-01")
    assert night.stderr is not None
    said: list[str] = []
    for line in night.stderr:
        said.append(line)
        if "trying again for" in line:
            break
    assert "trying again for" in said[-1], "".join(said)
    postgres.start()
    rest = night.stderr.read()
    assert night.wait(timeout=120) == 0, rest
    system.database.dispose()
    assert sum(system.positions().values()) == 50


@pytest.mark.timeout(120)
def test_a_night_gives_up_when_it_said(system: System) -> None:
    nowhere = f"postgresql://nobody:hidden@127.0.0.1:{free_ports(1)[0]}/nothing"
    done = system.night("2013-01-01", check=False, WATERSHED_POSTGRES=nowhere, WATERSHED_START_PATIENCE_S="2")
    assert done.returncode != 0 and "trying again for 2 s more" in done.stderr, done.stderr
    assert "hidden" not in done.stderr and "Traceback" not in done.stderr
