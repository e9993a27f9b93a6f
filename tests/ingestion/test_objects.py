"""Objects as Arrow: no value is changed, and what cannot have one type is text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.objects import batch_of, column, in_batches, parse_json, text, to_rows, written

NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.decimals(allow_nan=False, allow_infinity=False, places=6))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def same(found: Any, given: Any) -> bool:
    """Equal as values; a text is as good as the value that it writes; what an object lacks is null."""
    if given is None or found is None:
        return found is None and given is None
    if isinstance(found, str) and not isinstance(given, str):
        return found == text(given)
    if isinstance(given, Mapping):
        return all(same(found.get(name), given.get(name)) for name in {*found, *given})
    if isinstance(given, list):
        return len(found) == len(given) and all(map(same, found, given))
    return bool(found == given) and isinstance(found, bool) == isinstance(given, bool)


@settings(deadline=None)
@given(st.lists(JSON, min_size=1, max_size=8))
def test_no_value_is_changed_whatever_stands_together(values: list[Any]) -> None:
    made = column(values)
    made.validate(full=True)
    assert all(map(same, made.to_pylist(), values))


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), JSON), max_size=6))
def test_a_batch_has_a_row_for_each_object_and_no_name_is_lost(items: list[dict[str, Any]]) -> None:
    made = batch_of(items)
    assert made.num_rows == len(items) and set(made.schema.names) == {name for item in items for name in item}
    assert all(map(same, made.to_pylist(), items))


@settings(deadline=None)
@given(JSON)
def test_json_that_is_written_is_read_as_it_was(value: Any) -> None:
    assert parse_json(written(value)) == value


AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("values", "type_", "found"),
    [
        ([None, None], pa.null(), [None, None]),
        ([1, None, 2], pa.int64(), [1, None, 2]),
        ([2**63, 1], pa.decimal128(38, 0), [Decimal(2**63), Decimal(1)]),
        ([10**80], pa.string(), [str(10**80)]),
        ([1, Decimal("0.10")], pa.decimal128(38, 2), [Decimal("1.00"), Decimal("0.10")]),
        ([Decimal("NaN"), Decimal(1)], pa.string(), ["NaN", "1"]),
        ([Decimal(10) ** 37, Decimal("1e-9")], pa.decimal256(76, 9), [Decimal(10) ** 37, Decimal("1e-9")]),
        ([0.5, 1], pa.float64(), [0.5, 1.0]),
        ([0.5, 2**53 + 1], pa.string(), ["0.5", "9007199254740993"]),
        ([0.1, Decimal("0.1")], pa.string(), ["0.1", "0.1"]),
        ([True, 1], pa.string(), ["true", "1"]),
        (["a", 1, None], pa.string(), ["a", "1", None]),
        ([AT], pa.timestamp("us", "UTC"), [AT.astimezone(UTC)]),
        ([AT.replace(tzinfo=None)], pa.timestamp("us"), [AT.replace(tzinfo=None)]),
        (
            [AT, AT.replace(tzinfo=None)],
            pa.string(),
            ["2026-01-02T03:04:05.000006+02:00", "2026-01-02T03:04:05.000006"],
        ),
        ([date(2026, 1, 2)], pa.date32(), [date(2026, 1, 2)]),
        ([date(2026, 1, 2), AT.replace(tzinfo=None)], pa.string(), ["2026-01-02", "2026-01-02T03:04:05.000006"]),
        ([time(1, 2)], pa.time64("us"), [time(1, 2)]),
        ([timedelta(days=1)], pa.duration("us"), [timedelta(days=1)]),
        ([memoryview(b"\xff")], pa.binary(), [b"\xff"]),
        ([UUID(int=7)], pa.string(), [str(UUID(int=7))]),
        (["\ud800"], pa.string(), ["?"]),
        ([{"a": 1}, {"b": "x"}, None], None, [{"a": 1, "b": None}, {"a": None, "b": "x"}, None]),
        ([{"a": 1}, [2], "x"], pa.string(), ['{"a": 1}', "[2]", "x"]),
        ([[1], None, ["x"]], pa.list_(pa.string()), [["1"], None, ["x"]]),
        ([{}], pa.string(), ["{}"]),
    ],
)
def test_a_column_has_the_type_that_all_its_values_have(
    values: list[Any], type_: pa.DataType | None, found: list[Any]
) -> None:
    made = column(values)
    assert type_ is None or made.type == type_
    assert made.to_pylist() == found


def test_what_is_no_object_is_a_broken_row_at_its_place() -> None:
    rows = to_rows([{"a": 1}, [1, "x"], {"a": 2}, None, {3: 4}], first=11, unit="element")
    assert rows.batch.to_pylist() == [{"a": 1}, {"a": 2}] and rows.numbers.tolist() == [11, 13]
    assert [(one.number, one.reason, one.raw) for one in rows.broken] == [
        (12, "is no object but a list", b'[1, "x"]'),
        (14, "is no object but null", b"null"),
        (15, "has a name that is no text", b"{3: 4}"),
    ]


def test_wide_rows_come_in_smaller_batches_and_every_row_once() -> None:
    narrow = [rows.batch.num_rows for rows in in_batches({"a": n} for n in range(200_000))]
    wide = [rows.batch for rows in in_batches({"a": n, "b": "x" * 100_000} for n in range(1000))]
    assert max(narrow) == 65_536 and sum(narrow) == 200_000
    assert max(batch.nbytes for batch in wide) < 30 * 1024 * 1024 and sum(batch.num_rows for batch in wide) == 1000
    numbers = [n for rows in in_batches(({"a": n} for n in range(10**9)), limit=700) for n in rows.numbers]
    assert numbers == list(range(1, 701))


@pytest.mark.parametrize("body", ["NaN", '{"a": 1, "a": 2}', '{"a": Infinity}', '{"a": ', "<html>"])
def test_what_json_does_not_know_is_refused(body: str) -> None:
    with pytest.raises(ValueError):
        parse_json(body)
