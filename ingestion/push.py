"""Events that are pushed: a body cut into them, judged by the layers' own decoder, and keyed as a feed's rows are.

    events given = accepted + refused, in every body        the value of an accepted event = the very bytes that came

A body is cut by its brackets, quotes and ends of lines alone; the decoder says what an event is worth, event by event. A body that does not
end, or has something between its events, is refused whole: nobody could say which events were meant.
"""

from enum import Enum
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.feeding import key_bytes
from pipeline.accept.validate import check_all
from pipeline.base.errors import WatershedError
from pipeline.columns.arrays import Ints
from pipeline.decode.decode import decode
from pipeline.definition.formats import Json
from pipeline.definition.marks import FromRecord, RecordTime
from pipeline.definition.record import column_named
from pipeline.definition.source import Source
from pipeline.kernels import json, splitting
from pipeline.log.log import RAW_SCHEMA

BLANK = b" \t\r\n"
CLOSED, FIRST = 3, 0  # phases of kernels.splitting.elements_of
BOUNDS = Struct("=ii")  # of one text in Arrow
SHOWN = 40  # bytes of a body that an error shows
MARKS_OF_ORDER = ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


class BodyError(WatershedError):
    """A body that cannot be cut into events; nothing of it was sent."""


class TooManyEvents(BodyError):
    """A body with more events than are allowed."""


class Form(Enum):
    """The two forms of a body: JSON (one event, or an array of them), or one event a line."""

    JSON = "json"
    LINES = "lines"


class Judged(NamedTuple):
    """Events given = rows + refused; both hold places among those given, rising. `keys` and `values` (binary) are those of `rows`."""

    rows: Ints
    keys: pa.Array
    values: pa.Array
    refused: Ints
    reasons: list[str]


def no_pushes(source: Source) -> tuple[str, bool] | None:
    """(why events of this source cannot be pushed, True where it is for their format); None where they can."""
    if not isinstance(source.format, Json) or source.format.framed:
        return (
            f"topic {source.topic} has {source.format!r}, and only Json() is taken over HTTP: its records are written by a producer of"
            " its own, which knows its keys and its framing",
            True,
        )
    for column in source.columns:
        if column.mark(FromRecord) and not column.mark(RecordTime):
            return (
                f"topic {source.topic}: {source.record.__name__}.{column.name} is read from around the event (its record's key or a"
                " header), and an event that is pushed has nothing around it",
                False,
            )
    return None


def split(body: bytes, form: Form, most: int) -> pa.Array:
    """The events of a body (binary), in order; BodyError where it cannot be cut, TooManyEvents where they are more than `most`.

    White space around them is not theirs, and a line without anything else is none.
    """
    for mark, name in MARKS_OF_ORDER:
        if body.startswith(mark):
            raise BodyError(f"the body begins with a byte order mark ({name}); send UTF-8 without one")
    if not body.strip(BLANK):
        raise BodyError("the body is empty; send an event (an object of JSON), an array of them, or JSON lines")
    return _lines(body, most) if form is Form.LINES else _json(body, most)


def _json(body: bytes, most: int) -> pa.Array:
    at = len(body) - len(body.lstrip(BLANK))
    if body[at : at + 1] == b"{":
        end = len(body.rstrip(BLANK))
        return pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(BOUNDS.pack(at, end)), pa.py_buffer(body)])
    if body[at : at + 1] != b"[":
        raise BodyError(f"the body begins with {_near(body, at)}, which is neither an object nor an array of objects")
    data = np.frombuffer(body, np.uint8)
    cut: tuple[Any, ...] = splitting.elements_of(data, at + 1, FIRST, 1, most + 1)
    begin, end, consumed, phase = cut
    if len(begin) > most:
        raise _too_many(most)
    if phase == splitting.WRONG:
        raise BodyError(
            f"broken JSON: {_near(body, consumed)} at byte {consumed}, behind element {len(begin) - 1} of the array"
        )
    if phase != CLOSED:
        raise BodyError(f"the body ends in the middle of the array, behind {len(begin)} elements: half a JSON")
    _nothing_behind(body, int(consumed), "")
    return _gathered(data, begin, end)


def refuse_half(event: bytes) -> None:
    """BodyError where a body that begins with an object is not this object alone: for one whose only event was refused.

    Asked for before, of every small request, it would cost as much as the rest of it: a kernel gives Python's lock away.
    """
    if event[:1] == b"{":
        end, depth, _ = splitting.skipped(np.frombuffer(event, np.uint8), 1, 1, 0)
        if depth:
            raise BodyError("the body ends in the middle of an object: half a JSON")
        _nothing_behind(event, int(end), "; for one event a line say Content-Type: application/x-ndjson")


def _lines(body: bytes, most: int) -> pa.Array:
    data = np.frombuffer(body, np.uint8)
    cut: tuple[Any, ...] = splitting.rows_of(data, 1, -1, -1, ord("\n"), len(body) + 1, most + 1)
    begin, end = cut[:2]
    if len(begin) > most:
        raise _too_many(most)
    return _gathered(data, begin, end)


def _too_many(most: int) -> TooManyEvents:
    return TooManyEvents(f"the body has more than {most:,} events (push_events): send it in several requests")


def _nothing_behind(body: bytes, end: int, hint: str) -> None:
    rest = body[end:].lstrip(BLANK)
    if rest:
        at = len(body) - len(rest)
        raise BodyError(f"broken JSON: {_near(body, at)} at byte {at}, where the body should end{hint}")


def _near(body: bytes, at: int) -> str:
    return repr(body[at : at + SHOWN].decode("utf-8", "backslashreplace"))


def _gathered(data: Any, begin: Any, end: Any) -> pa.Array:
    """The texts [begin, end) of the data as a binary array."""
    offsets: Any
    found: Any
    offsets, found = json.gather_texts(data, np.empty(0, np.uint8), begin, end, np.arange(len(begin)))
    return pa.Array.from_buffers(pa.binary(), len(begin), [None, pa.py_buffer(offsets), pa.py_buffer(found)])


def judge(source: Source, values: pa.Array, stamp_ms: int, most_bytes: int) -> Judged:
    """The events (binary, none null) by the layers' own decoder and constraints, as records that are stamped with `stamp_ms`.

    One of more than `most_bytes` is refused, whatever it is.
    """
    decoded = decode(source, _raw(values, stamp_ms))
    columns, reason, reasons = check_all(source.columns, decoded)
    sizes = pc.call_function("binary_length", [values]).to_numpy(zero_copy_only=False)
    small = sizes <= most_bytes
    good = (reason < 0) & small[decoded.rows]
    rows = decoded.rows[good]
    number = next(n for n, column in enumerate(source.columns) if column.name == source.key)
    key = column_named(source.record, source.key, source.topic)
    keys = key_bytes(columns[number], key.type)
    if len(rows) == len(values):
        return Judged(rows, keys, values, np.empty(0, np.int64), [])
    told = dict(zip(decoded.rejected.tolist(), decoded.reasons, strict=True))
    told |= {int(decoded.rows[n]): reasons[reason[n]] for n in np.flatnonzero(reason >= 0)}
    told |= {
        int(n): f"the event has {sizes[n]:,} bytes; allowed are {most_bytes:,} (push_event_bytes)"
        for n in np.flatnonzero(~small)
    }
    refused = np.array(sorted(told), np.int64)
    assert len(rows) + len(refused) == len(values), f"an event for {source.topic} was lost"
    kept = keys.take(pa.array(np.flatnonzero(good), pa.int64()))
    return Judged(rows, kept, values.take(pa.array(rows, pa.int64())), refused, [told[n] for n in refused.tolist()])


def _raw(values: pa.Array, stamp_ms: int) -> pa.RecordBatch:
    """The events as the log will have them; where in it, nobody knows yet."""
    count = len(values)
    none = [pa.nulls(count, RAW_SCHEMA.field(name).type) for name in ("key", "headers")]
    numbers = [pa.array(np.arange(count)), pa.array(np.full(count, stamp_ms, np.int64))]
    return pa.RecordBatch.from_arrays([*numbers, none[0], values, none[1]], schema=RAW_SCHEMA)


__all__ = ["BodyError", "Form", "Judged", "TooManyEvents", "judge", "no_pushes", "refuse_half", "split"]
