"""JSON: a file of one event a line, or one document with an array of them; each row stays the text that it is.

    rows = the lines that are not blank, or the elements of the array, in their order        the decoder of events judges what is in them

Only where a row ends is looked at here, so that a broken row is rejected by the decoder, in its words, and the rows around it are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion.origin import BATCH_ROWS, Reading, Rows
from ingestion.origins.format import BLOCK_BYTES, LONGEST_ROW, FileFormat, Input, Stream
from ingestion.origins.lines import Dialect, after_bom, gathered, stretches
from pipeline.base.errors import DefinitionError, OriginError
from pipeline.definition.paths import parse
from pipeline.kernels import splitting

pc: Any = pyarrow.compute  # whose stubs take fewer types than it does
FIRST, CLOSED, WRONG = 0, 3, 4  # as kernels.splitting has them
BLANK = b" \t\r\n"
KEYS_SHOWN = 20


@dataclass(frozen=True)
class JsonLines(FileFormat):
    """One JSON object a line, in UTF-8; blank lines are none."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        for stretch in stretches(given.stream, Dialect(), after_bom(given.stream.read(BLOCK_BYTES))):
            texts = stretch.texts(np.arange(len(stretch.begin)))
            blank: Any = pc.match_substring_regex(texts, r"^[ \t]*$")
            if pc.any(blank).as_py():
                kept = np.flatnonzero(~np.asarray(blank.to_numpy(zero_copy_only=False), np.bool_))
                yield Rows.of_documents(texts.take(pa.array(kept, pa.int64())), stretch.lines[kept], unit="line")
            else:
                yield Rows.of_documents(texts, stretch.lines, unit="line")


@dataclass(frozen=True)
class JsonArray(FileFormat):
    """One JSON document: an array of objects, or objects around one, as JsonArray(rows="data.items").

    The usual mistake: a file with one object a line and the suffix .json; that is JsonLines().
    """

    rows_at: str | None = None
    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def __init__(self, rows: str | None = None) -> None:
        object.__setattr__(self, "rows_at", rows)
        if rows is not None and not all(isinstance(part, str) for part in parse(rows, "rows=")):
            raise DefinitionError(f"JsonArray(rows={rows!r}): allowed is a path of names, as 'data.items'")

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        path = [str(part) for part in parse(self.rows_at, "rows=")] if self.rows_at is not None else []
        text = _Text(given.stream)
        for depth, name in enumerate(path):
            _enter(text, name, path[:depth])
        _open_array(text, path)
        number, phase = 1, FIRST
        while phase != CLOSED:
            begin, end, phase = text.elements(phase)
            if len(begin):
                documents = gathered(text.data, text.data[:0], begin, end, np.arange(len(begin)))
                yield Rows.of_documents(documents, np.arange(number, number + len(begin)), unit="element")
                number += len(begin)
            if phase == WRONG:
                raise OriginError(f"broken JSON behind element {number - 1}: {text.near()} where a comma or ] is due")
            text.drop()
            if phase != CLOSED and not len(begin) and not text.more():
                raise OriginError(f"it ends in the middle of the array, behind element {number - 1:,}: half a document")
        text.close(len(path))
        if text.sign():
            raise OriginError(f"broken JSON: {text.near()} behind the document")


class _Text:
    """A stream of JSON, held from `at` on, no more of it than a row may have."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.held = after_bom(stream.read(BLOCK_BYTES))
        self.at = 0

    @property
    def data(self) -> Any:
        """The bytes that are held."""
        return np.frombuffer(self.held, np.uint8)

    def more(self) -> bool:
        """Read on; False at the end."""
        if len(self.held) - self.at > LONGEST_ROW:
            raise OriginError(f"a value of more than {LONGEST_ROW >> 20} MiB begins with {self.near()}")
        self.drop()
        block = self._stream.read(max(BLOCK_BYTES, len(self.held)))
        self.held += block
        return bool(block)

    def drop(self) -> None:
        """Let go of what is dealt with."""
        self.held, self.at = self.held[self.at :], 0

    def elements(self, phase: int) -> tuple[Any, Any, int]:
        """(begin, end, phase) of the elements that are held whole."""
        cut: tuple[Any, ...] = splitting.elements_of(self.data, self.at, phase, 0, BATCH_ROWS)
        begin, end, self.at, phase = cut
        return begin, end, phase

    def sign(self) -> bytes:
        """The next sign that is no blank, b"" at the end; not taken."""
        while True:
            while self.at < len(self.held) and self.held[self.at] in BLANK:
                self.at += 1
            if self.at < len(self.held):
                return self.held[self.at : self.at + 1]
            if not self.more():
                return b""

    def take(self, sign: bytes) -> None:
        """Take that sign; OriginError for another."""
        if self.sign() != sign:
            raise OriginError(f"broken JSON: {self.near()} where {sign.decode()} is due")
        self.at += 1

    def name(self) -> str:
        """Take a name."""
        if self.sign() != b'"':
            raise OriginError(f"broken JSON: {self.near()} where a name is due")
        end = self.at + 1
        while True:
            if end >= len(self.held):
                end -= self.at
                if not self.more():
                    raise OriginError("it ends in the middle of a name: half a document")
                continue
            if self.held[end] == 34:
                break
            end += 2 if self.held[end] == 92 else 1
        text, self.at = self.held[self.at : end + 1], end + 1
        try:
            return str(json.loads(text))
        except ValueError:
            raise OriginError(f"broken JSON: {text[:40]!r} is no name") from None

    def skip(self) -> None:
        """Step over a value."""
        first = self.sign()
        if first == b'"':
            self.name()
        elif first in (b"{", b"["):
            self.at += 1
            self.close(1)
        else:
            while self.sign() and self.held[self.at] not in b",]}":
                self.at += 1

    def close(self, depth: int) -> None:
        """Step behind as many closing brackets, and, when these are the last, to the end."""
        inside = 0
        while depth:
            self.at, depth, inside = splitting.skipped(self.data, self.at, depth, inside)
            if depth and not self.more():
                raise OriginError("it ends before its brackets close: half a document")

    def near(self) -> str:
        """The next signs, for an error."""
        return (
            repr(self.held[self.at : self.at + 20].decode("utf-8", "replace"))
            if self.at < len(self.held)
            else "the end"
        )


def _enter(text: _Text, name: str, above: list[str]) -> None:
    """Go on to the value of that name in the object that begins here."""
    text.take(b"{")
    keys: list[str] = []
    while text.sign() != b"}":
        if keys:
            text.take(b",")
        keys.append(text.name())
        text.take(b":")
        if keys[-1] == name:
            return
        text.skip()
    where = f" in {'.'.join(above)}" if above else ""
    raise OriginError(f"there is no {name!r}{where}; there are {', '.join(keys[:KEYS_SHOWN])}")


def _open_array(text: _Text, path: list[str]) -> None:
    first = text.sign()
    if first == b"[":
        text.at += 1
        return
    if first == b"":
        raise OriginError("it is empty: there is no JSON document")
    if first != b"{":
        raise OriginError(f"broken JSON: {text.near()} where an array is due")
    text.at += 1
    keys: list[str] = []
    while text.sign() == b'"' and len(keys) < KEYS_SHOWN:
        keys.append(text.name())
        text.take(b":")
        text.skip()
        if text.sign() == b",":
            text.at += 1
    raise OriginError(
        f"it is an object with {', '.join(keys)}, where an array is due: give JsonArray(rows=...), the path of the array, or"
        " JsonLines() for one object a line"
    )


__all__ = ["JsonArray", "JsonLines"]
