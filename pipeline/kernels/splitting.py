"""Texts of many rows, cut where rows and fields end: lines with delimiters and quotes, and the elements of one JSON array.

    data = row, line's end, row, ...        cut(block + block) = cut(block), cut(block), whatever lies on the border

A quote opens a field only at its beginning, and is doubled inside of one; delimiters and ends of lines inside are the field's. A row whose
quotes are wrong is its first line alone, and the next line is a row again: one stray quote costs one row, not the file.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS, kernel

Array = np.ndarray[Any, Any]
WHOLE, MALFORMED, UNCLOSED, ENDLESS = 0, 1, 2, 3  # states of a row
FIRST, COMMA, NEXT, CLOSED, WRONG = 0, 1, 2, 3, 4  # phases of an array: what may come
CR, QUOTE, BACKSLASH, OPEN, CLOSE, BRACKET, BRACKET_CLOSE = 13, 34, 92, 123, 125, 91, 93


@njit(nogil=True)
def _quoted(
    data: Any, begin: Any, pos: Any, final: Any, delimiter: Any, quote: Any, newline: Any, longest: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """(pos, state, more, lines, first) behind a field whose quote opened before `pos`, of the row that begins at `begin`.

    `more`: it cannot be told before what follows is there; `lines` ends of lines inside of it, the first of them at `first`, or -1.
    """
    size, lines, first, closed = len(data), 0, -1, False
    while pos < size and pos - begin <= longest:
        c = data[pos]
        if c == quote:
            if pos + 1 == size and not final:
                return pos, WHOLE, True, lines, first
            if pos + 1 == size or data[pos + 1] != quote:
                closed = True
                pos += 1
                break
            pos += 1
        elif c == newline:
            lines += 1
            if first < 0:
                first = pos
        pos += 1
    if not closed:
        lost = bool(final) or pos - begin > longest
        return pos, UNCLOSED if lost else WHOLE, not lost, lines, first
    if pos == size or data[pos] == delimiter or data[pos] == newline:
        return pos, WHOLE, False, lines, first
    if data[pos] == CR and newline != CR:
        if pos + 1 == size:
            return pos, WHOLE, not final, lines, first
        if data[pos + 1] == newline:
            return pos, WHOLE, False, lines, first
    return pos, MALFORMED, False, lines, first


@kernel((READ_BYTES, INT64, INT64, INT64, INT64, INT64, INT64))
def rows_of(
    data: Array, final: int, delimiter: int, quote: int, newline: int, longest: int, most: int
) -> tuple[Array, Array, Array, Array, Array, int, int]:
    """(begin, end, line, fields, state, consumed, lines) of up to `most` rows of data; begin, end, line int64, fields int32, state uint8.

    `line` counts from 0 at the start of data; `consumed` bytes of `lines` lines are dealt with, and the rest is to come again, before what
    follows, unless `final`. Blank lines are no rows. `delimiter` or `quote` -1: there is none. A row of more than `longest` bytes without
    an end is ENDLESS, one whose quote does not close within them UNCLOSED.
    """
    begin, end, line = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    fields, state = np.empty(most, np.int32), np.empty(most, np.uint8)
    size, found, at, lines = len(data), 0, 0, 0
    while at < size and found < most:
        pos, many, what, inner, first_end, fresh, stop = at, 1, 0, 0, -1, True, -1
        while pos < size:
            c = data[pos]
            if fresh and c == quote:
                pos, what, more, crossed, first = _quoted(data, at, pos + 1, final, delimiter, quote, newline, longest)
                inner, fresh = inner + crossed, False
                first_end = first if first_end < 0 else first_end
                if what != WHOLE or more:
                    break
                continue
            if c == newline:
                stop = pos
                break
            fresh = c == delimiter
            many += 1 if fresh else 0
            pos += 1
            if pos - at > longest:
                what = ENDLESS
                break
        if what == MALFORMED or what == UNCLOSED:  # noqa: SIM109 -- no tuple in a compiled loop
            inner = 0
            stop = first_end
            while stop < 0 and pos < size and pos - at <= longest:
                if data[pos] == newline:
                    stop = pos
                pos += 1
            if stop < 0:
                if pos - at > longest:
                    what = ENDLESS
                elif not final:
                    break
        if stop < 0:
            if not final and what == WHOLE:
                break
            stop = size if what != ENDLESS else pos
        behind = min(stop + 1, size)
        trimmed = stop - 1 if stop > at and data[stop - 1] == CR and newline != CR else stop
        if trimmed > at:
            begin[found], end[found], line[found], fields[found], state[found] = at, trimmed, lines, many, what
            found += 1
        lines += inner + 1
        at = behind
        if what == ENDLESS:
            break
    return begin[:found], end[:found], line[:found], fields[:found], state[:found], at, lines


@kernel((READ_BYTES, READ_INTS, READ_INTS, INT64, INT64, INT64))
def fields_of(
    data: Array, begin: Array, end: Array, fields: int, delimiter: int, quote: int
) -> tuple[Array, Array, Array]:
    """(first, last, more): the text of field f of row r is [first[f, r], last[f, r]) of `data` followed by `more`, without its quotes.

    Each row [begin, end) of data is WHOLE and has that many fields; more holds the texts in which a quote was doubled.
    """
    rows = len(begin)
    first, last = np.zeros((fields, rows), np.int64), np.zeros((fields, rows), np.int64)
    more, used, size = np.empty(64, np.uint8), 0, len(data)
    for r in range(rows):
        at, stop = begin[r], end[r]
        for f in range(fields):
            if at < stop and data[at] == quote:
                at += 1
                start, doubled = at, 0
                while not (data[at] == quote and (at + 1 >= stop or data[at + 1] != quote)):
                    if data[at] == quote:
                        doubled += 1
                        at += 1
                    at += 1
                first[f, r], last[f, r] = start, at
                if doubled:
                    length = at - start - doubled
                    while used + length > len(more):
                        more = np.concatenate((more, np.empty(len(more), np.uint8)))
                    first[f, r], last[f, r] = size + used, size + used + length
                    place = start
                    for _ in range(length):
                        more[used] = data[place]
                        place += 2 if data[place] == quote else 1
                        used += 1
                at += 2  # the quote and the delimiter
            else:
                start = at
                while at < stop and data[at] != delimiter:
                    at += 1
                first[f, r], last[f, r] = start, at
                at += 1
    return first, last, more[:used]


@kernel((READ_BYTES, INT64, INT64, INT64, INT64))
def elements_of(data: Array, at: int, phase: int, final: int, most: int) -> tuple[Array, Array, int, int]:
    """(begin, end, consumed, phase) of up to `most` elements of a JSON array, int64, from `at` on; the phase is FIRST behind its bracket.

    CLOSED: consumed is behind the closing bracket. WRONG: at consumed stands what no array has there. Else the rest is to come again, from
    consumed on, before what follows; an element is cut by its brackets and quotes alone, whatever is wrong inside.
    """
    begin, end = np.empty(most, np.int64), np.empty(most, np.int64)
    size, found = len(data), 0
    while True:
        while at < size and (data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9):
            at += 1
        if at == size or found == most:
            break
        c = data[at]
        if c == BRACKET_CLOSE and phase != NEXT:
            return begin[:found], end[:found], at + 1, CLOSED
        if phase == COMMA:
            if c != 44:
                return begin[:found], end[:found], at, WRONG
            at += 1
            phase = NEXT
            continue
        if c == 44 or c == CLOSE or c == BRACKET_CLOSE or c == 58:  # noqa: SIM109 -- no tuple in a compiled loop
            return begin[:found], end[:found], at, WRONG
        pos, depth, done = at, 0, False
        while pos < size:
            c = data[pos]
            if c == QUOTE:
                pos += 1
                while pos < size and data[pos] != QUOTE:
                    pos += 2 if data[pos] == BACKSLASH else 1
                if pos >= size:
                    break
                pos += 1
                done = depth == 0
            elif c == OPEN or c == BRACKET:  # noqa: SIM109 -- no tuple in a compiled loop
                depth += 1
                pos += 1
            elif c == CLOSE or c == BRACKET_CLOSE:  # noqa: SIM109 -- no tuple in a compiled loop
                if depth == 0:
                    done = True
                else:
                    depth -= 1
                    pos += 1
                    done = depth == 0
            elif depth == 0 and (c == 44 or c <= 32):
                done = True
            else:
                pos += 1
            if done:
                break
        if not done:
            break
        begin[found], end[found] = at, pos
        found += 1
        at, phase = pos, COMMA
    return begin[:found], end[:found], at, phase


@kernel((READ_BYTES, INT64, INT64, INT64))
def skipped(data: Array, at: int, depth: int, inside: int) -> tuple[int, int, int]:
    """(at, depth, inside) behind the bracket that brings `depth` to 0, or at the end of data, to go on from.

    `inside` is 1 inside of a text, 2 behind a backslash in one, 0 elsewhere.
    """
    size = len(data)
    while at < size and depth > 0:
        c = data[at]
        if inside == 2:
            inside = 1
        elif inside == 1:
            inside = 2 if c == BACKSLASH else 0 if c == QUOTE else 1
        elif c == QUOTE:
            inside = 1
        elif c == OPEN or c == BRACKET:  # noqa: SIM109 -- no tuple in a compiled loop
            depth += 1
        elif c == CLOSE or c == BRACKET_CLOSE:  # noqa: SIM109 -- no tuple in a compiled loop
            depth -= 1
        at += 1
    return at, depth, inside


__all__ = ["elements_of", "fields_of", "rows_of", "skipped"]
