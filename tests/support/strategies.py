"""Hypothesis strategies: random views and raw logs for them, for holding one computation of f to another.

views() x logs(view) x blocks_of(records)        every input that View accepts, every way to break a record, every cut
"""

from tests.support.strategies_logs import Log, Record, block, blocks_of, logs, partitions, tiles
from tests.support.strategies_values import pool, spellings
from tests.support.strategies_views import expressions, hints, literal, sources, view_sets, views

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
