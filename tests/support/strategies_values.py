"""Pools of values per column type, boundaries included, and the JSON texts that mean them or fail to."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from pipeline.base.types import EXACT, TIME_MAX, TIME_MIN, ColumnType
from pipeline.definition.constraints import Default, keeps
from pipeline.definition.marks import UNITS, FromText
from pipeline.definition.record import Column
from tests.support.strategies_texts import WRITTEN_WRONG, WRONG_MORE, written

NOON = datetime(2013, 1, 2, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
TIMES = [
    NOON,
    *(NOON + timedelta(minutes=m) for m in (1, 7, 59, 60, 61, 24 * 60, -5, -24 * 60)),
    *(NOON + timedelta(microseconds=n) for n in (1, -1, 1000, 999_999, 123_456, 3_599_999_999)),
    *(EPOCH, EPOCH - US, EPOCH - timedelta(days=400), TIME_MIN, TIME_MIN + US, TIME_MAX, TIME_MAX - US),
]
VALUES: dict[str, list[Any]] = {
    "int": [0, 1, -1, 2, 7, 100, -100, 1000, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, -(2**63)],
    "float": [0.0, 1.0, -1.5, 0.1, 2.675, 2.5, 0.125, 1e15, 1e17, 2.0**53, 2.0**63, -1e308, 1e308, 5e-324, 1 / 3],
    "str": [
        "EWR",
        "JFK",
        "a",
        "B",
        "",
        "é",
        "e\u0301",
        "𝄞",
        "\uffff",
        "\n",
        "a\n",
        "0",
        "12",
        "٣",
        "x y",
        '"\\/',
        "x" * 70,
    ],
    "bytes": [b"", b"a", b"ab", b"abc", b"\x00", b"\xfb\xff\xfe", b"\xff" * 70, b"water", b"\x80"],
    "uuid": [
        UUID(int=n) for n in (0, 1, 2**127 - 1, 2**127, 2**128 - 1, 0x123E4567E89B12D3A456426614174000, 0xF << 64)
    ],
    "time": [
        time(12),
        time(0),
        time(0, 0, 0, 1),
        time(23, 59, 59, 999_999),
        time(1, 2, 3, 120_000),
        time(7, 5),
        time(7, 5, 6),
    ],
    "bool": [True, False],
    "datetime": TIMES,
    "date": [date(2013, 1, 2), date(1970, 1, 1), date(1969, 12, 31), date(2012, 2, 29), date.min, date.max],
}
UNSCALED = [0, 1, -1, 5, 250, -1999, 12345, 10**12, 3 * 10**15 + 1, 2**53 + 1, 10**18 - 1, -(10**18) + 1, 10**17 + 9]


def pool(type: ColumnType) -> list[Any]:
    """Python values of a type, boundaries included."""
    if type.is_decimal:
        most = 10**type.digits - 1
        wide = (
            [most, -most, 2**64, -(2**64) - 1, 2**63, 10**20 + 7, -(10**37), 3 * 10**30] if type.kind == "wide" else []
        )
        return [Decimal(u).scaleb(-type.scale, EXACT) for u in [*UNSCALED, *wide] if abs(u) <= most]
    return VALUES[type.kind]


def spellings(value: Any) -> list[str]:
    """JSON texts that all mean the value, the plainest first."""
    if value is None:
        return ["null"]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, int):
        return [str(value), f"{value}.000", f"{value * 10}e-1", f"{value}e0", f"{value}E+00"]
    if isinstance(value, float):
        if value == 0:
            return ["0.0", "-0.0", "0", "-0", "-0e5", "1e-400"]
        return [repr(value), f"{value:.20e}" if abs(value) > 1e-300 else repr(value)]
    if isinstance(value, Decimal):
        plain = f"{value:f}"
        more = plain + ("000" if "." in plain else ".0")
        return [
            plain,
            f'"{plain}"',
            more,
            f'"{more}"',
            f"{plain}E+0",
            f'"{plain}e-0"',
            f"{value.scaleb(3, EXACT):f}e-3",
        ]
    if isinstance(value, datetime):
        return _time_spellings(value)
    if isinstance(value, bytes):
        plain = base64.b64encode(value).decode()
        return [f'"{plain}"', '"' + plain.replace("/", "\\/").replace("=", "\\u003d") + '"']
    if isinstance(value, UUID):
        return [f'"{value}"', f'"{value}"'.upper(), f'"{value}"'.replace("-", "\\u002D")]
    if isinstance(value, time):
        plain = value.isoformat()
        finer = value.isoformat("microseconds")
        short = [f'"{plain[:5]}"'] if not (value.second or value.microsecond) else []
        return [
            f'"{plain}"',
            f'"{finer}"',
            f'"{finer}9"',
            f'"{finer}001"',
            f'"{plain}"'.replace(":", "\\u003a"),
            *short,
        ]
    if isinstance(value, date):
        return [f'"{value.isoformat()}"', json.dumps(value.isoformat()).replace("-", "\\u002d")]
    return [
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        '"' + "".join(f"\\u{unit:04x}" for unit in _utf16(value)) + '"',
    ]


def _utf16(text: str) -> list[int]:
    data = text.encode("utf-16-be")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


def _time_spellings(value: datetime) -> list[str]:
    plain = value.strftime("%Y").zfill(4) + value.strftime("-%m-%dT%H:%M:%S")
    fraction = f".{value.microsecond:06d}" if value.microsecond else ""
    found = [f'"{plain}{fraction}Z"', f'"{plain.replace("T", " ")}{fraction}+00:00"', f'"{plain.lower()}{fraction}z"']
    found.append(f'"{plain}.{value.microsecond:06d}000-00"')
    found.append(f'"{plain},{value.microsecond:06d}999 UTC"')
    if value.second == 0 and not fraction:
        found.append(f'"{plain[:-3]}Z"')
    if TIME_MIN + timedelta(days=1) < value < TIME_MAX - timedelta(days=1):
        east = value.astimezone(timezone(timedelta(hours=5, minutes=45)))
        west = value.astimezone(timezone(-timedelta(hours=23, minutes=59)))
        found.append(f'"{east.strftime("%Y").zfill(4)}{east.strftime("-%m-%dT%H:%M:%S")}{fraction}+05:45"')
        found.append(f'"{west.strftime("%Y").zfill(4)}{west.strftime("-%m-%dT%H:%M:%S")}{fraction}-2359"')
    if value.microsecond % 1000 == 0:
        ms = (value - EPOCH) // timedelta(milliseconds=1)
        found += [str(ms), f"{ms}.0", f"{ms * 10}E-1"]
    return found


def _epoch_spellings(value: datetime, unit: str) -> list[str]:
    """ISO texts, and numbers and digits as text in the unit; what a nanosecond has beyond a microsecond is left out."""
    number = Decimal((value - EPOCH) // US).scaleb(-UNITS[unit])
    plain = f"{number:f}"
    finer = plain + ("9" if "." in plain else ".9") if unit == "us" or "." in plain else plain + ".0000"
    exponent = f"{number.scaleb(3):f}e-3"
    return [
        plain,
        *(t for t in _time_spellings(value) if t.startswith('"')),
        f'"{plain}"',
        finer,
        exponent,
        f'"{exponent}"',
    ]


NINES = "9" * 4500
NOT_JSON = [
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "0x1",
    "1e",
    "True",
    "'a'",
    '"a',
    '"\t"',
    '"\\x"',
    "٣",
]
ANY_TYPE = [
    "{}",
    "[]",
    "[1]",
    '{"a": {"b": []}}',
    "true",
    "false",
    '""',
    "0",
    '"x"',
    "1.5",
    "null",
    "1e400",
    "-1e999999999",
]
LONG = [
    NINES,
    f"1.{'0' * 4500}",
    f"1e{'9' * 4500}",
    f"0e{'9' * 3000}",
    "1e999999999",
    "1e-999999999",
    "-0.0",
    "0e99999",
    "-0",
]
WRONG: dict[str, list[str]] = WRONG_MORE | {
    "int": ["9223372036854775808", "-9223372036854775809", "1e19", "0.5", "1e-1", '"1"', *LONG],
    "float": ["1e309", "-1.8e308", "1.7976931348623159e308", '"1.0"', '"NaN"', *LONG],
    "decimal": [
        *("0.005", "1e-13", "0.0000000000001", "1000000000000000000", "-1e18", "999999999999999999.5", "1e17", "1e6"),
        *('"1e2 "', '" 1"', '"1_0"', '"+1"', '"NaN"', '"Infinity"', '"٣"', '"1."', '".5"', '"01"', '""', f'"{NINES}"'),
        *('"1E-14"', '"-0"', "999999.9999999999999", *LONG),
    ],
    "str": ['"\\u0000"', '"a\\ud800"', '"\\udc00\\ud800"', '"\\ud83d"', "12", "1.0"],
    "bool": ["0", "1", '"true"', '"false"'],
    "datetime": [
        *(
            '"2013-01-02T12:00:00"',
            '"2013-01-02"',
            '"2013-02-30T12:00:00Z"',
            '"2013-01-02T24:00:00Z"',
            '"2013-13-01T00:00Z"',
        ),
        *(
            '"2013-01-02T12:00:60Z"',
            '"2013-01-02T12:60:00Z"',
            '"2013-03-31T02:30:00"',
            '"2013-10-27T02:30:00.5"',
            '"2013-01-02T12:00:00.,5Z"',
        ),
        *(
            '"9999-12-31T23:59:59.999999-00:01"',
            '"0001-12-31T23:59:59Z"',
            '"0002-01-01T00:00:00+00:01"',
            '"0000-01-01T00:00Z"',
        ),
        *(
            '"0001-01-01T00:00:00+23:59"',
            '"9999-12-31T23:59:59.9999999"',
            '"10000-01-01T00:00:00Z"',
            '"20130102T120000Z"',
        ),
        *(
            '"2013-01-02T12:00:00+24:00"',
            '"2013-01-02T12:00:00+0:30"',
            '"2013-01-02T12:00:00+05:60"',
            '"2013-01-02T12Z"',
        ),
        *(
            '"２０１３-01-02T12:00:00Z"',
            '" 2013-01-02T12:00:00Z"',
            '"2013-01-02T12:00:00Z\\n"',
            '"2013-01-02t12:00:00.Z"',
        ),
        *('"2013-01-02T12:00:00  Z"', '"2013-W01-3T12:00:00Z"', '"1357128000000"', '"now"', '"2013-01-02T12:00:00utc"'),
        *("1357128000000.5", "253402300800000", "-62104060800000", "-62104060800001", "253402300799999", "1e30", *LONG),
    ],
    "date": [
        '"2013-02-29"',
        '"0000-01-01"',
        '"2013-1-2"',
        '"20130102"',
        '"10000-01-01"',
        '"2013-01-02T00:00:00Z"',
        "1357128000000",
        '"２０１３-01-02"',
        '"2013-01-02\\n"',
    ],
}


@dataclasses.dataclass(frozen=True)
class Texts:
    """The JSON texts to choose from for one column; "" leaves the field out."""

    good: list[list[str]]  # spellings of values that keep the constraints
    breaking: list[str]  # of the right type, breaking a constraint
    wrong: list[str]  # of the right JSON type, mostly, and no value of the column's type all the same
    foreign: list[str]  # of other JSON types, or no JSON

    @property
    def every(self) -> list[str]:
        """All of them, each once."""
        return list(
            dict.fromkeys([t for texts in self.good for t in texts] + self.breaking + self.wrong + self.foreign)
        )


def texts(column: Column, identity: bool = False) -> Texts:
    """The texts for a column; an identity is one of 40, so that duplicates are common and not the rule."""
    if identity:
        made: dict[str, Callable[[int], Any]] = {"str": lambda n: f"id-{n}", "bytes": lambda n: b"id-%d" % n}
        made["uuid"] = lambda n: UUID(int=n << 60)
        values: list[Any] = [made.get(column.type.kind, int)(n) for n in range(40)]
    else:
        values = [v for v in pool(column.type) if keeps(v, column.constraints)]
    good = [_epoch_spellings(v, column.epoch) if column.epoch else spellings(v) for v in values]
    if column.mark(FromText):
        good = [[*found, *written(value, found[0])] for value, found in zip(values, good, strict=True)]
    if column.nullable or isinstance(column.remedy, Default):
        good.append(["null", ""])
    wrong = WRITTEN_WRONG if column.mark(FromText) else []
    wrong = [*WRONG[column.type.kind], *wrong]
    if column.type.kind == "wide":
        wrong += [
            f"1{'0' * column.type.digits}",
            f"-1e{column.type.digits - column.type.scale}",
            f"1e-{column.type.scale + 1}",
        ]
        wrong += [f"0.{'0' * column.type.scale}9{'0' * 50}", f"{'9' * column.type.digits}", f'"{"9" * 45}"']
    breaking = [t for v in pool(column.type) if not keeps(v, column.constraints) for t in spellings(v)[:2]]
    return Texts(good, breaking or wrong, wrong, ANY_TYPE + NOT_JSON + [""])
