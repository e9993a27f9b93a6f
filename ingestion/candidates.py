"""Candidates for key, identity and event time of a draft, each with the reason beside it; the best stands first.

    every candidate is a column that is never null in the sample, of a type that its role allows

Nobody is asked and nothing is certain: a module that is drafted says why each was chosen, and what else could be.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ingestion import words
from ingestion.columns import DraftColumn
from ingestion.profile import Field, Profile

DISTINCT_MANY = 10**9


class Candidate(NamedTuple):
    """A column for a role, and why."""

    column: DraftColumn
    reason: str


@dataclass(frozen=True)
class Candidates:
    """The candidates of each role, best first, and the columns that a first view may add up."""

    key: tuple[Candidate, ...]
    event_time: tuple[Candidate, ...]
    identity: tuple[Candidate, ...]
    measures: tuple[Candidate, ...]


def candidates(profile: Profile, columns: Sequence[DraftColumn], changes: bool = False) -> Candidates:
    """The candidates of a profile's columns; `changes`: events are changes of rows, whose columns are those of every later change too."""
    sure = [c for c in columns if not c.nullable]
    event_time = _best((c, *_as_event_time(profile, c)) for c in sure if c.is_time)
    identity = _best((c, *_as_identity(profile, c)) for c in sure if c.annotation in ("str", "int") and not changes)
    first = identity[0].column if identity else None
    key = _best((c, *_as_key(profile, c, c is first)) for c in sure)
    used = {c.column.name for c in (*key[:1], *identity[:1])}
    measures = _best((c, *_as_measure(c)) for c in columns if c.annotation in ("int", "Decimal") and c.name not in used)
    return Candidates(key, event_time, identity, measures)


def _best(scored: Iterable[tuple[DraftColumn, float, str]]) -> tuple[Candidate, ...]:
    rows = [row for row in scored if row[1] > 0]
    rows = [row for row in rows if row[1] >= 1] or rows[:1]
    rows.sort(key=lambda row: -row[1])  # stable: those of equal score stay in the order of the events
    return tuple(Candidate(column, reason) for column, _, reason in rows)


def _as_event_time(profile: Profile, column: DraftColumn) -> tuple[float, str]:
    """A time that is never null; its name and its place decide among several."""
    if not column.field.path:
        return (
            1.0,
            "the record's timestamp, for no time of the event is never null: it says when the event was sent or stored",
        )
    score, reasons = 10.0, ["ISO 8601 with a zone" if not column.marks else column.note]
    if column.words & words.HAPPENED:
        score += 3
        reasons.append("its name says when it happened")
    elif column.words & {"created", "at", "date"}:
        score += 2
    if column.words & words.OTHER_TIMES:
        score -= 4
    score -= len(column.field.path) / 4
    steps = column.field.rises + column.field.falls
    if steps > 3:
        share = column.field.rises / steps
        score += share
        reasons.append("rises from event to event" if share == 1 else f"rises in {share:.0%} of the steps")
    return score, "; ".join(reasons)


def _as_identity(profile: Profile, column: DraftColumn) -> tuple[float, str]:
    """A text or int that no two events of the sample share, with something beside that: chance makes a name unique too."""
    field, events = column.field, profile.first_sent
    if not field.path:
        return 0.0, ""
    if field.distinct is None or len(field.distinct) < events or -1 in field.distinct.values() or events < 2:
        return 0.0, ""
    score, reasons = 0.0, [f"all {events:,} different events of the sample differ in it"]
    if column.words & words.IDS:
        score += 4 + 3 * (column.name in words.IDENTITIES) + 2 * bool(column.words & words.IDENTITIES)
        score += bool(_every_word(column) & words.EVENTS) - len(field.path) / 2
        reasons.append("its name says so")
    if field.traits["uuid"] == field.present:
        score += 3
        reasons.append("UUIDs")
    if score and column.annotation == "int" and not field.falls and field.rises > 1:
        reasons.append(
            "it never falls within a partition"
        )  # alone no reason: a counter begins again, and its events would be lost
    return score, "; ".join(reasons)


def _every_word(column: DraftColumn) -> frozenset[str]:
    return frozenset(column.name.split("_"))


def _as_key(profile: Profile, column: DraftColumn, is_identity: bool) -> tuple[float, str]:
    """The record's Kafka key where a column equals it, else what looks like a group: some values, each in many events."""
    field = column.field
    if not field.path and not column.is_time:
        return 4.0, "the record's Kafka key, which no field of the event equals"
    if profile.keyed and field.key_matches >= 0.99 * profile.keyed:
        return (
            100.0,
            f"equals the record's Kafka key in {field.key_matches:,} of {profile.keyed:,} records that have one",
        )
    if column.annotation == "float":
        return 0.0, ""  # a view's key has exact equality
    if column.is_time or is_identity or field.traits["long"]:
        return 0.5, "nothing better: no column that is never null looks like a group"
    values = DISTINCT_MANY if field.distinct is None else len(field.distinct)
    often = max(0.0, 1 - values / max(1, profile.first_sent))
    score, reasons = 1 + 2 * often, [f"{values:,} values in {profile.first_sent:,} events"]
    if column.annotation == "Decimal":
        score -= 1.5
    if column.words & words.GROUPS:
        score += 2
        reasons.append("its name is a group's")
    if column.words & words.MEASURES:
        score -= 1
    score -= len(field.path) / 4 + (1.0 if values < 2 else 0.0)
    return max(score, 0.6), "; ".join(reasons)


def _as_measure(column: DraftColumn) -> tuple[float, str]:
    field: Field = column.field
    if column.words & words.IDS and column.annotation == "int":
        return 0.0, ""
    score = 3.0 * bool(column.words & words.MEASURES) + 1.0 * (column.annotation == "Decimal") - len(field.path) / 8
    return score, "its name is a measure's" if column.words & words.MEASURES else "a number with decimals"


# --- what is no field of the event -------------------------------------------------------------------------------------------


def of_the_record(profile: Profile, columns: Sequence[DraftColumn]) -> tuple[DraftColumn, ...]:
    """Columns that a record has beside its event, where the events lack one: its timestamp, where no time of theirs is never null, and
    its key, where every record has one that is text and no field equals it.
    """
    found, taken = [], {c.name for c in columns}
    if profile.stamps.present == profile.valid and not any(c.is_time and not c.nullable for c in columns):
        found.append(_beside("recorded_at", taken, profile.stamps, "datetime", "RecordTime()"))
    equal = any(c.field.key_matches >= 0.99 * profile.keyed for c in columns)
    if profile.keys.present == profile.valid and not profile.keys.traits["unstorable"] and not equal:
        found.append(_beside("record_key", taken, profile.keys, "str", "RecordKey()"))
    return tuple(found)


def _beside(name: str, taken: set[str], field: Field, annotation: str, mark: str) -> DraftColumn:
    while name in taken:
        name = f"kafka_{name}"
    return DraftColumn(name, field, annotation, (mark,), False, "of the record, not of the event")


__all__ = ["Candidate", "Candidates", "candidates", "of_the_record"]
