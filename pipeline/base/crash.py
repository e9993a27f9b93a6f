"""Crash points: places by name where a process may be told to die, so that tests can kill it exactly there.

    WATERSHED_CRASH=name      the process dies (SIGKILL, no clean-up) when it reaches that point for the first time
    WATERSHED_CRASH=name:3    ... for the third time
    WATERSHED_CRASH=name:3:stop    the process is stopped (SIGSTOP) there instead, until somebody sends SIGCONT

Production sets nothing and pays one dictionary look-up. POINTS lists every name; a test hits each.
"""

import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.base.counts import Counts as Counts
from pipeline.base.counts import ViewCounts as ViewCounts
from pipeline.base.errors import SettingsError

POINTS = (
    "lake.before_fsync",
    "lake.before_rename",
    "lake.after_rename",
    "lake.durable",
    "lake.uploaded",  # on S3, between the upload and the copy to its name
    "archive.start",
    "fold.before_manifest",
    "choose.written",
    "cut.before_file",
    "night.before_stage",
    "stage.copied",
    "stage.written",
    "night.after_stage",
    "night.before_publish",
    "publish.locked",
    "publish.written",
    "night.after_publish",
    "speed.before_commit",
    "speed.copied",
    "speed.locked",
    "speed.written",
    "speed.after_commit",
    "snapshot.recorded",
    "snapshot.written",
    "snapshot.deleted",
    "rollback.written",
    "purge.marked",
    "purge.written",
    "lake.deleted",  # of a purge: one file after another
    "rebuild.written",  # `watershed rebuild`, before its commit
    "rebuild.begun",  # `watershed init --rebuild`: the new generation is there, and empty
    "rebuild.folded",
    "activate.written",
    "load.written",  # `watershed load`: the version's files are there, and nothing names them
    "load.noted",  # in Postgres, before its commit
    "load.committed",  # in Postgres for good, and not in the lake
    "load.copied",  # the manifest is in the lake
    "adopt.written",
    "load.adopted",  # in force in every topic, and not shown
    "load.exposed",  # tables.<name> has its rows, before the commit
    "replay.begun",  # `watershed replay`: what will be sent is noted, and nothing is sent
    "replay.sent",  # in the log, and Kafka's transaction is open
    "replay.committed",  # there for good, and not marked
    "replay.marked",
    "replay.kept",  # of a feed: the file that says what is taken is there, and no cursor names it
    "feed.sent",  # records of a feed are in the log, and Kafka's transaction is open
    "feed.offsets",  # so is how far the feed has come
    "feed.before_commit",
    "feed.after_commit",
)


class CrashPoints(Protocol):
    """A place by name where a process may die; production passes one that does nothing."""

    def reach(self, name: str) -> None:
        """Called at the place; ends the process, raises what nothing of ours catches, or does nothing."""


@dataclass(frozen=True)
class NoCrash:
    """Production's crash points."""

    def reach(self, name: str) -> None:
        """Go on."""


@dataclass
class DieAt:
    """Dies, of the signal `by`, when `name` is reached for the `time`-th time."""

    name: str
    time: int
    by: signal.Signals = signal.SIGKILL
    seen: Counter[str] = field(default_factory=Counter)

    def reach(self, name: str) -> None:
        """Count, and die if it is the time."""
        self.seen[name] += 1
        if name == self.name and self.seen[name] == self.time:
            os.kill(os.getpid(), self.by)


def crash_points() -> CrashPoints:
    """Crash points that the environment asks for; SettingsError for a name that is none."""
    wanted = os.environ.get("WATERSHED_CRASH", "")
    if not wanted:
        return NoCrash()
    name, _, rest = wanted.partition(":")
    time, _, action = rest.partition(":")
    if name not in POINTS or not (time or "1").isdigit() or action not in ("", "stop"):
        raise SettingsError(
            f"WATERSHED_CRASH={wanted!r} is not NAME, NAME:n or NAME:n:stop; crash points there are {', '.join(POINTS)}"
        )
    return DieAt(name, int(time or 1), signal.SIGSTOP if action else signal.SIGKILL)
