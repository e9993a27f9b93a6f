"""The plan of the demo: its steps in order, how much happens in them, and what changes meanwhile."""

from dataclasses import dataclass
from enum import IntEnum

from sandbox.scene import Renamed


class At(IntEnum):
    """The steps, in order."""

    SERVERS, TABLES, INIT, HISTORY, NIGHT_1, LIVE, CHANGE, NIGHT_2, AUDIT_LIVE, CAUGHT_UP, AUDIT, REFERENCE, CHART = (
        range(13)
    )


TITLES = (
    "Start the servers",
    "Load the tables",
    "Set up",
    "History",
    "First night",
    "Live events",
    "A table changes",
    "Second night meanwhile",
    "Audit meanwhile",
    "Catch up",
    "Audit",
    "Audit by a second f",
    "Draw the chart",
)
# On 9 December 2013 US Airways became part of American Airlines Group.
RENAMED = Renamed("US", "US Airways Inc.", "American Airlines Group Inc.")
# Shares of the live events: a table changes, then the night begins; slow down while what runs meanwhile is not over.
CHANGE_AT, SLOWER_AT = 0.15, 0.6
# Slowed down, the rest is always spread over so many seconds: it lasts as long as it must.
STRETCH_S, SLOWEST_PER_S = 12.0, 5.0


@dataclass(frozen=True)
class Size:
    """Amount of events: weather and flights from these days on; before `live_from` they are the history; `events_per_s` is the pace of
    the live ones.
    """

    weather_from: str
    flights_from: str
    live_from: str
    until: str
    events_per_s: float


FULL = Size("2013-07-01", "2013-12-01", "2013-12-05", "2014-01-01", 1300.0)
QUICK = Size("2013-01-15", "2013-01-30", "2013-02-01", "2013-02-08", 800.0)
