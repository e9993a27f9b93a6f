"""A record with a column of every type, and the smallest source and view over it, to be changed by tests of definitions."""

from dataclasses import dataclass, make_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pipeline import (
    Between,
    Count,
    Mean,
    OneOf,
    Scale,
    Source,
    View,
    tumbling,
)


@dataclass(frozen=True)
class Reading:
    id: str
    station: Annotated[str, OneOf("EWR", "JFK")]
    observed_at: datetime
    celsius: Annotated[Decimal | None, Scale(2), Between(-80, 60)]
    ratio: float
    count: int
    day: date
    note: str | None
    good: bool


def source(**changes: Any) -> Source:
    given = {"topic": "readings", "record": Reading, "key": "station", "event_time": "observed_at", "identity": "id"}
    return Source(**given | changes)


def view(**changes: Any) -> View:
    given: dict[str, Any] = {
        "name": "hourly",
        "source": source(),
        "key": ("station",),
        "window": tumbling(hours=1),
        "aggregates": {"readings": Count(), "mean": Mean("celsius")},
    }
    return View(**given | changes)


def record(**fields: Any) -> type:
    """A record class with the columns that every Source needs, and these."""
    own = {"id": str, "station": str, "observed_at": datetime} | fields
    return make_dataclass("Own", own.items(), frozen=True)
