"""Record by record: a loop over values, whatever a format's reading of one is.

in = decoded + rejected + tombstones        read(value) = the cells of its columns, or Broken with the reason
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.decode.decoded import Decoded
from pipeline.decode.json_records import _array
from pipeline.decode.values import Broken
from pipeline.definition.record import Column


def decoded_by_record(columns: Sequence[Column], values: pa.Array, read: Callable[[bytes], Sequence[Any]]) -> Decoded:
    """Decode a binary array (null: tombstone, neither decoded nor rejected) by `read`, which gives a cell for each column."""
    cells: list[list[Any]] = [[] for _ in columns]
    rows, rejected, reasons = list[int](), list[int](), list[str]()
    for row, value in enumerate(values.to_pylist()):
        if value is None:
            continue
        try:
            found = read(value)
        except Broken as broken:
            rejected.append(row)
            reasons.append(str(broken))
            continue
        rows.append(row)
        for column, cell in zip(cells, found, strict=True):
            column.append(cell)
    arrays = {c.name: _array(c.type, held) for c, held in zip(columns, cells, strict=True)}
    return Decoded(
        np.array(rows, np.int64),
        {name: array for name, (array, _) in arrays.items()},
        {name: breach for name, (_, breach) in arrays.items() if breach is not None},
        np.array(rejected, np.int64),
        values.null_count,
        0,
        None,
        lambda: reasons,
    )
