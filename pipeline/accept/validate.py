"""Constraints over columns: what each remedy makes of the values that break them.

kept = decoded - rejected        every kept value keeps its column's constraints, or stands where its remedy put it
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.accept.texts import cleaned
from pipeline.base.types import ColumnType
from pipeline.columns.arrays import Ints, Mask, codes, valid
from pipeline.decode.decoded import Decoded
from pipeline.definition.constraints import Between, Clip, Constraint, Default, Length, Nullable, OneOf, Pattern, keeps
from pipeline.definition.marks import Text
from pipeline.definition.record import Column

VERDICTS, VERDICT_CHARACTERS = 100_000, 100  # texts that a pattern remembers, and how long they are at most


@dataclass(frozen=True)
class Checked:
    """One column after its remedy: the values, and for each row the reason it must be rejected for (index into `reasons`, or -1)."""

    values: pa.Array
    reason: Ints
    reasons: list[str]


def check_all(columns: Sequence[Column], decoded: Decoded) -> tuple[list[pa.Array], Ints, list[str]]:
    """(columns, for each decoded record the reason it is rejected for (index into the last, or -1), reasons).

    The reason is that of the first column that has one; of a column of elements, that of the record's first broken element.
    """
    reason = np.full(len(decoded.rows), -1, np.int64)
    reasons: list[str] = []
    out = []
    for column in columns:
        checked = check(column, decoded.columns[column.name], decoded.breaches.get(column.name))
        found = checked.reason
        if column.of_element:
            found = np.full(len(reason), -1, np.int64)
            broken = np.flatnonzero(checked.reason >= 0)[::-1]  # the first of a record comes last, and stays
            found[decoded.owners[broken]] = checked.reason[broken]
        fresh = (reason < 0) & (found >= 0)
        reason[fresh] = found[fresh] + len(reasons)
        reasons += checked.reasons
        out.append(checked.values)
    return out, reason, reasons


def check(column: Column, values: pa.Array, breach: Mask | None) -> Checked:
    """Apply a column's Text mark, constraints and remedy; `breach` marks decimals that broke Scale (their value is null)."""
    rows = len(values)
    mark = column.mark(Text)
    if mark is not None:
        values = cleaned(values, mark)
    no = np.zeros(rows, np.bool_)
    breach = no if breach is None else breach
    null = ~valid(values) & ~breach
    broken = [(c, _breaks(c, column.type, values) & ~null & ~breach) for c in column.constraints]
    broken = [(c, mask) for c, mask in broken if mask.any()]
    bad = breach.copy()
    for _, mask in broken:
        bad |= mask
    mended = no
    match column.remedy:
        case Nullable():
            values, mended = _replace(values, bad, None), bad
        case Default(value):
            values, mended = _replace(values, bad | null, column.type.stored(value)), bad
            null = no
        case Clip() if bad.any():
            values, mended = _clip(column, values, broken, bad & ~breach)
    reason = np.full(rows, -1, np.int64)
    reasons: list[str] = []
    if not column.nullable and null.any():
        _blame(reason, null, f"{column.name}: null, or missing, where it is not allowed", reasons)
    if breach.any():
        kind = f"Precision({column.type.digits}, " if column.type.kind == "wide" else "Scale("
        _blame(reason, breach & ~mended, f"{column.name}: more decimals than {kind}{column.type.scale})", reasons)
    for constraint, mask in broken:
        _blame(reason, mask & ~mended, f"{column.name}: breaks {constraint}", reasons)
    return Checked(values, reason, reasons)


def _blame(reason: Ints, mask: Mask, text: str, reasons: list[str]) -> None:
    reason[mask & (reason < 0)] = len(reasons)
    reasons.append(text)


def _replace(values: pa.Array, where: Mask, by: Any) -> pa.Array:
    by = by + 0.0 if isinstance(by, float) else by  # a bound or default of -0.0 is stored as 0.0
    return pc.if_else(pa.array(where), pa.scalar(by, values.type), values) if where.any() else values


def _breaks(constraint: Constraint, type: ColumnType, values: pa.Array) -> Mask:
    """True where a non-null value breaks the constraint; whatever where it is null."""
    match constraint:
        case Between(low, high):
            return _outside(values, type, low, high)
        case Pattern(regex):
            return _by_distinct(values, _verdicts(regex))
        case Length(low, high):
            found = pc.call_function("utf8_length" if type.kind == "str" else "binary_length", [values])
            length = np.asarray((found.fill_null(low) if found.null_count else found).to_numpy(zero_copy_only=False))
            return (length < low) | (length > (high if high is not None else 2**31))
        case OneOf(options):
            if not type.coded:
                given = pa.array([type.stored(option) for option in options], values.type)
                return ~np.asarray(pc.is_in(values, given).to_numpy(zero_copy_only=False), np.bool_)
            allowed = codes(pa.array(list(options), type.arrow), type)
            return ~np.isin(codes(values, type), allowed)
    return np.zeros(len(values), np.bool_)  # Scale shows as a breach


class _Verdicts(dict[str, bool]):
    """Verdicts on texts against a pattern, True when one breaks it; a text that was judged before is looked up."""

    def __init__(self, regex: str) -> None:
        self._match = re.compile(regex, re.ASCII).fullmatch

    def __missing__(self, text: str) -> bool:
        broken = self._match(text) is None
        if len(text) <= VERDICT_CHARACTERS:
            if len(self) >= VERDICTS:
                self.clear()
            self[text] = broken
        return broken


_verdicts = cache(_Verdicts)


def _by_distinct(values: pa.Array, verdicts: _Verdicts) -> Mask:
    """Judge each distinct text once; a null is no text."""
    encoded = values.dictionary_encode()
    texts: list[Any] = encoded.dictionary.to_pylist()
    verdict = np.array([*map(verdicts.__getitem__, texts), False], np.bool_)
    index = encoded.indices.fill_null(len(verdict) - 1) if encoded.null_count else encoded.indices
    found: Mask = verdict[np.asarray(index.to_numpy(zero_copy_only=False))]
    return found


@cache
def _code(value: Any, type: ColumnType) -> int:
    return int(codes(pa.array([value], type.arrow), type)[0])


def _outside(values: pa.Array, type: ColumnType, low: Any, high: Any) -> Mask:
    if not type.coded:
        below = pc.less(values, pa.scalar(low, values.type)) if low is not None else None
        above = pc.greater(values, pa.scalar(high, values.type)) if high is not None else None
        masks = [m.fill_null(False) if m.null_count else m for m in (below, above) if m is not None]
        found = [np.asarray(m.to_numpy(zero_copy_only=False), np.bool_) for m in masks]
        return found[0] if len(found) == 1 else found[0] | found[1]
    have = codes(values, type)
    outside = np.zeros(len(have), np.bool_)
    if low is not None:
        outside |= have < _code(low, type)
    if high is not None:
        outside |= have > _code(high, type)
    return outside


def _clip(
    column: Column, values: pa.Array, broken: Iterable[tuple[Constraint, Mask]], bad: Mask
) -> tuple[pa.Array, Mask]:
    """Put the nearest bound where Between alone is broken, and where that bound keeps the other constraints."""
    between = next(c for c in column.constraints if isinstance(c, Between))
    others = tuple(c for c in column.constraints if c is not between)
    mended = np.zeros(len(values), np.bool_)
    elsewhere = np.zeros(len(values), np.bool_)
    for constraint, mask in broken:
        if constraint is not between:
            elsewhere |= mask
    for bound, low, high in ((between.low, between.low, None), (between.high, None, between.high)):
        if bound is None or not keeps(bound, others):
            continue
        outside = _outside(values, column.type, low, high) & bad & ~elsewhere
        values = _replace(values, outside, bound)
        mended |= outside
    return values, mended


__all__ = ["Checked", "check", "check_all"]
