"""The demo and `watershed up` as a person runs them: by command, on the embedded servers, in a folder of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread
from rich.console import Console

from pipeline.handover import Counts, Cut
from sandbox import chart
from sandbox.demo import TITLES, At
from sandbox.display import Display, Frame, Scene, Seen
from sandbox.processes import Child, ServerError
from sandbox.services import free_night, night_tasks, run
from sandbox.summary import AuditFound, Findings, summary
from sandbox.weather import STATIONS, Event, Kind, readings, spread
from serving.answers import ByLayer, Freshness
from tests.support.commands import NEEDS_PROC, Commands
from tests.support.system import wait_for


# ---- the events
def sent(events: list[Event]) -> Counter[str]:
    return Counter(event.kind for event in events)


def test_every_reading_arrives_unbroken_once_and_its_copies_are_the_same_bytes() -> None:
    rows = readings()[:3000]
    events = list(spread(rows, 5))
    firsts = [e for e in events if e.kind in (Kind.ON_TIME, Kind.OUT_OF_ORDER, Kind.LATE)]
    assert {e.value for e in firsts} == {json.dumps(r).encode() for r in rows} and len(firsts) == len(rows)
    assert {e.value for e in events if e.kind is Kind.DUPLICATE} <= {e.value for e in firsts}
    assert all(e.value is None for e in events if e.kind is Kind.TOMBSTONE)
    assert not {e.value for e in events if e.kind is Kind.BROKEN} & {e.value for e in firsts}
    assert all(sent(events)[kind] > 0 for kind in Kind)


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    rows = readings()[:500]
    assert list(spread(rows, 1)) == list(spread(rows, 1)) != list(spread(rows, 2))


def test_late_events_arrive_a_day_or_more_behind_the_newest() -> None:
    newest, behind = datetime.min.replace(tzinfo=UTC), []
    for event in spread(readings()[:2000], 3, late=0.05):
        at = datetime.fromisoformat(event.observed_at)
        if event.kind is Kind.LATE and newest < datetime(2013, 1, 25, tzinfo=UTC):
            behind.append(newest - at)
        newest = max(newest, at)
    assert behind and min(behind) >= timedelta(hours=20) and max(behind) > timedelta(days=3)


# ---- the display
def row(station: str, day: date, count: int, mean: str | None) -> dict[str, Any]:
    value = None if mean is None else Decimal(mean)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    extremes = {"temperature_min": value, "temperature_max": value, "temperature_mean": value}
    return {"station": station, "window_start": start, "readings": count, **extremes}


def a_look() -> Seen:
    """Half a year by batch, some days by both layers, the rest in real time; one day without a temperature."""
    days = [date(2013, 1, 1) + timedelta(n) for n in range(300)]
    batch = [row(s, d, 20, None if n == 9 else f"{n % 40 - 12}.5") for s in STATIONS for n, d in enumerate(days[:180])]
    speed = [row(s, d, 4, "30.25") for s in STATIONS for d in days[175:]]
    merged = [row(s, d, 24, "12.125") for s in STATIONS for d in days]
    fresh = [Freshness(p, 1_000_000, 2_345_678) for p in range(4)]
    return Seen(ByLayer(batch, speed, merged, fresh), [2_345_690] * 4)


def a_scene(seen: Seen | None) -> Scene:
    scene = Scene(TITLES, date(2013, 1, 1), date(2013, 12, 31), seen=seen)
    scene.sent = dict.fromkeys(Kind, 12_345)
    for number in range(4):
        scene.steps[number].state = "done"
        scene.steps[number].detail = "as it should be, and a detail that is far too long for a narrow line " * 2
    for number in (At.LIVE, At.NIGHT_2):
        scene.steps[number].state = "running"
        scene.steps[number].show(
            "what happens now, in plain words that go on and on and on, past the edge of a screen of 80", 3, 10
        )
    return scene


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 40), (200, 60)])
@pytest.mark.parametrize("seen", [None, a_look()], ids=["before", "later"])
def test_a_frame_fits_the_terminal(width: int, height: int, seen: Seen | None) -> None:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    lines = console.render_lines(Frame(a_scene(seen)), console.options.update(height=None))
    text = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert len(text) <= height, "\n".join(text)
    assert max(map(len, text)) <= width
    if seen is not None:
        shown = "\n".join(text)
        assert "4,000,000" in shown and "9,382,712" in shown, "the cut and the position, summed up"
        assert "EWR Jun 29" in shown, "the newest day of both layers"


def test_lag_is_what_the_log_holds_beyond_the_answer() -> None:
    assert a_look().lag == 4 * 12


def test_without_a_terminal_the_story_is_told_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(a_scene(None), Console(force_terminal=False)) as display:
        display.begin(At.CHART).show("at work")
        display.see(a_look())
        display.finish(At.CHART, "weather.png")
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "▶ Draw the chart" in told and "✔ Draw the chart: weather.png" in told
    assert "batch 10,800 + real-time 1,500 = merged 21,600; cut 4,000,000, position 9,382,712, lag 48" in told


def drawn(path: Path) -> set[str]:
    """Which of the chart's colours are on the picture in earnest, by name: the layers' areas and the stations' lines."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    found = set()
    for name, colour in {"batch": chart.BATCH, "real-time": chart.SPEED, **chart.STATIONS}.items():
        wanted = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)])
        if (abs(pixels - wanted).max(axis=2) <= 2).sum() > 300:
            found.add(name)
    return found


def test_the_chart_shows_the_layers_and_the_stations(tmp_path: Path) -> None:
    seen = a_look().by_layer
    swings = {r["window_start"]: Decimal(n % 17) for n, r in enumerate(seen.merged)}
    seen.merged[:] = [
        {**r, "temperature_mean": swings[r["window_start"]] + 20 * STATIONS.index(r["station"])} for r in seen.merged
    ]
    chart.draw(seen, tmp_path / "both.png")
    chart.draw(ByLayer([], seen.speed, seen.merged, seen.freshness), tmp_path / "real-time.png")
    chart.draw(ByLayer([], [], [], []), tmp_path / "nothing.png")
    assert drawn(tmp_path / "both.png") == {"batch", "real-time", *STATIONS}
    assert drawn(tmp_path / "real-time.png") >= {"real-time", *STATIONS}
    assert not drawn(tmp_path / "nothing.png") & set(STATIONS)


# ---- the end
def findings(folder: Path, *, differences: int = 0, counted: Counts | None = None) -> Findings:
    told = {Kind.ON_TIME: 90, Kind.LATE: 10, Kind.DUPLICATE: 5, Kind.BROKEN: 2, Kind.TOMBSTONE: 1}
    return Findings(
        folder,
        str(folder / "lake"),
        [AuditFound("somehow", differences, None)],
        told,
        counted or Counts(100, 5, 2, 1),
        [],
    )


def test_the_exit_code_is_0_only_without_differences_and_with_every_event_accounted_for(tmp_path: Path) -> None:
    console = Console(quiet=True)
    assert summary(console, findings(tmp_path)) == 0
    assert summary(console, findings(tmp_path, differences=1)) == 1
    assert summary(console, findings(tmp_path, counted=Counts(101, 4, 2, 1))) == 1


def test_a_night_gets_a_name_that_is_free() -> None:
    def named(number: int, day: date | None) -> Cut:
        return Cut("t", 1, number, day, (0,), "published", datetime.now(UTC))

    ledger = [named(0, None), named(1, date(2013, 1, 5)), named(2, date(2013, 1, 6))]
    assert free_night(date(2013, 1, 5), ledger) == date(2013, 1, 7)
    assert free_night(date(2013, 1, 4), ledger) == date(2013, 1, 4)


# ---- whole, as commands
@pytest.mark.slow
@NEEDS_PROC
def test_the_demo_ends_with_0_differences_a_chart_and_the_rejected_records(commands: Commands) -> None:
    code, out, err = commands.run("watershed", "demo", "--quick", "--out", "result")
    assert code == 0, out + err
    ends = [line.split("  ", 1) for line in out.splitlines() if line[:1].isdigit()]
    assert [(found, how.split(",")[0]) for found, how in ends] == [
        ("0 differences", "audit while events arrived"),
        ("0 differences", "audit by the layers' kernels"),
        ("0 differences", "audit by an independent plain-Python f"),
    ]
    result = commands.folder / "result"
    assert drawn(result / "weather.png") == {"batch", "real-time", *STATIONS}
    files = list((result / "lake" / "rejected").rglob("*.parquet"))
    reasons = [r for f in files for r in pq.read_table(f).column("reason").to_pylist()]
    assert reasons and all(reasons)
    assert str(files[0].relative_to(commands.folder)) in out or len(files) > 1
    assert "each is accounted for" in out
    assert {"speed.log", "night-1.log", "night-2.log", "init.log"} <= {p.name for p in (result / "logs").iterdir()}
    assert "\x1b" not in out
    assert commands.processes() == [], "everything that was started has ended"
    again, _, said = commands.run("watershed", "demo", "--quick", "--out", "result")
    assert again == 1 and "is not empty" in said and "Traceback" not in said


@pytest.mark.slow
@NEEDS_PROC
def test_the_demo_fails_with_the_end_of_the_log_when_a_child_dies(commands: Commands) -> None:
    demo = commands.start("watershed", "demo", "--quick", "--out", "result")
    wait_for(lambda: commands.processes("speed_layer"), "the worker starts", 120)
    [worker] = commands.processes("speed_layer")
    os.kill(worker, signal.SIGKILL)
    _, err = demo.communicate(timeout=120)
    assert demo.returncode == 1
    assert "watershed: the worker of the speed layer failed with exit code -9" in err and "speed.log" in err
    assert "Traceback" not in err
    assert commands.processes() == []


@pytest.mark.slow
@NEEDS_PROC
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_everything_that_the_demo_started(commands: Commands, number: signal.Signals) -> None:
    demo = commands.start("watershed", "demo", "--quick", "--out", "result")
    wait_for(lambda: commands.processes("luigi"), "the first night runs", 120)
    demo.send_signal(number)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, err
    assert "Stopped: everything that was started has ended" in out and "Traceback" not in err
    assert commands.processes() == []


@pytest.mark.parametrize(
    ("said", "quoted", "left_out"),
    [
        (
            ["INFO: a", "ERROR: task failed: no lake", "INFO: b", "===== Luigi Execution Summary ====="],
            ["no lake"],
            ["Summary"],
        ),
        (
            ["ERROR: task failed", "Traceback", *"12345678", "KeyError: 9", "DEBUG: c"],
            ["task failed", "KeyError: 9"],
            ["  1\n", "DEBUG"],
        ),
        (["watershed: no such topic"], ["watershed: no such topic"], []),
    ],
    ids=["one line", "traceback", "no luigi"],
)
def test_a_failed_child_is_told_by_its_error_not_by_luigis_summary(
    tmp_path: Path, said: list[str], quoted: list[str], left_out: list[str]
) -> None:
    child = Child(
        "the night",
        [sys.executable, "-c", f"print({chr(10).join(said)!r}); exit(30)"],
        tmp_path / "log",
        folder=tmp_path,
    )
    with pytest.raises(ServerError, match="the night failed with exit code 30") as told:
        run(child, 20)
    assert all(words in str(told.value) for words in [*quoted, str(tmp_path / "log")])
    assert not any(words in str(told.value) for words in left_out)


def test_a_night_has_as_many_tasks_as_luigi_runs() -> None:
    assert night_tasks(partitions=4, views=2) == len(["Nightly", "ChooseCut", "Publish", "Stage"]) + 2 + 4 + 4
