"""CSV: fields between delimiters, whole in quotes, one row a line or several; its dialect and encoding found, or given.

    rows + broken rows = the rows of the file        read in blocks of any size, it is the same rows with the same lines

A row of another number of fields, or whose quotes or bytes are wrong, is broken; the rows around it are not.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion.origin import Reading, Rows
from ingestion.origins.format import LONGEST_ROW, FileFormat, Input, Stream, check_columns
from ingestion.origins.lines import NONE, WHOLE, WHY, Dialect, InUtf8, Stretch, gathered, not_utf8, of_bom, stretches
from pipeline.base.errors import DefinitionError, OriginError
from pipeline.kernels import splitting

pc: Any = pyarrow.compute  # whose stubs take fewer types than it does
SAMPLE_BYTES, SAMPLE_ROWS = 1024 * 1024, 200
DELIMITERS = ",;\t|"
FALLBACK = "cp1252"


@dataclass(frozen=True)
class Csv(FileFormat):
    """Comma separated values, or separated by another sign: Csv(), Csv(delimiter=";", encoding="cp1250"), Csv(quote=None).

    What is not given is found in the beginning of the file, and reported: the delimiter among , ; tab and |, the encoding by its mark, else
    UTF-8, else cp1252. Quotes inside of a quoted field are doubled. `header=False`: there is no line of names, and `columns` has them; with
    one, `columns` replaces its names. `skip`: lines before it. `null`: texts that stand for no value, as ("NA",); an empty text is null in
    every column but text that may not be. The usual mistake: numbers with a comma for the point, which reject their rows.
    """

    delimiter: str | None = None
    encoding: str | None = None
    quote: str | None = '"'
    header: bool = True
    columns: tuple[str, ...] | None = None
    skip: int = 0
    null: tuple[str, ...] = ()
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    textual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("delimiter", "quote"):
            sign = getattr(self, name)
            if sign is not None and not (
                isinstance(sign, str) and len(sign) == 1 and sign.isascii() and sign not in "\r\n"
            ):
                raise DefinitionError(f"Csv({name}={sign!r}): allowed is one sign of ASCII, as ';' or '\\t', and None")
        if self.delimiter is not None and self.delimiter == self.quote:
            raise DefinitionError(f"Csv: delimiter and quote are both {self.quote!r}")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except (LookupError, TypeError):
                raise DefinitionError(
                    f"Csv(encoding={self.encoding!r}): Python has no such encoding; allowed are 'utf-8', 'cp1252', 'utf-16' and the like"
                ) from None
        for name in ("columns", "null"):
            given = getattr(self, name)
            if given is not None and (isinstance(given, str) or not all(isinstance(one, str) for one in given)):
                raise DefinitionError(f"Csv({name}={given!r}): allowed is a tuple of texts")
            if given is not None:
                object.__setattr__(self, name, tuple(given))
        if not self.header and not self.columns:
            raise DefinitionError('Csv(header=False): then the names are to be given, as columns=("carrier", "name")')
        if type(self.skip) is not int or self.skip < 0:
            raise DefinitionError(f"Csv(skip={self.skip!r}): allowed are whole numbers of lines from 0")

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        head = given.stream.read(SAMPLE_BYTES)
        encoding, head, stream = self._decoded(head, given.stream)
        head, skipped = self._skipped(head, stream)
        dialect = self._dialect(head)
        self._report(given.name, encoding, dialect, reading)
        names: list[str] | None = None if self.header else list(self.columns or ())
        if names is not None:
            check_columns(len(names))
        for stretch in stretches(stream, dialect, head, 1 + skipped):
            first = 0
            if names is None:
                names, first = self._names(stretch, dialect), 1
            yield self._rows(stretch, first, names, dialect)
        if names is None:
            raise OriginError("it is empty: there is not even a line of names")

    def _decoded(self, head: bytes, stream: Stream) -> tuple[str, bytes, Stream]:
        """(encoding, the beginning in UTF-8, the rest)."""
        marked, length = of_bom(head)
        encoding = codecs.lookup(self.encoding).name if self.encoding else marked or _guessed(head)
        if marked and encoding.replace("-le", "").replace("-be", "") in (marked, marked[:6], "utf-8-sig"):
            encoding, head = marked, head[length:]
        if encoding in ("utf-8", "ascii", "utf-8-sig"):
            return "utf-8", head, stream
        rest = InUtf8(_Before(head, stream), encoding)
        return encoding, rest.read(SAMPLE_BYTES), rest

    def _skipped(self, head: bytes, stream: Stream) -> tuple[bytes, int]:
        for done in range(self.skip):
            at = head.find(b"\n")
            if at < 0:
                raise OriginError(f"it has {done} lines, and skip={self.skip} of them are to be left out")
            head = head[at + 1 :]
        return head, self.skip

    def _dialect(self, head: bytes) -> Dialect:
        quote = ord(self.quote) if self.quote else NONE
        newline = 13 if b"\r" in head and b"\n" not in head else 10
        if self.delimiter is not None:
            return Dialect(ord(self.delimiter), quote, newline)
        every = [Dialect(ord(sign), quote, newline) for sign in DELIMITERS]
        return max(every, key=lambda one: _fitness(head, one))  # the first of equals

    def _report(self, name: str, encoding: str, dialect: Dialect, reading: Reading) -> None:
        found = []
        if self.delimiter is None:
            found.append(f"delimiter {chr(dialect.delimiter)!r}")
        if self.encoding is None:
            found.append(f"encoding {encoding}")
        if found:
            reading.report(f"{name}: {', '.join(found)} found")

    def _names(self, stretch: Stretch, dialect: Dialect) -> list[str]:
        count = int(stretch.fields[0])
        if stretch.state[0] != WHOLE:
            raise OriginError(f"line {stretch.lines[0]}, the names: {WHY[int(stretch.state[0])]}")
        check_columns(count)
        cells = _cells(stretch, np.zeros(1, np.int64), count, dialect)
        try:
            names = [str(cell[0].as_py().decode()).strip() for cell in cells]
        except UnicodeDecodeError:
            raise OriginError(f"line {stretch.lines[0]}, the names, is not in UTF-8; give encoding= as it is") from None
        if self.columns is None:
            return names
        if len(self.columns) != count:
            raise OriginError(f"there are {count} columns, {', '.join(names[:20])}; columns= names {len(self.columns)}")
        return list(self.columns)

    def _rows(self, stretch: Stretch, first: int, names: Sequence[str], dialect: Dialect) -> Rows:
        good = (stretch.state == WHOLE) & (stretch.fields == len(names))
        why: dict[int, str] = {}
        for row in np.flatnonzero(~good)[:].tolist():
            fields = int(stretch.fields[row])
            ragged = f"{fields} field{'s'[: fields != 1]}, where {len(names)} are due"
            why[row] = WHY.get(int(stretch.state[row]), ragged)
        if not _is_utf8(stretch):
            for row in not_utf8(stretch.texts(np.arange(len(stretch.begin)))).tolist():
                good[row] = False
                why[row] = "it is not in UTF-8; give encoding= if the whole file is in another"
        good[:first] = False
        rows = np.flatnonzero(good)
        arrays = [self._nulled(cell.cast(pa.string())) for cell in _cells(stretch, rows, len(names), dialect)]
        broken = [stretch.broken(row, reason) for row, reason in sorted(why.items()) if row >= first]
        return Rows(pa.RecordBatch.from_arrays(arrays, list(names)), stretch.lines[rows], broken, "line")

    def _nulled(self, values: pa.Array) -> pa.Array:
        if not self.null:
            return values
        none: Any = pc.is_in(values, value_set=pa.array(self.null))
        found: pa.Array = pc.if_else(none, pa.scalar(None, pa.string()), values)
        return found


class _Before:
    """A stream after some bytes that were read of it before."""

    def __init__(self, head: bytes, stream: Stream) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        head, self._head = self._head, b""
        return head or self._stream.read(size)


def _cells(stretch: Stretch, rows: Any, count: int, dialect: Dialect) -> list[pa.Array]:
    """The fields of whole rows, a binary array for each column."""
    begin, end = np.ascontiguousarray(stretch.begin[rows]), np.ascontiguousarray(stretch.end[rows])
    cut: tuple[Any, ...] = splitting.fields_of(stretch.data, begin, end, count, dialect.delimiter, dialect.quote)
    firsts, lasts, more = cut
    every = np.arange(len(begin))
    return [gathered(stretch.data, more, firsts[n], lasts[n], every) for n in range(count)]


def _is_utf8(stretch: Stretch) -> bool:
    try:
        codecs.decode(stretch.data[: int(stretch.end[-1])].data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _guessed(head: bytes) -> str:
    """The encoding of a text without a mark, from its beginning."""
    if b"\0" in head[:4096]:
        even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
        if max(even, odd) > len(head[:4096]) // 8 and min(even, odd) * 8 < max(even, odd):
            return "utf-16-le" if odd > even else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(head)
    except UnicodeDecodeError:
        return FALLBACK
    return "utf-8"


def _fitness(head: bytes, dialect: Dialect) -> tuple[float, int]:
    """(share of the first rows that have as many fields as the first, its number of fields), nothing for a single field."""
    signs = (dialect.delimiter, dialect.quote, dialect.newline, LONGEST_ROW, SAMPLE_ROWS)
    data: Any = np.frombuffer(head, np.uint8)
    _, _, _, fields, state, _, _ = splitting.rows_of(data, int(len(head) < SAMPLE_BYTES), *signs)
    if not len(fields) or fields[0] < 2:
        return 0.0, 0
    share = float(((fields == fields[0]) & (state == WHOLE)).mean())
    return share, int(fields[0])


__all__ = ["Csv"]
