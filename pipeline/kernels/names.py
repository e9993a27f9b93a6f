"""Names of a JSON object's fields: which declared one each is.

    edge_of(name) = the one of [low, high) that it is, UNKNOWN when it is none; nobody asks whether an undeclared one was given before

`held` is a scratch of int64 that goes from field to field: where the texts that were written without escapes end, and a stack of the
declared objects that are open. All arrays are addresses (kernels.bytes).
"""

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte, int_at

UNKNOWN = -1
DEPTH_LIMIT = 64
TAIL, AROUND = 0, 1  # places in `held`: PUSHED from AROUND on for each declared object or array that is open
PUSHED = 3  # node, place, likely edge
HELD = AROUND + PUSHED * DEPTH_LIMIT


@njit(forceinline=True)
def _is_name(data, start, size, names, first):  # type: ignore[no-untyped-def]
    for k in range(size):  # noqa: SIM110 -- a generator is no loop to the compiler
        if byte(data, start + k) != byte(names, first + k):
            return False
    return True


@njit(forceinline=True)
def edge_of(data, start, end, names, starts, low, high, likely):  # type: ignore[no-untyped-def]
    """The declared one of the names [low, high) that stands at [start, end), UNKNOWN when none does; `likely` is tried first."""
    size = end - start
    edge = likely
    for _ in range(high - low):
        first = int_at(starts, edge)
        if int_at(starts, edge + 1) - first == size and _is_name(data, start, size, names, first):
            return edge
        edge = edge + 1 if edge + 1 < high else low
    return np.int64(UNKNOWN)
