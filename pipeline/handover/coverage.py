"""Segments on a partition's log: what they cover without a gap, and whether they tile a range.

    live segments tile [cut, position)  <=>  every offset in [cut, position) is in exactly one of them, and no other offset is

Pure arithmetic on half-open ranges (start, end), for every store that decides by it. The simulation's stores have their own copy, on
purpose: they are the oracle that these are held against.
"""

from collections.abc import Iterable, Sequence

from pipeline.base.errors import Refused


class Untiled(Refused):
    """Segments with a gap, an overlap, or one that straddles a cut; the caller says where, and what repairs it."""


def coverage(cut: int, segments: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """(end, start of the last segment) of the longest run of segments that tiles [cut, end); (cut, cut) when none starts there.

    `segments` are in the order of their starts; those that begin inside the run, before the cut or beyond a gap do not count.
    """
    end = last = cut
    for start, stop in segments:
        if start == end < stop:
            end, last = stop, start
    return end, last


def check_tiling(cut: int, position: int, segments: Sequence[tuple[int, int]], chosen: Iterable[int] = ()) -> None:
    """Untiled unless the segments tile [cut, position) and none straddles an offset of `chosen`; it names the first that is wrong.

    `segments` are in the order of their starts, all that reach beyond the cut: one left out that begins below it would not be missed.
    A position below the cut is a caller's mistake: it is raised to the cut first, for nothing is live below.
    """
    at = cut
    cuts = sorted({cut, *chosen})
    for start, end in segments:
        inside = next((offset for offset in cuts if start < offset < end), None)
        if inside is not None:
            raise Untiled(f"segment [{start}, {end}) straddles the cut {inside}")
        if start != at or end <= start:
            raise Untiled(f"segment [{start}, {end}) follows a gap or overlap at {at}")
        at = end
    if at < position:
        raise Untiled(f"no segment covers [{at}, {position})")
    if at > position:
        raise Untiled(f"the segments reach {at}, beyond the position {position}")
