"""Rollback, purge, rebuild and the audit at any vector as commands, on real Kafka and Postgres; every test ends exact."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sandbox.processes import free_ports
from sandbox.weather import encode, readings
from tests.support.system import System, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def send(system: System, start: int, end: int) -> None:
    events = [encode(r) for r in readings()[start:end]]
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(events))


def statuses(system: System) -> list[str]:
    return [c["status"] for c in json.loads(system.run("status", "--json").stdout)["cuts"][system.topic]]


def files(system: System, *folders: str) -> set[Path]:
    return {f.relative_to(system.lake) for folder in folders for f in (system.lake / folder).rglob("*") if f.is_file()}


def named(system: System) -> set[Path]:
    """Every file of views/ that a manifest there names, and the manifests."""
    manifests = list((system.lake / "views").rglob("_manifest.json"))
    found = {m.relative_to(system.lake) for m in (*manifests, *(system.lake / "views").glob("*/_current.json"))}
    return found | {Path(f["path"]) for m in manifests for f in json.loads(m.read_text())["files"]}


def test_nights_purge_what_the_last_two_batches_do_not_need_and_full_folds_still_work(system: System) -> None:
    system.run("init", "--partitions", "2")
    for night in range(4):
        send(system, 40 * night, 40 * night + 40)
        if night == 2:
            system.catch_up()
        kept_before = files(system, "master", "clean", "rejected")
        done = system.night(f"2013-01-0{night + 2}")
        assert kept_before <= files(system, "master", "clean", "rejected"), "what was received is never purged"
    assert f"{system.topic}: purged batches 2 and" in done.stderr
    assert statuses(system) == ["purged", "purged", "purged", "published", "published"]
    assert files(system, "views") == named(system), "every file is named, and every named file is there"
    assert not [f for f in files(system, "identities") if "cut=1" in str(f) or "cut=2" in str(f)]
    assert "Did not run any tasks" in system.night("2013-01-02").stderr, "a purged night is done"
    system.assert_exact()
    send(system, 160, 200)
    system.night("2013-01-06", "--full")
    system.catch_up()
    system.assert_exact()


def test_rollback_while_a_worker_runs_is_exact_and_the_date_stays_refused(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 100)
    system.night("2013-01-02")
    send(system, 100, 200)
    system.night("2013-01-03")  # no worker was running: both positions were raised to the cut
    worker = system.worker()
    send(system, 200, 260)
    wait_for(lambda: sum(system.positions().values()) == 260, "the worker commits beyond the cut")
    said = system.run("rollback").stdout
    assert "batch 2 (night 2013-01-03) is withdrawn; batch 1 is visible again" in said
    assert "workers read them again" in said
    system.assert_exact()
    wait_for(
        lambda: sum(system.positions().values()) == 260, "the worker goes on from where its partitions went back to"
    )
    refused = system.night("2013-01-03", check=False)
    assert (
        refused.returncode != 0
        and "run the night of another date" in refused.stderr
        and "Traceback" not in refused.stderr
    )
    again = system.run("rollback", check=False)
    assert again.returncode == 1 and "only the last publish can be undone" in again.stderr
    system.assert_exact()
    send(system, 260, 300)
    system.night("2013-01-04")
    wait_for(lambda: sum(system.positions().values()) == 300, "the worker goes on after the next night")
    assert worker.poll() is None
    system.assert_exact()


def test_a_failing_purge_is_reported_and_fails_no_night(system: System) -> None:
    system.run("init", "--partitions", "1")
    for night in range(2):
        system.produce((0, e.key, e.value) for e in map(encode, readings()[night * 10 : night * 10 + 10]))
        system.night(f"2013-01-0{night + 2}")
    (manifest,) = (system.lake / "views/hourly_weather").glob("fingerprint=*/cut=1/_manifest.json")
    whole = manifest.read_text()
    manifest.write_text("{}")
    system.produce((0, e.key, e.value) for e in map(encode, readings()[20:30]))
    done = system.night("2013-01-04")
    assert "published, but not purged; `watershed purge` tries again" in done.stderr
    assert manifest.exists()
    manifest.write_text(whole)
    assert "purged no batch and" in system.run("purge").stdout
    assert not manifest.exists()
    system.assert_exact()


def test_purge_of_all_but_one_batch_gives_rollback_up_and_says_so(system: System) -> None:
    system.run("init", "--partitions", "1")
    for night in range(2):
        system.produce((0, e.key, e.value) for e in map(encode, readings()[night * 10 : night * 10 + 10]))
        system.night(f"2013-01-0{night + 2}")
    assert "purged batches 1" in system.run("purge", "--keep", "1").stdout
    refused = system.run("rollback", check=False)
    assert refused.returncode == 1 and "purge" in refused.stderr and "Traceback" not in refused.stderr
    system.assert_exact()


def test_the_batch_alone_and_any_vector_above_it_are_audited(system: System) -> None:
    system.run("init", "--partitions", "2")
    events = [encode(r) for r in readings()[:120]]
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(events[:80]))
    system.night("2013-01-02")  # cut 0:40,1:40
    # Duplicates across the cut
    system.produce((n % 2, e.key, e.value) for n, e in enumerate([*events[60:], *events[:20]]))
    system.catch_up()
    for arguments in (
        ("--batch",),
        ("--at", "0:40,1:40"),
        ("--at", '{"0": 57, "1": 41}'),
        ("--at", "[80, 80]", "--reference"),
    ):
        found = system.audit(*arguments)
        assert [(v["differences"], v["counts"]) for v in found["views"]] == [(0, []), (0, [])], arguments
    assert found["views"][0]["positions"] == {"0": 80, "1": 80} and found["views"][0]["records"] == 160
    assert "batch 1 merged with a refold" in found["views"][0]["compared"]
    for wrong, said in (
        ("0:39,1:40", "below the visible cut"),
        ("0:81,1:40", "beyond the log's end"),
        ("0:40", "give an offset for each"),
    ):
        refused = system.run("audit", "--at", wrong, check=False)
        assert refused.returncode == 1 and said in refused.stderr and "0:40..80,1:40..80" in refused.stderr, (
            refused.stderr
        )
    table = system.query("SELECT tablename FROM pg_tables WHERE schemaname = 'batch' AND tablename LIKE 'daily%'")[0][
        "tablename"
    ]
    with system.database.begin() as connection:
        connection.exec_driver_sql(f'UPDATE batch."{table}" SET readings__n = readings__n + 1')
    for arguments in (("--batch",), ("--at", "0:57,1:41"), ("--at", "0:57,1:41", "--reference")):
        views = {v["view"]: v["differences"] for v in system.audit(*arguments)["views"]}
        assert views["hourly_weather"] == 0 and views["daily_weather"] > 0, "a wrong batch is seen at every vector"


@pytest.mark.parametrize("arguments", [(), ("hourly_weather", "--from-start")])
def test_rebuild_mends_damaged_real_time_views_while_a_worker_runs(system: System, arguments: tuple[str, ...]) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 60)
    system.night("2013-01-02")
    send(system, 40, 120)  # twenty duplicates from below the cut
    worker = system.worker()
    wait_for(lambda: sum(system.positions().values()) == 140, "the worker commits")
    table = system.query("SELECT tablename FROM pg_tables WHERE schemaname = 'speed' AND tablename LIKE 'daily%'")[0][
        "tablename"
    ]
    with system.database.begin() as connection:
        connection.exec_driver_sql(f'UPDATE speed."{table}" SET readings__n = readings__n + 1')
        connection.exec_driver_sql("UPDATE ops.segments SET accepted = accepted + 1")
    assert system.run("audit", check=False).returncode == 1
    said = system.run("rebuild", *arguments).stdout
    assert "[30, 70) refolded, 40 records in 1 segments" in said
    send(system, 120, 160)
    wait_for(lambda: sum(system.positions().values()) == 180, "the worker takes its partitions again")
    assert worker.poll() is None
    system.assert_exact()
    system.night("2013-01-03")
    system.assert_exact()


def test_status_shows_the_positions_though_kafka_does_not_answer(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 10)
    system.catch_up()
    (port,) = free_ports(1)
    done = system.run("status", "--json", check=False, WATERSHED_KAFKA=f"127.0.0.1:{port}")
    assert done.returncode == 1 and "cannot be reached" in done.stderr and "Traceback" not in done.stderr
    rows = json.loads(done.stdout)["partitions"]
    assert [(r["position"], r["log_end"], r["lag"]) for r in rows] == [(5, None, None), (5, None, None)]
    table = system.run("status", check=False, WATERSHED_KAFKA=f"127.0.0.1:{port}")
    assert table.returncode == 1 and "?" in table.stdout


def test_plan_shows_what_earlier_nights_left_undone_though_kafka_does_not_answer(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 10)
    system.night("2013-01-02")
    (manifest,) = (system.lake / "views/daily_weather").rglob("_manifest.json")
    manifest.unlink()
    (port,) = free_ports(1)
    began_s = time.monotonic()
    done = system.run("plan", check=False, WATERSHED_KAFKA=f"127.0.0.1:{port}")
    took_s = time.monotonic() - began_s
    assert done.returncode == 1 and "cannot be reached" in done.stderr and "Traceback" not in done.stderr
    assert "trying again" not in done.stderr and took_s < 45, "a patience of 60 s is not for somebody who looks"
    words = " ".join(done.stdout.split())
    assert "(cut 2)" in words and words.count("? │ ?") == 2, done.stdout
    assert "FoldView daily_weather" in words
