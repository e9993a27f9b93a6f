"""Seeded logs of a source, made from its own columns and constraints: good, broken, late, duplicated and missing events.

    events(source, seed) is a function of its arguments; few identities and few groups, so that what can collide does

An identity always travels under one key, and a key always in one partition: what every producer of the topic must keep.
"""

import json
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any

from pipeline.base.errors import DefinitionError
from pipeline.definition.constraints import Between, Length, OneOf, Pattern, keeps
from pipeline.definition.marks import UNITS
from pipeline.definition.record import Column
from pipeline.definition.source import Source
from simulation.memory_log import Partition, Record
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
    found = [v for v in _candidates(column) if column.type.accepts(v) and keeps(v, column.constraints)]
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
                if kind in ("int", "decimal", "float") and low is not None and high is not None:
                    found += [
                        low + (high - low) * n / 7 if kind != "int" else low + (high - low) * n // 7
                        for n in range(1, 7)
                    ]
            case Pattern(regex):
                found += matching(regex)
            case Length(low, high):
                found += [letter * max(1, low) for letter in "abcd"]
    match kind:
        case "int":
            found += NUMBERS
        case "decimal":
            step = Decimal(1).scaleb(-column.type.scale)
            found = [Decimal(v).quantize(step) for v in found if abs(v) < 10**12] + [
                Decimal(n).quantize(step) for n in NUMBERS
            ]
            found += [(n + 37) * step for n in NUMBERS]
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
    return found


def spelled(value: Any) -> str:
    """A JSON text that means the value."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return json.dumps(value.isoformat())
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    return json.dumps(value)


def counted(time: datetime, unit: str) -> str:
    """A JSON number that means the time, in the unit of an Epoch."""
    microseconds = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return f"{Decimal(microseconds).scaleb(-UNITS[unit]):f}"


class Maker:
    """Makes one partition's records after another."""

    def __init__(self, source: Source, rng: random.Random, partitions: int) -> None:
        self.source, self.rng, self.partitions = source, rng, partitions
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
        many = [f"i{n}" for n in range(few)] if column.type.kind == "str" else list(range(few))
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
            identity = rng.choice(identities)
            value = self._value(identity, key_of[identity], [r[3] for r in found[-12:] if r[3]])
            key = None if rng.random() < 0.2 else spelled(key_of[identity]).encode()
            timestamp = rng.choices((now, -1, FUTURE_MS), (93, 5, 2))[0]
            found.append((offset, max(-1, timestamp), key, value))
            offset += 1 + (rng.randint(1, 2) if rng.random() < 0.15 else 0)
        return found

    def _value(self, identity: tuple[Any, ...], key: Any, earlier: Sequence[bytes]) -> bytes | None:
        sort = self.rng.random()
        if sort < DUPLICATES and earlier:
            return self.rng.choice(earlier)
        sort -= DUPLICATES
        if 0 <= sort < TOMBSTONES:
            return None
        texts = {c.name: self._text(c) for c in self.source.columns}
        texts[self.source.key] = spelled(key)
        texts |= dict(
            zip((c.name for c in self.source.columns if c.name in self.identity), map(spelled, identity), strict=True)
        )
        sort -= TOMBSTONES
        if 0 <= sort < BROKEN_COLUMN:
            names = [c.name for c in self.source.columns if c.name not in (self.source.key, *self.identity)]
            texts[self.rng.choice(names)] = self.rng.choice(WRONG)
        paths = {c.name: c.path for c in self.source.columns}
        text = "{" + ", ".join(members([(paths[name], t) for name, t in texts.items() if t])) + "}"
        sort -= BROKEN_COLUMN
        return (
            self.rng.choice([b"", text[:-1].encode(), b"null", text.encode() * 2])
            if 0 <= sort < BROKEN_RECORD
            else text.encode()
        )

    def _text(self, column: Column) -> str:
        if column.nullable and self.rng.random() < 0.15:
            return self.rng.choice(["", "null"])
        value = self.rng.choice(self.values[column.name])
        return counted(value, column.epoch) if column.epoch else spelled(value)


def events(source: Source, rng: random.Random, partitions: int, records: int) -> list[Partition]:
    """The log of a schedule: `partitions` partitions of about `records` records, none written yet."""
    maker = Maker(source, rng, partitions)
    found = []
    for number in range(partitions):
        made = maker.partition(number, rng.randint(records // 2, records))
        found.append(Partition(made, made[0][0] if made and rng.random() < 0.5 else 0))
    return found
