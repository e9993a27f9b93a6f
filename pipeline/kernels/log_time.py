"""T, the time of a partition's log: as its records' timestamps have it, but never back, and forward an hour a record at most.

    T(o) = max(T(o-1), min(timestamp(o), T(o-1) + STEP_MS))        T = timestamp of the first record that has one; before it NONE

So one record from a clock in the future moves it by an hour, not to the future; after a pause T lags, and remembers longer.
"""

from typing import Any

import numpy as np

from pipeline.kernels.compiling import INT64, READ_INTS, kernel

Array = np.ndarray[Any, Any]

STEP_MS = 3_600_000
NONE = -1  # no record so far had a timestamp


@kernel((READ_INTS, INT64))
def log_times(timestamps: Array, before: int) -> tuple[Array, int]:
    """(T of each record, int64 (n,), and after the last), from timestamps in ms (below 0: none), int64 (n,), and T before them.

    T is NONE, and counts as 0 for a record, as long as none had a timestamp.
    """
    out = np.empty(len(timestamps), np.int64)
    now = before
    for i in range(len(timestamps)):
        at = timestamps[i]
        if at >= 0:
            now = at if now < 0 else max(now, min(at, now + STEP_MS))
        out[i] = max(now, 0)
    return out, now
