"""The scene of the demo: its steps, and what was last seen of each topic and its view.

lag = ends - positions >= 0, since a topic's ends are read after the look at its view
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from sandbox.events import Kind
from serving.answers import ByLayer


@dataclass
class Step:
    """One step of the story: `detail` in plain words; done of total, when there is a bar."""

    title: str
    state: str = "waiting"  # waiting, running, done, failed
    detail: str = ""
    done: int = 0
    total: int = 0
    began_s: float = 0.0
    took_s: float = 0.0

    def show(self, detail: str, done: int = 0, total: int = 0) -> None:
        """Say what happens now."""
        self.detail, self.done, self.total = detail, done, total

    @property
    def seconds(self) -> float:
        return self.took_s if self.state in ("done", "failed") else time.monotonic() - self.began_s


@dataclass(frozen=True)
class Seen:
    """One look at a view of the serving layer, and the ends of its topic after it."""

    by_layer: ByLayer
    ends: list[int]

    @property
    def lag(self) -> int:
        """Records that are in the log and not yet in the answer."""
        return sum(max(0, end - f.position) for end, f in zip(self.ends, self.by_layer.freshness, strict=True))

    @property
    def cut(self) -> int:
        return sum(f.cut for f in self.by_layer.freshness)

    @property
    def position(self) -> int:
        return sum(f.position for f in self.by_layer.freshness)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Flights in the batch part, the real-time part and the merged answer of `delays`."""
        found = self.by_layer
        batch, speed, merged = (sum(r["flights"] for r in rows) for rows in (found.batch, found.speed, found.merged))
        return batch, speed, merged

    @cached_property
    def delay_by_day(self) -> tuple[dict[date, float], set[date], set[date]]:
        """(mean departure delay of a day in minutes, over all carriers of `delays`; days of the batch part; days of the real-time part)"""
        total: dict[date, float] = {}
        departed: dict[date, float] = {}
        for row in self.by_layer.merged:
            day, left = row["window_start"].date(), float(row["flights"]) * (1 - float(row["cancelled_share"]))
            departed[day] = departed.get(day, 0.0) + left
            total[day] = total.get(day, 0.0) + left * float(row["departure_delay_mean"] or 0)
        batch, speed = ({r["window_start"].date() for r in rows} for rows in (self.by_layer.batch, self.by_layer.speed))
        return {day: total[day] / left for day, left in departed.items() if left}, batch, speed


@dataclass(frozen=True)
class Renamed:
    """A carrier that the table has another name for, from a cut on."""

    carrier: str
    before: str
    after: str


@dataclass
class Scene:
    """Everything the display shows; replaced piece by piece from the story's thread and the watcher's."""

    titles: tuple[str, ...]
    first_day: date
    last_day: date
    renamed: Renamed
    steps: list[Step] = field(default_factory=list)
    weather: Seen | None = None
    flights: Seen | None = None
    sent: Mapping[Kind, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.steps = [Step(title) for title in self.titles]
        self.began_s = time.monotonic()
