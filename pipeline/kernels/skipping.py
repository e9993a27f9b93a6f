"""Arrays and objects that nobody declared: looked at to the last byte, and skipped.

    skip(...) = DECODED  <=>  RFC 8259 allows it, at most DEPTH_LIMIT levels deep

One loop without recursion: a bit a level says whether it is an object.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte
from pipeline.kernels.names import DEPTH_LIMIT
from pipeline.kernels.numbers import number_end
from pipeline.kernels.scalars import (
    BROKEN,
    COLON,
    DECODED,
    MINUS,
    NINE,
    QUOTE,
    ZERO,
    literal,
    space,
    string,
)

COMMA, OPEN, CLOSE, BRACKET, BRACKET_CLOSE = 44, 123, 125, 91, 93
ONE = np.uint64(1)


@njit(forceinline=True)
def scalar(data, at, end):  # type: ignore[no-untyped-def]
    """(behind it, state) of a text, number or literal that nobody asks for."""
    first = byte(data, at)
    if first == QUOTE:
        stop, state, _ = string(data, at + 1, end)
        return stop + 1, state
    if first == MINUS or ZERO <= first <= NINE:
        return number_end(data, at, end)
    size, _ = literal(data, at, end)
    return at + size, DECODED if size else BROKEN


@njit(forceinline=True)
def name(data, at, end):  # type: ignore[no-untyped-def]
    """(its first byte, its closing quote, has escapes, where its value begins, state) of the name at `at` and the colon behind it."""
    if byte(data, at) != QUOTE:
        return at, at, False, at, BROKEN
    stop, state, escaped = string(data, at + 1, end)
    behind = space(data, stop + 1, end)
    if state != DECODED or behind >= end or byte(data, behind) != COLON:
        return at + 1, stop, escaped, behind, BROKEN
    value = space(data, behind + 1, end)
    return at + 1, stop, escaped, value, DECODED if value < end else BROKEN


@njit(nogil=True)
def skip(data: Any, at: Any, end: Any, depth: Any) -> Any:
    """(behind it, state) of the array or object at `at`, which is at level `depth` of its event."""
    objects, level, entering = np.uint64(0), np.int64(0), True
    while True:
        if entering:
            if depth + level > DEPTH_LIMIT:
                return at, BROKEN
            is_object = byte(data, at) == OPEN
            objects = objects << ONE | np.uint64(is_object)
            level += 1
            at = space(data, at + 1, end)
            if at >= end:
                return at, BROKEN
            entering = False
        is_object = objects & ONE == ONE
        if byte(data, at) != (CLOSE if is_object else BRACKET_CLOSE):
            while True:  # one field or element after the other
                state = DECODED
                if is_object:
                    _, _, _, at, state = name(data, at, end)
                if state != DECODED or at >= end:
                    return at, state if state != DECODED else BROKEN
                first = byte(data, at)
                if first == OPEN or first == BRACKET:  # noqa: SIM109
                    entering = True
                    break
                at, state = scalar(data, at, end)
                if state != DECODED:
                    return at, state
                at = space(data, at, end)
                if at >= end or byte(data, at) != COMMA:
                    break
                at = space(data, at + 1, end)
                if at >= end:
                    return at, BROKEN
            if entering:
                continue
        while True:  # here it must close, and perhaps what is around it
            if at >= end or byte(data, at) != (CLOSE if objects & ONE == ONE else BRACKET_CLOSE):
                return at, BROKEN
            level -= 1
            at += 1
            if level == 0:
                return at, DECODED
            objects = objects >> ONE
            at = space(data, at, end)
            if at < end and byte(data, at) == COMMA:
                break
        at = space(data, at + 1, end)
        # A closing bracket behind a comma closes nothing.
        if at >= end or byte(data, at) == CLOSE or byte(data, at) == BRACKET_CLOSE:
            return at, BROKEN
