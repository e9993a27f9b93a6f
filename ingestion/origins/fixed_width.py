"""Fixed width: each line is a row, and each column stands at its own places in it.

value(column) = characters [start, end) of the line, without the blanks around
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion.origin import Reading, Rows
from ingestion.origins.format import FileFormat, Input, check_columns
from ingestion.origins.lines import Dialect, InUtf8, after_bom, not_utf8, stretches
from pipeline.base.errors import DefinitionError

pc: Any = pyarrow.compute  # whose stubs take fewer types than it does
Places = tuple[tuple[str, tuple[int, int]], ...]


@dataclass(frozen=True, init=False)
class FixedWidth(FileFormat):
    """Columns at places of a line, counted in characters from 0, half-open: FixedWidth({"id": (0, 6), "name": (6, 30)}).

    A line that is shorter than the last column is broken, unless `padded=False`: then blanks at its end may be missing. `skip`: lines
    before the first row. The usual mistake: places counted from 1, or with the last one in them.
    """

    columns: Places
    encoding: str
    padded: bool
    skip: int
    textual: ClassVar[bool] = True

    def __init__(
        self, columns: Mapping[str, tuple[int, int]], encoding: str = "utf-8", padded: bool = True, skip: int = 0
    ) -> None:
        try:
            places = tuple((str(name), (int(start), int(end))) for name, (start, end) in dict(columns).items())
            codecs.lookup(encoding)
        except (TypeError, ValueError, LookupError) as error:
            raise DefinitionError(
                f'FixedWidth({columns!r}): allowed is {{"id": (0, 6), ...}} and an encoding; {error}'
            ) from None
        wrong = [name for name, (start, end) in places if not 0 <= start < end]
        if wrong or not places:
            raise DefinitionError(
                f"FixedWidth: column {(wrong or [''])[0]!r} is no stretch; allowed are places 0 <= start < end"
            )
        for name, value in (("columns", places), ("encoding", encoding), ("padded", padded), ("skip", skip)):
            object.__setattr__(self, name, value)

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        check_columns(len(self.columns))
        name = codecs.lookup(self.encoding).name
        stream: Any = given.stream if name in ("utf-8", "ascii") else InUtf8(given.stream, name)
        head, last = after_bom(stream.read(4096)), max(end for _, (_, end) in self.columns)
        for stretch in stretches(stream, Dialect(), head):
            rows = np.flatnonzero(stretch.lines > self.skip)
            torn = not_utf8(stretch.texts(rows))
            broken = [stretch.broken(row, "it is not in UTF-8; give encoding= as it is") for row in rows[torn].tolist()]
            rows = np.delete(rows, torn)
            texts: Any = stretch.texts(rows).cast(pa.string())
            if self.padded:
                have = np.asarray(pc.utf8_length(texts).to_numpy(zero_copy_only=False))
                short = np.flatnonzero(have < last)
                broken += [
                    stretch.broken(int(rows[n]), f"{int(have[n])} characters, where {last} are due")
                    for n in short.tolist()
                ]
                kept = np.flatnonzero(have >= last)
                rows, texts = rows[kept], texts.take(pa.array(kept)) if len(short) else texts
            arrays = [pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(texts, *place)) for _, place in self.columns]
            batch = pa.RecordBatch.from_arrays(arrays, [name for name, _ in self.columns])
            yield Rows(batch, stretch.lines[rows], sorted(broken, key=lambda row: row.number), "line")


__all__ = ["FixedWidth"]
