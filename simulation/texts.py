"""Texts of events: objects whose values lie at paths, and texts that match a regular expression, for columns with a Pattern.

matching(regex) ⊆ {t: re.fullmatch(regex, t)};  empty when the expression uses what is not understood here
"""

import json
import random
import re
from collections.abc import Sequence
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from pipeline.definition.paths import Path

MANY = 3  # repetitions beyond the least that are tried
ALPHABET = "abcXYZ019 _-.:/"


def members(parts: Sequence[tuple[Path, str]]) -> list[str]:
    """The fields of an event that has each JSON text at its path, '"name": text' each; what a path skips in an array is null."""
    return [f"{json.dumps(name)}: {_inside(inner)}" for name, inner in _by_first(parts).items()]


def _by_first(parts: Sequence[tuple[Path, str]]) -> dict[str | int, list[tuple[Path, str]]]:
    found: dict[str | int, list[tuple[Path, str]]] = {}
    for path, text in parts:
        found.setdefault(path[0], []).append((path[1:], text))
    return found


def _inside(parts: list[tuple[Path, str]]) -> str:
    if not parts[0][0]:
        return parts[0][1]
    inner = _by_first(parts)
    if isinstance(parts[0][0][0], str):
        return "{" + ", ".join(members(parts)) + "}"
    places = range(1 + max(int(place) for place in inner))
    return "[" + ", ".join(_inside(inner[place]) if place in inner else "null" for place in places) + "]"


def matching(regex: str, count: int = 24) -> list[str]:
    """Up to `count` texts, the same ones every time."""
    rng = random.Random(regex)
    whole = re.compile(regex, re.ASCII)
    tree = _parser.parse(regex, re.ASCII)
    found = dict.fromkeys("".join(_made(tree, rng)) for _ in range(4 * count))
    return [text for text in found if whole.fullmatch(text)][:count]


def _made(tree: Any, rng: random.Random) -> list[str]:
    return [_one(kind, given, rng) for kind, given in tree]


def _one(kind: Any, given: Any, rng: random.Random) -> str:
    match str(kind):
        case "LITERAL":
            return chr(given)
        case "NOT_LITERAL":
            return rng.choice([c for c in ALPHABET if ord(c) != given])
        case "ANY":
            return rng.choice(ALPHABET)
        case "IN":
            return _member(given, rng)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            low, high, inner = given
            high = min(int(high), low + MANY)
            return "".join("".join(_made(inner, rng)) for _ in range(rng.randint(low, high)))
        case "BRANCH":
            return "".join(_made(rng.choice(given[1]), rng))
        case "SUBPATTERN" | "ATOMIC_GROUP":
            return "".join(_made(given[-1] if isinstance(given, tuple) else given, rng))
    return ""  # anchors match the empty text; what is not understood is sorted out by fullmatch


def _member(choices: Any, rng: random.Random) -> str:
    negated = choices[0][0] == _constants.NEGATE
    pool = "".join(chr(n) for n in range(32, 127)) if negated else ""
    found: list[str] = []
    for kind, given in choices:
        match str(kind):
            case "LITERAL":
                found.append(chr(given))
            case "RANGE":
                found += map(chr, range(given[0], min(given[1], given[0] + 128) + 1))
            case "CATEGORY":
                wanted = {"CATEGORY_DIGIT": r"\d", "CATEGORY_WORD": r"\w", "CATEGORY_SPACE": r"\s"}.get(
                    str(given), r"."
                )
                found += [c for c in map(chr, range(32, 127)) if re.match(wanted, c, re.ASCII)]
    return rng.choice([c for c in pool if c not in found] if negated else found)
