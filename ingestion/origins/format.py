"""Formats of files: a value that says how rows stand in a file, and reads them from a stream in bounded memory.

rows of a file = Σ over the stretches that `rows` gives of (rows given + rows broken), in the file's order, each with its place
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, ClassVar, Protocol

from ingestion.origin import Reading, Rows
from pipeline.base.declared import Declared
from pipeline.base.errors import OriginError, SettingsError

MOST_COLUMNS = 10_000
LONGEST_ROW = 16 * 1024 * 1024  # bytes
BLOCK_BYTES = 4 * 1024 * 1024  # that are read at once
SHOWN_BYTES = 64 * 1024  # of a broken row that are kept
EXTRA = "pip install 'watershed-pipeline[sources]'"


class Stream(Protocol):
    """Bytes, read one after the other."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""


class Input:
    """One part's bytes, opened once: in order, or with any place at hand, whichever the format needs."""

    def __init__(self, name: str, stream: Stream, random: Callable[[], IO[bytes]] | None = None) -> None:
        self.name = name
        self.stream = stream
        self._random = random

    def seekable(self) -> IO[bytes]:
        """The same as a file with a place, in a temporary file where the origin has none; the caller closes it."""
        if self._random is not None:
            return self._random()
        file = tempfile.TemporaryFile(prefix="watershed-")  # noqa: SIM115 -- the caller closes it
        while block := self.stream.read(BLOCK_BYTES):
            file.write(block)
        file.seek(0)
        return file


class FileFormat(metaclass=Declared):
    """A way in which rows stand in a file. `suffixes` tell it, before those of compression; `textual`: all its values are text."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    textual: ClassVar[bool] = False

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        """The rows of one file. OriginError, without the file's name, where it is none of this format."""
        raise NotImplementedError


def need(module: str, what: str) -> Any:
    """The module of the extra [sources]; SettingsError with the command where it is not installed."""
    if importlib.util.find_spec(module) is None:
        raise SettingsError(f"{what} needs {module}, of the extra [sources]", repair=EXTRA)
    return importlib.import_module(module)


def check_columns(count: int) -> None:
    """OriginError for more columns than a table has."""
    if count > MOST_COLUMNS:
        raise OriginError(
            f"there are {count:,} columns, and at most {MOST_COLUMNS:,} are read; has it another delimiter, or is it turned on its side?"
        )


def shortened(raw: bytes) -> bytes:
    """The bytes of a broken row that are kept."""
    return raw[:SHOWN_BYTES]
