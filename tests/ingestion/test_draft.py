"""A drafted module decodes the sample that it was drafted from, is in ruff's format, and says why for whatever it leaves out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.draft import Draft, draft, load
from ingestion.sample import PartitionSample, Sample
from pipeline import Epoch, RecordKey, RecordTime
from pipeline.accept.accept import Ingest
from pipeline.accept.reasons import shape
from pipeline.base.errors import Refused
from pipeline.definition.paths import shown
from pipeline.log.log import RAW_SCHEMA, Block

ODD = [
    "id",
    "userId",
    "a",
    "class",
    "größe",
    "a.b",
    "x y",
    'q"t',
    "2fa",
    "window_start",
    "date",
    "amount",
    "",
    "über",
    "日本",
    "tags[0]",
]
NAMES = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
TIMES = st.datetimes(datetime(1991, 1, 1), datetime(2025, 1, 1))  # noqa: DTZ001 -- hypothesis wants them so
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(-(2**70), 2**70) | st.integers(-5, 5),
    "epoch": st.integers(700_000_000, 1_700_000_000) | st.integers(700_000_000_000, 1_700_000_000_000),
    "decimal": st.decimals(-1000, 1000, places=3).map(float),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "text": st.text(max_size=20),
    "time": TIMES.map(lambda t: t.isoformat() + "Z"),
    "fine time": TIMES.map(lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.123456789+02:00")),
    "local time": TIMES.map(lambda t: t.isoformat()),
    "date": TIMES.map(lambda t: str(t.date())),
    "no date": st.just("2013-02-30"),
    "bool": st.booleans(),
    "digits": st.integers(0, 10**20).map(str),
    "decimal text": st.decimals(0, 100, places=2).map(str),
}
KINDS = st.recursive(
    st.sampled_from([*SCALARS]) | st.lists(st.sampled_from([*SCALARS]), min_size=2, max_size=2).map(tuple),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4) | inner.map(lambda kind: [kind]),
    max_leaves=12,
)


def value_of(draw: st.DrawFn, kind: Any) -> Any:
    """A value of a kind: of one of several where it is a tuple, an object, an array; sometimes null."""
    if draw(st.integers(0, 9)) == 0:
        return None
    if isinstance(kind, tuple):
        kind = draw(st.sampled_from(kind))
    if isinstance(kind, dict):
        return {name: value_of(draw, inner) for name, inner in kind.items() if draw(st.integers(0, 9))}
    if isinstance(kind, list):
        return [value_of(draw, kind[0]) for _ in range(draw(st.integers(0, 3)))]
    return draw(SCALARS[kind])


@st.composite
def samples(draw: st.DrawFn) -> list[bytes]:
    """Events of one made-up kind, each with a time at its top."""
    kind = draw(st.dictionaries(NAMES, KINDS, max_size=6))
    events = []
    for _ in range(draw(st.integers(1, 8))):
        event = {name: value_of(draw, inner) for name, inner in kind.items() if draw(st.integers(0, 9))}
        event["createdAt"] = draw(SCALARS["time"])
        events.append(json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    return events


def sample_of(
    values: list[bytes | None], keys: list[bytes | None] | None = None, partitions: int = 1, stamped: bool = True
) -> Sample:
    """A sample of a topic's records, spread over its partitions one by one; without keys and timestamps like a file's."""
    keys = keys or [None] * len(values)
    parts = []
    for p in range(partitions):
        mine, of = values[p::partitions], keys[p::partitions]
        n = len(mine)
        arrays = [
            pa.array(np.arange(n)),
            pa.array(1_709_287_200_000 + 1000 * np.arange(n) if stamped else np.full(n, -1)),
            pa.array(of, pa.binary()),
            pa.array(mine, pa.binary()),
            pa.array([[]] * n, RAW_SCHEMA.field("headers").type),
        ]
        parts.append(PartitionSample(p, (Block(pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA), 0, n),), 0, n))
    return Sample("made.up", False, tuple(parts))


def jsonl(*events: Any) -> Sample:
    return sample_of([json.dumps(event).encode() for event in events], stamped=False)


def rejected(found: Draft, sample: Sample) -> list[str]:
    view = load(found.text, "drafted")
    reasons: list[Any] = []
    for part in sample.partitions:
        ingest = Ingest(view.source, part.partition)
        for block in part.blocks:
            reasons += ingest.feed(block).rejected.column("reason").to_pylist()
    return reasons


def ruff(text: str, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("ruff")), *arguments, "--stdin-filename", "drafted.py", "-"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=60)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).decode()


def told(found: Draft) -> str:
    """The module in one line, without the marks of comments."""
    return " ".join(re.sub(r"^ *# +", "", line) for line in found.text.splitlines())


def assert_clean(text: str) -> None:
    for arguments in (
        ["check", "--ignore", "E501"],  # a path may be longer than a line
        ["check", "--isolated"],
        ["format", "--check", "--diff"],
        ["format", "--check", "--diff", "--isolated"],
    ):
        assert ruff(text, *arguments) == "", text


@settings(max_examples=80, deadline=None)
@given(samples(), st.lists(st.none() | st.binary(max_size=3) | st.just(b"k"), min_size=8, max_size=8), st.booleans())
def test_the_unedited_module_decodes_every_event_of_its_sample_or_says_why_not(
    events: list[bytes], keys: list[bytes | None], stamped: bool
) -> None:
    sample = sample_of([*events], keys[: len(events)], stamped=stamped)
    found = draft("drafted", "made.up", sample)
    reasons = rejected(found, sample)
    assert found.rejected == len(reasons)
    for reason in reasons:
        assert shape(reason).split("…")[0].strip() in " ".join(found.text.split()), found.text
    if all(b"\\ud" not in e.lower() and b"\xed" not in e for e in events):
        assert not reasons, found.text
    assert not [line for line in found.text.splitlines() if not line.isprintable()]


@settings(max_examples=8, deadline=None)
@given(samples())
def test_the_module_is_in_the_format_and_without_lint_at_both_widths(events: list[bytes]) -> None:
    assert_clean(draft("drafted", "made.up", sample_of([*events])).text)


ORDER = {
    "orderId": "o-{n}",
    "orderNumber": 0,
    "placedAt": "2024-03-01T10:00:00Z",
    "customer": {"id": 7, "fullName": "Ann"},
    "total": 19.9,
    "paidAt": 1709287201,
    "tags": ["a"],
}


def orders(count: int = 12, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            **ORDER,
            "orderId": f"o-{n}",
            "orderNumber": n,
            "customer": {"id": n % 3, "fullName": "Ann"},
            **{k: v(n) for k, v in more.items()},
        }
        for n in range(count)
    ]


def test_types_paths_units_and_nulls_are_as_the_sample_has_them() -> None:
    found = draft(
        "shop",
        "orders",
        jsonl(*orders(ratio=lambda n: 0.1234567890123456, coupon=lambda n: None if n else "x", x=lambda n: 1e3)),
    )
    columns = {c.name: c for c in found.view.source.columns}
    assert {name: (str(c.type), c.nullable, shown(c.path)) for name, c in columns.items()} == {
        "order_id": ("str", False, "orderId"),
        "order_number": ("int", False, "orderNumber"),
        "placed_at": ("datetime", False, "placedAt"),
        "customer_id": ("int", False, "customer.id"),
        "customer_full_name": ("str", False, "customer.fullName"),
        "total": ("decimal(18, 3)", False, "total"),
        "paid_at": ("datetime", False, "paidAt"),
        "ratio": ("float", False, "ratio"),
        "coupon": ("str", True, "coupon"),
        "x": ("decimal(18, 3)", False, "x"),
    }
    assert columns["paid_at"].epoch == Epoch("s").unit and columns["placed_at"].epoch == ""
    assert "tags: an array of up to 1 elements" in found.text
    assert found.view.key == ("customer_id",) and found.view.source.identity == "order_id"
    assert found.view.source.event_time == "placed_at"
    assert list(found.view.aggregates) == ["events", "total_sum", "total_mean"]
    assert_clean(found.text)


def test_wide_numbers_are_exact_where_they_are_no_floats() -> None:
    events = [
        {"at": "2024-03-01T10:00:00Z", "wei": 2**70 + n, "amount": f"1.{n:018}", "share": 0.1 / (n + 1)}
        for n in range(3)
    ]
    found = draft("shop", "orders", jsonl(*events))
    types = {c.name: str(c.type) for c in found.view.source.columns}
    assert types == {"at": "datetime", "wei": "decimal(38, 0)", "amount": "decimal(38, 20)", "share": "float"}
    assert rejected(found, jsonl(*events)) == []
    assert_clean(found.text)


def test_the_reasons_stand_beside_what_was_chosen() -> None:
    events = orders()
    keys: list[bytes | None] = [str(e["customer"]["id"]).encode() for e in events]
    found = draft("shop", "orders", sample_of([json.dumps(e).encode() for e in events], keys))
    assert found.view.source.key == "customer_id"
    words = told(found)
    assert "equals the record's Kafka key in 12 of 12 records that have one" in words
    assert "all 12 different events of the sample differ in it; its name says so" in words
    assert "or order_number:" in words and "or paid_at: numbers of the size of seconds since 1970" in words


def test_no_value_of_an_event_stands_in_the_module() -> None:
    secret = {"email": "marked-1234", "createdAt": "2024-03-01T10:00:00Z", "amount": "marked-5", "m": [1, "marked-6"]}
    broken = json.dumps({"createdAt": "marked-7", "email": "marked-8"}).encode()
    found = draft(
        "shop",
        "orders",
        sample_of([json.dumps({**secret, "email": f"marked-{n}"}).encode() for n in range(5)] + [b"{marked-9"]),
    )
    assert "marked" not in found.text and "1: broken JSON" in found.text
    with pytest.raises(Refused, match="no field is a time") as refused:
        draft("shop", "orders", sample_of([broken], stamped=False))
    assert "marked" not in str(refused.value)


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_unit_of_a_time_is_told_from_its_size(unit: str, scale: int) -> None:
    found = draft("shop", "orders", jsonl(*({"ts": (1709287201 + n) * scale, "id": f"e{n}"} for n in range(3))))
    (column,) = (c for c in found.view.source.columns if c.name == "ts")
    assert (column.type.kind, column.epoch) == ("datetime", unit)
    assert found.view.source.event_time == "ts"


def test_without_a_time_it_is_refused_with_what_would_be_allowed() -> None:
    with pytest.raises(Refused, match="2013-01-31T13:05:00Z"):
        draft("shop", "orders", jsonl({"id": 1, "size": 1709287201}))
    with pytest.raises(Refused, match="at is a time, and null or missing"):
        draft("shop", "orders", jsonl({"at": "2024-03-01T10:00:00Z"}, {"at": None}))
    with pytest.raises(Refused, match="none of 1 records is a JSON object: it is no JSON object"):
        draft("shop", "orders", sample_of([b"[1]"]))


def test_where_the_events_lack_them_time_and_key_are_the_records() -> None:
    events = [json.dumps({"size": n, "record_key": None if n else "x"}).encode() for n in range(4)]
    found = draft("shop", "orders", sample_of([*events], [b"k1", b"k2", b"k1", "k\xfc".encode()]))
    source = found.view.source
    assert (source.event_time, source.key, found.view.key) == ("recorded_at", "kafka_record_key", ("kafka_record_key",))
    assert {c.name: c.marks for c in source.columns if not c.path} == {
        "recorded_at": (RecordTime(),),
        "kafka_record_key": (RecordKey(),),
    }
    assert rejected(found, sample_of([*events], [b"k1"] * 4)) == []
    assert "which no field of the event equals" in told(found) and "the record's timestamp" in told(found)
    assert_clean(found.text)
    binary = draft("shop", "orders", sample_of([*events], [b"\xff"] * 4))
    assert not [c for c in binary.view.source.columns if c.mark(RecordKey)], "a key that is no text is no column"
    timed = draft(
        "shop", "orders", sample_of([json.dumps({"at": "2024-03-01T10:00:00Z", "shop": "k"}).encode()] * 3, [b"k"] * 3)
    )
    assert not [c for c in timed.view.source.columns if not c.path], "the events have their own"


def test_nothing_is_an_identity_that_repeats_or_stands_in_two_partitions() -> None:
    events = [{"id": f"e{n // 2}", "at": "2024-03-01T10:00:00Z", "n": n} for n in range(8)]
    assert draft("shop", "orders", jsonl(*events)).view.source.identity is None
    across = draft("shop", "orders", sample_of([json.dumps(e).encode() for e in events], partitions=2))
    assert across.view.source.identity is None and "counts twice" in told(across)
    again = [*(json.dumps({"id": f"e{n}", "at": "2024-03-01T10:00:00Z"}).encode() for n in range(4))]
    assert draft("shop", "orders", sample_of([*again, again[0]])).view.source.identity == "id", (
        "the same event again is a duplicate"
    )


def test_a_long_span_is_counted_by_day_and_a_short_one_by_hour() -> None:
    days = jsonl(*({"at": f"2024-03-{n + 1:02}T10:00:00Z"} for n in range(9)))
    assert draft("shop", "orders", days).view.name == "shop_per_day"
    assert draft("shop", "orders", jsonl({"at": "2024-03-01T10:00:00Z"})).view.name == "shop_per_hour"


def test_a_mapping_and_a_wide_event_are_no_hundred_columns() -> None:
    events = [{"at": "2024-03-01T10:00:00Z", "scores": {f"user{n}": 1}} for n in range(60)]
    assert "scores: a mapping: 60 names" in draft("shop", "orders", jsonl(*events)).text
    wide = draft("shop", "orders", jsonl({"at": "2024-03-01T10:00:00Z", **{f"f{n}": n for n in range(300)}}))
    assert wide.columns == 80 and "beyond the first 80 columns" in wide.text
