"""The registry's framing of a record's value: a magic byte 0, the schema's id in 4 bytes, big-endian, and the body behind them.

value = 00 | id | body        1 <= id < 2^31        what is framed otherwise is rejected, whatever its body
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns.arrays import Ints, Mask, valid
from pipeline.decode.values import Broken

FRAME = 5  # bytes
MOST_IDS = 2**31


@dataclass(frozen=True)
class Framed:
    """Values in one buffer: `data` uint8, body i is data[begin[i]:end[i]]. `ids` int64, 0 where the frame is broken or the value null."""

    data: np.ndarray[Any, Any]
    begin: Ints
    end: Ints
    ids: Ints
    present: Mask


def plain(values: pa.Array) -> Framed:
    """Values of a binary array without frames, as if each had id 1."""
    buffers: Any = values.buffers()
    _, offsets, held = buffers
    data = np.frombuffer(held, np.uint8) if held is not None and held.size else np.empty(0, np.uint8)
    bounds = np.zeros(len(values) + 1, np.int32)
    if offsets is not None and len(values):
        bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    wide, present = bounds.astype(np.int64), valid(values)
    return Framed(data, wide[:-1], wide[1:], present.astype(np.int64), present)


def framed(values: pa.Array) -> Framed:
    """Values of a binary array, taken out of their frames."""
    whole = plain(values)
    whole_frame = whole.present & (whole.end - whole.begin >= FRAME)
    at = whole.begin[whole_frame]
    found = np.zeros(len(at), np.int64)
    for byte in range(1, FRAME):
        found = found << 8 | whole.data[at + byte]
    found[(whole.data[at] != 0) | (found >= MOST_IDS)] = 0
    ids = np.zeros(len(values), np.int64)
    ids[whole_frame] = found
    return Framed(whole.data, np.minimum(whole.begin + FRAME, whole.end), whole.end, ids, whole.present)


def opened(value: bytes) -> tuple[int, bytes]:
    """(id, body) of one value; Broken says what is wrong with its frame."""
    if not value:
        raise Broken("empty value")
    if value[0] != 0:
        raise Broken(f"the value begins with byte {value[0]}, and not with the registry's magic byte 0")
    if len(value) < FRAME:
        raise Broken(f"a value of {len(value)} bytes has no room for a schema id")
    found = int.from_bytes(value[1:FRAME], "big")
    if not 1 <= found < MOST_IDS:
        raise Broken(f"schema id {found}, which no registry gives out")
    return found, value[FRAME:]
