"""Bodies are cut into events, and events judged, as a slow and obvious program does it."""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from ingestion.push import BodyError, Form, Judged, TooManyEvents, judge, no_pushes, refuse_half, split
from ingestion.pushing import shared
from pipeline import Avro, Between, Debezium, Header, Json, RecordKey, RecordTime, Scale, Source

NOW_MS = 1_700_000_000_000
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
BLANKS = st.text(" \t\r\n", max_size=3).map(str.encode)


@dataclass(frozen=True)
class Order:
    """An order."""

    id: str
    shop: str
    at: datetime
    amount: Annotated[Decimal, Scale(2), Between(0, 100)]


orders = Source(topic="orders", record=Order, key="shop", event_time="at", identity="id")


def order(**more: object) -> bytes:
    """One event."""
    return json.dumps({"id": "1", "shop": "a", "at": "2024-01-01T00:00:00Z", "amount": 1.5} | more).encode()


@settings(deadline=None)
@given(st.lists(JSON_VALUES.map(lambda value: json.dumps(value).encode()), max_size=8), BLANKS, BLANKS)
def test_an_array_is_cut_into_the_bytes_of_its_elements(elements: list[bytes], before: bytes, behind: bytes) -> None:
    body = before + b"[" + b",".join(before + one + behind for one in elements) + b"]" + behind
    assert split(body, Form.JSON, 8).to_pylist() == elements


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON_VALUES), BLANKS, BLANKS)
def test_an_object_is_one_event_as_it_came(value: dict[str, object], before: bytes, behind: bytes) -> None:
    written = json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert split(before + written + behind, Form.JSON, 1).to_pylist() == [written]
    refuse_half(written)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line and not line.endswith(b"\r")), max_size=9))
def test_lines_are_events_and_blank_ones_are_none(lines: list[bytes]) -> None:
    body = b"x\r\n" + b"\n".join(lines)
    assert split(body, Form.LINES, 10).to_pylist() == [b"x", *(line for line in lines if line)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b'{"a": 1', "half a JSON"),
        (b'{"a": "}', "half a JSON"),
        (b'[{"a": 1}, {"a"', "behind 1 elements: half a JSON"),
        (b'[{"a": 1},', "half a JSON"),
        (b"[" * 10_000, "half a JSON"),
        (b'{"a":' * 10_000, "half a JSON"),
        (b"[1 2]", "broken JSON: '2]' at byte 3"),
        (b'[{"a":1]},{"b":2}]', "broken JSON: '},{"),
        (b"[1,]", "broken JSON: ']'"),
        (b"[,1]", "broken JSON: ',1]'"),
        (b"[1]]", "where the body should end"),
        (b'{"a": 1}\n{"a": 2}', "application/x-ndjson"),
        (b"5", "begins with '5'"),
        (b"null", "begins with 'null'"),
        (b"a=1&b=2", "begins with 'a=1"),
        (b"\xef\xbb\xbf{}", "byte order mark (UTF-8)"),
        ('{"a": 1}'.encode("utf-16"), "byte order mark (UTF-16)"),
    ],
)
def test_a_body_that_cannot_be_cut_is_refused_whole_and_why(body: bytes, said: str) -> None:
    with pytest.raises(BodyError) as caught:
        refuse_half(split(body, Form.JSON, 100)[0].as_py())
    assert said in str(caught.value)


@pytest.mark.parametrize(("body", "form"), [(b"[1,2,3]", Form.JSON), (b"1\n2\n3", Form.LINES)])
def test_more_events_than_are_allowed_are_refused_and_as_many_are_not(body: bytes, form: Form) -> None:
    assert len(split(body, form, 3)) == 3
    with pytest.raises(TooManyEvents, match="more than 2 events"):
        split(body, form, 2)


def judged(*events: bytes, source: Source = orders, most: int = 1000) -> Judged:
    """The events, judged."""
    return judge(source, pa.array(events, pa.binary()), NOW_MS, most)


def test_accepted_events_are_the_bytes_that_came_under_the_key_of_the_source() -> None:
    spaced = b' { "id" : "2", "shop": "b\\u0062", "at": "2024-01-01T00:00:00Z", "amount": "2.50", "more": [1] }'
    found = judged(order(), b"5", spaced)
    assert found.rows.tolist() == [0, 2] and found.values.to_pylist() == [order(), spaced]
    assert found.keys.to_pylist() == [b"a", b"bb"]
    assert (found.refused.tolist(), found.reasons) == ([1], ["the event is no JSON object"])


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (order(amount=101), "amount: breaks Between(low=0, high=100)"),
        (order(amount=1.234), "amount: more decimals than Scale(2)"),
        (order(shop=None), "shop: null, or missing"),
        (order(amount=float("nan")), "NaN is no JSON value"),
        (order(at="yesterday"), "at: "),
        (order()[:-1], "broken JSON"),
        (order(note="\N{SNOWMAN}").replace(b"\\u2603", b"\xff"), "invalid UTF-8"),
        (order(deep=0).replace(b"0}", b"[" * 10_000 + b"]" * 10_000 + b"}"), "nested deeper than 64 levels"),
        (b"null", "no JSON object"),
        (b"", "empty value"),
        (b'{"id":"1",' + order()[1:], "stands there twice"),
    ],
    ids=lambda given: given if isinstance(given, str) else "event",
)
def test_an_event_that_the_source_would_reject_is_refused_with_the_reason(event: bytes, reason: str) -> None:
    found = judged(order(), event, order(id="3"), most=100_000)
    assert found.rows.tolist() == [0, 2] and found.refused.tolist() == [1]
    assert reason in found.reasons[0]


def test_an_event_that_is_too_large_is_refused_also_where_it_is_wrong_in_other_ways() -> None:
    found = judged(order(note="x" * 1000), order(), b"[" + b" " * 1000, most=500)
    assert found.rows.tolist() == [1] and found.refused.tolist() == [0, 2]
    assert found.reasons[0].endswith("bytes; allowed are 500 (push_event_bytes)") and "500" in found.reasons[1]


@dataclass(frozen=True)
class Line:
    """A line of an order."""

    id: str
    shop: str
    at: Annotated[datetime, RecordTime()]
    seats: Annotated[int, Between(1, 9)]


def test_the_time_of_a_record_is_when_it_was_pushed() -> None:
    source = Source(topic="lines", record=Line, key="shop", event_time="at", identity="id")
    assert no_pushes(source) is None
    found = judged(b'{"id": "1", "shop": "a", "seats": 2}', b'{"id": "1", "shop": "a", "seats": 0}', source=source)
    assert found.rows.tolist() == [0] and found.reasons == ["seats: breaks Between(low=1, high=9)"]


@dataclass(frozen=True)
class Keyed:
    """An event whose key is not in it."""

    id: str
    shop: Annotated[str, RecordKey()]
    at: datetime


@dataclass(frozen=True)
class Traced:
    """An event with a header."""

    id: str
    at: datetime
    trace: Annotated[str | None, Header("trace-id")]


@pytest.mark.parametrize(
    ("source", "said", "for_its_format"),
    [
        (Source("t", Keyed, "shop", "at", "id"), "Keyed.shop is read from around the event", False),
        (Source("t", Traced, "id", "at", "id"), "Traced.trace is read from around the event", False),
        (Source("t", Order, "shop", "at", "id", format=Avro()), "has Avro(", True),
        (Source("t", Order, "shop", "at", "id", format=Json(framed=True)), "has Json(framed=True)", True),
        (Source("t", Order, "shop", "at", "id", format=Debezium(Json(), rows="after")), "has Debezium(", True),
    ],
    ids=["key", "header", "avro", "framed", "debezium"],
)
def test_a_source_whose_events_are_more_than_json_says_why_none_can_be_pushed(
    source: Source, said: str, for_its_format: bool
) -> None:
    found = no_pushes(source)
    assert found is not None and said in found[0] and found[1] is for_its_format


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=5), min_size=1, max_size=6))
def test_each_push_gets_its_own_part_of_what_came_of_all(pushes: list[list[tuple[bool, int]]]) -> None:
    flat = [one for push in pushes for one in push]
    good = [n for n, (is_good, _) in enumerate(flat) if is_good]
    bad = [n for n, (is_good, _) in enumerate(flat) if not is_good]
    partitions = np.array([flat[n][1] for n in good], np.int64)
    offsets = np.array([100 * flat[n][1] + n for n in good], np.int64)
    nothing = pa.array([b""] * len(good), pa.binary())
    told = Judged(np.array(good, np.int64), nothing, nothing, np.array(bad, np.int64), [f"no {n}" for n in bad])
    number = 0
    for push, found in zip(pushes, shared([len(push) for push in pushes], told, partitions, offsets), strict=True):
        positions: dict[int, int] = {}
        refused = []
        for place, (is_good, partition) in enumerate(push):
            if is_good:
                positions[partition] = 100 * partition + number + 1
            else:
                refused.append((place, f"no {number}"))
            number += 1
        assert found == (len(push) - len(refused), refused, positions)
