"""The reference's reader of JSON: what is a record's text, and what is not; written by hand from RFC 8259 and the rules of f."""

from __future__ import annotations

import pytest

from pipeline.plain.json_text import TWICE, Invalid, decode

GOOD_TEXTS = [
    b"{}",
    b' \t\r\n{ "a" : [ 1 , { } ] } \n',
    b'{"a": "\\ud800", "b": -0, "c": 1E+2, "d": 1e999999999}',
    b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}",
    b'{"a": "' + b"[{" * 100 + b'\\"[["}',
    b'{"a": {"x": 1}, "b": {"x": 1}}',
    b'{"a": "' + b"x" * 5_000_000 + b'"}',
    b'{"a": ' + b"7" * 5_000_000 + b"}",
    b'{"' + "\u00e9\U0001d11e\uffff".encode() + b'": "\\u0000"}',
]


@pytest.mark.parametrize("value", GOOD_TEXTS, ids=lambda v: repr(v[:20]))
def test_an_object_of_strict_json_decodes(value: bytes) -> None:
    assert isinstance(decode(value), dict)


BAD_TEXTS = [
    b"",
    b" ",
    b"null",
    b"1",
    b'"a"',
    b"[]",
    b"[{}]",
    b"{",
    b"{}{}",
    b"{} x",
    b'{"a": 1,}',
    b'{"a": [1,]}',
    b"{'a': 1}",
    b"{a: 1}",
    b'{"a" 1}',
    b'{"a": 01}',
    b'{"a": 1.}',
    b'{"a": .5}',
    b'{"a": +1}',
    b'{"a": -}',
    b'{"a": 1e}',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": nan}',
    b'{"a": True}',
    '{"a": ٣}'.encode(),
    b'{"a": "\t"}',
    b'{"a": "\x00"}',
    b'{"a": "\\x"}',
    b'{"a": "\\u12g4"}',
    b'{"a": "}',
    b'{"a": 1 /* no */}',
    b'\xef\xbb\xbf{"a": 1}',
    b'{"a": "\xff"}',
    b'{"a": "\xed\xa0\x80"}',
    b'{"a": "\xc0\x80"}',
    '{"a": 1}'.encode("utf-16"),
    "\u00a0{}".encode(),
    b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}",
    b'{"a":' * 65 + b"1" + b"}" * 65,
    b"[" * 100_000,
    b'{"a": "' + b"x" * 5_000_000,
]


@pytest.mark.parametrize("value", BAD_TEXTS, ids=lambda v: repr(v[:20]))
def test_anything_else_is_invalid(value: bytes) -> None:
    with pytest.raises(Invalid, match=r"\w"):
        decode(value)


def test_the_depth_is_counted_outside_of_strings() -> None:
    text = b'{"s": "' + b"[" * 99 + b'", "a": ' + b"[" * 63 + b"]" * 63 + b"}"
    assert len(decode(text)["s"]) == 99


@pytest.mark.parametrize("text", [b'{"a": 1, "a": 1}', b'{"a": 1, "\\u0061": 2}', b'{"a": null, "a": [], "a": 1}'])
def test_a_name_that_is_given_twice_has_no_value(text: bytes) -> None:
    assert decode(text) == {"a": TWICE}


def test_names_are_compared_without_their_escapes() -> None:
    found = decode(b'{"b": {"\\ud834\\udd1e": 1, "\xf0\x9d\x84\x9e": 2}}')
    assert found["b"] == {"\U0001d11e": TWICE}
