"""Seeded logs of a source, made from its own columns and constraints: good, broken, late, duplicated and missing events.

    events(source, seed) is a function of its arguments; few identities and few groups, so that what can collide does

An identity always travels under one key, and a key always in one partition: what every producer of the topic must keep.
"""

import base64
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import UUID

from pipeline.accept.texts import clean
from pipeline.base.errors import DefinitionError
from pipeline.base.types import EXACT
from pipeline.definition.constraints import Between, Length, OneOf, Pattern, keeps
from pipeline.definition.marks import UNITS, FromRecord, FromText, Header, RecordKey, Text
from pipeline.definition.record import Column
from pipeline.definition.source import Source
from simulation.memory_log import Headers, Partition, Record
from simulation.texts import matching, members

NOON = datetime(2013, 1, 2, 12, tzinfo=UTC)
FIRST_MS = 1_357_128_000_000
FUTURE_MS = 4_000_000_000_000  # of a producer whose clock is wrong
TIMES = [
    timedelta(),
    timedelta(minutes=7),
    timedelta(minutes=-50),
    timedelta(hours=1),
    timedelta(hours=-30),
    timedelta(days=2),
]
NUMBERS = [0, 1, -1, 2, 7, 12, 40, 95, 100, 250, -40, 1000]
WORDS = ["a", "b", "c", "", "EWR", "JFK", "x y", "é", "0"]
MORE: dict[str, list[Any]] = {  # of the types that are read in a second pass
    "bytes": [b"", b"a", b"ab", b"abc", b"\x00\xff", b"water"],
    "uuid": [UUID(int=n << 60) for n in range(12)],
    "time": [time(12), time(0), time(7, 5), time(23, 59, 59, 999_999), time(12, 0, 1)],
}
MANY_DIGITS = [2**64, -(10**30) - 1, 10**37]  # unscaled
WRONG = [
    "null",
    "[]",
    "{}",
    '"\\u0000"',
    "true",
    "1e400",
    '"x"',
    "-0.5",
    '"2013-01-02T12:00:00"',
    "99999999999999999999",
]
DUPLICATES, TOMBSTONES, BROKEN_COLUMN, BROKEN_RECORD = 0.3, 0.04, 0.08, 0.03  # shares of the records


def values_of(column: Column) -> list[Any]:
    """Some values that the column keeps; DefinitionError when none can be found."""
    mark = column.mark(Text)
    made = [clean(v, mark) for v in _candidates(column)] if mark else _candidates(column)
    found = [v for v in made if column.type.accepts(v) and keeps(v, column.constraints)]
    if not found:
        raise DefinitionError(
            f"column {column.name}: no value can be made that keeps {', '.join(map(str, column.constraints))};"
            f" give events from the topic instead"
        )
    return list(dict.fromkeys(found))


def _candidates(column: Column) -> list[Any]:
    kind, found = column.type.kind, list[Any]()
    for constraint in column.constraints:
        match constraint:
            case OneOf(options):
                found += options
            case Between(low, high):
                found += [bound for bound in (low, high) if bound is not None]
                if kind in ("int", "decimal", "wide", "float") and low is not None and high is not None:
                    found += [
                        low + (high - low) * n / 7 if kind != "int" else low + (high - low) * n // 7
                        for n in range(1, 7)
                    ]
            case Pattern(regex):
                found += matching(regex)
            case Length(low, high):
                made = [letter * max(1, low) for letter in "abcd"]
                found += [text.encode() for text in made] if kind == "bytes" else made
    match kind:
        case "int":
            found += NUMBERS
        case "decimal" | "wide":
            step = Decimal(1).scaleb(-column.type.scale)
            found = [Decimal(v).quantize(step, context=EXACT) for v in found if abs(v) < 10**12] + [
                Decimal(n).quantize(step, context=EXACT) for n in NUMBERS
            ]
            found += [(n + 37) * step for n in NUMBERS]
            found += [Decimal(n).scaleb(-column.type.scale, EXACT) for n in MANY_DIGITS if kind == "wide"]
        case "float":
            found = [float(v) for v in found] + [n / 8 for n in NUMBERS]
        case "str":
            found += WORDS
        case "bool":
            found += [True, False]
        case "datetime":
            found += [NOON + t for t in TIMES]
        case "date":
            found += [date(2013, 1, 2), date(2012, 12, 31), date(2013, 2, 1)]
        case "bytes" | "uuid" | "time":
            found += MORE[kind]
    return found


def spelled(value: Any) -> str:
    """A JSON text that means the value."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return json.dumps(value.isoformat())
    if isinstance(value, date | time):
        return json.dumps(value.isoformat())
    if isinstance(value, bytes):
        return json.dumps(base64.b64encode(value).decode())
    return json.dumps(str(value) if isinstance(value, UUID) else value)


def counted(time: datetime, unit: str) -> str:
    """A JSON number that means the time, in the unit of an Epoch."""
    microseconds = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return f"{Decimal(microseconds).scaleb(-UNITS[unit]):f}"


def _otherwise(value: Any, text: str, column: Column) -> str:
    """Another JSON text that means the value, where a mark allows one."""
    mark = column.mark(Text)
    if mark is not None:
        return json.dumps(("  " if mark.trim else "") + value + ("\x00" if "\x00" in mark.strip else ""))
    if column.mark(FromText) is None:
        return text
    return f'"{"Yes" if value else "no"}"' if isinstance(value, bool) else f'" {text}"'


class Maker:
    """Makes one partition's records after another."""

    def __init__(self, source: Source, rng: random.Random, partitions: int) -> None:
        self.source, self.rng, self.partitions = source, rng, partitions
        self.columns = source.columns
        self.identity = source.identities or (source.key,)  # without them some events are sent twice all the same
        self.values = {c.name: values_of(c) for c in source.columns}
        for name, found in self.values.items():
            if name not in (source.key, *self.identity) and len(found) > 6:
                self.values[name] = rng.sample(found, 6)
        self.identities = self._identities()

    def _identities(self) -> list[tuple[Any, ...]]:
        """Two dozen or so: of one column its own values, of several their combinations."""
        few = 24 if len(self.identity) == 1 else 5
        parts = [self._identity_values(c, few) for c in self.source.columns if c.name in self.identity]
        found = list(product(*parts))
        return found if len(parts) == 1 else self.rng.sample(found, min(24, len(found)))

    def _identity_values(self, column: Column, few: int) -> list[Any]:
        made: dict[str, Callable[[int], Any]] = {"str": lambda n: f"i{n}", "bytes": lambda n: b"i%d" % n}
        many = [made.get(column.type.kind, int)(n) for n in range(few)]
        if column.type.kind == "uuid":
            many = [UUID(int=n << 96) for n in range(few)]
        mark = column.mark(Text)
        many = list(dict.fromkeys(clean(v, mark) for v in many)) if mark else many
        if column.name == self.source.key and len(self.identity) > 1:
            return self.values[column.name]
        plain = [v for v in many if column.type.accepts(v) and keeps(v, column.constraints)]
        return plain if len(plain) >= 4 else self.values[column.name]

    def _keys(self, number: int) -> dict[tuple[Any, ...], Any]:
        """The identities of a partition, and the key under which each always travels."""
        rng, source, n = self.rng, self.source, self.partitions
        names = [c.name for c in source.columns if c.name in self.identity]
        if names == [source.key]:
            return {identity: identity[0] for identity in self.identities[number::n][: rng.randint(3, 8)]}
        keys = self.values[source.key][number::n][:4]
        if source.key in names:
            place = names.index(source.key)
            own = [identity for identity in self.identities if identity[place] in keys]
            return {identity: identity[place] for identity in own[: rng.randint(3, 8)]}
        identities = self.identities[number::n][: rng.randint(3, 8)]
        return {identity: rng.choice(keys) for identity in identities} if keys else {}

    def partition(self, number: int, records: int) -> list[Record]:
        """So many records, in offset order, with gaps."""
        rng, source = self.rng, self.source
        key_of = self._keys(number)
        identities = list(key_of)
        if not identities:
            return []
        offset, now, horizon = rng.choice([0, 0, 5]), FIRST_MS, source.horizon_ms
        steps = [0, 1, 100, horizon // 5, horizon // 3, horizon // 2, -horizon // 2, -2000]
        found: list[Record] = []
        for _ in range(records):
            now += rng.choice(steps) if rng.random() < 0.9 else rng.choice([horizon, horizon + 1])
            timestamp = rng.choices((now, -1, FUTURE_MS), (93, 5, 2))[0]
            identity = rng.choice(identities)
            record = (offset, max(-1, timestamp), *self._record(identity, key_of[identity], found[-12:]))
            found.append(record)
            offset += 1 + (rng.randint(1, 2) if rng.random() < 0.15 else 0)
        return found

    def _record(
        self, identity: tuple[Any, ...], key: Any, earlier: Sequence[Record]
    ) -> tuple[bytes | None, bytes | None, Headers]:
        """(key, value, headers) of one record: new, sent once more, broken, or a tombstone."""
        sort = self.rng.random()
        sent = [record for record in earlier if record[3]]
        if sort < DUPLICATES and sent:
            again = self.rng.choice(sent)
            return again[2], again[3], again[4] if len(again) > 4 else ()
        sort -= DUPLICATES
        texts = {c.name: self._text(c) for c in self.columns if not c.of_element}
        texts[self.source.key] = spelled(key)
        texts |= zip((c.name for c in self.columns if c.name in self.identity), map(spelled, identity), strict=True)
        around = self._around(texts, key)
        if 0 <= sort < TOMBSTONES:
            return around[0], None, around[1]
        sort -= TOMBSTONES
        if 0 <= sort < BROKEN_COLUMN:
            names = [name for name in texts if name not in (self.source.key, *self.identity)]
            texts[self.rng.choice(names)] = self.rng.choice(WRONG)
        parts = [(c.path, texts[c.name]) for c in self.columns if c.path and texts.get(c.name)]
        if self.source.exploded:
            parts.append((self.source.exploded, self._elements()))
        text = "{" + ", ".join(members(parts)) + "}"
        sort -= BROKEN_COLUMN
        if 0 <= sort < BROKEN_RECORD:
            return around[0], self.rng.choice([b"", text[:-1].encode(), b"null", text.encode() * 2]), around[1]
        return around[0], text.encode(), around[1]

    def _around(self, texts: dict[str, str], key: Any) -> tuple[bytes | None, Headers]:
        """The record's key and headers: what columns have there, and else the source's key, or none."""
        at: bytes | None = None if self.rng.random() < 0.2 else spelled(key).encode()
        headers: list[tuple[str, bytes | None]] = []
        for column in self.columns:
            text = texts.get(column.name)
            value = None if text in (None, "", "null") else _bare(str(text))
            match column.mark(FromRecord):
                case RecordKey():
                    at = value
                case Header(name):
                    headers += [(name, b"before")] * self.rng.randint(0, 1) + (
                        [(name, value)] if value is not None else []
                    )
        return at, tuple(headers)

    def _elements(self) -> str:
        """The JSON text of an array of 0 to 3 elements, of which few are broken."""
        depth = len(self.source.exploded) + 1
        found = []
        for _ in range(self.rng.randint(0, 3)):
            parts = [(c.path[depth:], self._text(c)) for c in self.columns if c.of_element]
            inside = ", ".join(members([part for part in parts if part[1]]))
            found.append(self.rng.choice(WRONG) if self.rng.random() < BROKEN_COLUMN / 3 else "{" + inside + "}")
        return self.rng.choice(["null", "{}"]) if self.rng.random() < 0.03 else "[" + ", ".join(found) + "]"

    def _text(self, column: Column) -> str:
        if column.nullable and self.rng.random() < 0.15:
            return self.rng.choice(["", "null"])
        value = self.rng.choice(self.values[column.name])
        text = counted(value, column.epoch) if column.epoch else spelled(value)
        return text if self.rng.random() < 0.5 else _otherwise(value, text, column)


def _bare(text: str) -> bytes:
    """The bytes of a key or header that mean what a JSON text does: without its quotes."""
    found = json.loads(text) if text.startswith('"') else text
    return str(found).encode("utf-8", "surrogatepass")


def events(source: Source, rng: random.Random, partitions: int, records: int) -> list[Partition]:
    """The log of a schedule: `partitions` partitions of about `records` records, none written yet."""
    maker = Maker(source, rng, partitions)
    found = []
    for number in range(partitions):
        made = maker.partition(number, rng.randint(records // 2, records))
        found.append(Partition(made, made[0][0] if made and rng.random() < 0.5 else 0))
    return found
