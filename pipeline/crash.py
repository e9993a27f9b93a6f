"""Crash points: places by name where a process may be told to die, so that tests can kill it exactly there.

    WATERSHED_CRASH=name      the process dies (SIGKILL, no clean-up) when it reaches that point for the first time
    WATERSHED_CRASH=name:3    ... for the third time

Production sets nothing and pays one dictionary look-up. POINTS lists every name; a test hits each.
"""

import os
import signal
from collections import Counter
from dataclasses import dataclass, field

from pipeline.errors import SettingsError
from pipeline.handover import CrashPoints, NoCrash

POINTS = (
    "lake.before_fsync",
    "lake.before_rename",
    "lake.after_rename",
    "archive.start",
    "fold.before_manifest",
    "cut.before_file",
    "night.before_stage",
    "night.after_stage",
    "night.before_publish",
    "night.after_publish",
    "speed.before_commit",
    "speed.after_commit",
)


@dataclass
class DieAt:
    """Dies when `name` is reached for the `time`-th time."""

    name: str
    time: int
    seen: Counter[str] = field(default_factory=Counter)

    def reach(self, name: str) -> None:
        """Count, and die if it is the time."""
        self.seen[name] += 1
        if name == self.name and self.seen[name] == self.time:
            os.kill(os.getpid(), signal.SIGKILL)


def crash_points() -> CrashPoints:
    """What the environment asks for; SettingsError for a name that is no crash point."""
    wanted = os.environ.get("WATERSHED_CRASH", "")
    if not wanted:
        return NoCrash()
    name, _, time = wanted.partition(":")
    if name not in POINTS or not (time or "1").isdigit():
        raise SettingsError(f"WATERSHED_CRASH={wanted!r} names no crash point; there are {', '.join(POINTS)}")
    return DieAt(name, int(time or 1))
