"""Hypothesis strategies: random views and raw logs for them, for holding one computation of f to another.

views() x logs(view) x blocks_of(records)        every input that View accepts, every way to break a record, every cut
"""

from hypothesis import strategies as st

from pipeline.definition.view import View
from tests.support.strategies_logs import Log, Record, block, blocks_of, logs, partitions, tiles
from tests.support.strategies_values import pool, spellings
from tests.support.strategies_views import Draw, expressions, hints, literal, sources, views


@st.composite
def view_sets(draw: Draw) -> list[View]:
    """One or two views of one source."""
    source = draw(sources())
    return [draw(views(source, name=f"view{n}")) for n in range(draw(st.integers(1, 2)))]


__all__ = [
    "Log",
    "Record",
    "block",
    "blocks_of",
    "expressions",
    "hints",
    "literal",
    "logs",
    "partitions",
    "pool",
    "sources",
    "spellings",
    "tiles",
    "view_sets",
    "views",
]
