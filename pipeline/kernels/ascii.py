"""Texts of ASCII characters alone, cleaned: characters taken out, one case, no blanks around. ASCII is its own Unicode form.

ascii[i] = 1  =>  text i is what it becomes        0: it has other characters, and is left to Python, empty here
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import HIGH_BITS, byte, set_byte, word
from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS32, kernel

Array = np.ndarray[Any, Any]

KEEP, LOWER, UPPER = 0, 1, 2  # cases


@njit(forceinline=True)
def _is_ascii(data, at, end):  # type: ignore[no-untyped-def]
    while at + 8 <= end:
        if word(data, at) & HIGH_BITS:
            return False
        at += 8
    while at < end:
        if byte(data, at) >= 128:
            return False
        at += 1
    return True


@njit(forceinline=True)
def _is_blank(found):  # type: ignore[no-untyped-def]
    return found == 32 or 9 <= found <= 13


@kernel((READ_INTS32, READ_BYTES, READ_BYTES, INT64, INT64))
def clean_ascii(offsets: Array, data: Array, dropped: Array, case: int, trim: int) -> tuple[Array, Array, Array]:
    """(offsets int32 (n + 1,), bytes uint8, ascii uint8 (n,)) of texts data[offsets[i]:offsets[i + 1]].

    dropped[c] (uint8, 128) says that character c is taken out, first; then the case; `trim` (0, 1) last. All arrays are contiguous.
    """
    n = len(offsets) - 1
    ends, ascii = np.zeros(n + 1, np.int32), np.zeros(n, np.uint8)
    out = np.empty(offsets[n] - offsets[0], np.uint8)
    source, target, filled = data.ctypes.data, out.ctypes.data, np.int64(0)
    for i in range(n):
        at, stop, first = np.int64(offsets[i]), np.int64(offsets[i + 1]), filled
        if _is_ascii(source, at, stop):
            ascii[i] = 1
            for k in range(at, stop):
                found = byte(source, k)
                if dropped[found] or (trim and filled == first and _is_blank(found)):
                    continue
                if (case == LOWER and 65 <= found <= 90) or (case == UPPER and 97 <= found <= 122):
                    found = found ^ 32
                set_byte(target, filled, found)
                filled += 1
            while trim and filled > first and _is_blank(byte(target, filled - 1)):
                filled -= 1
        ends[i + 1] = filled
    return ends, out[:filled], ascii


__all__ = ["KEEP", "LOWER", "UPPER", "clean_ascii"]
