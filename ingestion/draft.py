"""The draft of a views module: a profile becomes Python that imports, is in the format, and decodes its own sample.

    decode(draft(sample), sample) rejects nothing        but what is listed in the draft's own comments, with the reason

The draft is held to the layers' own decoder: a column whose type does not take a value of the sample gets its next type, until all do.
"""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from ingestion.candidates import Candidates, candidates, of_the_record
from ingestion.columns import UNITS, DraftColumn, draft_columns
from ingestion.module_text import Chosen, module_text
from ingestion.profile import Profile, profile
from ingestion.sample import Sample
from pipeline.accept.accept import Ingest
from pipeline.accept.reasons import shape
from pipeline.base.errors import Refused
from pipeline.definition.view import View
from pipeline.fold.fold import fold

LONG_SPAN = timedelta(days=3)
REASON = re.compile(r"([a-z][a-z0-9_]*): ")


@dataclass(frozen=True)
class Draft:
    """The text of a module, its view, and a line for each thing that was chosen. `rejected` counts the sample's records it rejects."""

    text: str
    view: View
    columns: int
    rejected: int
    chosen: Chosen


def draft(name: str, topic: str, sample: Sample) -> Draft:
    """The module `name` for a topic, from a sample; Refused when no declaration fits the events, with what would be allowed."""
    found = profile(sample)
    if not found.valid:
        raise Refused(_nothing_to_read(sample, found))
    drafted = draft_columns(found)
    columns = [*of_the_record(found, drafted.columns), *drafted.columns]
    left_out = list(drafted.left_out)
    while True:
        chosen = _choose(name, topic, sample, found, columns)
        text = module_text(name, topic, sample, found, chosen, tuple(columns), tuple(left_out), ())
        view = load(text, name)
        reasons = _rejections(view, sample)
        blamed = {m[1] for reason in reasons if (m := REASON.match(reason))}
        wrong = next((c for c in columns if c.name in blamed), None)
        if wrong is None:
            break
        place = columns.index(wrong)
        reason = next(r for r in reasons if r.startswith(f"{wrong.name}: "))
        if (other := wrong.demoted()) is not None:
            columns[place] = other
        else:
            del columns[place]
            left_out.append(f"{wrong.name}: {reason.removeprefix(wrong.name + ': ')}")
    if reasons:
        text = module_text(name, topic, sample, found, chosen, tuple(columns), tuple(left_out), _lines(reasons))
        view = load(text, name)
    return Draft(text, view, len(columns), sum(reasons.values()), chosen)


def _nothing_to_read(sample: Sample, found: Profile) -> str:
    why = ", ".join(f"{reason} ({count:,})" for reason, count in found.broken.most_common(3)) or "all are tombstones"
    return f"{sample.origin}: none of {len(sample):,} records is a JSON object: {why}; allowed is one JSON object a record, or a line"


def _choose(name: str, topic: str, sample: Sample, found: Profile, columns: list[DraftColumn]) -> Chosen:
    of = candidates(found, columns)
    if not of.event_time:
        nullable = [c.name for c in columns if c.is_time]
        hint = f"; {', '.join(nullable)} is a time, and null or missing in some events" if nullable else ""
        raise Refused(
            f"{sample.origin}: no field is a time in all of {found.valid:,} events{hint}. A view needs an event time: ISO 8601 text with"
            " a zone (2013-01-31T13:05:00Z), a number of seconds, milli-, micro- or nanoseconds since 1970 in a field that is named as a"
            " time, or the record's timestamp, which a topic's records have (--topic). Declare it by hand otherwise (docs/EVENTS.md)"
        )
    return Chosen(of, _per_day(of), timed=of.event_time[0].column)


def _per_day(of: Candidates) -> bool:
    """True when the sample's event times span days: an hourly view would be long."""
    column = of.event_time[0].column
    least, greatest = column.field.least, column.field.greatest
    if column.marks and least is not None and greatest is not None:
        unit = column.marks[0].split('"')[1] if column.field.path else "ms"
        return (greatest - least) / Decimal(UNITS[unit]) > Decimal(LONG_SPAN.total_seconds())
    days = [date.fromisoformat(str(text)[:10]) for text in (column.field.first, column.field.last)]
    return days[1] - days[0] > LONG_SPAN


def load(text: str, name: str) -> View:
    """The one view of a module's text, by running it as an import does."""
    names: dict[str, Any] = {"__name__": name}
    exec(compile(text, f"{name}.py", "exec", dont_inherit=True), names)
    (view,) = names["VIEWS"]
    assert isinstance(view, View)
    return view


def _rejections(view: View, sample: Sample) -> Counter[str]:
    """Reasons for which the sample's records are rejected by the source, and by the view."""
    found: Counter[str] = Counter()
    for part in sample.partitions:
        ingest = Ingest(view.source, part.partition)
        for block in part.blocks:
            done = ingest.feed(block)
            if done.counts.rejected:
                found.update(shape(str(reason)) for reason in done.rejected.column("reason").to_pylist())
            found.update(f"the view: {shape(reason)}" for reason in fold(view, done.accepted).reasons)
    return found


def _lines(reasons: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{count:,}: {reason}" for reason, count in reasons.most_common(8))


__all__ = ["Draft", "draft", "load"]
