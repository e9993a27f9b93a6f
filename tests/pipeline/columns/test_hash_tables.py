"""The hash tables against dicts: grouping, growth, deduplication, and undoing it.

table(hash) = what a dict of Python's would hold, for every sequence of calls
"""

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.columns.groups import group
from pipeline.columns.hash_table import HashTable, capacity_for
from pipeline.kernels.hashing import hash_ints
from pipeline.kernels.tables import (
    GONE,
    count_since,
    entries_since,
    mark_duplicates,
    move,
    restore,
    sort_entries,
    spread,
)

MIN, MAX = -(2**63), 2**63 - 1
INTS = st.integers(MIN, MAX) | st.sampled_from((MIN, -1, 0, 1, MAX))
WORD = 2**64 - 1
quick = settings(max_examples=200, deadline=None, database=None)


# Few distinct words, so that probes collide, wrap around the end of the table, and meet the reserved (0, 0).
WORDS = st.sampled_from((0, 1, 2, 14, 15, 16, 31, 32, WORD, WORD - 15))
HASHES = st.tuples(WORDS, WORDS) | st.tuples(st.integers(0, WORD), st.integers(0, WORD))


def hashes_of(pairs: list[tuple[int, int]]) -> np.ndarray[Any, Any]:
    return np.array(pairs, np.uint64).reshape(-1, 2)


def known(pair: tuple[int, int]) -> tuple[int, int]:
    """(0, 0) marks a free slot, and is looked up as (0, 1): a documented collision."""
    return (0, 1) if pair == (0, 0) else pair


@quick
@given(pairs=st.lists(HASHES, max_size=60))
def test_group_rows_numbers_groups_by_their_first_rows(pairs: list[tuple[int, int]]) -> None:
    number, first = group(hashes_of(pairs))
    seen: dict[tuple[int, int], int] = {}
    assert number.tolist() == [seen.setdefault(known(p), len(seen)) for p in pairs]
    assert first.tolist() == [[known(p) for p in pairs].index(p) for p in seen]


def test_group_rows_handles_many_rows() -> None:
    random = np.random.default_rng(1)
    values = random.integers(0, 50_000, 200_000)
    number, first = group(hash_ints(values, np.zeros((len(values), 2), np.uint64)))
    assert len(first) == len(np.unique(values))
    assert np.array_equal(values[first][number], values)
    assert (np.diff(first) > 0).all()


def test_a_large_table_grows_in_place_and_then_moves() -> None:
    table, step = HashTable(), 100_000
    places = set()
    for n in range(12):
        numbers = np.arange(n * step, (n + 1) * step)
        table.put(hash_ints(numbers, np.zeros((step, 2), np.uint64)), numbers)
        places.add((len(table.keys), table.keys.ctypes.data))
    assert len({at for _, at in places}) < len({capacity for capacity, _ in places}), "it never grew in place"
    every = np.arange(12 * step)
    assert np.array_equal(table.find(hash_ints(every, np.zeros((len(every), 2), np.uint64))), every)
    assert len(table) == len(every)


class Tables(RuleBasedStateMachine):
    """A HashTable beside a dict, through growth."""

    @initialize(entries=st.integers(0, 20))
    def start(self, entries: int) -> None:
        self.table, self.model = HashTable(entries), dict[tuple[int, int], int]()

    @rule(items=st.dictionaries(HASHES.map(known), INTS, max_size=40))
    def put(self, items: dict[tuple[int, int], int]) -> None:
        self.table.put(hashes_of(list(items)), np.array(list(items.values()), np.int64))
        self.model |= items

    @rule(pairs=st.lists(HASHES, max_size=20))
    def find(self, pairs: list[tuple[int, int]]) -> None:
        asked = [*pairs, *self.model]
        assert self.table.find(hashes_of(asked)).tolist() == [self.model.get(known(p), -1) for p in asked]

    @rule(more=st.integers(0, 200))
    def reserve(self, more: int) -> None:
        self.table.reserve(more)

    @rule(least=INTS)
    def entries(self, least: int) -> None:
        hashes, values = self.table.entries(least)
        found = [(int(low), int(high)) for low, high in hashes]
        assert len(set(found)) == len(found)
        assert dict(zip(found, values.tolist(), strict=True)) == {k: v for k, v in self.model.items() if v >= least}

    @rule(least=INTS)
    def sorted_entries(self, least: int) -> None:
        hashes, values = self.table.entries(least)
        sort_entries(hashes, values)
        found = [(int(low), int(high)) for low, high in hashes]
        assert found == sorted(k for k, v in self.model.items() if v >= least)
        assert values.tolist() == [self.model[k] for k in found]

    @invariant()
    def at_most_half_full(self) -> None:
        assert len(self.table) == len(self.model)
        assert 4 * len(self.model) <= 3 * len(self.table.keys)


Tables.TestCase.settings = settings(max_examples=60, stateful_step_count=12, deadline=None, database=None)
TestHashTableIsADictThroughGrowth = Tables.TestCase


@pytest.mark.parametrize("entries", [*range(70), 1000, 1023, 1024, 1025])
def test_capacity_is_the_power_of_two_that_stays_at_most_three_quarters_full(entries: int) -> None:
    capacity = capacity_for(entries)
    assert capacity & (capacity - 1) == 0
    assert 4 * entries <= 3 * capacity
    assert capacity == 16 or 3 * capacity < 8 * entries


@quick
@given(
    before=st.dictionaries(HASHES.map(known), st.integers(0, 50), max_size=20),
    rows=st.lists(st.tuples(HASHES, st.integers(0, 30)), max_size=60),
    horizon=st.integers(0, 60),
    undo=st.booleans(),
)
def test_mark_duplicates_is_the_rule_over_a_dict_and_is_undone(
    before: dict[tuple[int, int], int], rows: list[tuple[tuple[int, int], int]], horizon: int, undo: bool
) -> None:
    times = 50 + np.cumsum([step for _, step in rows]) if rows else np.empty(0, np.int64)
    table = HashTable(len(before) + len(rows))
    table.put(hashes_of(list(before)), np.array(list(before.values()), np.int64))
    hashes, was = hashes_of([p for p, _ in rows]), np.empty(len(rows) if undo else 0, np.int64)
    got, added = mark_duplicates(table.keys, table.values, hashes, times.astype(np.int64), horizon, was)
    model, want = dict(before), []
    for (pair, _), at in zip(rows, times.tolist(), strict=True):
        want.append(known(pair) in model and at - model[known(pair)] <= horizon)
        model[known(pair)] = at
    assert got.tolist() == want
    assert added == len(model) - len(before)
    assert entries_of(table, MIN) == model
    bigger = HashTable(2 * len(table.keys))
    least = min(times.tolist(), default=0)
    assert move(table.keys, table.values, least, bigger.keys, bigger.values) == count_since(
        table.keys, table.values, least
    )
    assert entries_of(bigger, MIN) == {pair: at for pair, at in model.items() if at >= least}
    if undo:
        restore(table.keys, table.values, hashes, was)
        assert entries_of(table, 0) == before
        assert entries_of(table, MIN) == {pair: before.get(pair, GONE) for pair in model}


@quick
@given(
    entries=st.dictionaries(HASHES.map(known), st.integers(0, 50), max_size=40),
    least=st.integers(0, 60),
    doublings=st.integers(1, 5),
)
def test_a_table_spread_over_more_slots_in_place_is_the_same_table(
    entries: dict[tuple[int, int], int], least: int, doublings: int
) -> None:
    table = HashTable(len(entries))
    table.put(hashes_of(list(entries)), np.array(list(entries.values()), np.int64))
    old = len(table.keys)
    keys, values = np.zeros((old << doublings, 2), np.uint64), np.empty(old << doublings, np.int64)
    keys[:old], values[:old] = table.keys, table.values
    table.keys, table.values = keys, values
    left = {pair: at for pair, at in entries.items() if at >= least}
    assert spread(table.keys, table.values, old, least) == len(left)
    assert entries_of(table, MIN) == left
    asked = list(entries)
    assert table.find(hashes_of(asked)).tolist() == [left.get(pair, -1) for pair in asked]


def entries_of(table: HashTable, least: int) -> dict[tuple[int, int], int]:
    hashes, values = entries_since(table.keys, table.values, least)
    return {(int(a), int(b)): v for (a, b), v in zip(hashes, values.tolist(), strict=True)}


@pytest.mark.parametrize("entries", [10, 1000, 24_000])
def test_a_table_lies_nearly_in_the_order_of_its_hashes_so_that_sorting_is_one_pass(entries: int) -> None:
    table = HashTable(entries)
    hashes = hash_ints(np.arange(entries), np.zeros((entries, 2), np.uint64))
    hashes[:5, 0] |= np.uint64(WORD << 40 & WORD)  # all at the table's end, and around it
    table.put(hashes, np.arange(entries))
    found, values = table.entries()
    place = np.lexsort((found[:, 1], found[:, 0]))
    free = np.flatnonzero((table.keys == 0).all(axis=1))
    longest_run = max(np.diff(free).max() - 1, len(table.keys) - free[-1] - 1 + free[0])
    assert np.abs(place - np.arange(entries)).max() < longest_run
    sort_entries(found, values)
    assert np.array_equal(found, hashes[values]) and (np.diff(found[:, 0].astype(np.float64)) >= 0).all()


def test_the_collision_of_the_reserved_hash_is_the_only_one() -> None:
    pairs = [(0, 0), (0, 1), (1, 0), (0, 2)]
    number, _ = group(hashes_of(pairs))
    assert Counter(number.tolist()) == {0: 2, 1: 1, 2: 1}
