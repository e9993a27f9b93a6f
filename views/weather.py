"""Hourly and daily weather per station, from one topic of readings."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import pyarrow.compute as pc

from pipeline import (
    Between,
    Count,
    CountNonNull,
    Derived,
    First,
    Last,
    Length,
    Max,
    Mean,
    Min,
    Nullable,
    OneOf,
    Scale,
    Source,
    StdDev,
    Sum,
    Variance,
    View,
    tumbling,
)


@dataclass(frozen=True)
class Observation:
    """One reading of one airport's weather station."""

    id: Annotated[str, Length(1, 64)]
    station: Annotated[str, OneOf("EWR", "JFK", "LGA")]
    observed_at: datetime
    temperature_f: Annotated[Decimal | None, Scale(2), Between(-80, 140)]
    humidity: Annotated[Decimal | None, Scale(2), Between(0, 100)]
    wind_speed_mph: Annotated[Decimal | None, Scale(5), Between(0, 250), Nullable()]
    precipitation_in: Annotated[Decimal | None, Scale(2), Between(0, 40)]
    pressure_mb: Annotated[Decimal | None, Scale(1), Between(850, 1100)]


observations = Source(
    topic="weather.observations",
    record=Observation,
    key="station",
    event_time="observed_at",
    identity="id",
)

hourly_weather = View(
    name="hourly_weather",
    source=observations,
    derive={"temperature_c": Derived((pc.field("temperature_f") - 32) * 5 / 9, Scale(2))},
    key=("station",),
    window=tumbling(hours=1),
    aggregates={
        "readings": Count(),
        "temperature_max": Max("temperature_c"),
        "temperature_mean": Mean("temperature_c"),
        "precipitation": Sum("precipitation_in"),
    },
)

daily_weather = View(
    name="daily_weather",
    source=observations,
    derive={"temperature_c": Derived((pc.field("temperature_f") - 32) * 5 / 9, Scale(2))},
    key=("station",),
    window=tumbling(days=1),
    aggregates={
        "readings": Count(),
        "pressures": CountNonNull("pressure_mb"),
        "temperature_min": Min("temperature_c"),
        "temperature_max": Max("temperature_c"),
        "temperature_mean": Mean("temperature_c"),
        "temperature_stddev": StdDev("temperature_c"),
        "wind_variance": Variance("wind_speed_mph"),
        "precipitation": Sum("precipitation_in"),
        "pressure_first": First("pressure_mb"),
        "pressure_last": Last("pressure_mb"),
    },
)
