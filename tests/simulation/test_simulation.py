"""The shipped code under a thousand seeded schedules of crashes, zombies, twin nights and lost replies, in memory."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from pipeline.definition.record import columns
from pipeline.fold.fold import fold
from sandbox.weather import encode, readings
from simulation.events import events, values_of
from simulation.memory_log import MemoryLog
from simulation.play import nights_of, play, quiet
from simulation.prove import Summary, command, prove, run, views_of
from simulation.sample import sample
from simulation.schedule import Actor
from simulation.shrink import shrink
from simulation.texts import matching
from simulation.world import Sizes, Stores, World
from speed_layer.partition import PartitionWork
from tests.simulation.test_planted_bugs import SegmentKept, without_identities_below
from tests.support.simulated import EXPLODED, VIEWS, Sale, by_shop
from tests.support.system import System

ROOT = Path(__file__).resolve().parents[2]
SIZES = Sizes(partitions=2, workers=2, nights=2, decisions=205)
SCHEDULES = int(os.environ.get("WATERSHED_TEST_SCHEDULES", "1000"))
OFTEN = (
    "takeover",
    "split",
    "publish",
    "rollback",
    "purge",
    "refold",
    "generation",
    "lost",
    "lost commit",
    "fenced",
    "delayed",
    "crash",
)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_schedules_show_no_difference(say: Callable[[str], None]) -> None:
    summary = run(VIEWS, seed=0, schedules=SCHEDULES, sizes=SIZES)
    failure = summary.failure
    assert failure is None, f"{command((), failure.seed, SIZES)}: {failure.broken}"
    assert summary.schedules == SCHEDULES
    say(told(summary))
    assert summary.total["steps"] >= 200 * SCHEDULES
    assert summary.within["readings"] == SCHEDULES
    rare = {name: summary.share(name) for name in OFTEN if summary.share(name) < 0.05}
    assert not rare, f"these occur in less than 5 % of the schedules, so they are not tried: {rare}"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rows_of_elements_wide_decimals_and_identities_of_two_columns_show_no_difference(
    say: Callable[[str], None],
) -> None:
    summary = run(EXPLODED, seed=0, schedules=max(1, SCHEDULES // 10), sizes=SIZES)
    failure = summary.failure
    assert failure is None, f"{command((), failure.seed, SIZES)}: {failure.broken}"
    say(told(summary))


def told(summary: Summary) -> str:
    """The counts, in one line."""
    shares = ", ".join(f"{name} {100 * summary.share(name):.0f} %" for name in OFTEN)
    rate = summary.schedules / summary.took_s
    return (
        f"{summary.schedules:,} schedules, {summary.total['steps']:,} steps, {summary.total['points']:,} points,"
        f" {summary.total['readings']:,} readings, 0 differences, {rate:.1f} schedules a second; in how many: {shares}"
    )


def test_a_seed_plays_the_same_schedule_every_time() -> None:
    for seed in range(4):
        first, second = (play([by_shop], seed, SIZES, Stores(speed=SegmentKept)) for _ in range(2))
        assert (first.seen, first.broken, first.decisions, first.trace) == (
            second.seen,
            second.broken,
            second.decisions,
            second.trace,
        )
        again = play([by_shop], seed, SIZES, Stores(speed=SegmentKept), first.decisions)
        assert (again.broken, again.trace) == (first.broken, first.trace)


def test_two_seeds_play_two_schedules() -> None:
    assert play([by_shop], 1, SIZES).decisions != play([by_shop], 2, SIZES).decisions


def test_a_failure_is_shrunk_to_a_schedule_that_fails_the_same_way() -> None:
    stores = Stores(speed=SegmentKept)
    tried = (play([by_shop], seed, SIZES, stores) for seed in range(50))
    stuck = (played for played in tried if played.broken is not None and played.broken.startswith("STUCK"))
    found = next(played for played in stuck if len(played.decisions) > 150)  # there is something to leave out
    shortest = shrink(found, lambda decisions: play([by_shop], found.seed, SIZES, stores, decisions), within_s=20)
    assert shortest.broken is not None and shortest.broken.startswith("STUCK")
    assert len(shortest.decisions) < len(found.decisions) / 5  # in as long as it was given


def test_a_worker_that_always_has_work_in_hand_is_asked_after_a_commit_whether_it_may_end() -> None:
    world = World([by_shop], 7, SIZES, Stores())
    for part in world.log.parts:
        part.append(len(part.stops))
    worker = world.worker("busy", random.Random(1))
    asked = [0]

    def until() -> bool:
        asked[0] += 1
        return True

    with patch.object(worker, "_settled", lambda: False), quiet(), nights_of(world):
        assert any(worker.step(until) for _ in range(50))
    assert asked == [1] and worker.stats.commits >= 1


def test_every_view_is_played_alone_and_with_the_others() -> None:
    played = {tuple(v.name for v in views_of(VIEWS, seed)) for seed in range(16)}
    assert played == {("by_shop",), ("by_size",), ("by_shop", "by_size")}


def test_a_difference_is_told_with_its_seed_and_how_to_play_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    with patch.object(PartitionWork, "_load_identities", without_identities_below):
        assert prove(VIEWS, ["by_shop"], seed=3, schedules=4, sizes=Sizes(workers=3)) == 1
    text = capsys.readouterr().out
    assert "partition" in text and "accounting says" in text
    assert "watershed prove by_shop --seed 3 --schedules 1 --workers 3" in text.replace("\n", " ")


USERS_OWN = """
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from pipeline import Count, First, Pattern, Source, StdDev, View, tumbling

@dataclass(frozen=True)
class Call:
    number: int
    line: Annotated[str, Pattern("[A-Z]{2}-[0-9]+")]
    began_at: datetime
    seconds: int | None

calls = Source(topic="calls", record=Call, key="line", event_time="began_at", identity="number")
VIEWS = (
    View("by_line", calls, key=("line",), window=tumbling(days=1),
         aggregates={"calls": Count(), "spread": StdDev("seconds"), "first": First("seconds")}),
)
"""


def test_a_view_in_a_users_own_module_is_proven(tmp_path: Path) -> None:
    (tmp_path / "my_views.py").write_text(USERS_OWN)
    environment = os.environ | {"WATERSHED_VIEWS": "my_views", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def watershed(*words: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, str(ROOT / "watershed.py"), "prove", *words]
        return subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    done = watershed("by_line", "--seed", "7", "--schedules", "12", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "no difference in 12 schedules" in done.stdout and "takeovers of a lease" in done.stdout
    wrong = watershed("by_lin", "--schedules", "1")
    assert (
        wrong.returncode == 1
        and "there is no view 'by_lin'; there are by_line. Did you mean 'by_line'?" in wrong.stderr
    )


def test_values_are_made_that_a_column_keeps() -> None:
    for column in columns(Sale):
        values = values_of(column)
        assert len(values) > 1 and all(column.type.accepts(v) for v in values)
    assert matching("(EWR|JFK)-[0-9]{2}") and matching("[^a-c]x?.")


def test_an_actor_that_was_killed_reaches_nobody_while_it_unwinds() -> None:
    reached = []

    def body() -> None:
        try:
            while True:
                actor.point()
        finally:
            actor.point()
            reached.append("the store")

    actor = Actor("w", body)
    actor.run(3)
    actor.kill()
    assert actor.done and not reached


def test_a_sample_is_the_topics_newest_records_and_nothing_else() -> None:
    parts = events(by_shop.source, random.Random(5), 3, 40)
    for part in parts:
        part.append(len(part.stops))
    log = MemoryLog("sales", parts)
    taken = sample(log, "sales", 30)
    held = [[record[1:] for record in part.records] for part in parts]
    assert [list(p) for p in taken.partitions] == [rows[-10:] for rows in held], "the newest ten of each partition"
    made = taken.events(random.Random(6), 2, 20)
    for number, part in enumerate(made):
        assert {record[1:] for record in part.records} <= set(taken.partitions[number])
        offsets = [record[0] for record in part.records]
        assert offsets == sorted(set(offsets)) and part.written == 0
    assert play([by_shop], 6, SIZES, parts=made).broken is None


@pytest.mark.slow
def test_a_view_is_proven_on_a_sample_of_its_topic(system: System) -> None:
    system.run("init", "--partitions", "2")
    refused = system.run("prove", "--sample", "50", "--schedules", "1", check=False)
    assert refused.returncode == 1 and "holds no record to take a sample of" in refused.stderr
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(map(encode, readings()[:80])))
    done = system.run("prove", "hourly_weather", "--sample", "50", "--schedules", "6", "--jobs", "1")
    assert f"the newest 50 records of topic {system.topic}, from 2 partitions" in done.stdout
    assert "no difference in 6 schedules" in done.stdout


@pytest.mark.parametrize("seed", range(20))
def test_a_source_without_an_identity_keeps_the_promise_too(seed: int) -> None:
    played = play([replace(by_shop, source=replace(by_shop.source, identity=None))], seed, SIZES)
    assert played.broken is None, f"seed {seed}: {played.broken}"


@pytest.mark.parametrize("call", range(1, 12))
def test_what_a_fold_that_failed_left_behind_is_never_committed(call: int) -> None:
    """A block is folded for the first view and not for the second: the worker ends, commits what is whole, and another goes on."""
    world = World(VIEWS, 11, SIZES)
    for part in world.log.parts:
        part.append(len(part.stops))
    worker, calls = world.worker("w", random.Random(call)), 0

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise MemoryError("no room for the states")
        return fold(*arguments)

    with quiet(), nights_of(world):
        with patch("speed_layer.partition.fold", failing), pytest.raises(MemoryError):
            for _ in range(100):
                worker.step()
        worker.ownership.let_go()
        assert world.reader.wrong() is None
        world.settle()
    assert world.broken is None
