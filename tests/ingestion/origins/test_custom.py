"""A user's function as an origin: whatever it gives, each row once, in its order, and its errors with their line."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from ingestion.origin import Origin, Part, Reading
from ingestion.origins.custom import Custom
from pipeline.base.errors import DefinitionError, OriginAway, OriginError, SettingsError
from tests.support.databases import read

Make = Callable[..., Reading]
TABLE = pa.table({"n": list(range(5, 200_005))})
CLOSED: list[str] = []


def dicts() -> Iterator[dict[str, int]]:
    yield from ({"n": n} for n in range(1000))


def mixed() -> Iterator[Any]:
    yield {"n": 0}
    yield [{"n": 1}, {"n": 2}]
    yield pa.record_batch({"n": [3, 4]})
    yield TABLE
    yield {"n": 200_005}
    yield TABLE.slice(0, 0)
    yield [{"n": 200_006}]


def with_what_is_none() -> list[Any]:
    return [{"n": 0}, [{"n": 1}, 7], pa.record_batch({"n": [3]}), [None, {"n": 5}]]


def table() -> pa.Table:
    return TABLE


def by_reading(reading: Reading) -> Iterator[dict[str, Any]]:
    yield {"secret": reading.secret("API"), "since": reading.since}


def endless() -> Iterator[dict[str, int]]:
    try:
        n = 0
        while True:
            yield {"n": n}
            n += 1
    finally:
        CLOSED.append("closed")


def failing() -> Iterator[dict[str, int]]:
    yield {"n": 1}
    raise ZeroDivisionError("of no use\nto anybody")


def away() -> Iterable[Any]:
    raise OriginAway("the other side sleeps")


def number() -> Any:
    return 7


def numbers() -> Any:
    return [7]


def of_several(a: int, b: int) -> Any:
    return [{"a": a, "b": b}]


class Resource:
    """An iterable object, as a resource of dlt is one."""

    def __iter__(self) -> Iterator[Any]:
        yield [{"n": 1}]
        yield [{"n": 2}]


def resource() -> Any:
    return Resource()


@pytest.mark.parametrize(("function", "count"), [(dicts, 1000), (mixed, 200_007), (table, 200_000), (resource, 2)])
def test_every_row_comes_once_and_in_order(reading: Make, function: Any, count: int) -> None:
    found = [row["n"] for row in read(Custom(function), reading())]
    assert len(found) == count and found == list(range(found[0], found[0] + count))


def test_what_is_no_object_is_broken_at_its_place(reading: Make) -> None:
    rows = list(Custom(with_what_is_none).read(Part("x"), reading()))
    assert [n for one in rows for n in one.numbers] == [1, 2, 4, 6]
    assert [(b.number, b.reason) for one in rows for b in one.broken] == [
        (3, "is no object but a number"),
        (5, "is no object but null"),
    ]


def test_a_function_that_takes_one_argument_gets_the_reading(reading: Make) -> None:
    assert read(Custom(by_reading), replace(reading(API="s"), since=4)) == [{"secret": "s", "since": 4}]
    with pytest.raises(SettingsError, match="no credential API"):
        read(Custom(by_reading), reading())


@pytest.mark.parametrize(("function", "limit"), [(endless, 300), (mixed, 4), (mixed, 100_000), (dicts, 1)])
def test_a_sample_is_no_more_than_its_limit_and_the_function_is_closed(
    reading: Make, function: Any, limit: int
) -> None:
    CLOSED.clear()
    assert [row["n"] for row in read(Custom(function), replace(reading(), limit=limit))] == list(range(limit))
    assert (["closed"] if function is endless else []) == CLOSED


def test_an_error_of_the_function_says_what_and_where_and_one_of_ours_stays_what_it_is(reading: Make) -> None:
    with pytest.raises(
        OriginError, match=r"failing raised ZeroDivisionError: of no use to anybody \(at .*test_custom\.py:\d+\)$"
    ) as refused:
        read(Custom(failing), reading())
    assert not isinstance(refused.value, OriginAway)
    with pytest.raises(OriginAway, match=r"^the other side sleeps$"):
        read(Custom(away), reading())
    for function in (number, numbers):
        with pytest.raises(OriginError, match="gives int; allowed are dicts, lists of dicts"):
            read(Custom(function), reading())


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: [{}], "named function of a module"),
        (of_several, "takes several arguments"),
        (7, "Custom takes a function, not int"),
        ("tests.x", "Custom takes a function, not str"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(function: Any, words: str) -> None:
    with pytest.raises(DefinitionError, match=words) as refused:
        Custom(function)
    assert "test_custom" in str(refused.value)


def test_a_declaration_is_a_value() -> None:
    origin = Custom(dicts)
    assert isinstance(origin, Origin) and not origin.textual
    assert pickle.loads(pickle.dumps(origin)) == origin != Custom(mixed) and hash(origin) == hash(Custom(dicts))
    assert origin.describe() == {"kind": "Custom", "function": "tests.ingestion.origins.test_custom.dicts"}
