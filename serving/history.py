"""History of topics, views and tables as schema ops has it: cuts with their batches, counts and versions, at one instant.

counts of a batch = of [start of the log, its cut)        added by a batch = its counts − those of the batch before
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipeline.handover import Vector
from pipeline.handover.generation import VersionPairs
from serving.ops.adoptions import versions_by_cut
from serving.ops.table_versions import LoadedVersion, versions_of
from serving.ops.tables import RECORD_COUNTS, VIEW_COUNTS
from serving.postgres.connection import reading

GENERATIONS = sa.text("""
SELECT topic, number, starts, source_fingerprint FROM ops.generations ORDER BY topic, number
""")
CUTS = sa.text("""
SELECT c.topic, c.generation, c.number, c.date, c.offsets, c.chosen_at, b.status, b.staged_from, b.published_at
FROM ops.cuts c JOIN ops.batches b USING (topic, generation, number) ORDER BY c.topic, c.generation, c.number
""")
COUNTS = sa.text("""
SELECT topic, generation, number, sum(accepted)::bigint AS accepted, sum(duplicates)::bigint AS duplicates,
  sum(rejected)::bigint AS rejected, sum(tombstones)::bigint AS tombstones
FROM ops.batch_counts GROUP BY topic, generation, number
""")
VIEW_ROWS = sa.text("""
SELECT topic, generation, number, view, sum(folded)::bigint AS folded, sum(filtered)::bigint AS filtered,
  sum(rejected)::bigint AS rejected
FROM ops.batch_views GROUP BY topic, generation, number, view
""")
VIEWS = sa.text("SELECT topic, generation, view, fingerprint FROM ops.views")
LOADED = sa.text("SELECT DISTINCT table_name FROM ops.table_versions ORDER BY table_name")
IS_SET_UP = sa.text("SELECT to_regclass('ops.table_versions') IS NOT NULL")
Of = tuple[str, int]  # a topic and a generation


@dataclass(frozen=True)
class CutHistory:
    """One cut and its batch. `counts` and `views` are None and empty where nothing is staged, or a purge took them.

    `below` is where the batch before ends, and `added` what the counts have above its own; None where those are gone.
    """

    topic: str
    generation: int
    number: int
    date: date | None
    offsets: Vector
    below: Vector
    chosen_at: datetime
    status: str
    staged_from: str | None
    published_at: datetime | None
    counts: Mapping[str, int] | None
    added: Mapping[str, int] | None
    views: Mapping[str, Mapping[str, int]]
    versions: Mapping[str, int]
    adopted: Mapping[str, int]


@dataclass(frozen=True)
class History:
    """Everything of one instant: cuts rising, versions of each table rising; fingerprints of views and sources by generation."""

    cuts: tuple[CutHistory, ...]
    tables: Mapping[str, list[LoadedVersion]]
    views: Mapping[Of, Mapping[str, str]]
    sources: Mapping[Of, str]


def read_history(engine: Engine) -> History:
    """The history; empty where nothing is set up."""
    with reading(engine) as connection:
        if not connection.execute(IS_SET_UP).scalar_one():
            return History((), {}, {}, {})
        return _read(connection)


def _read(connection: Connection) -> History:
    generations = connection.execute(GENERATIONS).all()
    counts = {
        (r["topic"], r["generation"], r["number"]): {name: int(r[name]) for name in RECORD_COUNTS}
        for r in connection.execute(COUNTS).mappings()
    }
    views: dict[tuple[str, int, int], dict[str, dict[str, int]]] = {}
    for r in connection.execute(VIEW_ROWS).mappings():
        of = views.setdefault((r["topic"], r["generation"], r["number"]), {})
        of[r["view"]] = {name: int(r[name]) for name in VIEW_COUNTS}
    fingerprints: dict[Of, dict[str, str]] = {}
    for row in connection.execute(VIEWS):
        fingerprints.setdefault((row.topic, row.generation), {})[row.view] = row.fingerprint
    rows: dict[Of, list[Any]] = {}
    for cut in connection.execute(CUTS).mappings():
        rows.setdefault((cut["topic"], cut["generation"]), []).append(cut)
    cuts: list[CutHistory] = []
    for generation in generations:
        of_it = rows.get((generation.topic, generation.number), [])
        numbers = [row["number"] for row in of_it]
        versions = versions_by_cut(connection, generation.topic, generation.number, numbers)
        cuts += _cuts(tuple(generation.starts), of_it, versions, counts, views)
    tables = {name: versions_of(connection, name) for name in connection.scalars(LOADED)}
    sources = {(g.topic, g.number): g.source_fingerprint for g in generations}
    return History(tuple(cuts), tables, fingerprints, sources)


def _cuts(
    starts: Vector, rows: Sequence[Mapping[str, Any]], versions: Mapping[int, VersionPairs], counts: Any, views: Any
) -> Iterator[CutHistory]:
    """The cuts of one generation; an adopted one has no batch, and what lies below it counts with the next night's."""
    below, base = starts, dict.fromkeys(RECORD_COUNTS, 0)
    known, before = True, dict[str, int]()
    for row in rows:
        place, now = (row["topic"], row["generation"], row["number"]), dict(versions[row["number"]])
        own = counts.get(place)
        added = {name: own[name] - base[name] for name in RECORD_COUNTS} if own is not None and known else None
        adopted = {name: version for name, version in now.items() if before.get(name) != version}
        told: Any = {name: value for name, value in row.items() if name != "offsets"}
        offsets, of_views = tuple(row["offsets"]), views.get(place, {})
        yield CutHistory(
            **told,
            offsets=offsets,
            below=below,
            counts=own,
            added=added,
            views=of_views,
            versions=now,
            adopted=adopted,
        )
        before = now
        if row["status"] != "adopted":
            below, base, known = offsets, own or base, own is not None or not row["number"]  # batch 0 counts nothing


__all__ = ["CutHistory", "History", "read_history"]
