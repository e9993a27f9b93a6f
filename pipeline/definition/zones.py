"""Clocks of zones: which moment a clock on the wall means, from the zone data of the package tzdata, never from the machine's own.

    utc(shown) = the one moment at which the zone's clock shows that        unknown where it never does, or twice

Offsets are a function of the moment, with a step at each transition: [t, u) has the offset o. A clock that shows s means s - o where s
lies in [t + o, u + o) of one such stretch alone. Rules repeat after 400 years (146,097 days, whole weeks), so transitions are looked for
until LAST and what is later is moved back.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from pipeline.base.errors import DefinitionError, did_you_mean

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND, DAY, TEN_DAYS = timedelta(microseconds=1), timedelta(days=1), timedelta(days=10)
FIRST = datetime(1830, 1, 1, tzinfo=UTC)  # before any zone's first transition
RULED = datetime(2100, 1, 1, tzinfo=UTC)  # from here on transitions follow rules, and are months apart
LAST = datetime(2600, 1, 1, tzinfo=UTC)  # 400 years after the last transition that is listed and not of a rule
CYCLE_US = 146_097 * 86_400_000_000
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Clock:
    """A zone's clock: in the stretches [starts, ends) of the times it shows, which rise, it is `offsets` ahead of UTC; int64 us."""

    starts: Ints
    ends: Ints
    offsets: Ints

    def utc(self, shown: Ints) -> tuple[Ints, np.ndarray[Any, np.dtype[np.bool_]]]:
        """(microseconds since 1970, True where they are known) of what the clock shows, as if that were UTC; any shape."""
        late = np.maximum(0, (shown - self.ends[-1]) // CYCLE_US + 1) * CYCLE_US
        within = shown - late
        at = np.maximum(np.searchsorted(self.starts, within, "right") - 1, 0)
        known = (within >= self.starts[at]) & (within < self.ends[at])
        return shown - self.offsets[at], known

    @property
    def version(self) -> str:
        """Eight hex digits: equal where the zone's data is."""
        return sha256(b"".join(part.tobytes() for part in (self.starts, self.ends, self.offsets))).hexdigest()[:8]


def zone_info(key: str) -> ZoneInfo:
    """The zone of that name; DefinitionError when the package tzdata has none."""
    *folders, name = ("zoneinfo", *key.split("/"))
    try:
        with resources.files(".".join(("tzdata", *folders))).joinpath(name).open("rb") as file:
            return ZoneInfo.from_file(file, key)
    except (OSError, ValueError, ImportError):
        names = resources.files("tzdata").joinpath("zones").read_text().split()
        raise DefinitionError(
            f"no zone {key!r}; allowed is a name as 'Europe/Berlin'.{did_you_mean(key, names)}"
        ) from None


@cache
def clock(key: str) -> Clock:
    """The clock of a zone; DefinitionError when there is no such zone."""
    moments, offsets = _stretches(zone_info(key))
    shift = np.array(offsets, np.int64)
    steps = np.array(moments, np.int64)
    least, most = np.minimum(shift[:-1], shift[1:]), np.maximum(shift[:-1], shift[1:])
    far = 2**62
    starts = np.concatenate(([-far], steps + most))
    ends = np.concatenate((steps + least, [(LAST - EPOCH) // MICROSECOND + shift[-1]]))
    there = starts < ends
    return Clock(starts[there], ends[there], shift[there])


def _stretches(zone: ZoneInfo) -> tuple[list[int], list[int]]:
    """(moments of the transitions, offsets before, between and behind them), in microseconds."""
    moments, offsets = list[int](), [_offset(zone, FIRST)]
    day = FIRST
    while day < LAST:
        step = DAY if day < RULED else TEN_DAYS
        found = _offset(zone, day + step)
        while found != offsets[-1]:
            low, high = day, day + step
            if moments and (low - EPOCH) // MICROSECOND < moments[-1]:
                low = EPOCH + timedelta(microseconds=moments[-1])
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
                low, high = (middle, high) if _offset(zone, middle) == offsets[-1] else (low, middle)
            moments.append((high - EPOCH) // MICROSECOND)
            offsets.append(_offset(zone, high))
        day += step
    return moments, offsets


def _offset(zone: ZoneInfo, moment: datetime) -> int:
    found = moment.astimezone(zone).utcoffset()
    assert found is not None
    return found // MICROSECOND
