"""Coverage and tiling of segments, held to what they mean: offset by offset."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.handover.coverage import Untiled, check_tiling, coverage

END = 12  # offsets of the worlds below: few, so that segments meet, overlap and leave gaps often
OFFSETS = st.integers(0, END)
Segments = list[tuple[int, int]]


@st.composite
def tilings(draw: st.DrawFn) -> Segments:
    """Segments that tile a range, without some of them, now and then."""
    bounds = sorted(draw(st.sets(OFFSETS, min_size=1)))
    whole = list(pairwise(bounds))
    return [s for s in whole if draw(st.integers(0, 7))]


def in_any_way(low: int = 0) -> st.SearchStrategy[Segments]:
    """Segments that gap, overlap, repeat and straddle, some of no or negative length, in the order of their starts."""
    return st.lists(st.tuples(st.integers(low, END), OFFSETS), max_size=5).map(sorted)


def holders(segments: Segments, offset: int) -> Segments:
    return [s for s in segments if s[0] <= offset < s[1]]


def tile_and_straddle_nothing(cut: int, position: int, segments: Segments, chosen: set[int]) -> bool:
    """The meaning: nothing empty, one segment at every offset from the cut to the position, none elsewhere, no chosen one inside."""
    if any(end <= start for start, end in segments):
        return False
    counts = {offset: len(holders(segments, offset)) for offset in range(END + 1)}
    tiles = all(count == (cut <= offset < position) for offset, count in counts.items())
    return tiles and not any(start < offset < end for offset in {cut, *chosen} for start, end in segments)


@given(OFFSETS, OFFSETS, st.one_of(tilings(), in_any_way()), st.sets(OFFSETS))
@example(3, 6, [(3, 6)], set())
@example(3, 6, [(3, 5), (5, 6)], {5})
@example(3, 6, [(2, 6)], set())
@example(3, 6, [(3, 7)], set())
@example(3, 6, [(3, 6)], {4})
@example(3, 3, [], set())
def test_check_tiling_passes_exactly_the_segments_that_hold_each_offset_once(
    cut: int, further: int, segments: Segments, chosen: set[int]
) -> None:
    position = max(cut, further)
    if tile_and_straddle_nothing(cut, position, segments, chosen):
        check_tiling(cut, position, segments, chosen)
        assert coverage(cut, segments) == (position, segments[-1][0] if segments else cut)
    else:
        with pytest.raises(Untiled):
            check_tiling(cut, position, segments, chosen)


@given(OFFSETS, tilings())
@example(4, [(2, 4), (4, 6), (6, 8), (9, 11)])
@example(4, [(2, 6), (6, 8)])
def test_coverage_ends_at_the_first_offset_that_no_segment_from_the_cut_on_holds(cut: int, segments: Segments) -> None:
    from_cut = [s for s in segments if s[0] >= cut]
    end = next(offset for offset in range(cut, END + 2) if not holders(from_cut, offset))
    last = holders(from_cut, end - 1)[0][0] if end > cut else cut
    assert coverage(cut, segments) == (end, last)


@given(OFFSETS, in_any_way())
def test_what_is_covered_is_tiled_whatever_else_there_is(cut: int, segments: Segments) -> None:
    """Rollback keeps just this: what lies beyond the end it returns to is deleted, and publish would pass the rest."""
    end, last = coverage(cut, segments)
    run, at = [], cut
    while at < end:
        run.append(next(s for s in segments if s[0] == at < s[1]))
        at = run[-1][1]
    check_tiling(cut, end, run)
    assert last == (run[-1][0] if run else cut)
    assert not any(start == end < stop for start, stop in segments), "one more would have been covered"


@pytest.mark.parametrize(
    ("segments", "wrong"),
    [
        ([(5, 9)], r"segment \[5, 9\) straddles the cut 6"),
        ([(6, 9), (9, 12)], r"segment \[9, 12\) straddles the cut 10"),
        ([(7, 12)], r"segment \[7, 12\) straddles the cut 10"),
        ([(7, 10), (10, 12)], r"segment \[7, 10\) follows a gap or overlap at 6"),
        ([(6, 9), (8, 10)], r"segment \[8, 10\) follows a gap or overlap at 9"),
        ([(6, 6), (6, 10)], r"segment \[6, 6\) follows a gap or overlap at 6"),
        ([(6, 10)], r"no segment covers \[10, 12\)"),
        ([(6, 10), (10, 14)], "the segments reach 14, beyond the position 12"),
        ([], r"no segment covers \[6, 12\)"),
    ],
)
def test_the_first_segment_that_is_wrong_is_named(segments: Segments, wrong: str) -> None:
    with pytest.raises(Untiled, match=f"^{wrong}$"):
        check_tiling(6, 12, segments, chosen=(10,))
