"""Elements of arrays in JSON texts: where each begins and ends.

    array = [ e1 , e2 , ... en ]        elements(array) = the bytes of e1 .. en, without the white space around them

The arrays were looked at before (kernels.json, SPAN): whatever stands in them, RFC 8259 allows it.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte
from pipeline.kernels.compiling import READ_BYTES, READ_INTS, READ_MASK, kernel
from pipeline.kernels.scalars import space
from pipeline.kernels.skipping import BRACKET, BRACKET_CLOSE, OPEN, scalar, skip

Array = np.ndarray[Any, Any]
ROOM = 4  # elements of an array, to begin with


@njit(nogil=True)
def _behind(data: Any, at: Any, end: Any) -> Any:
    """The place behind the element at `at`."""
    first = byte(data, at)
    if first == OPEN or first == BRACKET:  # noqa: SIM109 -- no tuple in a compiled loop
        return skip(data, at, end, 1)[0]
    return scalar(data, at, end)[0]


@kernel((READ_BYTES, READ_INTS, READ_INTS, READ_MASK))
def elements(data: Array, first: Array, last: Array, present: Array) -> tuple[Array, Array, Array]:
    """(row, begin, stop) of each element of the arrays data[first[i]:last[i]] where present[i], in order.

    `row` int64; `begin` and `stop` int32, places in `data`, as kernels.json.parse_events takes them.
    """
    size = ROOM * len(present) + ROOM
    row, begin, stop, found = np.empty(size, np.int64), np.empty(size, np.int32), np.empty(size, np.int32), 0
    address = data.ctypes.data
    for i in range(len(present)):
        if not present[i]:
            continue
        end = last[i]
        at = space(address, first[i] + 1, end)
        while byte(address, at) != BRACKET_CLOSE:
            if found == size:
                row = np.concatenate((row, np.empty(size, np.int64)))
                begin, stop = (
                    np.concatenate((begin, np.empty(size, np.int32))),
                    np.concatenate((stop, np.empty(size, np.int32))),
                )
                size *= 2
            behind = _behind(address, at, end)
            row[found], begin[found], stop[found] = i, at, behind
            found += 1
            at = space(address, behind, end)
            if byte(address, at) != BRACKET_CLOSE:  # a comma
                at = space(address, at + 1, end)
    return row[:found], begin[:found], stop[:found]
