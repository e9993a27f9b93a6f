"""ops.segments and ops.segment_views: what the records of a segment became, in all and by view.

a segment [start, end) is named by its start; live ones start at or above the visible cut
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from pipeline.handover import Claim, Commit, Generation, ViewCounts
from pipeline.handover.replacement import Segment
from serving.ops.keys import key_of, row_of
from serving.ops.tables import RECORD_COUNTS, VIEW_COUNTS, segment_views, segments

REACHING = sa.text("""
SELECT partition, start, "end" FROM ops.segments WHERE topic = :topic AND generation = :generation
  AND "end" > (CAST(:offsets AS bigint[]))[partition + 1] ORDER BY partition, start
""")
COUNTED = sa.text("""
SELECT coalesce(sum(accepted + duplicates + rejected + tombstones), 0) FROM ops.segments
WHERE topic = :topic AND generation = :generation AND partition = :partition AND start >= :start
""")
ANY_BELOW = sa.text("""
SELECT EXISTS (SELECT FROM ops.segments WHERE topic = :topic AND generation = :generation
  AND start < (CAST(:offsets AS bigint[]))[partition + 1])
""")
DELETE_BELOW = [
    sa.text(f"""
DELETE FROM ops.{table} WHERE topic = :topic AND generation = :generation
  AND start < (CAST(:offsets AS bigint[]))[partition + 1]
""")  # noqa: S608 -- two constants
    for table in ("segment_views", "segments")
]
DELETE_FROM = [
    sa.text(f"""
DELETE FROM ops.{table} WHERE topic = :topic AND generation = :generation AND partition = :partition AND start >= :start
""")  # noqa: S608 -- two constants
    for table in ("segment_views", "segments")
]
DELETE_BEYOND = sa.text("""
DELETE FROM ops.segments WHERE topic = :topic AND generation = :generation AND partition = :partition AND "end" > :end
RETURNING start
""")
DELETE_VIEWS_OF = sa.text("""
DELETE FROM ops.segment_views
WHERE topic = :topic AND generation = :generation AND partition = :partition AND start = ANY(:starts)
""")


def segments_beyond(
    connection: Connection, generation: Generation, offsets: Sequence[int]
) -> Mapping[int, list[tuple[int, int]]]:
    """By partition, (start, end) of the segments that reach beyond the cut, in order: one that straddles it as well."""
    found = defaultdict(list)
    for row in connection.execute(REACHING, {**key_of(generation), "offsets": list(offsets)}):
        found[int(row.partition)].append((int(row.start), int(row.end)))
    return found


def counted_from(connection: Connection, generation: Generation, partition: int, start: int) -> int:
    """Number of records that were counted in the segments of one partition that begin at `start` or above."""
    return int(connection.execute(COUNTED, {**key_of(generation), "partition": partition, "start": start}).scalar_one())


def any_below(connection: Connection, generation: Generation, offsets: Sequence[int]) -> bool:
    """True when a segment starts below the cut."""
    return bool(connection.execute(ANY_BELOW, {**key_of(generation), "offsets": list(offsets)}).scalar_one())


def add_counts(connection: Connection, work: Commit) -> None:
    """The commit's counts go to its claim's segment, which now ends where the commit does."""
    where = {**row_of(work.claim), "start": work.claim.segment}
    counts = {name: getattr(work.counts, name) for name in RECORD_COUNTS}
    new = insert(segments).values(**where, end=work.end, **counts)
    added = {name: segments.c[name] + new.excluded[name] for name in RECORD_COUNTS}
    connection.execute(new.on_conflict_do_update(index_elements=list(where), set_={"end": new.excluded.end, **added}))
    if work.view_counts:
        many = insert(segment_views).values(_by_view(where, work.view_counts))
        summed = {name: segment_views.c[name] + many.excluded[name] for name in VIEW_COUNTS}
        connection.execute(many.on_conflict_do_update(index_elements=[*where, "view"], set_=summed))


def insert_segments(connection: Connection, claim: Claim, new: Sequence[Segment]) -> None:
    """Refolded segments, of which none is there."""
    key = row_of(claim)
    counts = [{**key, "start": s.start, "end": s.end, **{n: getattr(s.counts, n) for n in RECORD_COUNTS}} for s in new]
    views = [row for s in new for row in _by_view({**key, "start": s.start}, s.view_counts)]
    if counts:
        connection.execute(sa.insert(segments), counts)
    if views:
        connection.execute(sa.insert(segment_views), views)


def delete_below(connection: Connection, generation: Generation, offsets: Sequence[int]) -> None:
    """The segments that start below the cut go."""
    for statement in DELETE_BELOW:
        connection.execute(statement, {**key_of(generation), "offsets": list(offsets)})


def delete_from(connection: Connection, claim: Claim, start: int) -> None:
    """The segments of the claim's partition that start at `start` or above go."""
    for statement in DELETE_FROM:
        connection.execute(statement, {**row_of(claim), "start": start})


def delete_beyond(connection: Connection, generation: Generation, partition: int, end: int) -> list[int]:
    """The segments of the partition that reach beyond `end` go; their starts, which name the states of views."""
    row = {**key_of(generation), "partition": partition, "end": end}
    starts = [int(start) for start in connection.scalars(DELETE_BEYOND, row)]
    if starts:
        connection.execute(DELETE_VIEWS_OF, {**row, "starts": starts})
    return starts


def _by_view(where: Mapping[str, Any], counts: Mapping[str, ViewCounts]) -> list[dict[str, Any]]:
    """Rows of ops.segment_views, in the order of their keys: two commits never wait for each other in a circle."""
    return [
        {**where, "view": view, **{name: getattr(found, name) for name in VIEW_COUNTS}}
        for view, found in sorted(counts.items())
    ]
