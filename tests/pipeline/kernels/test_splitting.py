"""Rows, fields and elements as the kernels cut them, block by block, against a plain cut of the whole text.

cut(block), cut(block), ... = the plain cut of all blocks at once, wherever they end and whatever is wrong in them
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from pipeline.kernels import cache
from pipeline.kernels.splitting import (
    CLOSED,
    COMMA,
    ENDLESS,
    FIRST,
    MALFORMED,
    NEXT,
    UNCLOSED,
    WHOLE,
    WRONG,
    elements_of,
    fields_of,
    rows_of,
    skipped,
)

ROOT = Path(__file__).resolve().parents[3]
LF, CR, NONE, FAR = 10, 13, -1, 1 << 20
quick = settings(max_examples=600, deadline=None, database=None)
Row = tuple[int, int, bytes, list[bytes]]  # line, state, its bytes, its fields (none unless it is whole)


def texts(alphabet: str, most: int = 40) -> st.SearchStrategy[bytes]:
    """Texts of these signs alone, so that each meets each."""
    return st.text(st.sampled_from(alphabet), max_size=most).map(str.encode)


SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=6)
MOST = st.sampled_from((1, 2, 3, 1000))


def blocks(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """The data in blocks of these sizes, again and again."""
    at = n = 0
    while at < len(data):
        yield data[at : at + sizes[n % len(sizes)]]
        at += sizes[n % len(sizes)]
        n += 1


# --- rows and fields -----------------------------------------------------------------------------------------------------------


def plain_rows(data: bytes, delimiter: int, quote: int, newline: int) -> Iterator[Row]:
    """The rows as the module's docstring says, one sign at a time."""
    at = line = 0
    while at < len(data):
        end, fields, state = plain_row(data, at, delimiter, quote, newline)
        if state != WHOLE:
            end = data.find(newline, at) if newline in data[at:] else len(data)
        row = data[at:end]
        trimmed = row[:-1] if newline != CR and row.endswith(b"\r") else row
        if trimmed:
            yield line, state, trimmed, fields if state == WHOLE else []
        line += row.count(newline) + 1
        at = end + 1


def plain_row(data: bytes, at: int, delimiter: int, quote: int, newline: int) -> tuple[int, list[bytes], int]:
    """(its end, its fields, its state)."""
    fields: list[bytes] = []
    sign = bytes([quote]) if quote >= 0 else None
    while True:
        if data[at : at + 1] == sign:
            text = b""
            at += 1
            while data[at : at + 1] != sign or data[at + 1 : at + 2] == sign:
                if at >= len(data):
                    return at, [], UNCLOSED
                text += data[at : at + 1]
                at += 2 if data[at] == quote else 1
            at += 1
            rest = data[at : at + 2]
            if newline != CR and (rest == b"\r" or rest == b"\r" + bytes([newline])):
                at += 1
            elif rest and rest[0] not in (delimiter, newline):
                return at, [], MALFORMED
        else:
            start = at
            while at < len(data) and data[at] not in (delimiter, newline):
                at += 1
            text = data[start:at]
            if newline != CR and (at == len(data) or data[at] == newline) and text.endswith(b"\r"):
                text = text[:-1]
        fields.append(text)
        if at >= len(data) or data[at] == newline:
            return at, fields, WHOLE
        at += 1


def cut_rows(
    data: bytes, sizes: Sequence[int], most: int, delimiter: int, quote: int, newline: int, longest: int = FAR
) -> list[Row]:
    """The rows by the kernels, which are given the data in blocks, and what they leave again before the next."""
    found, held, line, final, rest = list[Row](), b"", 0, False, blocks(data, sizes)
    while True:
        whole: Any = np.frombuffer(held, np.uint8)
        cut: Any = rows_of(whole, int(final), delimiter, quote, newline, longest, most)
        begin, end, lines, fields, state, consumed, behind = cut
        good = np.flatnonzero(state == WHOLE)
        cells = {
            n: cells_of(whole, begin[n : n + 1], end[n : n + 1], int(fields[n]), delimiter, quote)
            for n in good.tolist()
        }
        found += [
            (line + int(lines[n]), int(state[n]), held[begin[n] : end[n]], cells.get(n, [])) for n in range(len(begin))
        ]
        if len(state) and state[-1] == ENDLESS:
            return found
        line, held = line + int(behind), held[consumed:]
        if len(begin) < most:
            if final:
                return found
            block = next(rest, b"")
            held, final = held + block, not block


def cells_of(data: Any, begin: Any, end: Any, fields: int, delimiter: int, quote: int) -> list[bytes]:
    cut: Any = fields_of(data, begin, end, fields, delimiter, quote)
    first, last, more = cut
    both = data.tobytes() + more.tobytes()
    return [both[first[f, 0] : last[f, 0]] for f in range(fields)]


@quick
@example(b'a,"b\r\n""c"\r\n\r\n"x"y\n"never,\nz,', [1], 1, (44, 34, LF))
@example(b'"a"\r', [1], 1, (44, 34, LF))
@example(b'""""', [3, 1], 1, (44, 34, LF))
@given(
    texts('a,;"\n\r') | st.text(max_size=20).map(str.encode),
    SIZES,
    MOST,
    st.sampled_from(((44, 34, LF), (44, 34, CR), (NONE, NONE, LF), (59, NONE, LF), (44, 59, LF))),
)
def test_rows_and_fields_equal_the_plain_ones_at_every_border(
    data: bytes, sizes: list[int], most: int, signs: tuple[int, int, int]
) -> None:
    assert cut_rows(data, sizes, most, *signs) == list(plain_rows(data, *signs))


@quick
@given(texts('ab,"\n\r', 60), SIZES, MOST, st.integers(1, 12))
def test_rows_that_are_too_long_are_told_of_alike_wherever_blocks_end(
    data: bytes, sizes: list[int], most: int, longest: int
) -> None:
    """An ENDLESS row is told by its line; of its bytes those count that were there."""
    once = cut_rows(data, [len(data) + 1], 1000, 44, 34, LF, longest)
    found = cut_rows(data, sizes, most, 44, 34, LF, longest)
    bare = [
        [(line, state, b"" if state == ENDLESS else row, cells) for line, state, row, cells in of]
        for of in (once, found)
    ]
    assert bare[0] == bare[1]
    for (line, state, row, cells), wanted in zip(found, plain_rows(data, 44, 34, LF), strict=False):
        if state == ENDLESS or (line, state, row, cells) != wanted:
            assert len(wanted[2]) + 1 > longest or state == UNCLOSED, (
                "a row (and its CR) within the limit is cut as without one"
            )
            break


@quick
@given(st.lists(texts('a,"\n\r', 6), min_size=1, max_size=5), st.binary(max_size=3))
def test_fields_that_were_written_in_quotes_are_read_as_they_were(fields: list[bytes], other: bytes) -> None:
    row = b",".join(b'"' + field.replace(b'"', b'""') + b'"' for field in fields)
    ((_, state, _, found),) = cut_rows(row + b"\r\n", [5], 10, 44, 34, LF)
    assert state == WHOLE and found == fields
    count = cut_rows(other + b"\n" + row, [4], 10, NONE, NONE, CR)
    assert len(count) == (
        0 if not other and not row else len([line for line in (other + b"\n" + row).split(b"\r") if line])
    )


def test_one_stray_quote_costs_one_row_and_not_the_file() -> None:
    lines = [b'a,"b', *(b"%d,x" % n for n in range(50)), b'c"d,"e"']
    for data in (b"\n".join(lines), b"\r\n".join(lines)):
        found = cut_rows(data, [3], 7, 44, 34, LF)
        # The quote of the first line closes at c"d, where its field goes on: the first line alone is lost.
        assert [(line, state) for line, state, _, _ in found] == [(0, MALFORMED), *((n, WHOLE) for n in range(1, 52))]


# --- elements of arrays of JSON --------------------------------------------------------------------------------------------------

TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
MORE = -1  # what comes is not there yet


def plain_elements(data: bytes) -> tuple[list[bytes], int, int]:
    """(elements, CLOSED, WRONG or MORE, where)."""
    found, at, phase = list[bytes](), 0, FIRST
    while True:
        at += len(data[at:]) - len(data[at:].lstrip(b" \n\r\t"))
        if at == len(data):
            return found, MORE, at
        sign = data[at : at + 1]
        if sign == b"]" and phase != NEXT:
            return found, CLOSED, at + 1
        if phase == COMMA and sign == b",":
            at, phase = at + 1, NEXT
            continue
        if phase == COMMA or sign in b",}]:":
            return found, WRONG, at
        end = plain_end(data, at)
        if end is None:
            return found, MORE, at
        found.append(data[at:end])
        at, phase = end, COMMA


def plain_end(data: bytes, at: int) -> int | None:
    """The end of the element that begins there, by its brackets and quotes alone; None while it is not there."""
    depth = 0
    while at < len(data):
        sign = data[at : at + 1]
        if sign == b'"':
            text = TEXT.match(data, at)
            if text is None:
                return None
            at = text.end()
            if depth == 0:
                return at
            continue
        if depth == 0 and (sign in b",]}" or sign <= b" "):
            return at
        depth += (sign in b"[{") - (sign in b"]}")
        at += 1
        if depth == 0 and sign in b"]}":
            return at
    return None


def cut_elements(data: bytes, sizes: Sequence[int], most: int) -> tuple[list[bytes], int, int]:
    """The same by the kernel, block by block."""
    found, held, gone, phase, rest = list[bytes](), b"", 0, FIRST, blocks(data, sizes)
    while True:
        cut: Any = elements_of(np.frombuffer(held, np.uint8), 0, phase, 0, most)
        begin, end, consumed, phase = cut
        found += [held[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)]
        held, gone = held[consumed:], gone + int(consumed)
        if phase in (CLOSED, WRONG):
            return found, int(phase), gone
        if len(begin) < most:
            block = next(rest, b"")
            if not block:
                return found, MORE, gone
            held += block


@quick
@example(b'"\\', [1], 1)
@example(b'{"a": "\\""}, [1, {}] ,"]", 1]', [1], 1)
@given(texts('[]{},:"\\ 1\n'), SIZES, MOST)
def test_elements_equal_the_plain_ones_at_every_border(data: bytes, sizes: list[int], most: int) -> None:
    assert cut_elements(data, sizes, most) == plain_elements(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(("\\", '"', "]", '\\"', "},{")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@quick
@given(st.lists(VALUES, max_size=6), SIZES, MOST, st.sampled_from((None, 0, 2)), st.booleans())
def test_an_array_that_was_written_is_cut_into_its_elements(
    values: list[Any], sizes: list[int], most: int, indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    found, outcome, at = cut_elements(data[1:] + b" tail", sizes, most)
    assert [json.loads(one) for one in found] == values and outcome == CLOSED and at == len(data) - 1


def plain_skip(data: bytes, depth: int) -> int | None:
    """The place behind the bracket that brings the depth to 0."""
    at = 0
    while at < len(data) and depth > 0:
        text = TEXT.match(data, at)
        if text is None and data[at] == 34:
            return None
        if text is not None:
            at = text.end()
            continue
        depth += (data[at] in b"[{") - (data[at] in b"]}")
        at += 1
    return at if depth == 0 else None


@quick
@given(texts('[]{}"\\1'), SIZES, st.integers(1, 3))
def test_what_is_skipped_ends_where_the_plain_way_ends(data: bytes, sizes: list[int], depth: int) -> None:
    wanted, gone, inside, left = plain_skip(data, depth), 0, 0, depth
    for block in blocks(data, sizes):
        at, left, inside = skipped(np.frombuffer(block, np.uint8), 0, left, inside)
        gone += int(at)
        if left == 0:
            break
    assert (gone if left == 0 else None) == wanted


# --- bounds ------------------------------------------------------------------------------------------------------------------------

BEYOND = """
import numpy as np
from pipeline.kernels.splitting import fields_of
try:
    fields_of(np.zeros(3, np.uint8), np.array([0]), np.array([9]), 1, 44, 34)
except IndexError:
    print("checked")
"""


@pytest.mark.slow
def test_no_kernel_reads_or_writes_beyond_its_arrays(tmp_path: Path) -> None:
    """All of the above again, compiled with bounds that are checked, in a folder of compiled code of its own."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", cache.VARIABLE: str(tmp_path / "kernels")}
    run: dict[str, Any] = {
        "cwd": ROOT,
        "env": environment,
        "text": True,
        "capture_output": True,
        "timeout": 500,
        "check": False,
    }
    done = subprocess.run([sys.executable, "-c", BEYOND], **run)
    assert done.stdout == "checked\n", done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", __file__], **run
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"[1-9]\d* passed", done.stdout)
