"""Actors that take turns: each runs in a thread of its own, and only while it holds the baton.

    at any time at most one thread runs, so what happens is a function of the decisions alone

An actor gives the baton back at a point (between two calls of store, log or lake). There it may be killed: then Crashed is raised
at that point and at every later one, so that nothing it does while it unwinds reaches anybody.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass


class Crashed(BaseException):
    """The process died here: no handler of the code under test may go on from it."""


@dataclass(frozen=True)
class Decision:
    """One step of a schedule: let `actor` run for `points` points, after `fate` befalls it.

    Fates of a worker, its renewer (the thread that renews its leases), night, operator, load, refold, init (a rebuild): run, crash (of the
    whole process), lose (its next transaction lands, the reply does not), refuse (it does not land), delay (it lands at some later
    decision, or never). The log's actors append; `clock` lets `points` seconds pass; `network` delivers the oldest delayed transaction,
    or drops it.
    """

    actor: str
    points: int
    fate: str = "run"

    def __str__(self) -> str:
        return f"{self.actor}:{self.points}:{self.fate}"


class Actor:
    """A process: `body` runs until it returns, raises, or is killed."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name, self.body = name, body
        self.budget = 0
        self.fate = "run"
        self.dead = False
        self.done = False
        self.error: BaseException | None = None
        self._mine, self._back = threading.Lock(), threading.Lock()  # held while it is the other's turn
        self._mine.acquire()
        self._back.acquire()
        self._thread: threading.Thread | None = None

    def run(self, points: int) -> None:
        """Let it go on for so many points; returns when it gave the baton back, or ended."""
        if self.done:
            return
        self.budget = points
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name=self.name, daemon=True)
            self._thread.start()
        self._mine.release()
        self._back.acquire()

    def kill(self) -> None:
        """Die where it is."""
        self.dead = True
        if self._thread is None:
            self.done = True
        while not self.done:
            self.run(1)

    def _live(self) -> None:
        self._mine.acquire()
        try:
            if not self.dead:
                self.body()
        except Crashed:
            self.dead = True
        except BaseException as error:  # whatever the code under test raises is for the scheduler to judge
            self.error = error
        self.done = True
        self._back.release()

    def point(self) -> None:
        """A place where others may run. Called in its own thread."""
        if self.dead:
            raise Crashed
        self.budget -= 1
        if self.budget > 0:
            return
        self._back.release()
        self._mine.acquire()
        if self.dead:
            raise Crashed


@dataclass
class Reach:
    """Crash points: each is a point where others may run."""

    point: Callable[[str], None]

    def reach(self, name: str) -> None:
        self.point(name)
