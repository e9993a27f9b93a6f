"""The answer of every decoder about a block of records.

in = decoded + rejected + tombstones        rows and rejected are disjoint, rising, and together the records that are no tombstones
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.base.stages import stage
from pipeline.columns.arrays import Ints, Mask
from pipeline.definition.paths import Path
from pipeline.definition.record import Column

DECODED, BROKEN, UNSURE = 0, 1, 2  # as in kernels.scalars


class Recorded(Protocol):
    """Events of one record class, as a decoder of JSON sees them: a Source is one, and so are the rows of a table."""

    @property
    def record(self) -> type:
        """The record class."""

    @property
    def columns(self) -> Sequence[Column]:
        """The columns of the class."""

    @property
    def exploded(self) -> Path:
        """The path of the array whose elements are rows; () when a record is one row."""


@dataclass(frozen=True)
class Decoded:
    """The records of a block that decode: `columns` by name, typed, before constraints.

    `rows` int64: their positions in the block. `breaches`: per column, True where a decimal had more decimals than its Scale (its
    value is null there). `rejected`: positions in the block. `tombstones`: how many values were null; `asked`: how many records the
    compiled parser left to the other one. `elements` int64: where a record is exploded, the position of each element's record in the
    block, rising; columns of elements have a row for each of these, the others one for each of `rows`.
    """

    rows: Ints
    columns: dict[str, pa.Array]
    breaches: dict[str, Mask]
    rejected: Ints
    tombstones: int
    asked: int
    elements: Ints | None
    _reasons: Callable[[], list[str]]

    @cached_property
    def reasons(self) -> list[str]:
        """Reasons of `rejected`, in its order; the records are looked at again for it."""
        return self._reasons() if len(self.rejected) else []

    @property
    def owners(self) -> Ints:
        """For each element, which of `rows` its record is."""
        assert self.elements is not None
        return np.searchsorted(self.rows, self.elements)

    def at(self, places: Ints) -> "Decoded":
        """The same, of the records at these places of a larger block."""
        elements = None if self.elements is None else places[self.elements]
        return replace(self, rows=places[self.rows], rejected=places[self.rejected], elements=elements)

    def without(self, lost: Mask, of_elements: Set[str]) -> "Decoded":
        """The same without the records at these places of the block, which are not counted as rejected here."""
        kept = np.flatnonzero(~lost[self.rows])
        elements, inner = self.elements, kept
        if elements is not None:
            inner = np.flatnonzero(~lost[elements])
            elements = elements[inner]
        places = {name: inner if name in of_elements else kept for name in self.columns}
        columns = {name: array.take(pa.array(places[name], pa.int64())) for name, array in self.columns.items()}
        breaches = {name: breach[places[name]] for name, breach in self.breaches.items()}
        return replace(self, rows=self.rows[kept], columns=columns, breaches=breaches, elements=elements)

    def joined(self, other: "Decoded", of_elements: Set[str]) -> "Decoded":
        """The records of this one and those that another has of the same block; `of_elements` names the columns of elements."""
        rows, order = merged(self.rows, other.rows)
        elements, inner = self.elements, order
        if elements is not None:
            assert other.elements is not None
            elements, inner = merged(elements, other.elements)
        columns, breaches = {}, {}
        for name, array in self.columns.items():
            here = inner if name in of_elements else order
            columns[name] = pa.concat_arrays([array, other.columns[name]]).take(pa.array(here, pa.int64()))
            if name in self.breaches or name in other.breaches:
                parts = ((self, array), (other, other.columns[name]))
                breaches[name] = np.concatenate([_breach(one, name, len(own)) for one, own in parts])[here]
        rejected, which = merged(self.rejected, other.rejected)

        def reasons() -> list[str]:
            both = self.reasons + other.reasons
            return [both[n] for n in which]

        tombstones, asked = self.tombstones + other.tombstones, self.asked + other.asked
        return Decoded(rows, columns, breaches, rejected, tombstones, asked, elements, reasons)


@dataclass(frozen=True)
class Compiled:
    """The answer of a compiled decoder about a block: `state` says DECODED, BROKEN or UNSURE of each value, columns are as in Decoded."""

    state: "np.ndarray[Any, np.dtype[np.int8]]"
    rows: Ints
    columns: dict[str, pa.Array]
    breaches: dict[str, Mask]
    elements: Ints | None = None


def assembled(
    values: pa.Array, found: Compiled, by_record: Callable[[pa.Array], Decoded], of_elements: Set[str] = frozenset()
) -> Decoded:
    """The block as the compiled decoder has it, with what the one that goes record by record makes of those it leaves to that.

    Reasons come from the latter too, and only when they are asked for. AssertionError where the two are not of one mind.
    """
    unsure, rejected = np.flatnonzero(found.state == UNSURE), np.flatnonzero(found.state == BROKEN)

    def reasons() -> list[str]:
        again = by_record(values.take(pa.array(rejected, pa.int64())))
        assert len(again.rejected) == len(rejected), "the compiled decoder rejected a record that the other one takes"
        return again.reasons

    done = Decoded(
        found.rows, found.columns, found.breaches, rejected, values.null_count, len(unsure), found.elements, reasons
    )
    if not len(unsure):
        return done
    with stage("parse_singly", len(unsure)):
        told = by_record(values.take(pa.array(unsure, pa.int64()))).at(unsure)
    return done.joined(told, of_elements)


def element_names(source: Recorded) -> set[str]:
    """The columns of elements, not of records."""
    return {column.name for column in source.columns if column.of_element}


def merged(one: Ints, other: Ints) -> tuple[Ints, Any]:
    """Two arrays as one that rises, and the place of each in the first followed by the second."""
    both = np.concatenate((one, other))
    order = np.argsort(both, kind="stable")
    return both[order], order


def _breach(decoded: Decoded, name: str, rows: int) -> Mask:
    return decoded.breaches.get(name, np.zeros(rows, np.bool_))
