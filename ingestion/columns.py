"""Columns drafted from a profile: for each path that can be one a name, a type and its marks, and in words why a path is none.

    each field of the profile is a column, lies below something that is none, or stands in `left_out`        nothing is dropped in silence

Cautious: a constraint that a later event might break is not guessed. A Scale has room for more decimals than were seen.
"""

import keyword
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ingestion import words
from ingestion.profile import Field, Profile, children
from pipeline.base.types import DECIMAL_DIGITS, INT_MAX, INT_MIN, WIDE_DIGITS
from pipeline.definition.names import NAME, NAME_LIMIT, OUR_COLUMNS, SYSTEM_COLUMNS
from pipeline.definition.paths import Path, shown

MOST_COLUMNS = 80  # of a draft; a wider record is declared by hand
MAP_NAMES, MAP_SHARE = (
    25,
    0.25,
)  # an object of so many names, each in so few of its events, is a mapping: its names are data
SCALE_LIMIT = 12
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # times before it are told from other numbers by nobody
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # unit -> how many make a second
IMPORTED = frozenset({"date", "datetime"})  # names of types that the module uses


@dataclass(frozen=True)
class DraftColumn:
    """One column: `annotation` is its Python type without marks and None, `marks` what stands beside it, `note` a word of explanation.

    `fallbacks` are the types to try where the decoder does not take a value of the sample, first to last: (annotation, marks, note).
    """

    name: str
    field: Field
    annotation: str
    marks: tuple[str, ...]
    nullable: bool
    note: str = ""
    fallbacks: tuple[tuple[str, tuple[str, ...], str], ...] = ()

    @property
    def is_time(self) -> bool:
        """True when it may be an event time, but for nulls."""
        return self.annotation == "datetime"

    @property
    def words(self) -> frozenset[str]:
        """The words of its own name in the event, in lower case; none when it is not in the event."""
        return frozenset(words_of(str(self.field.path[-1])) if self.field.path else ())

    def demoted(self) -> "DraftColumn | None":
        """The column with its next type; None when there is none left, and the path is no column."""
        if not self.fallbacks:
            return None
        (annotation, marks, note), *rest = self.fallbacks
        return replace(self, annotation=annotation, marks=marks, note=note, fallbacks=tuple(rest))


@dataclass(frozen=True)
class DraftColumns:
    """The columns, and for each path that is none a line that says why."""

    columns: tuple[DraftColumn, ...]
    left_out: tuple[str, ...]


def draft_columns(profile: Profile, today: datetime | None = None) -> DraftColumns:
    """Columns of all scalar paths, in the order in which the sample has them; `today` is for tests."""
    latest = (today or datetime.now(UTC)) + timedelta(days=366)
    left_out: list[str] = []
    chosen: list[tuple[Field, tuple[tuple[str, tuple[str, ...], str], ...]]] = []
    closed: list[Path] = []
    for path, field in profile.fields.items():
        if any(path[: len(above)] == above for above in closed):
            continue
        if reason := _no_column(profile, field):
            closed.append(path)
            left_out.append(f"{_shown(path)}: {reason}")
        elif field.kind != "object":
            chosen.append((field, types_of(field, latest)))
    for field, _ in chosen[MOST_COLUMNS:]:
        left_out.append(f"{_shown(field.path)}: beyond the first {MOST_COLUMNS} columns")
    names = _names(field.path for field, _ in chosen[:MOST_COLUMNS])
    columns = []
    for name, (field, types) in zip(names, chosen, strict=False):
        (annotation, marks, note), *rest = types
        nullable = field.present < profile.valid
        columns.append(DraftColumn(name, field, annotation, marks, nullable, note, tuple(rest)))
    return DraftColumns(tuple(columns), tuple(left_out))


def _no_column(profile: Profile, field: Field) -> str:
    """The reason why a path cannot be a column, nor anything below it; '' when it can."""
    if any("\ud800" <= c <= "\udfff" for part in field.path for c in str(part)):
        return "its name has half a surrogate pair"
    if field.present == 0:
        return "null in every event"
    if len(field.kinds) > 1 and set(field.kinds) != {"number", "text"}:
        return f"{_told(field)}: no column holds both"
    if field.kind == "array":
        return f'an array of up to {field.elements} elements; one of them is read by At("{shown((*field.path, 0))}")'
    if field.kind == "object":
        below = children(profile.fields, field.path)
        if len(below) > MAP_NAMES and all(
            profile.fields[p].present + profile.fields[p].nulls <= MAP_SHARE * field.present for p in below
        ):
            return f"a mapping: {len(below)} names, none of them in many events"
        return "" if below else "an object without fields"
    if field.traits["unstorable"]:
        return "text with U+0000 or half a surrogate pair, which Postgres cannot hold"
    if types_of(field, datetime.now(UTC)):
        return ""
    return f"{_told(field)}: no column holds both" if len(field.kinds) > 1 else "numbers beyond what a float holds"


def _told(field: Field) -> str:
    return ", ".join(f"{kind} in {count:,} events" for kind, count in field.kinds.most_common())


def types_of(field: Field, latest: datetime) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """Types (annotation, marks, note) that its values may have, the best first; () when none holds them all."""
    numbers, texts = field.kinds["number"], field.kinds["text"]
    if field.kind == "bool":
        return (("bool", (), ""),)
    if field.kind == "bytes":
        return (("bytes", (), ""),)
    text: tuple[tuple[str, tuple[str, ...], str], ...] = () if numbers else (("str", (), ""),)
    if unit := epoch_unit(field, latest):
        return (
            ("datetime", (f'Epoch("{unit}")',), f"numbers of the size of {WORDS[unit]} since 1970"),
            *_numeric(field),
            *text,
        )
    if texts == field.present:
        for trait, annotation in (("iso time", "datetime"), ("date", "date")):
            if field.traits[trait] == texts:
                return ((annotation, (), ""), ("str", (), "as text: not every one is a time that can be read"))
        if field.traits["local time"] == texts:
            return (
                (
                    "str",
                    (),
                    'a time without a zone, as text; beside a datetime Zone("Europe/Berlin") says which clock it is',
                ),
            )
        if field.traits["decimal text"] == texts:
            return (*_decimal(field, "decimals as text"), *text)
        return text
    return _numeric(field)


WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def _numeric(field: Field) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """int, Decimal, float: those that hold every value; texts of digits only a Decimal takes."""
    least, greatest = field.least, field.greatest
    if least is None or greatest is None:
        return ()
    if field.kinds["text"] and field.traits["digits"] + field.traits["decimal text"] < field.kinds["text"]:
        return ()
    numbers = field.kinds["number"]
    whole = numbers == field.present and field.traits["whole"] == numbers and least >= INT_MIN and greatest <= INT_MAX
    found: list[tuple[str, tuple[str, ...], str]] = [("int", (), "")] if whole else []
    integers = field.traits["whole"] == field.present  # beyond 64 bits: exact all the same
    if not whole and integers and field.whole_digits <= WIDE_DIGITS - 2:
        found.append(("Decimal", (f"Precision({WIDE_DIGITS}, 0)",), "whole numbers beyond 64 bits"))
    elif not whole and not field.traits["exponent"] and field.kinds["number"]:
        found += _decimal(field, "numbers, and some as text" if field.kinds["text"] else "")
    if not field.kinds["text"] and max(abs(least), abs(greatest)) < Decimal("1e308"):
        found.append(("float", (), "" if not found else "more digits than a Decimal has"))
    return tuple(found)


def _decimal(field: Field, note: str) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    """A Decimal with room: two decimals more than were seen, and as many digits before the point as may be; texts may need a wide one."""
    if field.decimals > SCALE_LIMIT or field.whole_digits + field.decimals > DECIMAL_DIGITS:
        if field.kinds["number"] or field.whole_digits + field.decimals > WIDE_DIGITS - 4:
            return ()
        return (("Decimal", (f"Precision({WIDE_DIGITS}, {field.decimals + 2})",), f"{note}, of more than 18 digits"),)
    scale = min(field.decimals + 2, SCALE_LIMIT, DECIMAL_DIGITS - field.whole_digits - 2)
    return (("Decimal", (f"Scale({max(scale, field.decimals)})",), note),)


def epoch_unit(field: Field, latest: datetime) -> str:
    """The unit in which its numbers lie between 1990 and `latest`, where its name is a time's too; '' when there is none."""
    if field.least is None or field.greatest is None or field.traits["exponent"]:
        return ""
    digits = field.traits["digits"] + field.traits["decimal text"]
    if field.kinds["text"] and digits + field.traits["iso time"] < field.kinds["text"]:
        return ""
    if field.kinds["text"] and not digits and not field.kinds["number"]:
        return ""
    if not words.TIMES & set(words_of(str(field.path[-1]))):
        return ""
    return unit_of(field.least, field.greatest, latest)


def unit_of(least: Decimal, greatest: Decimal, latest: datetime) -> str:
    """The unit in which numbers from `least` to `greatest` count times between 1990 and `latest`; '' when there is none."""
    low, high = Decimal(int(EARLIEST.timestamp())), Decimal(int(latest.timestamp()))
    return next((unit for unit, n in UNITS.items() if low * n <= least and greatest <= high * n), "")


# --- names -------------------------------------------------------------------------------------------------------------------


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case and ASCII: fullName, full-name and FULL_NAME are full, name."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", plain))
    return re.findall(r"[a-z0-9]+", spaced.lower())


def _names(paths: Iterable[Path]) -> list[str]:
    """A column's name for each path, of the words of all its parts; no two alike."""
    found, taken = [], set[str]()
    for path in paths:
        name = wanted = _valid("_".join(word for part in path for word in words_of(str(part))))
        number = 2
        while name in taken:
            name, number = f"{wanted[: NAME_LIMIT - 4].rstrip('_')}_{number}", number + 1
        taken.add(name)
        found.append(name)
    return found


def _valid(name: str) -> str:
    """A name that a column may have: of Postgres, of Python, and none that views or their tables use themselves."""
    parts = [part for part in name.split("_") if part]
    if not parts or not parts[0][0].isalpha():
        parts = ["field", *parts]
    while len("_".join(parts)) > NAME_LIMIT and len(parts) > 1:
        parts = parts[1:] if parts[1][0].isalpha() else [parts[0], *parts[2:]]
    found = "_".join(parts)[:NAME_LIMIT].rstrip("_")
    if keyword.iskeyword(found) or found in IMPORTED | OUR_COLUMNS | SYSTEM_COLUMNS:
        found = f"{found[: NAME_LIMIT - 6]}_value"
    assert NAME.fullmatch(found), found
    return found


def _shown(path: Path) -> str:
    return "".join(c if c.isprintable() else "·" for c in shown(path))


__all__ = ["DraftColumn", "DraftColumns", "draft_columns", "types_of", "unit_of", "words_of"]
