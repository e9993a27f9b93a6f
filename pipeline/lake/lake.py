"""The lake: files of immutable content, each named by a manifest that was committed after it.

    complete(target)  <=>  its manifest exists  and  manifest.inputs == the inputs it would be made from now
    commit            =    temp -> fsync -> rename -> manifest (temp -> fsync -> rename)

Manifests list their files relative to the lake; nothing ever lists a directory. Any engine reads the lake by them. A manifest's name
begins with `_`, which readers of a folder pass over; one that was committed before that was so is found under its name without it.
"""

import json
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import LakeError
from pipeline.lake.manifest import File, Manifest

T = TypeVar("T")
Tables = Iterable[pa.Table | pa.RecordBatch]
ROW_GROUP = 128 * 1024  # rows


@dataclass(frozen=True)
class Known:
    """Hints about a table's columns, which save time and space when it is written.

    `distinct`: values that hardly ever repeat, so no dictionary is tried, and nobody asks for the least. `noise`: besides, they cannot
    be compressed. `near`: integers and times that mostly lie near one another, so differences are written.
    """

    distinct: Collection[str] = ()
    noise: Collection[str] = ()
    near: Collection[str] = ()

    def options(self, schema: pa.Schema) -> dict[str, Any]:
        """Options with which pyarrow.parquet.ParquetWriter writes such a table."""
        texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
        return {
            "compression": {name: "none" if name in self.noise else "zstd" for name in schema.names}
            if self.noise
            else "zstd",
            "store_decimal_as_integer": True,
            "use_dictionary": [name for name in texts if name not in self.distinct and name not in self.noise],
            "write_statistics": [name for name in schema.names if name not in self.distinct and name not in self.noise],
            "column_encoding": dict.fromkeys(self.near, "DELTA_BINARY_PACKED"),
        }


NOTHING = Known()


def older_name(path: str) -> str:
    """The path under which a manifest was committed before manifests' names began with `_`; the path itself if its name does not."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.removeprefix('_')}"


class Lake:
    """A folder or an S3 prefix. Open it inside the process that uses it: filesystems do not survive a fork."""

    def __init__(self, root: str, crash: CrashPoints | None = None) -> None:
        self.root = root
        self.crash = crash or NoCrash()
        try:
            if "://" in root:
                self._fs, self._base = fs.FileSystem.from_uri(root)
            else:
                self._fs, self._base = fs.LocalFileSystem(), str(Path(root).expanduser().absolute())
        except (pa.ArrowInvalid, OSError) as error:
            raise LakeError(
                f"lake {root!r} cannot be opened: {error}; set `lake` (WATERSHED_LAKE) to a folder or an s3:// URL"
            ) from None
        self.is_local = isinstance(self._fs, fs.LocalFileSystem)

    def uri(self, path: str) -> str:
        """Address at which a person finds the file."""
        return f"file://{self._base}/{path}" if self.is_local else f"{self.root.split('?')[0].rstrip('/')}/{path}"

    def exists(self, path: str) -> bool:
        """True when a file stands there (half-written ones stand under another name)."""
        return bool(self._guard(lambda: self._fs.get_file_info(self._full(path))).type == fs.FileType.File)

    def all_exist(self, paths: Sequence[str]) -> bool:
        """True when every one of the files stands there; asked for all at once."""
        found = self._guard(lambda: self._fs.get_file_info([self._full(path) for path in paths])) if paths else []
        return all(one.type == fs.FileType.File for one in found)

    def read_bytes(self, path: str) -> bytes:
        """The whole file; LakeError when it is missing."""

        def read() -> bytes:
            with self._fs.open_input_stream(self._full(path)) as stream:
                return bytes(stream.read())

        return self._guard(read)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Replace the file atomically and durably."""
        temporary = self._temporary(path)

        def write() -> None:
            with self._fs.open_output_stream(temporary) as stream:
                stream.write(content)

        try:
            self._guard(write)
        except LakeError:
            self._discard(temporary)
            raise
        self._settle(temporary, path)

    def write_table(self, path: str, schema: pa.Schema, tables: Tables, known: Known = NOTHING) -> int:
        """Write a Parquet file atomically and durably, a stream of tables at a time; how many rows it has."""
        temporary = self._temporary(path)
        rows = 0
        try:
            with pq.ParquetWriter(temporary, schema, filesystem=self._fs, **known.options(schema)) as writer:
                for table in tables:
                    table = table if isinstance(table, pa.Table) else pa.Table.from_batches([table], schema)
                    rows += table.num_rows
                    writer.write_table(table, row_group_size=ROW_GROUP)
        except OSError as error:
            self._discard(temporary)
            raise self._error(error) from None
        except BaseException:  # the tables' own error, or a signal: the half of a file must not stay
            self._discard(temporary)
            raise
        self._settle(temporary, path)
        return rows

    def read_table(self, file: File | str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file, whole; a manifest's File also raises LakeError when it has not the rows that the manifest says."""
        path = file if isinstance(file, str) else file.path
        table = self._guard(lambda: pq.ParquetFile(self._full(path), filesystem=self._fs).read(columns=columns))
        if isinstance(file, File):
            self._check_rows(file, table.num_rows)
        return table

    def read_batches(
        self, file: File, rows: int, columns: list[str] | None = None, encoded: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """A manifest's Parquet file in batches of at most `rows`, a row group in memory at a time; LakeError as read_table.

        With `columns`, just these, in the file's order; those of `encoded` come with a dictionary, as the file holds them.
        """
        open_file = partial(pq.ParquetFile, filesystem=self._fs, pre_buffer=False, read_dictionary=list(encoded))
        found = self._guard(lambda: open_file(self._full(file.path)))
        with found:
            self._check_rows(file, found.metadata.num_rows)
            for number in range(found.num_row_groups):
                group = self._guard(partial(found.read_row_group, number, columns=columns))
                yield from (batch for batch in group.to_batches(max_chunksize=rows) if batch.num_rows)

    def _check_rows(self, file: File, rows: int) -> None:
        if rows != file.rows:
            raise LakeError(
                f"{self.uri(file.path)} has {rows} rows, and its manifest says {file.rows}: it was damaged or replaced;"
                f" remove the manifest beside it and run the night again"
            )

    def last_row(self, path: str, columns: list[str]) -> dict[str, Any]:
        """The last row of a Parquet file that has one."""

        def read() -> dict[str, Any]:
            with pq.ParquetFile(self._full(path), filesystem=self._fs) as file:
                groups = [g for g in range(file.num_row_groups) if file.metadata.row_group(g).num_rows]
                table = file.read_row_group(groups[-1], columns=columns)
                return dict(table.slice(table.num_rows - 1).to_pylist()[0])

        return dict(self._guard(read))

    def commit(self, path: str, manifest: Manifest) -> None:
        """Make the target complete. The files it names must be there, durably."""
        self.write_bytes(path, manifest.to_json())

    def manifest(self, path: str) -> Manifest | None:
        """The manifest at the path, or at its older name, or None when there is none; LakeError when it is no manifest of ours."""
        path = next((name for name in _names(path) if self.exists(name)), "")
        if not path:
            return None
        try:
            found = json.loads(self.read_bytes(path))
            files = tuple(File(f["path"], f["rows"], f.get("partition", {})) for f in found["files"])
            return Manifest(found["kind"], found["inputs"], files, found["facts"])
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(
                f"{self.uri(path)} is no manifest of Watershed ({error!r}); move it away and run the night again"
            ) from None

    def made_from(self, path: str, inputs: Mapping[str, Any]) -> Manifest | None:
        """The manifest if its target is complete, that is made from just these inputs; else None."""
        found = self.manifest(path)
        return found if found is not None and found.inputs == inputs else None

    def has_manifest(self, path: str) -> bool:
        """True when a manifest stands at the path or at its older name, whatever it was made from."""
        return any(map(self.exists, _names(path)))

    def delete_manifest(self, path: str) -> int:
        """Remove the manifest at the path and at its older name; how many there were.

        The older one goes first: it must not come to count again when the newer one is gone.
        """
        found = [name for name in reversed(_names(path)) if self.exists(name)]
        for name in found:
            self.delete(name)
        return len(found)

    def check_writable(self) -> None:
        """Raise LakeError, in one line, when nothing can be written here."""
        probe = f".probe-{uuid.uuid4().hex}"
        self.write_bytes(probe, b"")
        self._guard(lambda: self._fs.delete_file(self._full(probe)))

    def delete(self, path: str) -> None:
        """Remove one file that no kept manifest names; nothing when it is gone."""
        if self.exists(path):
            self._guard(lambda: self._fs.delete_file(self._full(path)))
            self.crash.reach("lake.deleted")

    def _full(self, path: str) -> str:
        return f"{self._base}/{path}"

    def _temporary(self, path: str) -> str:
        folder, _, name = self._full(path).rpartition("/")
        if self.is_local and not Path(folder).is_dir():
            self._make_folder(Path(folder))
        return f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"

    def _settle(self, temporary: str, path: str) -> None:
        """fsync and rename; each step a crash point."""
        full = self._full(path)
        try:
            if not self.is_local:
                # An upload that broke off is completed when its writer closes: only a copy is all or nothing
                self.crash.reach("lake.uploaded")
                self._fs.move(temporary, full)
                self.crash.reach("lake.after_rename")
                return
            self.crash.reach("lake.before_fsync")
            _fsync(temporary)
            self.crash.reach("lake.before_rename")
            Path(temporary).replace(full)
            self.crash.reach("lake.after_rename")
            _fsync(full.rpartition("/")[0])
            self.crash.reach("lake.durable")
        except OSError as error:
            self._discard(temporary)
            raise self._error(error) from None

    def _discard(self, temporary: str) -> None:
        """Delete the rest of a failed write: on a full disk it would keep its place from the next try."""
        if self.is_local:
            Path(temporary).unlink(missing_ok=True)
        elif self._fs.get_file_info(temporary).type == fs.FileType.File:
            self._fs.delete_file(temporary)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, durably: a manifest must not outlive the folder of its files."""

        def make() -> None:
            missing = [one for one in (folder, *folder.parents) if not one.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for one in reversed(missing):
                _fsync(str(one.parent))

        self._guard(make)

    def _guard(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except pa.ArrowInvalid as error:
            raise LakeError(
                f"lake {self.root.split('?')[0]}: a damaged file: {error}; restore it, or run the night again"
            ) from None
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> LakeError:
        root = self.root.split("?")[0]
        return LakeError(
            f"lake {root}: {error}; check the setting `lake` (WATERSHED_LAKE), its rights and its free space"
        )


def _names(path: str) -> list[str]:
    """Paths at which a manifest may stand: the newer name counts where both are there."""
    return list(dict.fromkeys((path, older_name(path))))


def _fsync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
