"""Texts that match a regular expression, for columns with a Pattern.

matching(regex) ⊆ {t: re.fullmatch(regex, t)};  empty when the expression uses what is not understood here
"""

import random
import re
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

MANY = 3  # repetitions beyond the least that are tried
ALPHABET = "abcXYZ019 _-.:/"


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
