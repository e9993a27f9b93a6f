"""Workers' own identity snapshots: a takeover replays from them, and whatever becomes of them changes no answer."""

from __future__ import annotations

import itertools
import runpy
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.accept.dedupe import IdentitySnapshot
from pipeline.base.crash import crash_points
from pipeline.base.errors import Refused, SettingsError
from pipeline.handover import Claim
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import Block, Unreachable
from sandbox.weather import encode, readings
from serving.generations.create import require
from serving.postgres.connection import StoreUnavailable
from serving.stores.speed import PostgresSpeedStore
from simulation.world import Sizes, World
from speed_layer.collaborators import ActiveSource, Collaborators
from speed_layer.consumer import LiveConsumer
from speed_layer.executors import InCaller
from speed_layer.identity_snapshots import Snapshots, SnapshotWriter
from speed_layer.partition import PartitionWork
from speed_layer.worker import Worker
from tests.support.clocks import HandClock
from tests.support.simulated import by_shop
from tests.support.system import System, wait_for

SEND = 400


class CountingLog:
    """Kafka's log, and the ranges that a worker read again from it, as (partition, start, end)."""

    def __init__(self, log: KafkaLog) -> None:
        self.log = log
        self.ranges: list[tuple[int, int, int]] = []

    def read(self, topic: str, partition: int, start: int, end: int, **limits: Any) -> Iterator[Block]:
        self.ranges.append((partition, start, end))
        return self.log.read(topic, partition, start, end, **limits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


def send(system: System, start: int, count: int = SEND) -> None:
    """Readings, each sent twice: the second one is a duplicate of one that may be far below the position."""
    events = [encode(r) for r in readings()[start : start + count]]
    system.produce((0, e.key, e.value) for e in events)
    system.produce((0, e.key, e.value) for e in readings_again(start))


def readings_again(start: int) -> Iterator[Any]:
    """Every fifth of all readings up to here, once more."""
    return (encode(r) for r in readings()[: start + SEND : 5])


def recorded(system: System) -> list[dict[str, Any]]:
    return system.query("SELECT * FROM ops.snapshots WHERE topic = :t ORDER BY position", t=system.topic)


def files(system: System) -> set[str]:
    """The snapshots' files in the lake, without their endings; half-written ones start with a dot."""
    found = (system.lake / "identities").glob("*/*/partition=*/[!.]*")
    return {str(f.relative_to(system.lake).with_name(f.stem.removeprefix("_"))) for f in found}


def newest_written(system: System) -> int:
    """The position of the newest snapshot that is there; one above it may be recorded and not written."""
    return int(
        max(row["position"] for row in recorded(system) if (system.lake / layout.manifest(row["path"])).exists())
    )


def work(system: System, every_s: float = 3600.0) -> CountingLog:
    """A worker in this process until it is caught up; what it read again to load the identities."""
    views = runpy.run_path(str(system.views_file))["VIEWS"]
    source = views[0].source
    store = PostgresSpeedStore(system.database, views)
    log, lake, reader = CountingLog(KafkaLog(system.kafka)), Lake(str(system.lake)), LiveConsumer(system.kafka)
    generation = require(system.database, source, views)
    collaborators = Collaborators(
        store=store,
        log=log,  # type: ignore[arg-type]
        reader=reader,
        lake=lake,
        snapshot_store=store,
        transient=(StoreUnavailable, Unreachable),
        snapshot_every_s=every_s,
    )
    worker = Worker([ActiveSource(source, views, generation)], collaborators, threading.Event())
    ends = log.end_offsets(source.topic)
    worker.run(lambda: [row.position for row in store.leases(generation)] == ends)
    log.close()
    return log


def die_after_snapshots(system: System, count: int) -> int:
    """A worker that writes snapshots often, killed when `count` of them have been written and more was committed; the position."""
    system.environment["WATERSHED_SNAPSHOT_EVERY_S"] = "0.05"
    victim = system.worker()
    del system.environment["WATERSHED_SNAPSHOT_EVERY_S"]
    seen: set[str] = set()
    before = system.positions()[0]
    for start in itertools.count(0, SEND):
        send(system, start)
        wait_for(lambda least=before + start + 1: system.positions()[0] >= least, "the worker commits")
        seen |= files(system)
        if len(seen) >= count:
            break
    victim.send_signal(signal.SIGSTOP)  # what comes now is in no snapshot
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    return int(system.positions()[0])


def test_a_takeover_replays_from_the_dead_workers_snapshot_and_stays_exact(system: System) -> None:
    system.run("init", "--partitions", "1")
    send(system, 0)
    system.night("2013-01-02")
    cut = system.positions()[0]
    position = die_after_snapshots(system, 3)
    newest = newest_written(system)
    assert cut < newest <= position
    send(system, 40 * SEND)
    log = work(system)
    replayed = [(start, end) for _, start, end in log.ranges]
    assert replayed == ([(newest, position)] if newest < position else []), f"and not from the cut {cut}"
    system.assert_exact()


def test_one_snapshot_of_a_partition_is_kept_and_every_file_has_a_row(system: System) -> None:
    system.run("init", "--partitions", "1")
    die_after_snapshots(system, 4)
    send(system, 50 * SEND)
    work(system, every_s=0.0)
    assert [row["path"] for row in recorded(system)] == list(files(system))
    assert len(files(system)) == 1
    system.assert_exact()


HARMS: dict[str, Callable[[Path, Path], Any]] = {
    "the manifest is gone": lambda data, manifest: manifest.unlink(),
    "the file is gone": lambda data, manifest: data.unlink(),
    "it was never written": lambda data, manifest: (data.unlink(), manifest.unlink()),
    "the file is broken": lambda data, manifest: data.write_bytes(b"PAR1 and no more"),
    "it is of another log": lambda data, manifest: manifest.write_text(
        manifest.read_text().replace('"topic_id": "', '"topic_id": "x')
    ),
}


def test_a_snapshot_that_is_gone_or_wrong_is_passed_over_for_the_batchs(system: System) -> None:
    system.run("init", "--partitions", "1")
    send(system, 0)
    system.night("2013-01-02")
    cut = system.positions()[0]
    position = die_after_snapshots(system, 1)
    newest = newest_written(system)
    paths = [path for path in files(system) if f"/{newest}-" in path]
    for other in files(system) - set(paths):
        for file in both_files(system, other):  # the worker may have died between the removal of one and of the other
            file.unlink(missing_ok=True)
    kept = {file: file.read_bytes() for path in paths for file in both_files(system, path)}

    work = taken(system)
    wanted, ranges = loaded(work)
    assert ranges == ([(0, newest, position)] if newest < position else [])
    for harm, do in HARMS.items():
        for path in paths:
            do(*both_files(system, path))
        found, ranges = loaded(work)
        assert ranges == [(0, cut, position)], f"when {harm}, the log is read from the batch's cut"
        assert found.watermark_ms == wanted.watermark_ms and len(found.hashes) == len(wanted.hashes) > 0
        assert (found.hashes == wanted.hashes).all() and (found.seen_ms == wanted.seen_ms).all(), harm
        for file, content in kept.items():
            file.write_bytes(content)
    send(system, 40 * SEND)
    system.catch_up()
    system.assert_exact()


def both_files(system: System, path: str) -> tuple[Path, Path]:
    """A snapshot's data and its manifest."""
    return system.lake / f"{path}.parquet", system.lake / layout.manifest(path)


def taken(system: System) -> PartitionWork:
    """A worker's work on partition 0, not loaded yet, once the lease of the dead one has run out."""
    views = runpy.run_path(str(system.views_file))["VIEWS"]
    store = PostgresSpeedStore(system.database, views)
    generation = require(system.database, views[0].source, views)
    wait_for(lambda: not store.leases(generation)[0].held, "the dead worker's lease runs out")
    claim = store.take(generation, 0, "w", 1.0)
    assert claim is not None
    collaborators = Collaborators(
        store=store,
        log=CountingLog(KafkaLog(system.kafka)),  # type: ignore[arg-type]
        reader=LiveConsumer(system.kafka),
        lake=Lake(str(system.lake)),
        snapshot_store=store,
    )
    return PartitionWork(ActiveSource(views[0].source, views, generation), collaborators, claim)


def loaded(work: PartitionWork) -> tuple[IdentitySnapshot, list[tuple[int, int, int]]]:
    """The identities as loaded at the claim's position, and the ranges of the log that were read for it."""
    log: Any = work.collaborators.log
    log.ranges.clear()
    work.forget()
    assert work.load()
    found = work.remembered()
    assert found is not None and found.position == work.claim.position
    return found.in_order(), list(log.ranges)


def test_a_snapshot_above_the_position_is_never_used(system: System) -> None:
    system.run("init", "--partitions", "1")
    position = die_after_snapshots(system, 1)
    above = recorded(system)[-1]["position"]
    taken_over = taken(system)
    store, claim = taken_over.collaborators.snapshot_store, taken_over.claim
    assert store is not None and claim.position == position
    dead = {row["path"] for row in recorded(system)}
    assert store.snapshots(claim)[0].position == above
    assert all(s.position < above for s in store.snapshots(replace(claim, position=above - 1)))
    old = replace(claim, epoch=claim.epoch - 1)
    assert not store.record_snapshot(old, "identities/of-a-zombie"), "a fenced worker records nothing"
    assert store.record_snapshot(claim, "identities/new")
    assert set(store.superseded(old, "x")) == dead, "a zombie deletes nothing of its successor's"


def test_a_missing_batch_snapshot_is_refused_with_what_to_do(system: System) -> None:
    system.run("init", "--partitions", "1")
    send(system, 0)
    system.night("2013-01-02")
    send(system, SEND)
    for manifest in (system.lake / "identities").glob("*/*/cut=1/*.json"):
        manifest.unlink()
    with pytest.raises(
        Refused, match=r"identities at cut 1 .* are missing from the lake .* `lake`, or run `watershed init --rebuild`"
    ):
        work(system)


def test_a_crash_point_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("nowhere", "lake.durable:x", "lake.durable:1:sleep"):
        monkeypatch.setenv("WATERSHED_CRASH", wrong)
        with pytest.raises(SettingsError, match="crash points there are lake"):
            crash_points()


def test_a_snapshot_falls_due_though_no_commit_ever_left_the_memory_at_its_position() -> None:
    clock, world = HandClock(), World([by_shop], 1, Sizes())
    topic, generation = by_shop.source.topic, world.tables.generation
    writer = SnapshotWriter({topic: Snapshots(world.speed, world.lake, generation)}, InCaller(), clock, every_s=60)
    claim = Claim(topic, 1, 0, uuid.uuid4(), 1, 0, 0, None)
    assert not writer.due(claim), "a partition that was just taken has one"
    clock.now_s += 59.9
    assert not writer.due(claim)
    clock.now_s += 0.2
    assert writer.due(claim)
    assert not SnapshotWriter({}, InCaller(), clock, every_s=0).due(claim), "there is nowhere to write one"
