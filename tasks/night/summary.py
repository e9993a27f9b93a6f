"""A night's last line: what came in, what became of it, and how long it took.

records in = accepted + duplicates + rejected + tombstones        of the range that this cut added, over all partitions
"""

from pipeline.base.counts import Counts
from pipeline.handover import Cut
from tasks.night.night import Night, counts_of


def summary(night: Night, cut: Cut, took_s: float) -> str:
    """One line about one source's cut, read from the manifests of its clean ranges.

    A cut that a later batch covered before it was cleaned has no such manifests, and says so instead of counting nothing.
    """
    ranges = [night.targets(cut.number).clean(p).manifest(night.lake) for p in range(night.generation.partitions)]
    name = f"{night.source.topic}: night {cut.date}, cut {cut.number}"
    if None in ranges:
        return f"{name}: a later batch covers it; {took_s:.1f} s"
    c = sum((counts_of(one.facts["counts"]) for one in ranges if one is not None), Counts())
    views = ", ".join(view.name for view in night.views)
    return (
        f"{name}: {c.records:,} records in: {c.accepted:,} accepted, {c.duplicates:,} duplicates, {c.rejected:,} rejected,"
        f" {c.tombstones:,} tombstones; {views}; {took_s:.1f} s"
    )
