"""The text of a drafted views module: in ruff's format at 88 columns and at 120 alike.

    format(text) = text        a line that does not fit is written one part a line, with a comma at the end, which a formatter keeps

No value of an event stands in it: modules are committed, and values may be anybody's.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ingestion.candidates import Candidate, Candidates
from ingestion.columns import DraftColumn
from ingestion.formats import Form
from ingestion.profile import Profile
from ingestion.sample import Sample
from pipeline.definition.names import NAME_LIMIT
from pipeline.definition.paths import shown

WIDTH = 88
OTHERS = 4  # candidates named beside the chosen one
INDENT = "    "


@dataclass(frozen=True)
class Chosen:
    """The candidates, of which the first of each role is taken; `per_day`: windows of a day, else of an hour."""

    of: Candidates
    per_day: bool
    timed: DraftColumn
    form: Form

    @property
    def key(self) -> Candidate:
        """The key; there is one always, if only the event time."""
        return self.of.key[0]

    @property
    def identity(self) -> Candidate | None:
        """The identity, if any column can be one."""
        return self.of.identity[0] if self.of.identity else None


def module_text(
    name: str,
    topic: str,
    sample: Sample,
    profile: Profile,
    chosen: Chosen,
    columns: Sequence[DraftColumn],
    left_out: Sequence[str],
    rejected: Sequence[str],
) -> str:
    """The module; `rejected` are lines about records of the sample that it rejects."""
    view = f"{name[: NAME_LIMIT - 9].rstrip('_')}_per_{'day' if chosen.per_day else 'hour'}"
    aggregates = _aggregates(chosen)
    parts = [
        _heading(name, sample, profile, rejected),
        _imports(columns, aggregates, chosen.form),
        "",
        _record(name, columns, left_out),
        "",
        _source(name, topic, profile, chosen),
        _view(name, view, chosen, aggregates),
        f"VIEWS = ({view},)\n",
    ]
    return "\n".join(parts)


def _heading(name: str, sample: Sample, profile: Profile, rejected: Sequence[str]) -> str:
    what = f"{profile.valid:,} events of {'the file' if sample.is_file else 'the topic'} {_plain(sample.origin)}"
    lines = [f'"""Views of {name}, drafted from {what}.', ""]
    lines += _wrapped(
        "Read the comments, change what is not so, and look at it again with `watershed try`, before `watershed init`. What no column"
        " declares is passed over when an event is decoded, and stays in the archived log.",
        "",
    )
    if profile.tombstones:
        lines += ["", f"{profile.tombstones:,} records of the sample are tombstones, which no view counts."]
    problems = [f"{count:,}: {reason}" for reason, count in profile.broken.most_common(5)]
    if problems or rejected:
        lines += ["", "Records of the sample that are rejected, and why:", ""]
        for line in rejected or problems:
            lines += _wrapped(_plain(line), INDENT)
    return "\n".join([*lines, '"""', ""])


def _imports(columns: Sequence[DraftColumn], aggregates: Sequence[str], form: Form) -> str:
    annotations = {c.annotation for c in columns}
    marked = any(_annotated(c) for c in columns)
    lines = ["from dataclasses import dataclass"]
    times = sorted({"date", "datetime"} & annotations)
    lines += [f"from datetime import {', '.join(times)}"] if times else []
    lines += ["from decimal import Decimal"] if "Decimal" in annotations else []
    lines += ["from typing import Annotated"] if marked else []
    used = {"Source", "View", *form.names, *(a.partition("(")[0] for a in aggregates)}
    used |= {mark.partition("(")[0] for c in columns for mark in _marks(c)}
    names = [*sorted(used), "tumbling"]
    line = f"from pipeline import {', '.join(names)}"
    if len(line) > WIDTH:
        line = "\n".join(["from pipeline import (", *(f"{INDENT}{n}," for n in names), ")"])
    return "\n".join([*lines, "", line, ""])


def _marks(column: DraftColumn) -> list[str]:
    path = column.field.path
    if not path or path == (column.name,):  # () is beside the event, in its record
        return list(column.marks)
    return [f"At({_quoted(shown(path))})", *column.marks]


def _annotated(column: DraftColumn) -> bool:
    return bool(_marks(column))


def _record(name: str, columns: Sequence[DraftColumn], left_out: Sequence[str]) -> str:
    lines = ["@dataclass(frozen=True)", f"class {_class(name)}:", f'{INDENT}"""One event of {name}."""', ""]
    for column in columns:
        if column.note:
            lines += _wrapped(column.note, f"{INDENT}# ")
        lines += _column(column)
    if left_out:
        lines += ["", *_wrapped("No columns:", f"{INDENT}# ")]
        for line in left_out:
            lines += _wrapped(_plain(line), f"{INDENT}# - ", f"{INDENT}#   ")
    return "\n".join([*lines, ""])


def _column(column: DraftColumn) -> list[str]:
    type = f"{column.annotation} | None" if column.nullable else column.annotation
    marks = _marks(column)
    if not marks:
        return [f"{INDENT}{column.name}: {type}"]
    line = f"{INDENT}{column.name}: Annotated[{', '.join([type, *marks])}]"
    if line.isascii() and len(line) <= WIDTH:
        return [line]
    inside = [f"{INDENT * 2}{part}," for part in (type, *marks)]
    if any(len(part) + sum(not c.isascii() for c in part) > WIDTH for part in inside):
        return [f"{line}  # fmt: skip"]  # a formatter would break it at one width and not at another
    return [f"{INDENT}{column.name}: Annotated[", *inside, f"{INDENT}]"]


def _source(name: str, topic: str, profile: Profile, chosen: Chosen) -> str:
    lines = [f"{_events(name)} = Source(", f"{INDENT}topic={_quoted(topic)},", f"{INDENT}record={_class(name)},"]
    lines += _role("key", chosen.of.key)
    lines += _role("event_time", chosen.of.event_time)
    if chosen.identity is None:
        why = "no text or number that is never null differs in all events and is named as an identity"
        if chosen.form.changes:
            why = "a row has the same columns again at its next change, so that none of them is an event's identity"
        lines += _wrapped(
            f"{why}: nothing is taken for a duplicate, and what a producer sends twice counts twice", f"{INDENT}# "
        )
        lines += [f"{INDENT}identity=None,"]
    else:
        lines += _role("identity", chosen.of.identity)
    if chosen.form.declared:
        lines += [f"{INDENT}format={chosen.form.declared},"]
    return "\n".join([*lines, ")", ""])


def _role(role: str, of: Sequence[Candidate]) -> list[str]:
    lines = _wrapped(of[0].reason, f"{INDENT}# ")
    for other in of[1 : OTHERS + 1]:
        lines += _wrapped(f"or {other.column.name}: {other.reason}", f"{INDENT}#   ")
    return [*lines, f'{INDENT}{role}="{of[0].column.name}",']


def _aggregates(chosen: Chosen) -> list[str]:
    """The calls of the first view's aggregates, without their names."""
    if not chosen.of.measures:
        return ["Count()"]
    column = chosen.of.measures[0].column.name
    return ["Count()", f'Sum("{column}")', f'Mean("{column}")']


def _view(name: str, view: str, chosen: Chosen, aggregates: Sequence[str]) -> str:
    lines = [f"{view} = View(", f'{INDENT}name="{view}",', f"{INDENT}source={_events(name)},"]
    lines += [f'{INDENT}key=("{chosen.key.column.name}",),']
    lines += [f"{INDENT}window=tumbling({'days' if chosen.per_day else 'hours'}=1),"]
    if chosen.of.measures:
        best = chosen.of.measures[0]
        others = ", ".join(c.column.name for c in chosen.of.measures[1 : OTHERS + 1])
        lines += _wrapped(
            f"{best.column.name}: {best.reason}" + (f"; others: {others}" if others else ""), f"{INDENT}# "
        )
    lines += [f"{INDENT}aggregates={{"]
    for call in aggregates:
        kind, _, rest = call.partition("(")
        column = rest.strip('")')
        called = "events" if not column else f"{column[: NAME_LIMIT - 5].rstrip('_')}_{kind.lower()}"
        if called == chosen.key.column.name:
            called = "counted"
        lines += [f'{INDENT * 2}"{called}": {call},']
    return "\n".join([*lines, f"{INDENT}}},", ")", ""])


# --- words -------------------------------------------------------------------------------------------------------------------


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_")) + "Event"


def _events(name: str) -> str:
    return f"{name}_events"


def _quoted(text: str) -> str:
    """A Python literal in double quotes, as the format has it: single ones where that saves backslashes."""
    found = repr(text)
    if found.startswith("'") and '"' not in text:
        return f'"{found[1:-1]}"'
    return found


def _plain(text: str) -> str:
    """The text as it may stand in a docstring and in a comment: one line, no quotes that would end it."""
    line = "".join(c if c.isprintable() else "·" for c in text)
    return line.replace("\\", "/").replace('"""', "'''")


def _wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=True,
        break_on_hyphens=False,
    ) or [first.rstrip()]


__all__ = ["Chosen", "module_text"]
