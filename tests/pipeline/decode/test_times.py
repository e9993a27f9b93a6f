"""Times as people write them: the compiled parser, the record-by-record one and the plain reference agree, whatever marks a column has.

what is finer than a microsecond is floored        without an offset a time is known by its Zone alone, or not at all
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import pyarrow as pa
import pytest

from pipeline import Epoch, Lenient, Source, Zone
from pipeline.decode.json_blocks import decode
from tests.pipeline.decode.test_paths import three_differ


@dataclass(frozen=True)
class Times:
    """A time with every mark."""

    id: str
    plain: datetime | None
    lenient: Annotated[datetime | None, Lenient()]
    local: Annotated[datetime | None, Zone("Europe/Berlin")]
    local_lenient: Annotated[datetime | None, Zone("America/New_York"), Lenient()]
    seconds: Annotated[datetime | None, Epoch("s"), Lenient()]
    local_seconds: Annotated[datetime | None, Zone("Europe/Berlin"), Epoch("s")]


@dataclass(frozen=True)
class Local:
    """A local time that must be there."""

    id: str
    at: Annotated[datetime, Zone("Europe/Berlin")]


NAMES = ["plain", "lenient", "local", "local_lenient", "seconds", "local_seconds"]
BEFORE = [
    "2024-03-31",
    "2024-10-27",
    "2016-12-31",
    "0001-01-01",
    "0002-01-01",
    "9999-12-31",
    "1893-04-01",
    "2024-02-30",
    "1969-12-31",
]
CLOCKS = [
    "00:00",
    "02:30",
    "02:30:00",
    "03:00:00",
    "23:59:60",
    "23:59:60.5",
    "23:59:61",
    "24:00:00",
    "12:00:5",
    "12:60:00",
    "01:59:59.999999999",
    "12:00:00,25",
]
CLOCKS += [
    "12:00:00.",
    "12:00:00,",
    "12:00:00.1234567",
    "12:00:00.000000999",
    "12:00:00." + "9" * 40,
    "12:00.5",
    "2:30:00",
    "02:3",
    "02:30:",
    "02:30:0",
]
BEHIND = [
    "",
    "Z",
    "z",
    " Z",
    "UTC",
    " UTC",
    "utc",
    "U",
    "UT",
    "UTCx",
    "+00:00",
    "+0000",
    " +0000",
    "+01",
    "-00:01",
    "  Z",
    " ",
    "Z ",
    "+1",
    "+24:00",
    "+01:60",
    " Europe/Berlin",
]
TEXTS = [f'"{day}T{clock}{behind}"' for day in BEFORE for clock in CLOCKS for behind in BEHIND]
TEXTS += [f'"2024-03-31{between}12:00{behind}"' for between in ("T", "t", " ", "  ", "_", "") for behind in BEHIND]
TEXTS += [
    "0",
    "1709251200.5",
    "1709251200123",
    '"1709251200"',
    "null",
    "true",
    "[]",
    '""',
    '"2024"',
    '"2024-03-31"',
    '"2024-03-31T12"',
    '"2024-03-31T12:00\\u005a"',
]


def source() -> Source:
    """Events of Times; the time that a view would take does not matter here."""
    record = dataclass(frozen=True)(
        type("Event", (Times,), {"__annotations__": {"at": datetime}, "__doc__": "An event.", "__module__": __name__})
    )
    return Source("times", record, key="id", event_time="at", identity="id")


def test_the_three_agree_on_every_way_to_write_a_time() -> None:
    values: list[bytes | None] = []
    for text in TEXTS:
        values += [f'{{"id": "x", "at": 0, "{name}": {text}}}'.encode() for name in NAMES]
    assert three_differ(source(), values) == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2024-07-01T12:00", datetime(2024, 7, 1, 10, tzinfo=UTC)),
        ("2024-01-01 12:00:00.5", datetime(2024, 1, 1, 11, 0, 0, 500_000, tzinfo=UTC)),
        ("2024-07-01T12:00Z", datetime(2024, 7, 1, 12, tzinfo=UTC)),
        ("2024-10-27T02:30+01:00", datetime(2024, 10, 27, 1, 30, tzinfo=UTC)),
        ("2024-10-27T02:30", None),
        ("2024-03-31T02:30", None),
        ("9999-12-31T23:59:59.999999", datetime(9999, 12, 31, 22, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_local_time_is_a_moment_or_rejects_its_record(text: str, wanted: datetime | None) -> None:
    local = Source("local", Local, key="id", event_time="at", identity="id")
    found = decode(local, pa.array([f'{{"id": "x", "at": "{text}"}}'.encode()], pa.binary()))
    assert found.columns["at"].to_pylist() == ([] if wanted is None else [wanted])
    if wanted is None:
        assert found.reasons == [
            f"at: '{text}' is skipped or repeated by a change of the clocks in Europe/Berlin; send it with its offset"
        ]


def test_a_leap_second_names_the_mark_that_takes_it() -> None:
    found = decode(source(), pa.array([b'{"id": "x", "at": "2016-12-31T23:59:60Z"}'], pa.binary()))
    assert found.reasons == ["at: '2016-12-31T23:59:60Z' has a second 60; Lenient() takes it as the next minute's 0"]
