"""Rows that end with a line: a file cut into them in bounded memory, each with the number of the line where it begins.

lines of the file = Σ over stretches of (lines of their rows + blank lines)        stretch + stretch = the file, wherever blocks end
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.origin import BATCH_ROWS, BrokenRow, Numbers
from ingestion.origins.format import BLOCK_BYTES, LONGEST_ROW, Stream, shortened
from pipeline.base.errors import OriginError
from pipeline.columns.arrays import Ints
from pipeline.kernels import json, splitting, texts

WHOLE, MALFORMED, UNCLOSED, ENDLESS = 0, 1, 2, 3  # as kernels.splitting has them
NONE = -1
BOMS = (  # the longer first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
WHY = {
    MALFORMED: "a quote closes, and its field goes on behind it",
    UNCLOSED: "a quote opens in this line, and never closes",
}


@dataclass(frozen=True)
class Dialect:
    """Signs that cut rows: bytes of ASCII, NONE without one."""

    delimiter: int = NONE
    quote: int = NONE
    newline: int = 10


@dataclass(frozen=True)
class Stretch:
    """Rows of a block of bytes: [begin, end) of `data`, the line where each begins (from 1), its number of fields, its state."""

    data: np.ndarray[Any, np.dtype[np.uint8]]
    begin: Ints
    end: Ints
    lines: Numbers
    fields: np.ndarray[Any, np.dtype[np.int32]]
    state: np.ndarray[Any, np.dtype[np.uint8]]

    def raw(self, row: int) -> bytes:
        """The bytes of a row."""
        return self.data[self.begin[row] : self.end[row]].tobytes()

    def texts(self, rows: Ints) -> pa.Array:
        """The whole rows, as a binary array."""
        return gathered(self.data, self.data[:0], self.begin, self.end, rows)

    def broken(self, row: int, reason: str) -> BrokenRow:
        """The row as one that is none."""
        return BrokenRow(int(self.lines[row]), reason, shortened(self.raw(row)))


def gathered(data: Any, more: Any, begin: Any, end: Any, rows: Any) -> pa.Array:
    """The texts [begin, end) of `data` followed by `more`, of these rows, as a binary array."""
    offsets: Any
    found: Any
    offsets, found = json.gather_texts(data, more, begin, end, rows)
    return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(found)])


def not_utf8(values: pa.Array) -> Ints:
    """The rows of a binary array that are no UTF-8."""
    buffers: Any = values.buffers()
    _, bounds, data = buffers
    if data is None or not data.size:
        return np.zeros(0, np.int64)
    offsets = np.frombuffer(bounds, np.int32)[values.offset : values.offset + len(values) + 1]
    given: Any = (offsets, np.frombuffer(data, np.uint8), np.ones(len(values), np.bool_), 0)
    return np.flatnonzero(~texts.are_texts(*given))


def stretches(stream: Stream, dialect: Dialect, head: bytes = b"", line: int = 1) -> Iterator[Stretch]:
    """The rows of a stream in UTF-8, of which `head` was read before; OriginError for a line without an end."""
    held, final, most = head, False, BATCH_ROWS
    signs = (dialect.delimiter, dialect.quote, dialect.newline, LONGEST_ROW, most)
    while True:
        data: Any = np.frombuffer(held, np.uint8)
        cut: tuple[Any, ...] = splitting.rows_of(data, int(final), *signs)
        begin, end, lines, fields, state, consumed, behind = cut
        if len(state) and state[-1] == ENDLESS:
            raise OriginError(
                f"line {line + int(lines[-1])} has more than {LONGEST_ROW >> 20} MiB and does not end; is it text, with one row a line?"
            )
        if len(begin):
            yield Stretch(data, begin, end, lines + line, fields, state)
        line += behind
        held = held[consumed:] if consumed else held
        if final and len(begin) < most:
            return
        if len(begin) < most:
            block = stream.read(max(BLOCK_BYTES, len(held)))
            final = not block
            held += block


class InUtf8:
    """A stream of text in another encoding, as UTF-8."""

    def __init__(self, stream: Stream, encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._read, self._over = 0, False

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, about `size`; OriginError where there is a sign that the encoding does not have."""
        while not self._over:
            block = self._stream.read(size)
            self._over = not block
            try:
                found = self._decoder.decode(block, final=self._over).encode("utf-8", "surrogatepass")
            except UnicodeError as error:
                raise OriginError(
                    f"it is not in the encoding {self._encoding} ({getattr(error, 'reason', error)}) behind byte {self._read:,};"
                    " give encoding= as it is"
                ) from None
            self._read += len(block)
            if found:
                return found
        return b""


def of_bom(head: bytes) -> tuple[str, int]:
    """(encoding, length) of the byte order mark that a text begins with; ("", 0) without one."""
    return next(((encoding, len(bom)) for bom, encoding in BOMS if head.startswith(bom)), ("", 0))


def after_bom(head: bytes) -> bytes:
    """The beginning of a text in UTF-8 without a byte order mark; OriginError for one of another encoding."""
    encoding, length = of_bom(head)
    if encoding not in ("", "utf-8"):
        raise OriginError(f"it is in {encoding}, where UTF-8 is due; convert it, as `iconv -f {encoding} -t utf-8`")
    return head[length:]
