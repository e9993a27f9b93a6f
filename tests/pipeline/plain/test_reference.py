"""The reference as a whole: deduplication, counts, views, windows, aggregates; expectations are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline import (
    Between,
    Count,
    CountNonNull,
    Default,
    Derived,
    First,
    Last,
    Max,
    Mean,
    Min,
    Scale,
    Source,
    StdDev,
    Sum,
    Variance,
    View,
    tumbling,
)
from pipeline.aggregates import Aggregate
from pipeline.base.errors import LogError, WatershedError
from pipeline.log.log import RAW_SCHEMA
from pipeline.plain import Reference, records_of
from pipeline.plain.reference import window_start


@dataclass(frozen=True)
class Event:
    id: str
    place: str
    at: datetime
    n: int | None
    price: Annotated[Decimal | None, Scale(2)]
    text: str | None
    x: float | None
    flag: bool | None


def source(horizon: timedelta = timedelta(days=7)) -> Source:
    return Source("events", Event, key="place", event_time="at", identity="id", identity_horizon=horizon)


NOON = datetime(2013, 1, 2, 12, tzinfo=UTC)
HOUR = tumbling(hours=1)


def view(aggregates: dict[str, Aggregate], **more: Any) -> View:
    given = {"name": "v", "source": source(), "key": ("place",), "window": HOUR} | more
    return View(aggregates=aggregates, **given)


def event(id: str, place: str = "a", at: str = "2013-01-02T12:00:00Z", **fields: Any) -> bytes:
    return json.dumps({"id": id, "place": place, "at": at} | fields).encode()


def feed(f: Reference, *values: bytes | None, partition: int = 0) -> Reference:
    f.feed(partition, [(n, 1000 + n, None, value) for n, value in enumerate(values)])
    return f


def one(aggregates: dict[str, Aggregate], *values: bytes | None, **more: Any) -> dict[str, Any]:
    """The only group's values."""
    v = view(aggregates, **more)
    ((_, found),) = feed(Reference([v]), *values).rows(v).items()
    return found


# ---------------------------------------------------------------- per source


def outcomes(horizon_ms: int, *records: tuple[int, str | None]) -> str:
    """What became of (timestamp, identity or None for an invalid record or "" for a tombstone): letters a, d, r, t."""
    v = view({"events": Count()}, source=source(timedelta(milliseconds=horizon_ms)))
    f = Reference([v])
    before, letters = (0, 0, 0, 0), ""
    for offset, (timestamp, identity) in enumerate(records):
        value = b"{}" if identity is None else None if identity == "" else event(identity)
        f.feed(0, [(offset, timestamp, b"key", value)])
        after = f.counts[0]
        letters += "adrt"[[y - x for x, y in zip(before, after, strict=True)].index(1)]
        before = after
    assert sum(before) == len(records)
    return letters


def test_a_duplicate_is_at_most_the_horizon_after_the_latest_like_it() -> None:
    assert outcomes(10, (100, "x"), (110, "x")) == "ad"
    assert outcomes(10, (100, "x"), (111, "x")) == "aa"
    assert outcomes(0, (100, "x"), (100, "x"), (101, "x")) == "ada"
    assert outcomes(10, (100, "x"), (109, "x"), (118, "x"), (129, "x")) == "adda", "a duplicate registers as well"
    assert outcomes(10, (100, "x"), (100, "y"), (110, "y"), (110, "x")) == "aadd"


def test_log_time_is_the_running_maximum_of_all_records() -> None:
    assert outcomes(10, (100, "x"), (50, "y"), (105, "x")) == "aad", "it never falls"
    assert outcomes(10, (100, "x"), (500, ""), (100, "x")) == "ata", "a tombstone moves it"
    assert outcomes(10, (100, "x"), (500, None), (100, "x")) == "ara", "a rejected record moves it"
    assert outcomes(10, (100, "x"), (-1, "y"), (-1, "x")) == "aad", "-1 is ignored"
    assert outcomes(10, (-1, "x"), (10, "x")) == "ad", "it begins at 0"
    assert outcomes(10, (-1, "x"), (11, "x")) == "aa"
    assert outcomes(10, (100, "x"), (500, "y"), (100, "x")) == "aaa"


def test_a_rejected_record_registers_no_identity() -> None:
    bad = event("x", n="no number")
    v = view({"events": Count()})
    f = feed(Reference([v]), bad, event("x"), bad, event("x"))
    assert f.counts == {0: (1, 1, 2, 0)}
    assert [(p, o) for p, o, _ in f.rejected] == [(0, 0), (0, 2)]
    assert all(reason == "n: not a number" for _, _, reason in f.rejected)


def test_partitions_know_nothing_of_each_other() -> None:
    v = view({"events": Count()})
    f = Reference([v])
    feed(feed(f, event("x"), None), event("x"), b"", partition=3)
    assert f.counts == {0: (1, 0, 0, 1), 3: (1, 0, 1, 0)}
    assert f.rows(v) == {("a", NOON): {"events": 2}}
    assert f.view_counts == {("v", 0): (1, 0, 0), ("v", 3): (1, 0, 0)}


def test_pieces_and_the_order_of_partitions_do_not_matter() -> None:
    v = view({"last": Last("n"), "first": First("n")})
    whole, pieces = Reference([v]), Reference([v])
    records = [(n, n, None, event(f"id{n % 3}", n=n)) for n in range(10)]
    whole.feed(0, records)
    whole.feed(1, records[:4])
    pieces.feed(1, records[:2])
    for record in records:
        pieces.feed(0, [record])
    pieces.feed(1, iter(records[2:4]))
    assert whole.rows(v) == pieces.rows(v) and whole.counts == pieces.counts


def test_offsets_must_rise() -> None:
    f = feed(Reference([view({"events": Count()})]), event("x"), event("y"))
    with pytest.raises(LogError, match="events, partition 0: offset 1 was fed after 1"):
        f.feed(0, [(1, 0, None, None)])
    f.feed(0, [(7, 0, None, None), (1000, 0, None, None)])


def test_an_identity_is_the_mended_value() -> None:
    @dataclass(frozen=True)
    class Mended:
        id: Annotated[int, Between(0, 5), Default(0)]
        at: datetime

    s = Source("mended", Mended, key="id", event_time="at", identity="id")
    f = Reference([View(name="v", source=s, key=("id",), window=HOUR, aggregates={"events": Count()})])
    f.feed(
        0,
        [
            (n, 0, None, text.encode())
            for n, text in enumerate(['{"at": 1}', '{"at": 2, "id": 9}', '{"at": 3, "id": 1}'])
        ],
    )
    assert f.counts == {0: (2, 1, 0, 0)}


def test_records_of_takes_a_raw_batch_apart() -> None:
    rows = [(5, -1, None, None, []), (9, 7, b"", b"{}", [("trace", b"t"), ("trace", None)])]
    named = [
        dict(
            zip(("offset", "timestamp_ms", "key", "value"), r[:4], strict=True),
            headers=[{"key": key, "value": value} for key, value in r[4]],
        )
        for r in rows
    ]
    assert list(records_of(pa.RecordBatch.from_pylist(named, schema=RAW_SCHEMA))) == rows


def test_the_views_must_be_of_one_source_and_differ_in_name() -> None:
    v = view({"events": Count()})
    with pytest.raises(WatershedError, match="one source"):
        Reference([v, view({"events": Count()}, name="w", source=source(timedelta(0)))])
    with pytest.raises(WatershedError, match="one name"):
        Reference([v, v])
    with pytest.raises(WatershedError, match="no view"):
        Reference([])


# ---------------------------------------------------------------- per view


def test_a_derived_error_rejects_the_record_for_that_view_alone() -> None:
    ratio = view({"events": Count()}, derive={"d": Derived(pc.field("n") / pc.field("n"), int)})
    plain = view({"events": Count()}, name="w")
    f = feed(Reference([ratio, plain]), event("1", n=0), event("2", n=5), event("3"))
    assert f.counts[0] == (3, 0, 0, 0)
    assert f.view_counts == {("v", 0): (2, 0, 1), ("w", 0): (3, 0, 0)}


def test_where_drops_false_and_null_and_its_error_rejects() -> None:
    v = view({"events": Count()}, where=pc.field("n") / pc.field("x").cast(pa.int64()) > 1)
    f = feed(
        Reference([v]),
        event("1", n=4, x=2),
        event("2", n=1, x=2),
        event("3"),
        event("4", n=4, x=0),
        event("5", n=1, x=1.5),
    )
    assert f.view_counts == {("v", 0): (1, 2, 2)}


def test_where_reads_derived_columns_after_their_rounding() -> None:
    more = {"derive": {"d": Derived(pc.field("x"), Scale(1))}, "where": pc.field("d") == 0.2}
    v = view({"events": Count(), "sum": Sum("d")}, **more)
    f = feed(Reference([v]), event("1", x=0.24), event("2", x=0.25), event("3", x=0.26), event("4", x=0.16))
    assert f.rows(v) == {("a", NOON): {"events": 3, "sum": Decimal("0.6")}}


def test_decimals_enter_expressions_as_floats() -> None:
    v = view({"last": Last("d")}, derive={"d": Derived(pc.field("price") * 3, float)})
    ((_, found),) = feed(Reference([v]), event("1", price="0.1")).rows(v).items()
    assert found["last"] == 0.30000000000000004


def test_a_null_derived_key_is_a_group_of_what_where_lets_through() -> None:
    more = {"derive": {"k": Derived(pc.field("n") + 1, int)}, "key": ("k", "place"), "where": pc.field("flag")}
    v = view({"events": Count()}, **more)
    f = feed(Reference([v]), event("1", flag=True), event("2", flag=False), event("3", flag=True, n=1))
    assert f.view_counts == {("v", 0): (2, 1, 0)}
    assert list(f.rows(v)) == [(None, "a", NOON), (2, "a", NOON)]


@pytest.mark.parametrize(
    ("time", "size", "start"),
    [
        ("2013-01-02T12:59:59.999999", HOUR, "2013-01-02T12:00:00"),
        ("2013-01-02T13:00:00", HOUR, "2013-01-02T13:00:00"),
        ("1969-12-31T23:59:59.999999", HOUR, "1969-12-31T23:00:00"),
        ("1969-12-31T23:59:59.999999", tumbling(days=7), "1969-12-25T00:00:00"),
        ("1970-01-07T23:59:59", tumbling(days=7), "1970-01-01T00:00:00"),
        ("1970-01-08T00:00:00", tumbling(days=7), "1970-01-08T00:00:00"),
        ("1970-01-01T00:00:06.9", tumbling(seconds=7), "1970-01-01T00:00:00"),
        ("1969-12-31T23:59:59", tumbling(seconds=7), "1969-12-31T23:59:53"),
        ("0002-01-01T00:00:00", tumbling(days=366), "0001-12-05T00:00:00"),  # 1970-01-01 minus 1964 * 366 days
    ],
)
def test_windows_are_aligned_to_1970(time: str, size: Any, start: str) -> None:
    found = window_start(datetime.fromisoformat(time).replace(tzinfo=UTC), size)
    assert found == datetime.fromisoformat(start).replace(tzinfo=UTC)


# ---------------------------------------------------------------- aggregates


def shown(value: Any) -> str:
    return str(value)


def test_counts_and_nulls() -> None:
    found = one({"all": Count(), "some": CountNonNull("n")}, event("1", n=1), event("2"), event("3", n=None))
    assert found == {"all": 3, "some": 1}


def test_an_empty_group_of_values_is_null_as_in_sql() -> None:
    names = {
        "sum": Sum,
        "mean": Mean,
        "variance": Variance,
        "stddev": StdDev,
        "min": Min,
        "max": Max,
        "first": First,
        "last": Last,
    }
    assert one({name: kind("n") for name, kind in names.items()}, event("1")) == dict.fromkeys(names)
    assert one({"variance": Variance("n"), "stddev": StdDev("n")}, event("1", n=7)) == {
        "variance": None,
        "stddev": None,
    }


def test_sums_are_exact_at_the_scale_of_the_column() -> None:
    big = 2**63 - 1
    found = one(
        {"n": Sum("n"), "p": Sum("price")}, *(event(str(i), n=big, price="9999999999999999.99") for i in range(3))
    )
    assert shown(found["n"]) == "27670116110564327421"
    assert shown(found["p"]) == "29999999999999999.97"
    assert shown(one({"p": Sum("price")}, event("1", price=1), event("2", price=-1))["p"]) == "0.00"


def test_the_mean_is_rounded_once_half_away_from_zero() -> None:
    def mean(*values: Any, column: str = "n") -> str:
        return shown(one({"m": Mean(column)}, *(event(str(i), **{column: v}) for i, v in enumerate(values)))["m"])

    assert mean(1, 2) == "1.500000"
    assert mean(1, 1, 2) == "1.333333" and mean(1, 2, 2) == "1.666667" and mean(-1, -2, -2) == "-1.666667"
    assert mean(*[0] * 63, 1) == "0.015625"
    # 0.0078125: a half, away from zero
    assert mean(*[0] * 127, 1) == "0.007813" and mean(*[0] * 127, -1) == "-0.007813"
    assert mean("0.01", "0.02", "0.02", column="price") == "0.01666667"
    assert mean(5, None, 6) == "5.500000"


def test_variance_and_stddev_are_of_the_sample() -> None:
    def both(*values: Any, column: str = "n") -> tuple[str, str]:
        given = [event(str(i), **{column: v}) for i, v in enumerate(values)]
        found = one({"v": Variance(column), "s": StdDev(column)}, *given)
        return shown(found["v"]), shown(found["s"])

    assert both(2, 4, 4, 4, 5, 5, 7, 9) == ("4.571429", "2.138090")  # 32 / 7
    assert both(1, 2) == ("0.500000", "0.707107")
    assert both(3, 3) == ("0.000000", "0.000000")
    assert both("0.01", "0.04", column="price") == ("0.00045000", "0.02121320")  # 0.00045
    assert both("0.01", "0.02", "0.02", column="price") == ("0.00003333", "0.00577350")
    big = 2**63 - 1
    assert both(big, -big - 1)[0] == f"{(2**64 - 1) ** 2 // 2}.500000"


def test_min_and_max_order_text_by_code_point() -> None:
    words = ["b", "a", "\uffff", "\U00010000", "B"]
    found = one({"least": Min("text"), "most": Max("text")}, *(event(w, text=w) for w in words))
    assert found == {"least": "B", "most": "\U00010000"}
    found = one({"least": Min("x"), "most": Max("x")}, event("1", x=-0.0), event("2", x=5e-324))
    assert found["least"].hex() == "0x0.0p+0" and found["most"] == 5e-324


def test_first_and_last_go_by_event_time_then_partition_then_offset() -> None:
    v = view({"first": First("n"), "last": Last("n")})
    f = Reference([v])
    early, late = "2013-01-02T12:10:00Z", "2013-01-02T12:20:00Z"
    f.feed(1, [(0, 0, None, event("1", at=late, n=1)), (1, 0, None, event("2", at=early, n=2))])
    assert f.rows(v)["a", NOON] == {"first": 2, "last": 1}
    f.feed(0, [(7, 0, None, event("3", at=early, n=3)), (8, 0, None, event("4", at=late, n=4))])
    assert f.rows(v)["a", NOON] == {"first": 3, "last": 1}, "partition 0 is before partition 1"
    f.feed(1, [(5, 0, None, event("5", at=late, n=5)), (6, 0, None, event("6", at="2013-01-02T12:59:00Z"))])
    assert f.rows(v)["a", NOON] == {"first": 3, "last": 5}, "a null is passed over"


class Median(Mean):
    """A user's own aggregate; what it inherits does not matter here."""

    def reference(self, values: list[tuple[datetime, int, int, Any]]) -> Any:
        kept = sorted(v for _, _, _, v in values if v is not None)
        return kept[len(kept) // 2] if kept else None


class Silent(Sum):
    """A user's own aggregate without `reference`."""


def test_an_aggregate_of_the_users_own_is_computed_by_its_reference() -> None:
    found = one({"m": Median("n"), "mean": Mean("n")}, event("1", n=9), event("2", n=1), event("3"), event("4", n=2))
    assert found == {"m": 2, "mean": Decimal("4.000000")}


def test_an_aggregate_of_the_users_own_without_reference_is_named() -> None:
    with pytest.raises(WatershedError, match=r"View\(v\): s: .*Silent cannot be computed by the reference"):
        Reference([view({"s": Silent("n")})])


def test_the_shipped_views_are_covered() -> None:
    from views import VIEWS

    f = Reference(VIEWS)
    reading = {"id": "1", "station": "EWR", "observed_at": "2013-01-01T01:30:00-05:00", "temperature_f": "39.02"}
    f.feed(0, [(0, 1, None, json.dumps(reading | {"wind_speed_mph": 1048.36058}).encode())])
    assert f.rows(VIEWS[0]) == {
        ("EWR", datetime(2013, 1, 1, 6, tzinfo=UTC)): {
            "readings": 1,
            "temperature_max": Decimal("3.90"),
            "temperature_mean": Decimal("3.90000000"),
            "precipitation": None,
        }
    }
    assert f.rows(VIEWS[1])["EWR", datetime(2013, 1, 1, tzinfo=UTC)]["wind_variance"] is None
