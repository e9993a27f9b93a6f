"""Compressed files, read in bounded memory and never further than a limit: a bomb is an error after some megabytes.

bytes given <= max(FLOOR, max_ratio * bytes read)        else OriginError
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from ingestion.origins.format import Stream
from pipeline.base.errors import OriginError

FLOOR = 64 * 1024 * 1024  # bytes that any file may become
SUFFIXES = (".gz", ".bz2", ".zst", ".xz")
ZIP = ".zip"
MOST_MEMBERS = 100_000


class Counting:
    """A stream that counts what was read of it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.count = 0
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        found = self._stream.read(size)
        self.count += len(found)
        return found

    def readable(self) -> bool:
        """True: it is asked by decompressors."""
        return True

    def seekable(self) -> bool:
        """False: bytes are counted in their order."""
        return False

    def close(self) -> None:
        """Nothing: whoever opened the stream closes it."""
        self.closed = True


class Bounded:
    """The bytes that a decompressor gives, as long as it stays in proportion to what it was given."""

    def __init__(self, stream: Stream, read_bytes: Callable[[], int], max_ratio: int) -> None:
        self._stream, self._read_bytes, self._ratio = stream, read_bytes, max_ratio
        self._given = 0

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; OriginError when they are out of proportion."""
        found: bytes = self._stream.read(size) if size >= 0 else b"".join(iter(lambda: self.read(1 << 20), b""))
        self._given += len(found) if size >= 0 else 0
        if self._given > FLOOR and self._given > self._ratio * max(1, self._read_bytes()):
            raise OriginError(
                f"it becomes more than {self._ratio} times as large when it is unpacked, and more than {FLOOR >> 20} MiB: a bomb is"
                " not unpacked; give Files(..., max_ratio=...) if it is none"
            )
        return found


def decompressed(name: str, stream: Stream, max_ratio: int) -> Stream:
    """The stream without the compression that the name's suffix tells; itself without one."""
    counting = Counting(stream)
    given: Any = counting
    opened: Any
    match _suffix(name):
        case ".gz":
            opened = gzip.GzipFile(fileobj=given, mode="rb")
        case ".bz2":
            opened = bz2.BZ2File(given)
        case ".xz":
            opened = lzma.LZMAFile(given)  # noqa: SIM115
        case ".zst":
            opened = pa.CompressedInputStream(pa.PythonFile(given, mode="r"), "zstd")
        case _:
            return stream
    return Bounded(opened, lambda: counting.count, max_ratio)


def is_compressed(name: str) -> bool:
    """True when the name tells a compression of one file."""
    return _suffix(name) != ""


def stem(name: str) -> str:
    """The name without suffixes of compression."""
    while (suffix := _suffix(name)) or name.lower().endswith(ZIP):
        name = name[: -len(suffix or ZIP)]
    return name


def members(archive: zipfile.ZipFile, suffixes: tuple[str, ...]) -> list[zipfile.ZipInfo]:
    """The files of an archive that are the format's by their names, in their order by name; all where none is."""
    files = [m for m in archive.infolist() if not m.is_dir() and not _is_litter(m.filename)]
    if len(files) > MOST_MEMBERS:
        raise OriginError(f"it has {len(files):,} files, and at most {MOST_MEMBERS:,} are read")
    named = [m for m in files if stem(m.filename).lower().endswith(suffixes)] if suffixes else []
    if len({m.filename for m in files}) < len(files):
        raise OriginError("two files in it have one name")
    return sorted(named or files, key=lambda m: m.filename)


def member(archive: zipfile.ZipFile, name: str, max_ratio: int) -> Stream:
    """The bytes of one file of an archive."""
    info = archive.getinfo(name)
    opened: Any = archive.open(info)
    return decompressed(name, Bounded(opened, lambda: info.compress_size, max_ratio), max_ratio)


def _is_litter(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _suffix(name: str) -> str:
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
