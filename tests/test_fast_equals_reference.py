"""The compiled path and the plain-Python one are the same function.

    fold(ingest(blocks)) = Reference(records)        for every view, every log, every cut into blocks

To the bit: counts, rejected offsets, groups, values, the exponents of Decimals, and the sign of zero.
"""

from __future__ import annotations

import struct
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.definition import View
from pipeline.fold import combine, fold
from pipeline.handover import Counts
from pipeline.ingest import Ingest
from pipeline.log import Block
from pipeline.reference import Reference
from pipeline.states import WINDOW_START, present, state_schema
from tests.strategies import Log, blocks_of, logs, view_sets

EXAMPLES = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def exact(value: Any) -> Any:
    """The value in a form whose equality is identity of bits: 1.0 is not 1.00, 0.0 is not -0.0, 1 is not True."""
    if isinstance(value, Decimal):
        return ("Decimal", value.as_tuple())
    if isinstance(value, float):
        return ("float", struct.pack(">d", value))
    return (type(value).__name__, value)


def fast(views: list[View], blocks: dict[int, list[Block]]) -> dict[str, Any]:
    """What the layers' path makes of the log, in the reference's words."""
    counts: dict[int, tuple[int, ...]] = {}
    rejected: list[tuple[int, int]] = []
    view_counts: dict[tuple[str, int], tuple[int, ...]] = {}
    states: dict[str, list[pa.Table]] = {view.name: [state_schema(view).empty_table()] for view in views}
    for partition, mine in blocks.items():
        ingest = Ingest(views[0].source, partition)
        total = Counts()
        of_view = {view.name: Counter[str]() for view in views}
        for block in mine:
            done = ingest.feed(block)
            total = total + done.counts
            rejected += [(partition, offset) for offset in done.rejected.column("offset").to_pylist()]
            for view in views:
                folded = fold(view, done.accepted)
                states[view.name].append(folded.states)
                of_view[view.name].update(
                    folded=folded.counts.folded, filtered=folded.counts.filtered, rejected=folded.counts.rejected
                )
        counts[partition] = (total.accepted, total.duplicates, total.rejected, total.tombstones)
        for name, c in of_view.items():
            view_counts[name, partition] = (c["folded"], c["filtered"], c["rejected"])
    rows = {view.name: table_rows(view, present(view, combine(view, states[view.name]))) for view in views}
    return {"counts": counts, "rejected": sorted(rejected), "view_counts": view_counts, "rows": rows}


def table_rows(view: View, table: pa.Table) -> dict[Any, Any]:
    """A table of values as Reference.rows gives them, exactly."""
    names = [*view.key, WINDOW_START]
    found = {}
    for row in table.to_pylist():
        key = tuple(exact(row[name]) for name in names)
        assert key not in found, f"the group {key} came twice"
        found[key] = {name: exact(row[name]) for name in view.aggregates}
    return found


def reference(views: list[View], log: Log) -> dict[str, Any]:
    """The same of the plain-Python f."""
    f = Reference(views)
    for partition, records in log.items():
        f.feed(partition, records)
    rows = {
        view.name: {
            tuple(exact(k) for k in key): {name: exact(value) for name, value in values.items()}
            for key, values in f.rows(view).items()
        }
        for view in views
    }
    rejected = sorted((partition, offset) for partition, offset, _ in f.rejected)
    return {"counts": f.counts, "rejected": rejected, "view_counts": f.view_counts, "rows": rows}


@EXAMPLES
@given(st.data())
def test_fast_equals_reference_at_every_cut(data: st.DataObject) -> None:
    views = data.draw(view_sets())
    log = data.draw(logs(views[0]))
    blocks = {partition: data.draw(blocks_of(records)) for partition, records in log.items()}
    found, wanted = fast(views, blocks), reference(views, log)
    for what in wanted:
        assert found[what] == wanted[what], what
