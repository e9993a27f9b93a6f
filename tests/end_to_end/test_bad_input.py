"""Bad input: accepted by a stated rule or rejected with its reason, both layers alike, and nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.system import System

GOOD = {
    "id": "good",
    "station": "JFK",
    "observed_at": "2013-01-01T06:00:00Z",
    "temperature_f": 39.02,
    "humidity": 59.37,
    "wind_speed_mph": 10.35702,
    "precipitation_in": 0,
    "pressure_mb": 1012,
}


def event(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str, **changes: Any) -> bytes:
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if k != name}).encode()


# name: (value, the rejection's reason must contain this; None: accepted)
CASES: dict[str, tuple[bytes | None, str | None]] = {
    "broken JSON": (b'{"id": "a"', "broken JSON"),
    "no JSON": (b"hello", "broken JSON"),
    "an array": (b"[1]", "no JSON object"),
    "null": (b"null", "no JSON object"),
    "two objects": (event(id="b1") + event(id="b2"), "broken JSON"),
    "wrong type: text for decimal": (event(id="c1", temperature_f="warm"), "temperature_f"),
    "wrong type: bool for decimal": (event(id="c2", temperature_f=True), "temperature_f"),
    "wrong type: number for text": (event(id=17), "id"),
    "wrong type: object": (event(id="c3", humidity={"percent": 3}), "humidity"),
    "missing nullable field is null": (without("humidity", id="d1"), None),
    "missing needed field": (without("station", id="d2"), "station"),
    "unknown field is ignored": (event(id="e1", altitude=[1, {"a": None}]), None),
    "null where allowed": (event(id="f1", humidity=None), None),
    "null where not allowed": (event(id="f2", observed_at=None), "observed_at"),
    "NaN": (event(id="g1", temperature_f=float("nan")), "NaN"),
    "Infinity": (event(id="g2", temperature_f=float("inf")), "Infinity"),
    "-Infinity": (event(id="g3", temperature_f=float("-inf")), "Infinity"),
    "out of range": (event(id="h1", temperature_f=451), "Between"),
    "over the scale": (event(id="h2", temperature_f=39.021), "Scale(2)"),
    "trailing zeros are not over the scale": (event(id="h3").replace(b"39.02", b"39.02000"), None),
    "out of range becomes null where Nullable": (event(id="h4", wind_speed_mph=1048.36), None),
    "far out of range": (event(id="h5").replace(b"39.02", b"1e400"), "temperature_f"),
    "huge exponent": (event(id="h6").replace(b"39.02", b"1e999999999999"), "temperature_f"),
    "a decimal as text": (event(id="i1", temperature_f="39.02"), None),
    "a decimal as text with space": (event(id="i2", temperature_f=" 39.02"), "temperature_f"),
    "duplicate keys": (event(id="j1")[:-1] + b', "id": "j1"}', "stands there twice"),
    "duplicate keys, escaped": (event(id="j2")[:-1] + b', "\\u0069d": "j2"}', "stands there twice"),
    "invalid UTF-8": (event(id="k1")[:-1] + b', "x": "\xff"}', "UTF-8"),
    "half a surrogate pair": (event(id="k2").replace(b'"k2"', b'"\\ud800"'), "surrogate"),
    "U+0000": (event(id="k3\x00"), "U+0000"),
    "empty value": (b"", "empty value"),
    "tombstone": (None, None),
    "5 MB in an unknown field": (event(id="l1", note="x" * 5_000_000), None),
    "5 MB in a declared field": (event(id="y" * 5_000_000), "Length"),
    "5 MB of digits": (event(id="l2").replace(b"39.02", b"9" * 5_000_000), "temperature_f"),
    "deep nesting": (event(id="l3")[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
    "no zone": (event(id="m1", observed_at="2013-01-01T06:00:00"), "zone"),
    "another zone": (event(id="m2", observed_at="2013-01-01T01:00:00-05:00"), None),
    "epoch milliseconds": (event(id="m3", observed_at=1357020000000), None),
    "the year 9999": (event(id="m4", observed_at="9999-12-31T23:59:59Z"), None),
    "beyond the year 9999": (event(id="m5", observed_at="9999-12-31T23:59:59-01:00"), "out of range"),
    "before the epoch": (event(id="m6", observed_at="1900-01-01T00:00:00Z"), None),
    "no such day": (event(id="m7", observed_at="2013-02-30T00:00:00Z"), "observed_at"),
    "good": (event(), None),
}


def check(system: System) -> None:
    """Half by the speed layer and half by a night, then the other way round: the answers and the counts agree."""
    values = [value for value, _ in CASES.values()]
    system.run("init", "--partitions", "2")
    system.produce((0, b"JFK", v) for v in values)
    system.catch_up()
    by_speed = system.query(
        "SELECT accepted, duplicates, rejected, tombstones FROM serving.accounting ORDER BY partition"
    )[0]
    wanted_rejects = sum(reason is not None for _, reason in CASES.values())
    assert by_speed == {
        "accepted": len(CASES) - wanted_rejects - 1,
        "duplicates": 0,
        "rejected": wanted_rejects,
        "tombstones": 1,
    }
    rows_by_speed = system.query("SELECT * FROM serving.daily_weather ORDER BY station, window_start")
    system.assert_exact()
    system.night("2013-01-02")
    by_batch = system.query(
        "SELECT accepted, duplicates, rejected, tombstones FROM serving.accounting ORDER BY partition"
    )[0]
    assert by_batch == by_speed
    assert system.query("SELECT * FROM serving.daily_weather ORDER BY station, window_start") == rows_by_speed
    system.assert_exact()
    assert_reasons(system)
    system.produce((0, b"JFK", v) for v in values)
    system.catch_up()
    again = system.query(
        "SELECT accepted, duplicates, rejected, tombstones FROM serving.accounting ORDER BY partition"
    )[0]
    assert again == {**by_speed, "duplicates": by_speed["accepted"], "rejected": 2 * wanted_rejects, "tombstones": 2}
    system.assert_exact()


def assert_reasons(system: System) -> None:
    """Every rejected record is kept with its position, bytes and reason."""
    kept = {}
    for path in (system.lake / "rejected").rglob("*.parquet"):
        for row in pq.ParquetFile(path).read().to_pylist():
            kept[row["offset"]] = (row["partition"], row["value"], row["reason"])
    names = dict(enumerate(CASES))
    assert {names[o] for o in kept} == {n for n, (_, reason) in CASES.items() if reason}
    for offset, (partition, value, reason) in kept.items():
        wanted = CASES[names[offset]]
        assert partition == 0 and value == wanted[0]
        assert wanted[1] is not None and wanted[1] in reason, f"{names[offset]}: {reason!r}"


@pytest.mark.slow
def test_bad_input_is_accepted_by_rule_or_rejected_with_reason_by_both_layers(system: System) -> None:
    check(system)


@pytest.mark.slow
def test_bad_input_on_the_embedded_broker_and_postgres(embedded_system: System) -> None:
    check(embedded_system)
