"""Windows: how event times fall into panes, the stretches of event time that a view keeps a state for.

    start(pane(t)) <= t < start(pane(t) + 1)      s <= t  =>  pane(s) <= pane(t)      pane(start(p)) = p

Both layers ask a window for its panes and for nothing else, so a new kind of window is a class here.
`pipeline.plain` spells each kind out again, on purpose: it is what this arithmetic is held to.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

from pipeline.base.declared import Declared, declares
from pipeline.base.errors import DefinitionError
from pipeline.columns.arrays import Ints

MICROSECOND = timedelta(microseconds=1)
DAY_US = 86_400_000_000


class Window(Protocol):
    """A rule of panes: a frozen value that compares, hashes and pickles. WINDOWS are those that views may have.

    Times are int64 microseconds since 1970-01-01T00:00Z, from TIME_MIN to TIME_MAX; panes are int64 numbers.
    """

    def pane(self, times_us: Ints) -> Ints:
        """The number of each event time's pane. Called once for each block that is folded."""

    def start(self, panes: Ints) -> Ints:
        """The first microsecond of each pane, a group's `window_start`. Called with the panes that a block touches.

        The usual mistake: a start after an event of its pane; a night then writes a date before all of it is folded.
        """

    def last_date(self, day: str) -> str:
        """The last date (ISO, UTC) that an event in a pane starting on `day` may have, or a later one.

        Called by a night, which keeps `day` open until it has folded all events up to that date; later costs memory.
        """

    def canonical(self) -> str:
        """The window in the view's fingerprint: equal if and only if the panes are.

        The usual mistake: to word it anew, which changes the fingerprint, so that workers and nights refuse.
        """


@dataclass(frozen=True)
class Tumbling(metaclass=Declared):
    """Windows [k * size_us, (k + 1) * size_us) since 1970-01-01T00:00Z, for every whole k; an event is in exactly one."""

    size_us: int

    def pane(self, times_us: Ints) -> Ints:
        """k, rounded down before 1970 too."""
        return times_us // self.size_us

    def start(self, panes: Ints) -> Ints:
        """k * size_us."""
        return panes * self.size_us

    def last_date(self, day: str) -> str:
        """`day` itself where windows never reach over midnight."""
        if DAY_US % self.size_us == 0:
            return day
        more = self.size_us // DAY_US - 1 if self.size_us % DAY_US == 0 else self.size_us // DAY_US + 1
        return str(date.fromordinal(min(date.fromisoformat(day).toordinal() + more, date.max.toordinal())))

    def canonical(self) -> str:
        """The size."""
        return f"window_us {self.size_us}"

    def __str__(self) -> str:
        return f"tumbling({timedelta(microseconds=self.size_us)})"


WINDOWS: tuple[type[Window], ...] = (Tumbling,)


@declares
def tumbling(*, days: int = 0, hours: int = 0, minutes: int = 0, seconds: int = 0) -> Tumbling:
    """Half-open windows of one length, aligned to 1970-01-01T00:00Z (so weeks begin on a Thursday); 1 s to 366 days."""
    given = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
    wrong = [
        f"{name}={value!r}"
        for name, value in given.items()
        if isinstance(value, bool) or not isinstance(value, int | float)
    ]
    if wrong:
        raise DefinitionError(f"tumbling({', '.join(wrong)}): allowed are whole numbers")
    try:
        size = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (OverflowError, ValueError):  # beyond what a timedelta holds; NaN
        size = timedelta(0)
    if not timedelta(seconds=1) <= size <= timedelta(days=366) or size % timedelta(seconds=1):
        said = ", ".join(f"{name}={value}" for name, value in given.items() if value)
        raise DefinitionError(f"tumbling({said}): allowed are whole seconds from 1 second to 366 days")
    return Tumbling(size // MICROSECOND)
