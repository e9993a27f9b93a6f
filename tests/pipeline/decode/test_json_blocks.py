# ruff: noqa: E501 -- the corpus is a table
"""The compiled parser and the record-by-record one are the same function.

    decode(values) = decode_records(values)        on a corpus of hard cases, on what hypothesis makes, and on 10⁵ fuzzed events

Whatever the compiled one does not leave to the other, it gets right to the bit: rows, columns, breaches, rejections.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import Scale, Source
from pipeline.base.stages import totals
from pipeline.decode.json_blocks import decode
from pipeline.decode.json_records import decode_records
from tests.support.strategies import sources
from tests.support.strategies_logs import Maker

FUZZED = int(os.environ.get("WATERSHED_TEST_FUZZED", "100000"))
BLOCK = 5000
PIECES = [bytes([b]) for b in b'"\\{}[]:,0123456789eE+-.tfn \t\n\r\x00\x1f\x7f\x80\xc3\xa9\xed\xa0\xf4\xff']
PIECES += [b"null", b"true", b'"x"', b"1e5", b"NaN", b"\\u0041", b"\xc3\xa9", b"{}", b"[]", b'"id":1,', b"  "]


@dataclass(frozen=True)
class Everything:
    """A column of every type."""

    id: str
    n: int | None
    price: Annotated[Decimal | None, Scale(2)]
    wide: Annotated[Decimal | None, Scale(12)]
    real: float | None
    ok: bool | None
    at: datetime
    day: date | None


everything = Source("everything", Everything, key="id", event_time="at", identity="id")


def differs(source: Source, values: list[bytes | None], asked: Counter[str] | None = None) -> str:
    """What the two make differently of the values; "" when nothing."""
    array = pa.array(values, pa.binary())
    one, other = decode(source, array), decode_records(source, array)
    if asked is not None:
        asked.update(events=len(values), asked=one.asked, rejected=len(one.rejected), tombstones=one.tombstones)
        asked.update(re.match(r"[\w -]+", reason)[0].rstrip("0123456789 ") for reason in one.reasons)  # type: ignore[index]
    if one.rows.tolist() != other.rows.tolist():
        row = sorted(set(one.rows.tolist()) ^ set(other.rows.tolist()))[0]
        return f"row {row}, {values[row]!r}: compiled {'takes' if row in one.rows else 'rejects'} it"
    if one.rejected.tolist() != other.rejected.tolist() or one.reasons != other.reasons:
        return f"rejected {one.rejected} {one.reasons}, by record {other.rejected} {other.reasons}"
    for name, column in other.columns.items():
        found = one.columns[name]
        found.validate(full=True)
        same = found.equals(column) and found.type == column.type
        if not same or (pa.types.is_floating(column.type) and bits(found) != bits(column)):
            row = next(
                i for i in range(len(column)) if not found[i].equals(column[i]) or repr(found[i]) != repr(column[i])
            )
            return f"{name} of {values[other.rows[row]]!r}: compiled {found[row]!r}, by record {column[row]!r}"
        breach, wanted = one.breaches.get(name), other.breaches.get(name)
        if (breach is None) != (wanted is None) or (breach is not None and not np.array_equal(breach, wanted)):
            return f"{name}: breaches {breach}, by record {wanted}"
    return ""


def bits(array: pa.Array) -> bytes:
    return bytes(np.asarray(array.fill_null(0.0).to_numpy(zero_copy_only=False), np.float64).tobytes())


# Every kind of case of the JSON test suite by Seriot (n_ must be rejected, y_ accepted, i_ either), as texts of our own.
TEXTS = [
    *("0", "-0", "1", "-1", "00", "01", "-01", "+1", "1.", ".5", "-.5", "1.0", "1.50", "1.005", "-0.0", "1e5", "1E+5", "1e-5", "1e", "1e+"),
    *("1.5e3", "0e1", "0e+", "1ee2", "1e1.5", "0x1", "1_000", "1 2", "--1", "-", "-a", "- 1", "1a", "Infinity", "-Infinity", "NaN", "-NaN"),
    *("123456789012345678", "1234567890123456789", "9223372036854775807", "9223372036854775808", "-9223372036854775808"),
    *("99999999999999999.99", "0.1", "0.123456789012", "0.1234567890123", "2.5", "0.30000000000000004", "1.7976931348623157e308"),
    *("123456789012345", "1234567890.12345", "1234567890.123456", "0.000000000000001", "0.0000000000000001", "4.35", "9007199254740993"),
    *("true", "false", "null", "True", "tru", "truee", "nul", "nullx", "fals", "falsey", "none", "undefined", "tRue"),
    *('""', '"a"', '"é"', '"𝄞"', '"\x7f"', '"\\u0041"', '"\\ud834\\udd1e"', '"\\ud800"', '"\\"', '"\\x"', '"\\u00"', '"a\\nb"', '"\t"', '"\n"'),
    *('"\x00"', '"\\u0000"', '"unterminated', "'single'", '"a" "b"', '"1"', '"-1.25"', '"1.255"', '"1e2"', '" 1"', '"1 "', '"+1"', '"."'),
    *("[]", "{}", "[1]", '{"a":1}', '{"a":1,"a":2}', '{"a":{"a":1}}', "[", "{", "]", "}", "[1,]", "[1 2]", '{"a"}', '{"a":}', "[[[[1]]]]"),
    *('"2013-01-02T12:00:00Z"', '"2013-01-02t12:00:00z"', '"2013-01-02 12:00:00Z"', '"2013-01-02T12:00:00.1Z"', '"2013-01-02T12:00:00.123456Z"'),
    *('"2013-01-02T12:00:00.1234567Z"', '"2013-01-02T12:00:00.1234560Z"', '"2013-01-02T12:00:00.Z"', '"2013-01-02T12:00:00"', '"2013-01-02T12:00Z"'),
    *('"2013-01-02T12:00:00+02:00"', '"2013-01-02T12:00:00-23:59"', '"2013-01-02T12:00:00+0200"', '"2013-01-02T12:00:00+02"', '"2013-01-02T24:00:00Z"'),
    *('"2013-02-29T00:00:00Z"', '"2012-02-29T00:00:00Z"', '"1900-02-29T00:00:00Z"', '"2000-02-29T00:00:00Z"', '"0001-01-01T00:00:00Z"'),
    *('"0001-12-31T23:59:59Z"', '"0002-01-01T00:00:00Z"', '"0002-01-01T00:00:00+00:01"', '"9999-12-31T23:59:59.999999Z"', '"9999-12-31T23:59:59-00:01"'),
    *('"0000-01-01T00:00:00Z"', '"2013-13-01T00:00:00Z"', '"2013-00-01T00:00:00Z"', '"2013-01-32T00:00:00Z"', '"2013-01-02T12:60:00Z"', '"2013-01-02T12:00:60Z"'),
    *('"2013-01-02"', '"2013-02-30"', '"0001-01-01"', '"9999-12-31"', '"2013-1-2"', '"2013/01/02"', '"10000-01-01"', '"201a-01-02"', '"٢٠١٣-01-02"'),
    *("2.50000000000000000000", "100000000000000000000", "1e18", "1e19", "-1e19", "9.223372036854775807e18", "9.223372036854775808e18", "-9.223372036854775808e18"),
    *("0e999999999", "1e999999999", "1e-999999999", "1e308", "1.8e308", "5e-324", "2e-324", "-1e-400", "0.1e1", "123456789012345678.90", "1e-2", "125e-2", "1255e-3"),
    *("1.7976931348623158079e308", "9007199254740992.99999999999999999", "9007199254740993.00000000000000001", "0.000000000000000000000000000001", "1" * 400),
    *("1" * 4000, "1" * 4001, "0." + "0" * 3998, "0." + "0" * 3999, "1." + "0" * 3998 + "1", '"' + "1" * 4001 + '"', '"1.2\\u0035"', '"1\\/2"'),
    *('"\\u00e9\\n\\"\\\\\\/\\b\\f\\r\\t"', '"\\ud834\\udd1e\\ud834"', '"\\udd1e\\ud834"', '"\\ud834\\u0041"', '"\\ud834\\ud834\\udd1e"', '"\\ud834\\n"', '"\\u00E9"', '"\\u00g9"'),
    *('"\\', '"\\u', '"\\u12', '"\\ud834\\u12"', '"\\U0041"', '"\\a"', '"2013-01-02T12:00:00\\u005a"', '"2013-01\\u002d02"', "[" * 63 + "]" * 63, "[" * 64 + "]" * 64),
    *('{"a":{"b":[1,2.5e3,"x",true,false,null,{}]}}', '{"a":{"b":1,"b":2}}', '{"a":[{"b":1},{"b":1}]}', '{"a":1,"\\u0061":2}', '{"a":{"a":{"a":1}}}', '[{"a":1,"a":1}]'),
    *("[1,2", "[1,", '{"a":1,}', "[1}", '{"a":1]', "[,1]", "[1,,2]", '{"a" 1}', "{1:2}", '{"a":01}', "[tru]", "[1e]", '["\\x"]', '["\ud800"]'.replace("\ud800", "\\ud800"), "[ ]", "{ }", "[ 1 , 2 ]"),
    *('"2013-01-02T12:00+02"', '"2013-01-02T12:00:00.000000000Z"', '"2013-01-02T12:00:00.1000000"', '"2013-01-02T12:00:00Zx"', '"2013-01-02T12:00:00+2"', '"2013-01-02T12:00:00+02:0"'),
    *('"2013-01-02T12:00:00+02:000"', '"2013-01-02T12:00:00+24:00"', '"2013-01-02T12:00:00+0260"', '"2013-01-02T12:00:00:00Z"', '"2013-01-02T12:0"', '"2013-01-02T12:00:0Z"', '"2013-01-02x12:00Z"'),
    *("1357128000000", "-62135596800000", "253402300799999", "253402300800000", "1357128000000.0", "1.357128e12", "999999999999999999"),
]  # fmt: skip
WHOLE = [
    *(b"", b" ", b"null", b"1", b'"x"', b"[]", b"{}", b"{ }", b"{} ", b" {}", b"{}x", b"{}{}", b"{", b"}", b"{,}", b'{"a"}', b'{"a":1,}', b'{"a":1 "b":2}'),
    *(b'{"id":"x","id":"x"}', b'{"id":"x","i\\u0064":"x"}', b'{"a":1,"a":1}', b'{"a":1,"A":1}', b'{a:1}', b"{'a':1}", b'{"a"::1}', b'{"a" : 1}', b'\xef\xbb\xbf{}'),
    *(b"\xff", b'{"\xff":1}', b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xf4\x90\x80\x80"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xe0\x80\xaf"}'),
    *(b'{"a":"\xe2\x82\xac"}', b'{"a":"\xe2\x82"}', b'{"a":"\xf0\x9d\x84\x9e"}', b'{"a":"\xf0\x9d\x84', b'{"\xc3\xa9":1,"\xc3\xa9":2}', b"{\x00}", b'{"a":1}\x00'),
    *(b'{"a":1\x0b}', b'{"a":1\xc2\xa0}', b'{"":1}', b'{"":1,"":2}', b"{" + b",".join(b'"k%d":1' % n for n in range(40)) + b"}"),
    *(b"{" + b",".join(b'"k%d":1' % (n % 39) for n in range(40)) + b"}", b'{"more":' + b"[" * 63 + b"]" * 63 + b"}", b'{"more":' + b"[" * 64 + b"]" * 64 + b"}"),
]  # fmt: skip


def test_both_parsers_agree_on_the_corpus_in_every_column() -> None:
    good = {
        "id": '"x"',
        "n": "1",
        "price": "1.5",
        "wide": "2",
        "real": "0.5",
        "ok": "true",
        "at": "0",
        "day": '"2013-01-02"',
    }
    values: list[bytes | None] = [None, *WHOLE]
    for name in (*good, "more"):
        for text in TEXTS:
            fields = [f'"{n}":{t}' for n, t in {**good, name: text}.items()]
            values += [
                ("{" + ",".join(fields) + "}").encode(),
                ("{ " + " ,\n".join(reversed(fields)) + " }\t").encode(),
            ]
    asked: Counter[str] = Counter()
    assert differs(everything, values, asked) == ""
    assert asked["asked"] < 0.02 * len(values), asked  # names that come twice, and one float of 20 digits


def test_what_is_left_to_the_slow_parser_is_counted() -> None:
    tie = b'{"id": "x", "at": 0, "real": 9007199254740993.00000000000000001}'  # 2^53 + 1, and a little more
    before = totals()["parse_singly"]
    assert decode(everything, pa.array([tie, tie.replace(b"0001", b""), None], pa.binary())).asked == 1
    assert totals()["parse_singly"][1] == before[1] + 1


def test_a_record_alone_is_what_it_is_in_its_block() -> None:
    """What one event leaves behind in the kernel's memory must not reach the next."""
    values: list[bytes | None] = [value for value in WHOLE if value]
    for first in values:
        assert differs(everything, [first, b'{"id":"y","at":1,"more":2}', None, first]) == ""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_both_parsers_agree_on_made_up_columns_and_events(data: st.DataObject) -> None:
    source = data.draw(sources())
    maker = Maker(source)
    recipes = data.draw(st.lists(st.binary(min_size=maker.size, max_size=maker.size), max_size=20))
    assert differs(source, [maker.value(recipe, []) for recipe in recipes]) == ""


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode), st.sampled_from(WHOLE)), max_size=8
    )
)
def test_both_parsers_agree_on_any_bytes(values: list[bytes]) -> None:
    assert differs(everything, list(values)) == ""


def mutated(value: bytes, rng: random.Random) -> bytes:
    """A piece put in, a stretch left out, or cut off."""
    at = rng.randrange(len(value) + 1)
    how = rng.random()
    if how < 0.5:
        return value[:at] + rng.choice(PIECES) + value[at + rng.choice([0, 1, 1, 2]) :]
    return value[:at] if how < 0.6 else value[:at] + value[at + rng.randint(1, 5) :]


def plain(rng: random.Random) -> bytes:
    """An event as most are."""
    n = rng.randrange(10**6)
    price, wide = rng.choice([f"{n / 100:.2f}", str(n), f'"{n}.5"']), f"{n}.{n}"
    at = rng.choice([f'"2013-01-{n % 31 + 1:02}T{n % 24:02}:{n % 60:02}:00.{n % 1000:03}Z"', str(n * 1000)])
    day = f'"2013-{n % 12 + 1:02}-{n % 28 + 1:02}"'
    return (f'{{"id":"e{n}","n":{n},"price":{price},"wide":{wide},"real":{n / 64},"ok":{rng.choice(["true", "false", "null"])},'
            f'"at":{at},"day":{day},"more":"é{n}"}}').encode()  # fmt: skip


def surrounded(rng: random.Random, depth: int = 0) -> str:
    """What nobody declared: anything at all."""
    kind = rng.randrange(9 if depth < 5 else 6)
    if kind < 2:
        return rng.choice(["1", "-0", "2.5e-3", "12345678901234567890", "true", "false", "null"])
    if kind < 6:
        return json.dumps(
            "".join(rng.choices('ab é"\\\n\u4eac\U0001d11e\ud834', k=rng.randrange(9))), ensure_ascii=rng.random() < 0.9
        )
    parts = [surrounded(rng, depth + 1) for _ in range(rng.randrange(5))]
    if kind < 7:
        return f"[{','.join(parts)}]"
    names = (
        rng.choices(["a", "b", "id", "long name of a field", "\\u0061", "é"], k=len(parts))
        if rng.random() < 0.3
        else [f"f{n}" for n in range(len(parts))]
    )
    return "{" + ",".join(f'"{name}": {part}' for name, part in zip(names, parts, strict=True)) + "}"


def as_people_send(rng: random.Random) -> bytes:
    """An event with what was not declared around it."""
    event = plain(rng).decode()
    return (event[:-1] + "".join(f',"x{n}":{surrounded(rng)}' for n in range(rng.randrange(4))) + "}").encode(
        "utf-8", "surrogatepass"
    )


@pytest.mark.parametrize("seed", [2013])
def test_both_parsers_agree_on_a_hundred_thousand_fuzzed_events(seed: int, say: Callable[[str], None]) -> None:
    print(f"seed {seed}")
    rng, maker, asked = random.Random(seed), Maker(everything), Counter[str]()
    for _ in range(0, FUZZED, BLOCK):
        values = [
            rng.choice([plain, as_people_send])(rng)
            if rng.random() < 0.6
            else maker.value(rng.randbytes(maker.size), [])
            for _ in range(BLOCK)
        ]
        values = [mutated(v, rng) if v and rng.random() < 0.3 else v for v in values]
        assert differs(everything, values, asked) == ""
    assert asked["events"] >= FUZZED
    reasons = ", ".join(
        f"{n:,} {name}" for name, n in asked.most_common() if name not in ("events", "asked", "rejected", "tombstones")
    )
    said = f"{asked['rejected']:,} rejected, {asked['asked']:,} left to the other parser: {reasons}"
    say(f"{asked['events']:,} fuzzed events, 0 differences; {said}")
    assert asked["rejected"] > 0.2 * asked["events"] and asked["asked"] < 0.05 * asked["events"]
