"""Rejected rows judged again by the rule as it is now, by the code that judged them when they were read.

    rows = accepted + rejected again + not to be judged        place[i] = the row that accepted[i] is

What is kept of a row is what its record declared when it was read: a column that was declared since is not in it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.origin import Numbers, Rows
from ingestion.typed import Records, typed
from pipeline.base.errors import OriginError
from pipeline.definition.paths import shown

UNREAD = (
    "it is no row that its record decides ({}): a mend of the rule does not change that; give it mended, with --file"
)


@dataclass(frozen=True)
class JudgedAgain:
    """Accepted rows with their place among those that were judged, as JSON too; reasons by place of those rejected again, and of those
    that cannot be judged."""

    accepted: pa.RecordBatch
    values: pa.Array
    place: Numbers
    again: Mapping[int, str]
    unread: Mapping[int, str]


def judge_again(rows: pa.Table, record: type, textual: bool) -> JudgedAgain:
    """Judge rows of rejected.rows.SCHEMA; `textual` as their origin has it."""
    events = np.asarray(rows.column("event").to_numpy(), np.bool_)
    reasons = rows.column("reason").to_pylist()
    unread = {row: UNREAD.format(reasons[row]) for row in np.flatnonzero(~events).tolist()}
    places = np.flatnonzero(events)
    raw = rows.column("raw").combine_chunks().take(pa.array(places, pa.int64()))
    try:
        found = typed(_rows(raw, places, textual), record, textual, values=True)
    except OriginError as error:  # of all of them: a column that the record needs, and no row has
        empty = Records(record).schema.empty_table().combine_chunks()
        none = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in empty.schema], schema=empty.schema)
        return JudgedAgain(
            none, pa.array([], pa.binary()), np.empty(0, np.int64), dict.fromkeys(places.tolist(), error.text), unread
        )
    assert found.values is not None, "they were asked for"
    again = dict(zip(found.rejected.numbers.tolist(), found.rejected.reasons, strict=True))
    return JudgedAgain(found.accepted, found.values, found.numbers, again, unread)


def _rows(raw: pa.Array, places: Numbers, textual: bool) -> Rows:
    """The rows as their origin gave them: of one that has nothing but text, columns of text."""
    events = [_texts(value.as_py()) for value in raw] if textual else [None]
    if not all(event is not None for event in events):
        return Rows.of_documents(raw, places)
    names = list(dict.fromkeys(name for event in events for name in event or ()))
    columns: list[Any] = [pa.array([(event or {}).get(name) for event in events], pa.string()) for name in names]
    if not names:
        return Rows.of_documents(raw, places)
    return Rows(pa.RecordBatch.from_arrays(columns, names=names), places)


def _texts(raw: bytes) -> dict[str, str | None] | None:
    """The members of an event as texts, nested ones by their paths; None where it has an array, or is no object."""
    try:
        event = json.loads(raw, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError:
        return None
    found: dict[str, str | None] = {}

    def walk(value: Any, path: tuple[str, ...]) -> bool:
        if isinstance(value, dict):
            return all(walk(one, (*path, name)) for name, one in value.items())
        if isinstance(value, list) or not path:
            return False
        found[path[0] if len(path) == 1 else shown(path)] = (
            value if value is None or isinstance(value, str) else str(value).lower()
        )
        return True

    return found if walk(event, ()) else None


__all__ = ["JudgedAgain", "judge_again"]
