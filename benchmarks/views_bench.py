"""The views of the benchmarks; WATERSHED_VIEWS=benchmarks.views_bench runs `minutes` in both layers, `days` is for the full recompute.

benchmarks.events.expected(n) = the rows of `minutes` over the first n events, sums and extremes in hundredths
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pipeline import (
    Between,
    Count,
    Length,
    Max,
    Mean,
    Min,
    Pattern,
    Quantile,
    Scale,
    Source,
    StdDev,
    Sum,
    View,
    tumbling,
)


@dataclass(frozen=True)
class Event:
    """One reading of one station."""

    id: Annotated[str, Length(1, 64)]
    key: Annotated[str, Length(5, 5), Pattern("[sp][0-9]{4}")]
    at: datetime
    value: Annotated[Decimal, Scale(2), Between(-100, 1000)]


events = Source(topic="bench.events", record=Event, key="key", event_time="at", identity="id")

minutes = View(
    name="minutes",
    source=events,
    key=("key",),
    window=tumbling(minutes=1),
    aggregates={
        "events": Count(),
        "total": Sum("value"),
        "mean": Mean("value"),
        "least": Min("value"),
        "greatest": Max("value"),
    },
)

days = View(
    name="days",
    source=events,
    key=("key",),
    window=tumbling(days=1),
    aggregates={
        "events": Count(),
        "mean": Mean("value"),
        "least": Min("value"),
        "greatest": Max("value"),
        "stddev": StdDev("value"),
        "median": Quantile("value", Decimal("0.5")),
    },
)

VIEWS = (minutes,)
