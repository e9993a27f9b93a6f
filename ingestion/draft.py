"""The draft of a views module: a profile becomes Python that imports, is in the format, and decodes its own sample.

    decode(draft(sample), sample) rejects nothing        but what is listed in the draft's own comments, with the reason

The draft is held to the layers' own decoder: a column whose type does not take a value of the sample gets its next type, until all do.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from ingestion.candidates import Candidates, candidates, of_the_record
from ingestion.columns import UNITS, DraftColumn, draft_columns
from ingestion.formats import JSON, Form, recognised
from ingestion.module_text import Chosen, module_text
from ingestion.profile import BrokenEvent, Profile, profile
from ingestion.sample import Sample
from pipeline.accept.accept import Ingest
from pipeline.accept.reasons import shape
from pipeline.base.errors import DefinitionError, Refused
from pipeline.definition.view import View
from pipeline.fold.fold import fold

LONG_SPAN = timedelta(days=3)
REASON = re.compile(r"([a-z][a-z0-9_]*): ")
WORD = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Draft:
    """The text of a module, its view, and a line for each thing that was chosen. `rejected` counts the sample's records it rejects."""

    text: str
    view: View
    columns: int
    rejected: int
    chosen: Chosen


def draft(name: str, topic: str, sample: Sample, form: Form = JSON, folder: Path = Path()) -> Draft:
    """The module `name` for a topic, from a sample; Refused when no declaration fits the events, with what would be allowed.

    `folder` is where it will stand, which paths in it are relative to.
    """
    if form is JSON:
        form = recognised(sample)
    found = profile(sample, form.read)
    if not found.valid:
        raise Refused(_nothing_to_read(sample, found, form))
    drafted = draft_columns(found)
    columns = [*of_the_record(found, drafted.columns), *drafted.columns]
    left_out = list(drafted.left_out)
    while True:
        chosen = _choose(sample, found, columns, form)
        text = module_text(name, topic, sample, found, chosen, tuple(columns), tuple(left_out), ())
        try:
            view = load(text, name, folder)
            reasons, of_readable = _rejections(view, sample, form)
        except DefinitionError as error:  # a schema that a column's type does not fit
            reasons = of_readable = Counter([_of_column(error, columns)])
        blamed = {m[1] for reason in of_readable if (m := REASON.match(reason))}
        wrong = next((c for c in columns if c.name in blamed), None)
        if wrong is None:
            break
        place = columns.index(wrong)
        reason = next(r for r in of_readable if r.startswith(f"{wrong.name}: "))
        if (other := wrong.demoted()) is not None:
            columns[place] = other
        else:
            del columns[place]
            left_out.append(f"{wrong.name}: {reason.removeprefix(wrong.name + ': ')}")
    if reasons:
        text = module_text(name, topic, sample, found, chosen, tuple(columns), tuple(left_out), _lines(reasons))
        view = load(text, name, folder)
    return Draft(text, view, len(columns), sum(reasons.values()), chosen)


def _of_column(error: DefinitionError, columns: Sequence[DraftColumn]) -> str:
    """The error as a rejection by the first column that it names; raises it where it names none."""
    names = {c.name for c in columns}
    blamed = next((m[1] for m in re.finditer(r"([a-z][a-z0-9_]*): ", str(error)) if m[1] in names), None)
    blamed = blamed or next((word for word in WORD.findall(str(error)) if word in names), None)
    if blamed is None:
        raise error
    return f"{blamed}: {str(error).rpartition(f'{blamed}: ')[2]}"


def _nothing_to_read(sample: Sample, found: Profile, form: Form) -> str:
    why = ", ".join(f"{reason} ({count:,})" for reason, count in found.broken.most_common(3)) or "all are tombstones"
    if form.declared:
        return f"{sample.origin}: none of {len(sample):,} records is an event of {form.declared}: {why}; try another --format, or --schema"
    return f"{sample.origin}: none of {len(sample):,} records is a JSON object: {why}; allowed is one JSON object a record, or a line"


def _choose(sample: Sample, found: Profile, columns: list[DraftColumn], form: Form) -> Chosen:
    of = candidates(found, columns, form.changes)
    if not of.event_time:
        nullable = [c.name for c in columns if c.is_time]
        hint = f"; {', '.join(nullable)} is a time, and null or missing in some events" if nullable else ""
        raise Refused(
            f"{sample.origin}: no field is a time in all of {found.valid:,} events{hint}. A view needs an event time: ISO 8601 text with"
            " a zone (2013-01-31T13:05:00Z), a number of seconds, milli-, micro- or nanoseconds since 1970 in a field that is named as a"
            " time, or the record's timestamp, which a topic's records have (--topic). Declare it by hand otherwise (docs/EVENTS.md)"
        )
    return Chosen(of, _per_day(of), of.event_time[0].column, form)


def _per_day(of: Candidates) -> bool:
    """True when the sample's event times span days: an hourly view would be long."""
    column = of.event_time[0].column
    least, greatest = column.field.least, column.field.greatest
    if column.marks and least is not None and greatest is not None:
        unit = column.marks[0].split('"')[1] if column.field.path else "ms"
        return (greatest - least) / Decimal(UNITS[unit]) > Decimal(LONG_SPAN.total_seconds())
    days = [date.fromisoformat(str(text)[:10]) for text in (column.field.first, column.field.last)]
    return days[1] - days[0] > LONG_SPAN


def load(text: str, name: str, folder: Path = Path()) -> View:
    """The one view of a module's text, by running it as an import from that folder does."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(text, str(folder / f"{name}.py"), "exec", dont_inherit=True), names)
    (view,) = names["VIEWS"]
    assert isinstance(view, View)
    return view


def _rejections(view: View, sample: Sample, form: Form) -> tuple[Counter[str], Counter[str]]:
    """Reasons for which the sample's records are rejected by the source, and by the view; and those of records that the profile has read,
    for no column is to blame for a record that is broken whatever is declared.
    """
    found: Counter[str] = Counter()
    of_readable: Counter[str] = Counter()
    for part in sample.partitions:
        ingest = Ingest(view.source, part.partition, schemas=form.schemas)
        for block in part.blocks:
            done = ingest.feed(block)
            if done.counts.rejected:
                told, values = (done.rejected.column(name).to_pylist() for name in ("reason", "value"))
                for reason, value in zip(told, values, strict=True):
                    found[shape(str(reason))] += 1
                    of_readable[shape(str(reason))] += _readable(value, form)
            found.update(f"the view: {shape(reason)}" for reason in fold(view, done.accepted).reasons)
    return found, +of_readable


def _readable(value: bytes | None, form: Form) -> bool:
    try:
        return value is not None and form.read(value) is not None
    except BrokenEvent:
        return False


def _lines(reasons: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{count:,}: {reason}" for reason, count in reasons.most_common(8))


__all__ = ["Draft", "draft", "load"]
