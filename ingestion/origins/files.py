"""Files: rows of whatever format, from any filesystem that pyarrow knows and from HTTP, compressed or not.

    parts = the files that the pattern names (of a zip: its members)        read(part) = its rows, or OriginError if it changed meanwhile

A file is read as it was listed: its version is compared before the first row and after the last.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as fs

from ingestion.origin import Part, Reading, Rows
from ingestion.origins import compression
from ingestion.origins.avro import AvroFile
from ingestion.origins.csv import Csv
from ingestion.origins.excel import Excel
from ingestion.origins.format import FileFormat, Input
from ingestion.origins.json import JsonArray, JsonLines
from ingestion.origins.parquet import Parquet
from ingestion.origins.places import Place, explained, place, shown
from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError, OriginError, WatershedError

BY_SUFFIX: tuple[FileFormat, ...] = (Csv(), JsonLines(), JsonArray(), Excel(), Parquet(), AvroFile())
BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowException,
)
MAX_RATIO = 200


@dataclass(frozen=True)
class Files(metaclass=Declared):
    """Files of one format: Files("data/airlines.csv"), Files("s3://in/flights/*.parquet"), Files("https://…/planes.csv.gz").

    `pattern` is a path relative to the working directory, with * ? [ ] and ** for several, or a URL: s3://, gs://, file://, http(s)://;
    options of a filesystem stand behind ?, as s3://in/*.csv?region=eu-central-1. With `filesystem`, a pyarrow filesystem, it is a path
    in that. `format` may be left out where the suffix tells it. `credentials` names a secret, "key:secret" of S3, "user:password" or a
    token of HTTP; without it S3 finds its own, as AWS's tools do. `max_ratio`: a compressed file that becomes larger than this many
    times its size is refused. The usual mistake: a file that is still being written. It is refused too, and the load is to be run again.
    """

    pattern: str
    format: FileFormat | None = None
    credentials: str | None = None
    filesystem: fs.FileSystem | None = None
    max_ratio: int = MAX_RATIO

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not self.pattern.strip("/"):
            raise DefinitionError(f"Files({self.pattern!r}): allowed is a path, a pattern as 'data/*.csv', or a URL")
        if (
            "://" in self.pattern
            and "@" in urlsplit(self.pattern).netloc
            and ":" in urlsplit(self.pattern).netloc.rpartition("@")[0]
        ):
            raise DefinitionError(
                "Files(...): the URL has a password in it; write it without, and give credentials=, the name of a secret"
            )
        if self.format is not None and not isinstance(self.format, FileFormat):
            raise DefinitionError(
                f"Files({shown(self.pattern)!r}): format={self.format!r}; allowed is {_formats()} and the like"
            )
        if type(self.max_ratio) is not int or self.max_ratio < 1:
            raise DefinitionError(
                f"Files({shown(self.pattern)!r}): max_ratio={self.max_ratio!r}; allowed are whole numbers from 1"
            )
        if self._format() is None:
            raise DefinitionError(
                f"Files({shown(self.pattern)!r}): the name does not tell the format; give format=, one of {_formats()},"
                " Xml(element=...), FixedWidth({...})"
            )

    @property
    def textual(self) -> bool:
        """True where every value is text: CSV, XML, sheets, fixed widths."""
        return self._its_format().textual

    def describe(self) -> Mapping[str, Any]:
        """The declaration as JSON."""
        found: dict[str, Any] = {"kind": "files", "pattern": shown(self.pattern), "format": repr(self._its_format())}
        if self.credentials is not None:
            found["credentials"] = self.credentials
        if self.filesystem is not None:
            found["filesystem"] = self.filesystem.type_name
        return found

    def parts(self, reading: Reading) -> Sequence[Part]:
        """The files as they are now, by name; of a zip its members."""
        try:
            where = self._place(reading)
            found: list[Part] = []
            for file in where.files():
                if file.name.lower().endswith(compression.ZIP):
                    with ExitStack() as stack:
                        archive = self._archive(where, file.path, stack)
                        names = [m.filename for m in compression.members(archive, self._its_format().suffixes)]
                    if file.version != where.version(file.path):
                        raise OriginError(f"{file.name} changed while it was listed; run it again when it is whole")
                    found += [Part(f"{file.name}/{n}", file.version, {"path": file.path, "member": n}) for n in names]
                else:
                    found.append(Part(file.name, file.version, {"path": file.path}))
        except WatershedError:
            raise
        except BROKEN as error:
            told = explained(error)
            raise type(told)(f"{shown(self.pattern)}: {told.text}") from None
        return found

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The part's rows; OriginError, with the file's name, where it cannot be read, or is not the file any more that was listed."""
        where = self._place(reading)
        path = part.detail["path"]
        limit = reading.limit
        try:
            self._same(where, part, "since it was listed")
            with ExitStack() as stack:
                given = self._input(where, part, stack)
                for rows in self._its_format().rows(given, reading):
                    cut = rows if limit is None else _first(rows, limit)
                    limit = None if limit is None else limit - cut.batch.num_rows - len(cut.broken)
                    yield cut
                    if limit is not None and limit <= 0:
                        break
            self._same(where, part, "while it was read")
        except WatershedError as error:
            if not isinstance(error, OriginError) or error.text.startswith(part.name):
                raise
            self._same(where, part, "while it was read")
            raise type(error)(f"{part.name}: {error.text}", repair=error.repair) from None
        except BROKEN as error:
            self._same(where, part, "while it was read")
            told = explained(error)
            raise type(told)(f"{part.name} ({path.rpartition('/')[2]}) cannot be read: {told.text}") from None

    def _format(self) -> FileFormat | None:
        name = compression.stem(shown(self.pattern)).lower()
        return self.format or next((one for one in BY_SUFFIX if name.endswith(one.suffixes)), None)

    def _its_format(self) -> FileFormat:
        found = self._format()
        assert found is not None, "the constructor refuses it"
        return found

    def _place(self, reading: Reading) -> Place:
        return place(self.pattern, self.filesystem, reading.secret(self.credentials) if self.credentials else "")

    def _same(self, where: Place, part: Part, when: str) -> None:
        now = where.version(part.detail["path"]) if part.version else ""
        if now != part.version:
            what = f"changed {when}" if now else f"is gone, {when}"
            raise OriginError(f"{part.name} {what}: nothing of it is taken; run it again when it is whole")

    def _archive(self, where: Place, path: str, stack: ExitStack) -> zipfile.ZipFile:
        opener = where.random(path)
        file = opener() if opener else Input(path, stack.enter_context(where.opened(path))).seekable()
        stack.callback(file.close)
        return stack.enter_context(zipfile.ZipFile(file))

    def _input(self, where: Place, part: Part, stack: ExitStack) -> Input:
        path, member = part.detail["path"], part.detail.get("member")
        if member is not None:
            archive = self._archive(where, path, stack)
            return Input(part.name, compression.member(archive, member, self.max_ratio))
        stream = stack.enter_context(where.opened(path))
        if compression.is_compressed(path):
            return Input(part.name, compression.decompressed(path, stream, self.max_ratio))
        return Input(part.name, stream, where.random(path))


def _first(rows: Rows, count: int) -> Rows:
    """The first `count` rows of a stretch, given and broken ones in their order."""
    if rows.batch.num_rows + len(rows.broken) <= count:
        return rows
    places = sorted([*rows.numbers.tolist(), *(row.number for row in rows.broken)])
    last = places[count - 1]
    kept = int((rows.numbers <= last).sum())
    broken = [row for row in rows.broken if row.number <= last]
    return Rows(rows.batch.slice(0, kept), rows.numbers[:kept], broken, rows.unit)


def _formats() -> str:
    return ", ".join(f"{type(one).__name__}()" for one in BY_SUFFIX)


__all__ = ["Files"]
