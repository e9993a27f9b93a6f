"""The row that is valid at a time, among the rows of one key.

    found(i) = the last row r of group[i] with froms[r] <= times[i], if times[i] < tos[r]; else -1

Rows of a group stand together, by `froms` rising, and their stretches [from, to) do not overlap.
"""

from typing import Any

import numpy as np

from pipeline.kernels.compiling import READ_INTS, kernel

Array = np.ndarray[Any, Any]


@kernel((READ_INTS, READ_INTS, READ_INTS, READ_INTS, READ_INTS))
def valid_rows(group: Array, times: Array, starts: Array, froms: Array, tos: Array) -> Array:
    """int64 (n,): for each event the row valid at its time (int64), -1 where its group is -1 or no row is valid.

    `starts` int64 (groups + 1,): rows of group g are [starts[g], starts[g + 1]). The usual mistake: open ends that are 0, and not the
    least and the greatest int64.
    """
    found = np.full(len(group), -1, np.int64)
    for i in range(len(group)):
        if group[i] < 0:
            continue
        low, high = starts[group[i]], starts[group[i] + 1]
        while low < high:  # the first row that begins after the time
            middle = (low + high) >> 1
            if froms[middle] <= times[i]:
                low = middle + 1
            else:
                high = middle
        row = low - 1
        if row >= starts[group[i]] and times[i] < tos[row]:
            found[i] = row
    return found
