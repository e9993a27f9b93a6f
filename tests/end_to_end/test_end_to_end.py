"""The whole path on real Kafka and Postgres: the promise holds through nights, kills and takeovers, and against pandas."""

from __future__ import annotations

import json
import random
import signal
import zlib
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import Any

import pandas as pd
import pytest

from sandbox.weather import readings, spread
from tests.support.system import System, wait_for

PARTITIONS = 4
SEED = 20130131


def records(rows: list[dict[str, Any]], seed: int) -> list[tuple[int, bytes | None, bytes | None]]:
    """The rows with what goes wrong among them; an identity always lands in the same partition."""
    rng = random.Random(seed)
    found = []
    for event in spread(rows, seed):
        try:
            identity = json.loads(event.value or b"")["id"]
        except (ValueError, TypeError, KeyError):
            identity = str(rng.random())
        found.append((zlib.crc32(identity.encode()) % PARTITIONS, event.key, event.value))
    return found


def kill_night_at_task(system: System, date: str, number: int) -> None:
    """Start a night and kill -9 it when its `number`-th task begins; AssertionError if it ends before."""
    night = system.start_night(date)
    assert night.stderr is not None
    lines: list[str] = []
    for line in night.stderr:
        lines += [line]
        if sum(") running   " in seen for seen in lines) == number:
            night.send_signal(signal.SIGKILL)
            night.wait()
            return
    raise AssertionError(f"the night ended before task {number}:\n{''.join(lines)}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_weather_stays_exact_through_three_nights_and_kills(system: System) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    rows = readings()
    log = records(rows, SEED)
    system.environment["WATERSHED_NIGHT_PARTITIONS"] = str(PARTITIONS)  # side by side, also when a night is killed
    system.run("init", "--partitions", str(PARTITIONS))
    workers = [system.worker(f"worker-{n}") for n in range(2)]
    steps = 12
    kills = set(rng.sample(range(1, steps), 3))
    for step in range(steps):
        system.produce(log[step * len(log) // steps : (step + 1) * len(log) // steps])
        if step in kills:
            victim = rng.randrange(2)
            workers[victim].send_signal(signal.SIGKILL)
            workers[victim].wait()
            workers[victim] = system.worker(f"worker-{victim}-{step}")
        if step == 3:
            system.night("2013-01-02")
        if step == 6:
            at = rng.randint(2, 14)
            print(f"night 2 dies at task {at}")
            kill_night_at_task(system, "2013-01-03", at)
        if step == 8:
            cut_before = (
                (system.lake / "cuts/2013-01-03.json").read_text()
                if (system.lake / "cuts/2013-01-03.json").exists()
                else None
            )
            system.night("2013-01-03")
            assert cut_before in (None, (system.lake / "cuts/2013-01-03.json").read_text())
        if step == 10:
            system.night("2013-01-04")
    system.catch_up()
    holds = "SELECT count(DISTINCT worker) FROM ops.positions WHERE topic = :t AND lease_until > now()"
    wait_for(lambda: system.query(holds, t=system.topic)[0]["count"] == 2, "both workers hold partitions")
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [w.wait(timeout=30) for w in workers] == [0, 0]
    found = system.assert_exact()
    assert {v["records"] for v in found["views"]} == {len(log)}
    accounting = system.query("SELECT * FROM serving.accounting WHERE topic = :topic", topic=system.topic)
    assert sum(r["accepted"] for r in accounting) == len(rows)
    assert sum(r[c] for r in accounting for c in ("accepted", "duplicates", "rejected", "tombstones")) == len(log)
    assert_equals_pandas(system, rows)


# ---- an independent computation

WIDE = Context(prec=60)


def celsius(fahrenheit: float | None) -> Decimal | None:
    """The derived column as the view declares it: a float, rounded half-even to two decimals."""
    if fahrenheit is None or fahrenheit != fahrenheit:
        return None
    return Decimal((fahrenheit - 32) * 5 / 9).quantize(Decimal("0.01"), context=WIDE)


def rounded(exact: Fraction, decimals: int) -> Decimal:
    scaled = exact * 10**decimals
    magnitude = (2 * abs(scaled.numerator) + scaled.denominator) // (2 * scaled.denominator)
    return Decimal(magnitude if scaled >= 0 else -magnitude).scaleb(-decimals, WIDE)


def mean(values: list[Decimal], scale: int) -> Decimal | None:
    return rounded(sum(map(Fraction, values), Fraction(0)) / len(values), scale + 6) if values else None


def variance(values: list[Decimal], scale: int) -> Decimal | None:
    if len(values) < 2:
        return None
    middle = sum(map(Fraction, values), Fraction(0)) / len(values)
    return rounded(sum((Fraction(v) - middle) ** 2 for v in values) / (len(values) - 1), scale + 6)


def stddev(values: list[Decimal], scale: int) -> Decimal | None:
    if len(values) < 2:
        return None
    middle = sum(map(Fraction, values), Fraction(0)) / len(values)
    exact = sum((Fraction(v) - middle) ** 2 for v in values) / (len(values) - 1)
    root = (Decimal(exact.numerator) / Decimal(exact.denominator)).sqrt(WIDE) if exact else Decimal(0)
    return root.quantize(Decimal(1).scaleb(-scale - 6), ROUND_HALF_UP, WIDE)


def assert_equals_pandas(system: System, rows: list[dict[str, Any]]) -> None:
    """Each reading counts once: that is what is left when duplicates, late and broken ones are understood."""
    frame = pd.DataFrame(rows)
    frame["at"] = pd.to_datetime(frame["observed_at"], utc=True)
    frame["celsius"] = [celsius(f) for f in frame["temperature_f"]]
    for name, scale in (("precipitation_in", 2), ("wind_speed_mph", 5), ("pressure_mb", 1)):
        frame[name] = [
            None if v is None or v != v else Decimal(str(v)).quantize(Decimal(1).scaleb(-scale)) for v in frame[name]
        ]
    frame["wind_speed_mph"] = [None if v is None or v > 250 else v for v in frame["wind_speed_mph"]]

    def cells(group: pd.DataFrame, name: str) -> list[Any]:
        return [v for v in group[name] if v is not None and v == v]

    hourly = {}
    for (station, window), group in frame.groupby(["station", frame["at"].dt.floor("h")]):
        t = cells(group, "celsius")
        hourly[station, window.to_pydatetime()] = (
            len(group),
            max(t, default=None),
            mean(t, 2),
            sum(cells(group, "precipitation_in")),
        )
    served = {
        (r["station"], r["window_start"]): (
            r["readings"],
            r["temperature_max"],
            r["temperature_mean"],
            r["precipitation"],
        )
        for r in system.query("SELECT * FROM serving.hourly_weather")
    }
    assert served == hourly
    daily = {}
    for (station, window), group in frame.sort_values("at", kind="stable").groupby(
        ["station", frame["at"].dt.floor("D")]
    ):
        t, p = cells(group, "celsius"), cells(group, "pressure_mb")
        daily[station, window.to_pydatetime()] = {
            "readings": len(group),
            "pressures": len(p),
            "temperature_min": min(t, default=None),
            "temperature_max": max(t, default=None),
            "temperature_mean": mean(t, 2),
            "temperature_stddev": stddev(t, 2),
            "wind_variance": variance(cells(group, "wind_speed_mph"), 5),
            "precipitation": sum(cells(group, "precipitation_in")),
            "pressure_first": p[0] if p else None,
            "pressure_last": p[-1] if p else None,
        }
    rows_served = system.query("SELECT * FROM serving.daily_weather")
    assert {(r.pop("station"), r.pop("window_start")): r for r in rows_served} == daily


@pytest.mark.slow
def test_a_takeover_after_kill_and_a_graceful_stop_lose_nothing(system: System) -> None:
    rows = readings()[:3000]
    log = records(rows, 7)
    system.run("init", "--partitions", str(PARTITIONS))
    first = system.worker("first")
    system.produce(log[:1000])
    wait_for(lambda: sum(system.positions().values()) >= 1000, "the first worker commits")
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = system.worker("second")
    system.produce(log[1000:])
    wait_for(lambda: sum(system.positions().values()) >= len(log), "the second takes over")
    third = system.worker("third")

    def shared() -> bool:
        held = "SELECT worker, count(*) FROM ops.positions WHERE topic = :t AND lease_until > now() GROUP BY 1"
        found = system.query(held, t=system.topic)
        return sorted(r["count"] for r in found) == [2, 2]

    wait_for(shared, "two workers share four partitions evenly")
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=30) == 0
    held = "SELECT count(*) FROM ops.positions WHERE topic = :t AND lease_until > now()"
    wait_for(lambda: system.query(held, t=system.topic)[0]["count"] == PARTITIONS, "the third takes the rest")
    third.send_signal(signal.SIGINT)
    assert third.wait(timeout=30) == 0
    assert system.query(held, t=system.topic)[0]["count"] == 0, "a graceful stop lets go of every lease"
    system.assert_exact()


def test_a_second_nightly_of_the_same_date_runs_no_task(system: System) -> None:
    system.run("init", "--partitions", "2")
    system.produce([(n % 2, b"k", v) for n, (_, _, v) in enumerate(records(readings()[:200], 3))])
    system.catch_up()
    system.night("2013-01-02")
    again = system.night("2013-01-02")
    assert "Did not run any tasks" in again.stderr
    system.assert_exact()


def test_full_gives_the_same_rows_as_incremental(system: System) -> None:
    system.run("init", "--partitions", "2")
    log = [(p % 2, k, v) for p, k, v in records(readings()[:600], 4)]
    system.produce(log[:300])
    system.night("2013-01-02")
    system.produce(log[300:500])
    system.night("2013-01-03", "--full")
    system.produce(log[500:])
    system.night("2013-01-04")
    moved = "a night moves the positions of a speed layer that was down"
    assert system.positions() == {n: sum(p == n for p, _, _ in log) for n in range(2)}, moved
    system.assert_exact()
