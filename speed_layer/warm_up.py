"""Loading the compiled kernels before any partition is held: it takes a second, in which a partition would stand still.

Nothing is kept: warm_up(...) changes no answer. Where they are not compiled yet, that is done here, and said.
"""

from collections.abc import Sequence

import pyarrow as pa

from pipeline import warm_up as kernels
from pipeline.accept.accept import Ingest
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.fold import columns_of, fold
from pipeline.log.log import RAW_SCHEMA, Block
from speed_layer.segment_states import SegmentStates


def warm_up(source: Source, views: Sequence[View]) -> None:
    """Load what the views need, then take a tombstone and two broken records through all that a worker does with a block."""
    kernels.warm_up(views)
    values = (None, b"", b"{}")
    rows: list[dict[str, object]] = [
        {"offset": n, "timestamp_ms": 0, "key": None, "value": value, "headers": []} for n, value in enumerate(values)
    ]
    done = Ingest(source, 0, columns=columns_of(views)).feed(
        Block(pa.RecordBatch.from_pylist(rows, schema=RAW_SCHEMA), 0, len(rows))
    )
    for view in views:
        SegmentStates(view).merge(fold(view, done.accepted).states)
