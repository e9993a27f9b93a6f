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

import pytest
from rich.console import Console

from pipeline.handover import Counts, Cut
from sandbox import chart
from sandbox.demo_plan import RENAMED, TITLES, At
from sandbox.display import Display, Frame
from sandbox.events import Event, Kind, as_they_arrive
from sandbox.events import spread as spread_of
from sandbox.flights import FLIGHTS, flights, lay_out, rename
from sandbox.processes import Child, ServerError
from sandbox.scene import Scene, Seen
from sandbox.services import free_night, night_tasks, run
from sandbox.summary import AuditFound, Changed, Findings, OfTopic, summary
from sandbox.weather import STATIONS, readings, spread
from serving.answers import ByLayer, Freshness
from tests.support.chart_colours import EVERYTHING, drawn
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


def test_flights_are_the_files_own_with_an_id_each_and_times_as_they_are_there() -> None:
    rows = flights("2013-12-09", "2013-12-11")
    assert len(rows) == len({r["id"] for r in rows}) > 1500
    assert all("2013-12-09T00" <= r["time_hour"] < "2013-12-11" for r in rows)
    cancelled = [r for r in rows if r["dep_delay"] is None]
    assert 0 < len(cancelled) < len(rows) and all(r["arr_delay"] is None for r in cancelled)
    events = list(spread_of(rows, 7, FLIGHTS, broken=0.05))
    firsts = [e for e in events if e.kind in (Kind.ON_TIME, Kind.OUT_OF_ORDER, Kind.LATE)]
    assert {e.value for e in firsts} == {json.dumps(r).encode() for r in rows} and len(firsts) == len(rows)
    assert all(e.key == json.loads(e.value)["carrier"].encode() for e in firsts if e.value is not None)
    assert all(sent(events)[kind] > 0 for kind in (Kind.BROKEN, Kind.TOMBSTONE, Kind.DUPLICATE))


def test_topics_are_merged_by_the_newest_time_that_each_has_reached_and_keep_their_order() -> None:
    one = list(spread([r for r in readings() if "2013-12-01" <= r["observed_at"] < "2013-12-08"], 1, late=0.1))
    two = list(spread_of(flights("2013-12-01", "2013-12-08"), 2, FLIGHTS, late=0.1))
    together = list(as_they_arrive({"a": one, "b": two}))
    assert [e for topic, e in together if topic == "a"] == one and [e for topic, e in together if topic == "b"] == two
    newest = dict.fromkeys("ab", "2013-12-01")
    for topic, event in together:
        newest[topic] = max(newest[topic], event.observed_at)
        other = newest["b" if topic == "a" else "a"]
        late_in_the_file = event.observed_at >= "2013-12-07"  # one topic may end before the other
        assert late_in_the_file or newest[topic][:13] >= other[:13], "no topic runs ahead of the other"


def test_a_renamed_carrier_is_the_only_change_of_its_file(tmp_path: Path) -> None:
    lay_out(tmp_path)
    before = (tmp_path / "airlines.csv").read_text().splitlines()
    assert rename(tmp_path, "US", "A, B and C") == RENAMED.before
    after = (tmp_path / "airlines.csv").read_text().splitlines()
    assert set(after) - set(before) == {'US,"A, B and C"'} and set(before) - set(after) == {"US,US Airways Inc."}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["airlines.csv", "airports.csv", "planes.csv", "weather.csv"]


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


def delay(name: str | None, day: date, flown: int, mean: str | None, cancelled: str = "0") -> dict[str, Any]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    value = None if mean is None else Decimal(mean)
    counts = {"flights": flown, "cancelled_share": Decimal(cancelled), "departure_delay_mean": value}
    return {"carrier.name": name, "window_start": start, **counts}


def a_look_at_flights() -> Seen:
    """Twenty days of three carriers, one of which is renamed; the last five by the speed layer; one day all cancelled."""
    days = [date(2013, 10, 1) + timedelta(n) for n in range(20)]
    rows = [
        delay(name, d, 10, None if n == 3 else f"{n}.5", "1" if n == 3 else "0.25")
        for n, d in enumerate(days)
        for name in ("Delta", None, RENAMED.before if n < 12 else RENAMED.after)
    ]
    rows.append(delay(RENAMED.after, days[5], 1, "90.0"))
    batch = [r for r in rows if r["window_start"].date() < days[15]]
    speed = [r for r in rows if r["window_start"].date() >= days[15]]
    fresh = [Freshness(p, 100_000, 345_678) for p in range(4)]
    return Seen(ByLayer(batch, speed, rows, fresh), [345_679] * 4)


def a_look_at_skies() -> ByLayer:
    rows = [
        {**delay(None, date(2013, 10, 1), 100, mean, share), "airport.name": airport, "sky": sky}
        for sky, mean, share in (("fair", "5.0", "0.01"), ("poor visibility", "40.0", "0.1"), (None, "7.0", "0"))
        for airport in ("Newark Liberty Intl", "La Guardia")
    ]
    return ByLayer(rows, [], rows, [])


def test_a_days_delay_is_the_mean_over_the_flights_that_departed() -> None:
    means, batch, speed = a_look_at_flights().delay_by_day
    assert means[date(2013, 10, 3)] == pytest.approx(2.5)
    assert means[date(2013, 10, 6)] == pytest.approx((3 * 7.5 * 5.5 + 1 * 90) / (3 * 7.5 + 1))
    assert date(2013, 10, 4) not in means, "nothing departed"
    assert (len(batch), len(speed)) == (15, 5)


def a_scene(seen: Seen | None) -> Scene:
    of_flights = None if seen is None else a_look_at_flights()
    scene = Scene(TITLES, date(2013, 1, 1), date(2013, 12, 31), RENAMED, weather=seen, flights=of_flights)
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
        cut, position = ("4,000,000", "9,382,712") if width >= 110 and height >= 40 else ("4,400,000", "10,765,424")
        assert cut in shown and position in shown, "the cut and the position, summed up"
        assert "EWR Jun 29" in shown, "the newest day of both layers"
        assert "batch 451 + real-time 150 = merged 601 flights" in shown
        assert ("US Airways Inc. 120  →  American Airlines Group Inc. 81" in shown) == (height >= 27)


def test_where_room_is_short_the_steps_that_run_are_shown_first() -> None:
    scene = a_scene(None)
    for number in range(At.NIGHT_2):
        scene.steps[number].state = "done"
    scene.steps[At.LIVE].state = "running"  # with a step that is done between it and the night
    console = Console(width=80, height=24, force_terminal=True, color_system=None)
    lines = console.render_lines(Frame(scene), console.options.update(height=None))
    shown = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert all(f"▶ {TITLES[number]}" in shown for number in (At.LIVE, At.NIGHT_2))


def test_lag_is_what_the_log_holds_beyond_the_answer() -> None:
    assert a_look().lag == 4 * 12


def test_without_a_terminal_the_story_is_told_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(a_scene(None), Console(force_terminal=False)) as display:
        display.begin(At.CHART).show("at work")
        display.see(a_look(), a_look_at_flights())
        display.finish(At.CHART, "demo.png")
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "▶ Draw the chart" in told and "✔ Draw the chart: demo.png" in told
    assert "batch 10,800 + real-time 1,500 = merged 21,600; cut 4,000,000, position 9,382,712, lag 48" in told
    assert "flights: batch 451 + real-time 150 = merged 601; cut 400,000, position 1,382,712, lag 4" in told


def test_the_chart_shows_stations_layers_skies_and_a_carrier_under_both_of_its_names(tmp_path: Path) -> None:
    seen, of_flights, skies = a_look().by_layer, a_look_at_flights().by_layer, a_look_at_skies()
    seen.merged[:] = [
        {**r, "temperature_mean": Decimal(n % 17) + 20 * STATIONS.index(r["station"])}
        for n, r in enumerate(seen.merged)
    ]
    chart.draw(seen, of_flights, skies, RENAMED, tmp_path / "all.png")
    old = [r for r in of_flights.merged if r["carrier.name"] != RENAMED.after]
    unchanged = ByLayer([], old, old, of_flights.freshness)
    chart.draw(seen, unchanged, ByLayer([], [], [], []), RENAMED, tmp_path / "unchanged.png")
    nothing = ByLayer([], [], [], [])
    chart.draw(nothing, nothing, nothing, RENAMED, tmp_path / "nothing.png")
    assert drawn(tmp_path / "all.png") == EVERYTHING
    assert not drawn(tmp_path / "unchanged.png") & {"sky", "batch"}
    assert not drawn(tmp_path / "nothing.png") & {*STATIONS, "sky"}


# ---- the end
def a_cut(number: int, day: date | None, status: str = "published", versions: Any = ()) -> Cut:
    return Cut("t", 1, number, day, (4_000, 500), datetime.now(UTC), status, versions=versions)


def findings(folder: Path, *, differences: int = 0, counted: Counts | None = None) -> Findings:
    told = {Kind.ON_TIME: 90, Kind.LATE: 10, Kind.DUPLICATE: 5, Kind.BROKEN: 2, Kind.TOMBSTONE: 1}
    right = Counts(100, 5, 2, 1)
    return Findings(
        folder,
        str(folder / "lake"),
        [AuditFound("somehow", differences, None)],
        [OfTopic("flights", told, counted or right, []), OfTopic("weather", told, right, [])],
        Changed.found(
            RENAMED, "carriers", a_cut(2, None, "adopted", (("carriers", 2),)), a_look_at_flights().by_layer.merged
        ),
    )


def test_the_summary_says_from_which_cut_on_the_table_is_another_and_what_is_served_under_either_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary(Console(width=80), findings(tmp_path))
    told = capsys.readouterr().out
    assert "carriers: version 2 is in force from cut 2 on (offsets 0:4,000, 1:500), in both layers:" in told
    assert "120 flights of US are served as 'US Airways Inc.', and 81," in told
    assert told.count("each is accounted for") == 2


def test_the_exit_code_is_0_only_without_differences_and_with_every_event_accounted_for(tmp_path: Path) -> None:
    console = Console(quiet=True)
    assert summary(console, findings(tmp_path)) == 0
    assert summary(console, findings(tmp_path, differences=1)) == 1
    assert summary(console, findings(tmp_path, counted=Counts(101, 4, 2, 1))) == 1


def test_a_night_gets_a_name_that_is_free() -> None:
    ledger = [a_cut(0, None), a_cut(1, date(2013, 1, 5)), a_cut(2, date(2013, 1, 6))]
    assert free_night(date(2013, 1, 5), ledger) == date(2013, 1, 7)
    assert free_night(date(2013, 1, 4), ledger) == date(2013, 1, 4)


# ---- as commands, on embedded servers; to its end it is played in test_demo_whole.py
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
    assert night_tasks((4, 2)) == len(["Nightly", "ChooseCut", "Publish", "Stage"]) + 2 + 4 + 4
    assert night_tasks((4, 2), (1, 3)) == night_tasks((4, 2)) + len(["Publish", "Stage"]) + 3 + 1 + 1
