"""Hypothesis strategies for raw logs of a source, and for cutting them into blocks.

A record is drawn as one short byte string, whose bytes choose among prepared pools: quick to draw, and all zeros (where
shrinking leads) is a plain good record. About 40 % of the records are broken, one in ten is sent again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from pipeline.definition.paths import Path
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.log.log import RAW_SCHEMA, Block
from simulation.texts import members
from tests.support.strategies_values import NINES, texts

Headers = list[tuple[str, bytes | None]]
Record = tuple[int, int, bytes | None, bytes | None, Headers]  # offset, timestamp_ms, key, value, headers
Log = dict[int, list[Record]]
Draw = Callable[[st.SearchStrategy[Any]], Any]

UNKNOWN = [  # fields that nobody declared, all accepted
    '"more": 1e400',
    '"more": "\\ud800\\u0000"',
    f'"more": {NINES}',
    '"more": [[], {}, {"id": null, "a": {"id": 1}}]',
    f'"more": {"[" * 63}{"]" * 63}',
    '"more": {"a": 1, "a": 1}',
    '"more": [{"a": 1, "\\u0061": 2}]',
    '"more": {"\\ud800": 1, "\\uD800": 2}',
    '"more": 1, "m\\u006fre": 2',
    '"": "", " ": [1, 2.50, -0, 1E+5, true, "\\ud834\\udd1e"]',
    '"brackets": "[[[[{{{{' + "[{" * 60 + '"',
]
BROKEN_UNKNOWN = [
    f'"more": {"[" * 64}{"]" * 64}',
    '"more": ' + '{"a":' * 64 + "1" + "}" * 64,
    '"more": NaN',
    '"more": [1,]',
    '"more": "\x1f"',
    '"more": tru',
    '"more": 1 /* no */',
    '"more": "' + "y" * 70_000,
]


INSTEAD = ["null", "{}", "[]", "1", '"x"', "[[]]", "[null, null, null]", '{"x": null}', "true", "[{}, {}]"]


def _record_breakers(good: bytes) -> list[bytes]:
    """The whole value broken, in every way."""
    return [
        b"",
        good[:-1],
        good[: len(good) // 2],
        good + good,
        good + b" x",
        b"\xef\xbb\xbf" + good,
        good.decode().encode("utf-16"),
        good[:-1] + b', "more": "\xff"}',
        good[:-1] + b', "more": "\xed\xa0\x80"}',
        good[:-1] + b', "more": "\xc0\x80"}',
        good[:-1] + b",}",
        b"[" + good + b"]",
        b"[" * 70 + good + b"]" * 70,
        b"[" * 5000,
        b"null",
        b'"text"',
        b"12",
        b"{}",
        b" ",
        b"\x00",
        good + b"\x00",
        b"\xc2\xa0" + good,
        good.replace(b'"', b"'"),
        good.replace(b":", b"=", 1),
        b"{" + good[1:-1] + b", " + good[1:],
    ]


class Maker:
    """Turns short byte strings into records of a source."""

    def __init__(self, source: Source) -> None:
        self.columns = source.columns
        self.exploded = source.exploded
        self.texts = {c.name: texts(c, c.name in source.identities) for c in self.columns}
        self.size = 6 + 2 * len(self.columns)

    def value(self, recipe: bytes, earlier: Sequence[bytes | None]) -> bytes | None:
        """The raw value: `recipe[0]` says which sort, the rest which pieces."""
        sort, a, b = recipe[0], recipe[1], recipe[2]
        sent = [v for v in earlier if v is not None]
        if 120 <= sort < 132:
            return None
        if 132 <= sort < 156 and sent:
            return sent[a % len(sent)]
        parts = self._parts(recipe)
        if 156 <= sort < 206:  # one column broken
            column = self.columns[a % len(self.columns)].name
            of = self.texts[column]
            bad = of.breaking if sort < 182 else of.wrong if sort < 198 else of.foreign
            parts[column] = bad[b % len(bad)]
        own = [(c.path, parts[c.name]) for c in self.columns if c.path and not c.of_element and parts[c.name]]
        fields = members([*own, *self._array(recipe, parts)])
        if 190 <= recipe[3] < 200 and fields:  # what stands on the way to a value is something else
            at = a % len(fields)
            fields[at] = f"{fields[at].partition(': ')[0]}: {INSTEAD[b % len(INSTEAD)]}"
        if 206 <= sort < 218:  # a declared field twice
            fields.insert(b % (len(fields) + 1), fields[a % len(fields)])
        if 218 <= sort < 234:
            fields.insert(b % (len(fields) + 1), BROKEN_UNKNOWN[a % len(BROKEN_UNKNOWN)])
        if 100 <= sort < 120:
            fields.insert(b % (len(fields) + 1), UNKNOWN[a % len(UNKNOWN)])
        if recipe[3] >= 200:
            fields.reverse()
        space = "\n\t\r " if recipe[3] % 16 == 15 else ""
        value = f"{space}{{{space}{(',' + space).join(fields)}{space}}}{space}".encode()
        if sort >= 234:
            broken = _record_breakers(value)
            return broken[a % len(broken)]
        return value

    def _array(self, recipe: bytes, parts: dict[str, str]) -> list[tuple[Path, str]]:
        """The array that is exploded, of 0 to 3 elements, one of which has the parts given; [] when none is."""
        if not self.exploded or recipe[4] % 16 == 15:
            return []
        depth = len(self.exploded) + 1
        found = []
        for number in range(recipe[4] % 4):
            chosen = parts if number == recipe[3] % 2 else self._parts(recipe[:6] + recipe[:5:-1])
            inside = members(
                [(c.path[depth:], chosen[c.name]) for c in self.columns if c.of_element and chosen[c.name]]
            )
            found.append("{" + ", ".join(inside) + "}")
        if recipe[4] % 32 == 14:
            found.append(INSTEAD[recipe[5] % len(INSTEAD)])
        array = "[" + ", ".join(found) + "]"
        return [(self.exploded, INSTEAD[recipe[5] % len(INSTEAD)] if recipe[4] % 32 == 13 else array)]

    def _parts(self, recipe: bytes) -> dict[str, str]:
        found = {}
        for n, column in enumerate(self.columns):
            good = self.texts[column.name].good
            texts = good[recipe[6 + 2 * n] % len(good)]
            found[column.name] = texts[recipe[7 + 2 * n] % len(texts)]
        return found


KEYS = [
    None,
    *(b"%d" % n for n in (0, 7, -12, 1, 2, 3, 4, 5, 6, 8, 9, 10)),
    b"1e2",
    b"1.0",
    b"1.5",
    "é".encode(),
    b"\xff",
    b"x\x00",
]
STEPS_MS = [0, 1, 100, 2000, 10_000, 10_001, -500, -20_000, 86_400_000, 7 * 86_400_000, 8 * 86_400_000]
TIMESTAMP_BASE = 1_700_000_000_000
FUTURE_MS = TIMESTAMP_BASE + 10**12  # of a producer whose clock is wrong


@st.composite
def partitions(draw: Draw, source: Source, max_records: int = 30) -> list[Record]:
    """The raw records of one partition, in offset order, with gaps in the offsets."""
    maker = Maker(source)
    least = draw(st.sampled_from([0, max_records // 2, max_records]))
    recipe = st.binary(min_size=maker.size, max_size=maker.size)
    recipes = draw(st.lists(recipe, min_size=least, max_size=max_records))
    offset, now = draw(st.sampled_from([0, 0, 7, 2**40])), TIMESTAMP_BASE
    found: list[Record] = []
    for recipe in recipes:
        now += STEPS_MS[recipe[4] % len(STEPS_MS)]
        timestamp = {255: -1, 254: 0, 253: -1, 252: FUTURE_MS, 251: 2**63 - 1}.get(recipe[5], now)
        value = maker.value(recipe, [r[3] for r in found])
        headers = [(("trace", "other", "Trace")[n % 3], KEYS[n % len(KEYS)]) for n in recipe[2 : 2 + recipe[1] % 4]]
        found.append((offset, timestamp, KEYS[recipe[5] % len(KEYS)], value, headers))
        offset += 1 + (recipe[5] % 7 == 6) * 3
    return found


@st.composite
def logs(draw: Draw, view: View, max_records: int = 30) -> Log:
    """Partition -> its raw records, 1 to 3 partitions."""
    return {n: draw(partitions(view.source, max_records)) for n in range(draw(st.integers(1, 3)))}


# ---------------------------------------------------------------- blocks


def block(records: Sequence[Record], start: int, end: int) -> Block:
    """The records with offsets in [start, end) as a Block."""
    inside = [r for r in records if start <= r[0] < end]
    columns = [[r[n] for r in inside] for n in range(4)]
    arrays = [pa.array(values, RAW_SCHEMA.field(n).type) for n, values in enumerate(columns)]
    headers = [[{"key": key, "value": value} for key, value in (r[4] if len(r) > 4 else ())] for r in inside]
    arrays.append(pa.array(headers, RAW_SCHEMA.field("headers").type))
    return Block(pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA), start, end)


def tiles(records: Sequence[Record], cuts: Sequence[int]) -> Iterator[Block]:
    """Blocks over [first offset, last offset + 1) that are cut at the given offsets."""
    bounds = [records[0][0], records[-1][0] + 1] if records else [0, 0]
    edges = sorted({*bounds, *(c for c in cuts if bounds[0] < c < bounds[1])})
    for start, end in itertools.pairwise(edges):
        yield block(records, start, end)


@st.composite
def blocks_of(draw: Draw, records: Sequence[Record]) -> list[Block]:
    """The records, cut anywhere (also into empty blocks, where offsets have gaps)."""
    if not records:
        return []
    first, last = records[0][0], records[-1][0]
    cuts = draw(st.lists(st.integers(first, last + 1), max_size=6))
    return list(tiles(records, cuts))
