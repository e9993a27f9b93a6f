"""Profile of events: what stands at each path, whatever format they came in.

    events = valid + broken        for each path: valid = non-null values + nulls + absent

JSON is read here by the standard library, since a profile has no definition to decode by; other formats by `ingestion.formats`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from ingestion.sample import Sample
from pipeline.definition.paths import Path

DISTINCT_LIMIT = 100_000  # values remembered of a field; with more, nothing is said of uniqueness
LONG_TEXT = 200
DEPTH = 32  # levels that are looked into; what lies deeper stays undeclared
MOST_FIELDS = 5_000
NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


class Number(str):
    """A number as it stood in the event."""


class BrokenEvent(Exception):
    """A value that holds no event of the sample's format; the text says why."""


@dataclass
class Field:
    """One path of the events: kinds (object, array, text, number, bool, bytes) and nulls as they were counted.

    `traits` counts what is true of its texts and numbers beyond their kind, by the names of `traits_of`.
    """

    path: Path
    kinds: Counter[str] = field(default_factory=Counter)
    traits: Counter[str] = field(default_factory=Counter)
    nulls: int = 0
    decimals: int = 0  # most digits behind the point
    whole_digits: int = 0  # most digits before it
    least: Decimal | None = None  # of numbers, and of texts that are numbers
    greatest: Decimal | None = None
    distinct: "dict[Any, int] | None" = field(default_factory=dict)  # value -> partition, -1 in several; None: too many
    rises: int = 0  # neighbours in a partition whose value is not below the one before
    falls: int = 0
    key_matches: int = 0
    first: str | None = None  # the least and the greatest of its values as text
    last: str | None = None
    elements: int = 0  # most elements of an array
    _last: dict[int, Any] = field(default_factory=dict)

    @property
    def present(self) -> int:
        """Events with a value that is not null."""
        return self.kinds.total()

    @property
    def kind(self) -> str | None:
        """The one kind of its values; None where there are several, or none."""
        return next(iter(self.kinds)) if len(self.kinds) == 1 else None


@dataclass
class Profile:
    """All that a draft is made from. `repeats` are events whose bytes another event had before; `keyed` are records with a key.

    `keys` and `stamps` are those of the valid events' records, as if they were fields.
    """

    events: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    tombstones: int = 0
    repeats: int = 0
    keyed: int = 0
    keys: Field = field(default_factory=lambda: Field(()))
    stamps: Field = field(default_factory=lambda: Field(()))
    fields: dict[Path, Field] = field(default_factory=dict)

    @property
    def valid(self) -> int:
        """Events that were read."""
        return self.events - self.broken.total()

    @property
    def first_sent(self) -> int:
        """Valid events apart from those that are byte for byte another one again."""
        return self.valid - self.repeats


def profile(sample: Sample, read: "Callable[[bytes], dict[str, Any] | None] | None" = None) -> Profile:
    """The profile of a sample, each event looked at once in Python: for thousands of events, not for millions.

    `read` makes an event of a value, None of one that has none (a tombstone); JSON's by default.
    """
    read = read or read_json
    found, seen = Profile(), set[int]()
    for partition, key, value, timestamp_ms in sample.values():
        if value is None:
            found.tombstones += 1
            continue
        try:
            event = read(value)
        except BrokenEvent as broken:
            found.events += 1
            found.broken[str(broken)] += 1
            continue
        if event is None:
            found.tombstones += 1
            continue
        found.events += 1
        found.keyed += key is not None
        again = (digest := hash(value)) in seen
        seen.add(digest)
        found.repeats += again
        walk = _Walk(found, partition, key, again)
        walk.value(found.keys, _text(key))
        walk.value(found.stamps, Number(timestamp_ms) if timestamp_ms >= 0 else None)
        walk.object((), event)
    return found


def _text(key: bytes | None) -> str | None:
    """A key as text; bytes that are no UTF-8 show as what no column can store."""
    return None if key is None else key.decode(errors="surrogateescape")


def read_json(value: bytes) -> dict[str, Any]:
    """One event with numbers as Number; BrokenEvent when it is no JSON object, or has a name twice."""
    try:
        found = json.loads(
            value.decode(), parse_int=Number, parse_float=Number, parse_constant=_refuse, object_pairs_hook=_object
        )
    except UnicodeDecodeError:
        raise BrokenEvent("it is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise BrokenEvent(f"it is no JSON ({error.msg})") from None
    except RecursionError:
        raise BrokenEvent("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise BrokenEvent("it is no JSON object")
    return found


def _refuse(name: str) -> Any:
    raise BrokenEvent(f"{name} is no JSON value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BrokenEvent("a name stands twice in one object")
    return found


class _Walk:
    """One event on its way into a profile."""

    def __init__(self, into: Profile, partition: int, key: bytes | None, again: bool) -> None:
        self.into, self.partition, self.again = into, partition, again
        self.key = None if key is None else key.decode(errors="replace")

    def object(self, path: Path, event: dict[str, Any]) -> None:
        for name, value in event.items():
            here = (*path, name)
            known = self.into.fields.get(here)
            if known is None:
                if len(self.into.fields) >= MOST_FIELDS:
                    continue
                known = self.into.fields[here] = Field(here)
            self.value(known, value)
            if isinstance(value, dict) and len(here) < DEPTH:
                self.object(here, value)

    def value(self, known: Field, value: Any) -> None:
        if value is None:
            known.nulls += 1
            return
        kind = kind_of(value)
        known.kinds[kind] += 1
        if kind == "array":
            known.elements = max(known.elements, len(value))
        if kind in ("array", "object"):
            return
        for trait in traits_of(value):
            known.traits[trait] += 1
        _measure(known, value)
        self._compare(known, value)

    def _compare(self, known: Field, value: Any) -> None:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        known.key_matches += text == self.key
        known.first = text if known.first is None else min(known.first, text)
        known.last = text if known.last is None else max(known.last, text)
        if self.again:
            return
        held = value if len(text) <= LONG_TEXT else hash(text)
        if known.distinct is not None:
            first = known.distinct.setdefault(held, self.partition)
            if first != self.partition:
                known.distinct[held] = -1
            if len(known.distinct) > DISTINCT_LIMIT:
                known.distinct = None
        number = as_number(value)
        order: Any = text if number is None else number
        last = known._last.get(self.partition)
        if last is not None and type(last) is type(order):
            known.rises += order >= last
            known.falls += order < last
        known._last[self.partition] = order


def kind_of(value: Any) -> str:
    """object, array, bool, number, text or bytes of a value that is not None."""
    kinds: dict[type, str] = {
        dict: "object",
        list: "array",
        bool: "bool",
        Number: "number",
        str: "text",
        bytes: "bytes",
    }
    return kinds[type(value)]


def as_number(value: Any) -> Decimal | None:
    """A number, or a text that is one in digits; None for anything else, and for numbers of absurd size."""
    if isinstance(value, bool) or not isinstance(value, str) or len(value) > 400:
        return None
    if not isinstance(value, Number) and NUMBER.fullmatch(value) is None:
        return None
    try:
        found = Decimal(value)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


TEXT_TRAITS: dict[str, Callable[[str], Any]] = {
    "iso time": re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)? ?(?:[Zz]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)"
    ).fullmatch,
    "local time": re.compile(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?"
    ).fullmatch,
    "date": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch,
    "uuid": re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch,
    "decimal text": re.compile(r"-?[0-9]{1,38}\.[0-9]{1,38}").fullmatch,
    "digits": re.compile(r"[0-9]+").fullmatch,
    "unstorable": lambda text: "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text),
    "long": lambda text: len(text.encode(errors="replace")) > 1000,
}


def traits_of(value: Any) -> list[str]:
    """Names of what is true of a text (TEXT_TRAITS) or a number ("whole": digits alone; "exponent"; "point")."""
    if isinstance(value, Number):
        if "e" in value or "E" in value:
            return ["exponent"]
        return ["point"] if "." in value else ["whole"]
    if isinstance(value, str):
        return [name for name, has in TEXT_TRAITS.items() if has(value)]
    return []


def _measure(known: Field, value: Any) -> None:
    number = as_number(value)
    if number is None:
        return
    known.least = number if known.least is None else min(known.least, number)
    known.greatest = number if known.greatest is None else max(known.greatest, number)
    whole, _, decimals = value.partition(".")
    if "e" not in value.lower():
        known.decimals = max(known.decimals, len(decimals))
        known.whole_digits = max(known.whole_digits, len(whole.lstrip("-")))


def children(fields: Iterable[Path], path: Path) -> list[Path]:
    """The paths directly below one."""
    return [p for p in fields if len(p) == len(path) + 1 and p[: len(path)] == path]


__all__ = ["Field", "Number", "Profile", "children", "profile", "read_json"]
