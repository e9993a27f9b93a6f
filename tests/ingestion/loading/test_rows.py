"""Rows as hashes, and what a load has seen, against tuples and a dict."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from hypothesis import given, settings

from ingestion.loading.modes import schema_of
from ingestion.loading.rows import START_ROWS, Seen, hashed, keys_of
from pipeline import Full, Snapshot, Validity
from pipeline.columns.hashing import Hashes
from tests.ingestion.loading.plainly import Row, said
from tests.ingestion.loading.test_modes import CUTS, KEY, ROWS, batches, table

quick = settings(max_examples=300, deadline=None, database=None)
NUMBERS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40)


def hashes(values: list[int]) -> Hashes:
    return np.stack([np.array(values, np.uint64) + np.uint64(1), np.zeros(len(values), np.uint64)], axis=1)


@quick
@given(ROWS, CUTS)
def test_hashes_are_equal_where_rows_say_the_same_and_nowhere_else(rows: list[Row], cuts: list[int]) -> None:
    of, found = table(Full()), list[bytes]()
    for batch in batches(of, rows, cuts):
        found += [one.tobytes() for one in hashed(batch, of, [c.name for c in of.columns])]
    numbers = {one: n for n, one in enumerate(dict.fromkeys(found))}
    plain = {one: n for n, one in enumerate(dict.fromkeys(map(said, rows)))}
    assert [numbers[one] for one in found] == [plain[said(row)] for row in rows]


def test_floats_are_told_apart_by_their_bits_and_from_nulls_and_texts_by_where_they_end() -> None:
    of = table(Full())
    rows = pa.Table.from_pydict(
        {
            "price": [0.0, -0.0, None, float("nan"), 5e-324],
            "shop": ["ab", "a", "ab", "a", ""],
            "note": ["c", "bc", None, "", "x"],
        }
    )
    for names in (["price"], ["shop", "note"]):
        assert len({one.tobytes() for one in hashed(rows, of, names)}) == 5


@quick
@given(NUMBERS, st.lists(st.integers(0, 40), max_size=5), st.integers(1, 8))
def test_what_was_seen_equals_a_dict_however_rows_are_cut(
    pairs: list[tuple[int, int]], cuts: list[int], room: int
) -> None:
    """`room`: rows of memory at first, so that it grows anywhere."""
    seen, first, start = Seen(), dict[int, int](), 0
    seen._contents = np.empty((room, 2), np.uint64)
    for end in sorted({min(cut, len(pairs)) for cut in cuts} | {len(pairs)}):
        run = pairs[start:end]
        found = seen.sort(hashes([key for key, _ in run]), hashes([content for _, content in run]))
        wanted: dict[str, list[int]] = {"fresh": [], "same": [], "other": []}
        for n, (key, content) in enumerate(run):
            wanted["fresh" if key not in first else "same" if first[key] == content else "other"].append(n)
            first.setdefault(key, content)
        assert {name: getattr(found, name).tolist() for name in wanted} == wanted
        assert len(seen) == len(first)
        start = end


def test_more_rows_than_there_is_room_for_at_first_are_all_remembered() -> None:
    seen, count = Seen(), 3 * START_ROWS + 1
    every = hashes(list(range(count)))
    assert len(seen.sort(every, every).fresh) == count
    assert len(seen.sort(every, every).same) == count and len(seen.sort(every, every[::-1].copy()).other) == count - 1


def test_the_key_of_a_version_has_the_start_where_there_is_history() -> None:
    assert keys_of(table(Full())) == list(KEY)
    assert keys_of(table(Snapshot(), history=Validity("since", "until"))) == [*KEY, "since"]
    assert schema_of(table(Snapshot(), history=Validity("since", "until"))).names[-2:] == ["since", "until"]
