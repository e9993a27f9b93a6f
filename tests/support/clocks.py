"""A clock that a test moves by hand: pipeline.handover.Clock.

Invariant: time passes only when the test says so, or when somebody waits; nobody sleeps.
"""

import threading
from collections.abc import Callable


class HandClock:
    """Starts at 0. A wait takes all of its time at once, after `waited(event)` was called."""

    def __init__(self, waited: Callable[[threading.Event], object] = lambda event: None) -> None:
        self.now_s = 0.0
        self.waits_s: list[float] = []
        self._waited = waited

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return self.now_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits_s.append(seconds)
        self.now_s += seconds
        self._waited(event)
        return event.is_set()
