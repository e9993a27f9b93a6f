"""Folding in rounds: a window's date is written when nothing that follows can reach it, and memory holds a round."""

import hypothesis.strategies as st
from hypothesis import given, settings

from pipeline.lake.manifest import File
from tasks.night import fold as folding
from tasks.night.clean import DATE
from tasks.night.fold import _chunks


@settings(max_examples=300, deadline=None, database=None)
@given(
    files=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(0, 9), st.integers(0, 400_000)), max_size=30
    ),
    most=st.sampled_from((1, 100_000, 250_000)),
)
def test_every_file_is_in_one_chunk_and_no_later_chunk_begins_earlier(
    files: list[tuple[int, int, int, int]], most: int
) -> None:
    named = sorted(
        (
            (p, (("carriers", version),), File(f"{n}", rows, {DATE: f"2013-01-0{day}"}))
            for n, (p, version, day, rows) in enumerate(files)
        ),
        key=lambda of: of[2].partition[DATE],
    )
    before, folding.CHUNK_ROWS = folding.CHUNK_ROWS, most
    try:
        chunks = _chunks(named)
    finally:
        folding.CHUNK_ROWS = before
    found = sorted((c.partition, c.versions, f.path) for c in chunks for f in c.files)
    assert found == sorted((p, versions, f.path) for p, versions, f in named), "with the versions in force for it"
    for n, chunk in enumerate(chunks):
        dates = [f.partition[DATE] for later in chunks[n:] for f in later.files]
        assert chunk.files[0].partition[DATE] == min(dates)
        assert sum(f.rows for f in chunk.files[:-1]) < most
