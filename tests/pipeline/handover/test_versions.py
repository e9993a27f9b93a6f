"""Versions in force, held to what they mean: offset by offset."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import Refused
from pipeline.handover import Cut
from pipeline.handover.versions import in_force, newer_than, stretches

NOW = datetime(2013, 1, 1, tzinfo=UTC)
END = 12


@st.composite
def ledgers(draw: st.DrawFn) -> list[Cut]:
    """Cuts of two partitions that rise with their numbers, in any order; the first is the log's start."""
    found, offsets, versions = [], [0, 0], {"a": 1, "b": 1}
    for number in range(draw(st.integers(1, 6))):
        if number:
            offsets = [at + draw(st.integers(0, 4)) for at in offsets]
            versions |= draw(st.dictionaries(st.sampled_from("ab"), st.integers(1, 5)))
        found.append(Cut("t", 1, number, None, tuple(offsets), NOW, "chosen", versions=tuple(sorted(versions.items()))))
    return draw(st.permutations(found))


def meant(ledger: list[Cut], partition: int, offset: int) -> dict[str, int]:
    """The versions of the last cut that is not above the offset."""
    found: dict[str, int] = {}
    for cut in sorted(ledger, key=lambda c: c.number):
        if cut.offsets[partition] <= offset:
            found = dict(cut.versions)
    return found


@given(ledgers(), st.integers(0, 1), st.integers(0, END))
def test_the_newest_cut_at_or_below_an_offset_says_what_is_in_force(
    ledger: list[Cut], partition: int, offset: int
) -> None:
    assert in_force(ledger, partition, offset, "ab") == meant(ledger, partition, offset)


@given(ledgers(), st.integers(0, 1), st.integers(0, END), st.integers(0, END), st.sampled_from(["a", "ab", ""]))
def test_stretches_tile_a_range_and_are_as_long_as_no_version_changes(
    ledger: list[Cut], partition: int, start: int, end: int, tables: str
) -> None:
    found = stretches(ledger, partition, start, end, tables)
    for offset in range(start, end):
        (held,) = [s for s in found if s.start <= offset < s.end]
        assert dict(held.versions) == {t: v for t, v in meant(ledger, partition, offset).items() if t in tables}
    assert sum(s.end - s.start for s in found) == max(0, end - start)
    assert all(a.versions != b.versions and a.end == b.start for a, b in pairwise(found))


@given(ledgers(), st.dictionaries(st.sampled_from("abc"), st.integers(1, 5)))
def test_a_table_never_goes_back_to_an_earlier_version(ledger: list[Cut], wanted: dict[str, int]) -> None:
    cut = ledger[0]
    found = newer_than(cut, wanted)
    assert found == {t: v for t, v in wanted.items() if t not in dict(cut.versions) or v > dict(cut.versions)[t]}


def test_a_table_that_has_no_version_at_an_offset_is_refused() -> None:
    with pytest.raises(Refused, match="table planes has no version in force"):
        in_force([Cut("t", 1, 0, None, (0,), NOW, "published")], 0, 5, ["planes"])
