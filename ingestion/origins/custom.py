"""Rows of a function: whatever Python can read.

    rows = the objects, and the rows of the batches, in the order in which the function gives them

A resource of dlt is such a function's result, and is iterated like any other; dlt itself is the user's, and nothing here imports it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from traceback import walk_tb
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.objects import in_batches
from ingestion.origin import BATCH_ROWS, Part, Reading, Rows
from ingestion.origins.declaring import Declaration
from pipeline.base.declared import innermost
from pipeline.base.errors import DefinitionError, OriginError, WatershedError

ALLOWED = "dicts, lists of dicts, and Arrow's record batches and tables"


@dataclass(frozen=True)
class Custom(Declaration):
    """The function gives (yields, or returns an iterable of) dicts, lists of dicts, Arrow batches or tables; a resource of dlt does so.

    One that takes an argument gets the Reading: its secrets, the cursor and its lower bound. It must be a named one of a module, so that
    other processes find it. The usual mistake: a lambda.
    """

    function: Callable[..., Iterable[Any]]

    def __post_init__(self) -> None:
        name = getattr(self.function, "__qualname__", "")
        if not callable(self.function) or not inspect.isfunction(self.function):
            raise DefinitionError(
                f"Custom takes a function, not {type(self.function).__name__}; write def rates(): yield {{'currency': ...}}"
            )
        if "<" in name or self.function.__module__ == "__main__":
            raise DefinitionError(
                f"Custom takes a named function of a module, which other processes can import; {name} is none"
            )
        if len(self._parameters()) > 1:
            raise DefinitionError(f"{name} takes several arguments; Custom calls it with the Reading, or with none")

    def describe(self) -> Mapping[str, Any]:
        """The function's name; see Origin.describe."""
        return {"kind": "Custom", "function": self._name()}

    def parts(self, reading: Reading) -> Sequence[Part]:
        """One part. See Origin.parts."""
        return [Part(self._name())]

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The function's rows; its errors are OriginErrors that say where, those of ours go through as they are. See Origin.read."""
        given, left = 0, reading.limit
        with closing(self._runs(reading)) as runs:
            for run in runs:
                found = in_batches(run, limit=left) if not isinstance(run, pa.RecordBatch) else _batch(run, left)
                base = given
                for rows in found:
                    count = len(rows.numbers) + len(rows.broken)
                    yield _moved(rows, base)
                    given, left = given + count, None if left is None else left - count
                if left is not None and left <= 0:
                    return

    def _runs(self, reading: Reading) -> Generator[Iterable[Any] | pa.RecordBatch, None, None]:
        """Stretches of what is given: objects, or a batch of Arrow."""
        with closing(self._given(reading)) as items:
            for item in items:
                if isinstance(item, pa.Table):
                    yield from item.to_batches(max_chunksize=BATCH_ROWS)
                elif isinstance(item, pa.RecordBatch):
                    yield item
                else:
                    rest: list[Any] = []
                    yield _objects(item, items, rest, self._name())
                    for batch in rest:
                        yield from (
                            [batch] if isinstance(batch, pa.RecordBatch) else batch.to_batches(max_chunksize=BATCH_ROWS)
                        )

    def _given(self, reading: Reading) -> Generator[Any, None, None]:
        try:
            found = self.function(reading) if self._parameters() else self.function()
            if isinstance(found, pa.Table | pa.RecordBatch | Mapping):
                found = [found]
            elif not isinstance(found, Iterable):
                raise OriginError(f"{self._name()} gives {type(found).__name__}; allowed are {ALLOWED}")
            yield from found
        except (WatershedError, GeneratorExit):
            raise
        except Exception as error:
            made = OriginError(f"{self._name()} raised {type(error).__name__}: {' '.join(str(error).split())}")
            made.place = innermost(reversed(list(walk_tb(error.__traceback__))), self.function.__module__)
            raise made from error

    def _parameters(self) -> list[str]:
        return list(inspect.signature(self.function).parameters)

    def _name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"


def _objects(first: Any, items: Iterator[Any], rest: list[Any], name: str) -> Iterator[Any]:
    """The objects from `first` on, up to a batch of Arrow, which is put into `rest`."""
    for item in chain([first], items):
        if isinstance(item, pa.RecordBatch | pa.Table):
            rest.append(item)
            return
        if isinstance(item, Mapping):
            yield item
        elif isinstance(item, list | tuple):
            yield from item
        else:
            raise OriginError(f"{name} gives {type(item).__name__}; allowed are {ALLOWED}")


def _batch(batch: pa.RecordBatch, most: int | None) -> Iterator[Rows]:
    end = batch.num_rows if most is None else min(batch.num_rows, most)
    for start in range(0, end, BATCH_ROWS):
        piece = batch.slice(start, min(BATCH_ROWS, end - start))
        yield Rows(piece, np.arange(start + 1, start + piece.num_rows + 1, dtype=np.int64))


def _moved(rows: Rows, by: int) -> Rows:
    broken = tuple(replace(one, number=one.number + by) for one in rows.broken)
    return replace(rows, numbers=rows.numbers + by, broken=broken)
