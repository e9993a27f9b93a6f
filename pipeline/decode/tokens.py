"""Columns of the types that are read in a second pass: bytes, UUIDs, times of day, wide decimals, and whatever is written as text.

    read(column, tokens)[i] = parser(column)(the JSON value of row i)        or BROKEN, or UNSURE

The compiled parser has found where each value stands (kernels.json, TOKEN); what it is, a kernel of each type finds from there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns.arrays import Ints, Mask, decimals, from_limbs
from pipeline.definition.marks import FromText, Text
from pipeline.definition.record import Column
from pipeline.kernels import json, tokens

Bytes = np.ndarray[Any, Any]
SECOND_PASS = {"wide", "bytes", "uuid", "time"}
NUMBERS = {"int": tokens.INTEGRAL, "decimal": tokens.SCALED, "float": tokens.REAL}


@dataclass(frozen=True)
class Tokens:
    """Places of values, one a row: [begin, end) of `data` followed by `more`, the sort of each (kernels.tokens), and where it is null."""

    data: Bytes
    more: Bytes
    begin: Ints
    end: Ints
    sort: Bytes
    null: Bytes

    @property
    def places(self) -> tuple[Any, ...]:
        return self.data, self.more, self.begin, self.end, self.sort, self.null


@dataclass(frozen=True)
class Read:
    """Values that were read, where a decimal had more decimals than its type, and what became of each: json.DECODED, BROKEN or UNSURE."""

    values: pa.Array
    breach: Mask | None
    state: Bytes

    def of(self, rows: Ints | None) -> tuple[pa.Array, Mask | None]:
        """(values, breach) in these rows, None for all."""
        if rows is None:
            return self.values, self.breach
        breach = None if self.breach is None else self.breach[rows]
        return self.values.take(pa.array(rows, pa.int64())), breach


def is_token(column: Column) -> bool:
    """True for a column that is read in a second pass."""
    return column.type.kind in SECOND_PASS or column.mark(FromText) is not None or keeps_nul(column)


def keeps_nul(column: Column) -> bool:
    """True for text that may have U+0000, since its mark takes it out."""
    mark = column.mark(Text)
    return mark is not None and "\x00" in mark.strip


def read(column: Column, given: Tokens) -> Read:
    """The values of a column of which is_token."""
    match column.type.kind:
        case "wide":
            return _wide(column, given)
        case "bytes":
            offsets, data, state = tokens.read_base64(*given.places)
            return Read(_binary(pa.binary(), offsets, data, given.null), None, state)
        case "uuid":
            found: Any
            found, state = tokens.read_uuids(*given.places)
            whole = pa.py_buffer(found)
            return Read(pa.Array.from_buffers(pa.binary(16), len(found), [_validity(given.null), whole]), None, state)
        case "time":
            times, state = tokens.read_times(*given.places)
            return Read(pa.array(times, mask=given.null.view(np.bool_)).view(column.type.arrow), None, state)
        case "bool":
            truths, null, state = tokens.read_truths(*given.places)
            return Read(pa.array(truths, mask=null.view(np.bool_)), None, state)
        case "str":
            state = tokens.read_texts(*given.places)
            every = np.arange(len(state))
            begin, end = (np.where(given.null.view(np.bool_), 0, place) for place in (given.begin, given.end))
            offsets, data = json.gather_texts(given.data, given.more, begin, end, every)
            return Read(_binary(pa.string(), offsets, data, given.null), None, state)
    kind: Any = (NUMBERS[column.type.kind], column.type.scale)
    values, reals, null, breach, state = tokens.read_numbers(*(*given.places, *kind))
    mask = null.view(np.bool_)
    if column.type.kind == "decimal":
        return Read(decimals(values, column.type.scale, mask), _some(breach), state)
    return Read(pa.array(reals if column.type.kind == "float" else values, mask=mask), None, state)


def _wide(column: Column, given: Tokens) -> Read:
    kind: Any = (column.type.scale, column.type.digits, int(column.mark(FromText) is not None))
    words, null, breach, state = tokens.read_wide(*(*given.places, *kind))
    return Read(from_limbs(words, column.type.arrow, null.view(np.bool_)), _some(breach), state)


def _some(breach: Bytes) -> Mask | None:
    mask: Mask = breach.view(np.bool_)
    return mask if mask.any() else None


def _validity(null: Bytes) -> pa.Buffer | None:
    return pa.py_buffer(np.packbits(null == 0, bitorder="little").tobytes()) if null.any() else None


def _binary(type: pa.DataType, offsets: Any, data: Any, null: Bytes) -> pa.Array:
    return pa.Array.from_buffers(type, len(null), [_validity(null), pa.py_buffer(offsets), pa.py_buffer(data)])


__all__ = ["Read", "Tokens", "is_token", "keeps_nul", "read"]
