"""Patience with what does not answer yet: a call is made again until it is answered, for a bounded time that is said.

waits  <=>  the call raises one of `passing`        anything else comes out at once, and so does the last of them when time is up
"""

import threading
from collections.abc import Callable
from typing import TypeVar

from pipeline.handover import Clock, SystemClock

T = TypeVar("T")
RETRY_S = 1.0


def wait_out(
    call: Callable[[], T],
    passing: tuple[type[BaseException], ...],
    *,
    patience_s: float,
    say: Callable[[str], None],
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> T:
    """The call's answer, tried every RETRY_S for `patience_s` seconds at most, of which the calls' own time is a part.

    `say` is told why it waits, once per reason. The last error is raised when time is up, and as soon as `stop` is set: a caller that
    was told to end looks at its event. The usual mistake: a call that is not safe to make again after an unknown outcome.
    """
    clock, stop = clock or SystemClock(), stop or threading.Event()
    until_s, said = clock.monotonic() + patience_s, ""
    while True:
        try:
            return call()
        except passing as error:
            left_s = until_s - clock.monotonic()
            if left_s <= 0 or stop.is_set():
                raise
            if str(error) != said:
                said = str(error)
                say(f"{said}; trying again for {left_s:.0f} s more")
            if clock.wait(stop, min(RETRY_S, left_s)):
                raise


class Patient:
    """A caller that waits, as wait_out does; each call has the whole patience."""

    def __init__(self, passing: tuple[type[BaseException], ...], patience_s: float, say: Callable[[str], None]) -> None:
        self.passing, self.patience_s, self.say = passing, patience_s, say

    def __call__(self, call: Callable[[], T], /) -> T:
        return wait_out(call, self.passing, patience_s=self.patience_s, say=self.say)


__all__ = ["Patient", "wait_out"]
