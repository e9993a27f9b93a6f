"""The shortest schedule found that breaks in the same way: decisions are left out, ever fewer at a time.

shrink(played).broken is of the kind of played.broken        |shrink(played).decisions| <= |played.decisions|
"""

import time
from collections.abc import Callable, Sequence

from simulation.play import Played
from simulation.schedule import Decision

Replay = Callable[[Sequence[Decision]], Played]


def kind(broken: str) -> str:
    """Sort of failure: STUCK, an exception's name, or a wrong answer."""
    first = broken.partition(" ")[0]
    return first if first.endswith(":") else "answer"


def shrink(found: Played, replay: Replay, within_s: float = 60.0) -> Played:
    """Leave out decisions for as long as it still breaks; at most about `within_s` seconds."""
    assert found.broken is not None
    wanted, until = kind(found.broken), time.monotonic() + within_s
    size = max(1, len(found.decisions) // 2)
    while size:
        start, less = 0, False
        while start < len(found.decisions) and time.monotonic() < until:
            tried = replay(found.decisions[:start] + found.decisions[start + size :])
            if tried.broken is not None and kind(tried.broken) == wanted:
                found, less = tried, True
            else:
                start += size
        if time.monotonic() >= until:
            break
        size = size // 2 if size > 1 else (1 if less else 0)
    return found
