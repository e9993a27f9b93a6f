"""Sheets of Excel and of OpenDocument: rows below a row of names, every cell as text.

    rows = the rows of the sheet, or of its range, that are not empty, each with its number in the sheet

A cell's text is what its value says: 12, 1.5, 2013-01-02, 2013-01-02T03:04:05, true. So a column in which numbers and texts are mixed is
read, and what a declared column cannot take rejects its row. A merged cell's value stands in its first place alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import pyarrow as pa

from ingestion.origin import BrokenRow, Reading, Rows
from ingestion.origins.format import BLOCK_BYTES, FileFormat, Input, check_columns, need
from pipeline.base.errors import DefinitionError, OriginError

READER = Path(__file__).with_name("excel_reader.py")
MOST_BYTES = 512 * 1024 * 1024
LAST_ROW, LAST_COLUMN = 1_048_576, 16_384
RANGE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})?:([A-Z]{1,3})([0-9]{1,7})?")
MAGIC = {b"PK\x03\x04": ".xlsx", b"\xd0\xcf\x11\xe0": ".xls"}


@dataclass(frozen=True)
class Excel(FileFormat):
    """A sheet of .xlsx, .xls or .ods: Excel(), Excel(sheet="2013", range="B3:F200"), Excel(header_row=None).

    `sheet` is its name, the first one without it. `range` has the rows that count, as "B3:F200" or "B:F". `header_row` is the row of names,
    from 1, counted within the range; None: there is none, and the columns are A, B, C. A row with an error, or with a formula whose value
    no program has computed, is broken (.xlsx). A sheet is held in memory as a whole, by a process of its own with 2 GiB.
    """

    sheet: str | None = None
    range: str | None = None
    header_row: int | None = 1
    suffixes: ClassVar[tuple[str, ...]] = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
    textual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.sheet is not None and not isinstance(self.sheet, str):
            raise DefinitionError(f"Excel(sheet={self.sheet!r}): allowed is a sheet's name")
        if self.header_row is not None and (type(self.header_row) is not int or self.header_row < 1):
            raise DefinitionError(f"Excel(header_row={self.header_row!r}): allowed are rows from 1, and None")
        (top, left), (bottom, right) = self._corners()
        if not 1 <= top <= bottom <= LAST_ROW or not 1 <= left <= right <= LAST_COLUMN:
            raise DefinitionError(
                f"Excel(range={self.range!r}): allowed is the first and the last cell, as 'B3:F200' or 'B:F'"
            )

    def _corners(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """((first row, first column), (last row, last column)), from 1."""
        if self.range is None:
            return (1, 1), (LAST_ROW, LAST_COLUMN)
        match = RANGE.fullmatch(self.range.replace("$", "").upper()) if isinstance(self.range, str) else None
        if match is None:
            return (0, 0), (0, 0)
        return (int(match[2] or 1), _number(match[1])), (int(match[4] or LAST_ROW), _number(match[3]))

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        need("python_calamine", "Excel()")
        with tempfile.TemporaryDirectory(prefix="watershed-") as folder:
            path = _kept(given, folder)
            command = [sys.executable, "-P", str(READER)]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            with subprocess.Popen(command, text=True, **pipes) as reader:
                try:
                    asked = {"path": path, "sheet": self.sheet, "range": self._corners()}
                    reader.stdin.write(json.dumps(asked))  # type: ignore[union-attr]
                    reader.stdin.close()  # type: ignore[union-attr]
                    yield from self._told(given.name, reader, reading)
                finally:
                    reader.kill()

    def _told(self, name: str, reader: subprocess.Popen[str], reading: Reading) -> Iterator[Rows]:
        assert reader.stdout is not None
        about = _line(reader, reader.stdout)
        if about["merged"]:
            cells = ", ".join(
                f"{_letters(a[1] + 1)}{a[0] + 1}:{_letters(a[3] + 1)}{a[2] + 1}" for a in about["merged"][:5]
            )
            reading.report(
                f"{name}: sheet {about['sheet']} has merged cells ({cells}): a value stands in the first of them"
            )
        (top, left), _ = self._corners()
        header = None if self.header_row is None else top + self.header_row - 1
        broken = {int(number): str(reason) for number, reason in about["broken"]}
        names: list[str] | None = None
        while True:
            stretch: list[Any] = _line(reader, reader.stdout)
            ended = not stretch
            if header is not None and names is None:
                named = next((cells for number, cells in stretch if number == header), None)
                if named is None and (ended or stretch[-1][0] > header):
                    raise OriginError(
                        f"row {header} of sheet {about['sheet']}, where the names are due, is empty or not there"
                    )
                names = None if named is None else [cell or "" for cell in named]
                stretch = [row for row in stretch if row[0] > header]
            elif header is None:
                width = max([len(names or ()), *(len(cells) for _, cells in stretch)])
                names = [_letters(left + n) for n in range(width)]
            if ended:
                return
            if names is not None and stretch:
                check_columns(len(names))
                yield _rows(stretch, names, broken)


def _rows(stretch: list[Any], names: list[str], broken: dict[int, str]) -> Rows:
    lost = [
        BrokenRow(number, broken[number], json.dumps(cells, ensure_ascii=False).encode())
        for number, cells in stretch
        if number in broken
    ]
    good = [(number, cells) for number, cells in stretch if number not in broken]
    columns = [[cells[n] if n < len(cells) else None for _, cells in good] for n in range(len(names))]
    batch = pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], names)
    return Rows(batch, np.array([number for number, _ in good], np.int64), lost, "row")


def _line(reader: subprocess.Popen[str], lines: IO[str]) -> Any:
    """The next line that the reader says; OriginError when it has died, or says why it cannot go on."""
    line = lines.readline()
    if not line.endswith("\n"):
        why = (reader.stderr.read() if reader.stderr else "").strip().splitlines()
        raise OriginError(
            f"it cannot be read within 2 GiB of memory and 15 minutes, or it breaks its reader ({why[-1][:200] if why else 'killed'});"
            " save the sheet as CSV"
        )
    found = json.loads(line)
    if isinstance(found, dict) and "error" in found:
        raise OriginError(f"it is no sheet that can be read: {found['error']}")
    return found


def _kept(given: Input, folder: str) -> str:
    """The path of the file's copy, with the suffix that its first bytes tell."""
    size, path = 0, Path(folder) / "book"
    with path.open("wb") as file:
        while block := given.stream.read(BLOCK_BYTES):
            size += len(block)
            if size > MOST_BYTES:
                raise OriginError(f"it has more than {MOST_BYTES >> 20} MiB, which is no sheet; save it as CSV")
            file.write(block)
    suffix = Path(given.name.lower()).suffix
    if suffix not in Excel.suffixes:
        with path.open("rb") as file:
            suffix = MAGIC.get(file.read(4), ".xlsx")
    return str(path.rename(path.with_suffix(suffix)))


def _number(letters: str) -> int:
    found = 0
    for letter in letters:
        found = found * 26 + ord(letter) - 64
    return found


def _letters(number: int) -> str:
    found = ""
    while number:
        number, rest = divmod(number - 1, 26)
        found = chr(65 + rest) + found
    return found


__all__ = ["Excel"]
