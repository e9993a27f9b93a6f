"""Real crashes on real Kafka and Postgres: whatever dies, stops or is full, the answer stays exact and nothing is half there."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from pipeline.base.crash import POINTS
from sandbox.kafka import RealKafka
from sandbox.postgres import SystemPostgres
from sandbox.processes import wait_until
from sandbox.weather import encode, readings
from tests.end_to_end.test_end_to_end import kill_night_at_task
from tests.end_to_end.test_feeds import OF_FEEDS
from tests.end_to_end.test_operator_crashes import OF_OPERATORS
from tests.end_to_end.test_row_replays import OF_ROW_REPLAYS
from tests.support.crashing import (
    PARTITIONS,
    Kills,
    assert_nothing_is_half_there,
    days,
    feeding,
    finish,
    patiently,
    progress,
)
from tests.support.system import System, wait_for

SEED = 4
DOWN_S = 60.0
S3_ONLY = "lake.uploaded"
OF_WORKERS = [p for p in POINTS if p.startswith(("speed.", "snapshot.", "lake.")) and p not in (S3_ONLY, *OF_OPERATORS)]
OF_NIGHTS = [  # in the order in which a night reaches them
    "choose.written", "cut.before_file", "archive.start", "lake.before_fsync", "lake.before_rename", "lake.after_rename",
    "lake.durable", "fold.before_manifest", "night.before_stage", "stage.copied", "stage.written", "night.after_stage",
    "night.before_publish", "publish.locked", "publish.written", "night.after_publish",
]  # fmt: skip


def test_every_crash_point_is_in_a_plan() -> None:
    assert {*OF_WORKERS, *OF_NIGHTS, *OF_OPERATORS, *OF_FEEDS, *OF_ROW_REPLAYS, S3_ONLY} == set(POINTS)


def worker_plans(rng: random.Random) -> tuple[list[str], list[str]]:
    """Every crash point of a worker once, and random moments between; in two halves, for two workers at a time."""
    plan = [f"{p}:{rng.randint(2, 9)}" if p.startswith("speed.") else f"{p}:{rng.randint(1, 3)}" for p in OF_WORKERS]
    plan += [""] * 8
    rng.shuffle(plan)
    return plan[::2], plan[1::2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_at_every_crash_point_and_at_random_moments_change_no_answer(
    own_system: System, own_servers: tuple[RealKafka, SystemPostgres], say: Callable[[str], None]
) -> None:
    system, kafka, rng = own_system, own_servers[0], random.Random(SEED)
    print(f"seed {SEED}")
    kills = Kills(system, rng)
    system.run("init", "--partitions", str(PARTITIONS))
    first, second, third, fourth = islice(days("2013-01-02"), 4)
    with feeding(system, SEED), ThreadPoolExecutor(2) as pool:
        slots = [pool.submit(kills.workers, slot, plan) for slot, plan in zip("ab", worker_plans(rng), strict=True)]
        for at in OF_NIGHTS:
            kills.night(first, f"{at}:{rng.randint(1, 4)}" if at.startswith("lake.") else at)
        for day in (first, second):
            system.night(day)
        for slot in slots:
            slot.result()
        workers = [system.worker(f"worker-{n}") for n in range(2)]
        for at in sorted(rng.sample(range(2, 14), 3)):
            kill_night_at_task(system, third, at)
            kills.of["night at a random task"] += 1
            assert_nothing_is_half_there(system)
        for how in rng.sample(["terminated"] * 9 + ["killed -9"] * 3, 12):
            kills.backend(how)
        night_while_backends_die(kills, third)
        for _ in range(3):
            before = progress(system)
            kafka.kill()
            kills.of["broker killed -9"] += 1
            kafka.start()
            wait_for(lambda before=before: progress(system) > before, "positions advance after the broker came back")
        system.night(fourth)
    finish(system, workers)
    say(kills.told("real crashes"))
    assert kills.total >= 50
    assert set(kills.points) >= set(POINTS) - {S3_ONLY, *OF_OPERATORS, *OF_FEEDS, *OF_ROW_REPLAYS}


def night_while_backends_die(kills: Kills, day: str) -> None:
    """The night's own backends are killed too; it fails in one line, and goes on when it is run again."""
    system = kills.system
    killed = 0
    night = system.start_night(day)
    mine = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'watershed night' AND datname = current_database()"
    )
    while night.poll() is None and not killed:
        for row in patiently(lambda: system.query(mine)):
            patiently(lambda row=row: system.query("SELECT pg_terminate_backend(:pid)", pid=row["pid"]))
            killed += 1
    _, said = night.communicate(timeout=120)
    assert killed and "Traceback" not in said, said
    kills.of["backend of a night terminated"] += killed
    system.night(day)


@pytest.mark.slow
def test_a_kill_between_uploads_to_s3_changes_no_answer(system: System, say: Callable[[str], None]) -> None:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="lake")
    system.environment["WATERSHED_LAKE"] = (
        f"s3://test:test@lake/prefix?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    )
    kills = Kills(system, random.Random(SEED))
    system.run("init", "--partitions", str(PARTITIONS))
    with feeding(system, SEED):
        kills.workers("a", [f"{S3_ONLY}:3"])
        for at in (1, 4, 9):
            kills.night("2013-01-02", f"{S3_ONLY}:{at}")
        system.night("2013-01-02")
    finish(system, [])
    server.stop()
    say(kills.told("crashes between uploads to S3"))


def stopped(worker: subprocess.Popen[str]) -> bool:
    """Whether the process is stopped (SIGSTOP), as the kernel tells anybody: it may be another's child."""
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.slow
def test_a_worker_that_slept_past_its_lease_is_fenced_and_comes_back(
    system: System, say: Callable[[str], None]
) -> None:
    system.run("init", "--partitions", str(PARTITIONS))
    holders = "SELECT worker, count(*) FROM ops.positions WHERE topic = :t AND lease_until > now() GROUP BY 1"

    def held(worker: subprocess.Popen[str]) -> int:
        return sum(r["count"] for r in system.query(holders, t=system.topic) if f":{worker.pid}:" in r["worker"])

    other = system.worker("other")
    inside = ["speed.before_commit:5:stop", "speed.copied:4:stop", "speed.locked:4:stop", "speed.written:3:stop"]
    moments = [*inside, "snapshot.written:1:stop", ""]
    with feeding(system, SEED):
        for n, at in enumerate(moments):
            zombie = system.worker(
                f"zombie-{n}", WATERSHED_SNAPSHOT_EVERY_S="0.3", **({"WATERSHED_CRASH": at} if at else {})
            )
            if not at:
                wait_for(lambda zombie=zombie: held(zombie) == 2, "the worker takes its share")
                zombie.send_signal(signal.SIGSTOP)
            wait_for(lambda zombie=zombie: stopped(zombie), f"the worker stops at {at or 'a random moment'}")
            wait_for(lambda: held(other) == PARTITIONS, "the other takes all it had")
            before = system.positions()
            wait_for(
                lambda before=before: all(system.positions()[p] > at for p, at in before.items()),
                "every partition goes on",
            )
            zombie.send_signal(signal.SIGCONT)
            wait_for(lambda zombie=zombie: held(zombie) == 2, "the zombie finds out, and gets a share again")
            before = system.positions()
            wait_for(
                lambda before=before: all(system.positions()[p] > at for p, at in before.items()),
                "every partition goes on",
            )
            zombie.send_signal(signal.SIGTERM)
            assert zombie.wait(timeout=30) == 0
    finish(system, [other])
    say(f"workers stopped past their lease and woken: {len(moments)}, 0 differences")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_workers_outlive_a_broker_and_a_postgres_that_are_down_for_a_minute(
    system: System, own_servers: tuple[RealKafka, SystemPostgres], tmp_path: Path, say: Callable[[str], None]
) -> None:
    """Two systems at once, so that the minute passes once: of the one the broker is down, of the other Postgres."""
    kafka, postgres = own_servers
    with postgres.database("outage") as url:
        for name in ("broker", "postgres"):
            (tmp_path / name).mkdir()
        without_broker = System(tmp_path / "broker", kafka.bootstrap, system.postgres, system.topic)
        without_postgres = System(tmp_path / "postgres", system.kafka, url, system.topic)
        both = [without_broker, without_postgres]
        try:
            for one in both:
                one.run("init", "--partitions", "2")
            workers = [one.worker() for one in both]
            for one in both:
                one.produce((n % 2, e.key, e.value) for n, e in enumerate(encode(r) for r in readings()[:300]))
                wait_for(lambda one=one: progress(one) == 300, "the worker commits")
            began = time.monotonic()
            kafka.kill()
            postgres.kill()
            for one in both:
                failed = one.night("2013-01-02", check=False)
                assert failed.returncode != 0 and "Traceback" not in failed.stderr, failed.stderr
            wait_until(lambda: time.monotonic() - began >= DOWN_S, 2 * DOWN_S)
            kafka.start()
            postgres.start()
            for one, worker in zip(both, workers, strict=True):
                one.produce((n % 2, e.key, e.value) for n, e in enumerate(encode(r) for r in readings()[250:600]))
                wait_for(lambda one=one: progress(one) == 650, "the worker goes on by itself")
                assert worker.poll() is None
                one.night("2013-01-02")
                finish(one, [worker])
        finally:
            for one in both:
                one.stop_all()
    say(f"broker down for {DOWN_S:g} s, Postgres down for {DOWN_S:g} s: 0 differences, no worker restarted")


@pytest.fixture
def small_disk(system: System) -> Iterator[Path]:
    """The system's lake on a disk of 16 MB of its own."""
    system.lake.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(system.lake)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        reason = f"no disk of its own for the lake: mount -t tmpfs is not permitted here ({mounted.stderr.strip()})"
        print(f"skipped: {reason}")
        pytest.skip(reason)
    yield system.lake
    system.stop_all()
    subprocess.run(["umount", "-l", str(system.lake)], check=True)


def fill(folder: Path, leave_bytes: int) -> Path:
    """A file that takes all the space but `leave_bytes`."""
    ballast = folder / ".ballast"
    with ballast.open("wb") as file:
        file.write(bytes(shutil.disk_usage(folder).free - leave_bytes))
    return ballast


@pytest.mark.slow
def test_a_full_disk_is_one_line_leaves_nothing_half_there_and_the_night_goes_on_later(
    system: System, small_disk: Path
) -> None:
    system.run("init", "--partitions", str(PARTITIONS))
    system.produce((n % PARTITIONS, e.key, e.value) for n, e in enumerate(encode(r) for r in readings()[:2000]))
    for leave_bytes in (0, 40_000, 120_000):
        ballast = fill(small_disk, leave_bytes)
        failed = system.night("2013-01-02", check=False)
        assert failed.returncode == 30, failed.stderr
        said = [line for line in failed.stderr.splitlines() if os.strerror(errno.ENOSPC) in line]
        assert said and all("WATERSHED_LAKE" in line and "free space" in line for line in said), failed.stderr
        assert "Traceback" not in failed.stderr
        assert not list(small_disk.rglob(".*.tmp")), "what could not be written takes no space"
        ballast.unlink()
        assert_nothing_is_half_there(system)
    ballast = fill(small_disk, 0)
    worker = system.worker("full", WATERSHED_SNAPSHOT_EVERY_S="0.1")
    with feeding(system, SEED):
        wait_for(
            lambda: "no snapshot this time" in (system.folder / "full.log").read_text(), "a snapshot finds no space"
        )
        before = progress(system)
        wait_for(lambda: progress(system) > before, "the worker goes on without one")
    ballast.unlink()
    system.night("2013-01-02")
    finish(system, [worker])


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_one_line_and_leaves_nothing_half_there(system: System) -> None:
    """The same where no disk can be mounted: the kernel refuses to let a file grow."""
    system.run("init", "--partitions", "1")
    system.produce((0, e.key, e.value) for e in (encode(r) for r in readings()[:2000]))
    failed = subprocess.run(
        system.luigi("2013-01-02"),
        env=system.environment,
        cwd=system.folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert failed.returncode == 30, failed.stderr
    assert os.strerror(errno.EFBIG) in failed.stderr and "Traceback" not in failed.stderr
    assert_nothing_is_half_there(system)
    system.night("2013-01-02")
    finish(system, [])
