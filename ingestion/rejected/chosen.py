"""Rejected rows chosen for a replay, and what becomes of each: accepted now, rejected again, or not to be judged.

    chosen = accepted + rejected again for another reason + left as they are        a mended file has a row for each that is chosen

Memory holds all that are chosen with what is kept of them: MOST rows, at most.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.origin import Numbers, Origin, Reading
from ingestion.rejected.judged import JudgedAgain, judge_again
from ingestion.rejected.rows import SCHEMA, KeptRows, Ranges, RowsWanted, ranges_of
from ingestion.typed import Records, typed
from pipeline.base.errors import Refused

MOST = 100_000


@dataclass(frozen=True)
class Chosen:
    """Rows of files of rejected rows: `rows` (SCHEMA) one after the other, and where each stands, a file's number and a place in it."""

    files: tuple[KeptRows, ...]
    rows: pa.Table
    file: Numbers
    place: Numbers

    def places(self, which: Numbers) -> dict[str, Ranges]:
        """Places of some of the rows: path -> ranges."""
        found: dict[str, Ranges] = {}
        for number, kept in enumerate(self.files):
            mask = np.zeros(kept.rows.num_rows, np.bool_)
            mask[self.place[which][self.file[which] == number]] = True
            if mask.any():
                found[kept.path] = ranges_of(mask)
        return found


@dataclass(frozen=True)
class Taken:
    """Outcome: `accepted` rows of the record, `values` the same as JSON; `of` the chosen row that each was. `again` are chosen rows with
    new reasons, `of_again` which; `left` the other ones by place, with why. `mended` is the file that stood in for the rows.
    """

    chosen: Chosen
    accepted: pa.RecordBatch
    values: pa.Array
    of: Numbers
    again: pa.Table
    of_again: Numbers
    left: dict[int, str] = field(default_factory=dict)
    mended: dict[str, str] | None = None

    @property
    def places(self) -> dict[str, Ranges]:
        """Places of the rows that are taken: path -> ranges."""
        return self.chosen.places(np.concatenate((self.of, self.of_again)))


def choose(kept: Iterable[KeptRows], wanted: RowsWanted, what: str) -> Chosen:
    """The open rows that are wanted; Refused where they are too many."""
    files: list[KeptRows] = []
    tables, numbers, places = [SCHEMA.empty_table()], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for one in kept:
        here = np.flatnonzero(wanted.mask(one))
        if len(here):
            tables.append(one.rows.replace_schema_metadata(None).take(pa.array(here, pa.int64())))
            numbers.append(np.full(len(here), len(files), np.int64))
            places.append(here)
            files.append(one)
    rows = pa.concat_tables(tables)
    if rows.num_rows > MOST:
        raise Refused(
            f"{rows.num_rows:,} rejected rows of {what} are wanted, and {MOST:,} at most are replayed at once: narrow them down by"
            " --reason, --since or --part and --row"
        )
    return Chosen(tuple(files), rows, np.concatenate(numbers), np.concatenate(places))


def take_by_rule(chosen: Chosen, record: type, textual: bool) -> Taken:
    """Judge the chosen rows by the record as it is now."""
    found: JudgedAgain = judge_again(chosen.rows, record, textual)
    before = chosen.rows.column("reason").to_pylist()
    changed = {place: reason for place, reason in found.again.items() if reason != before[place]}
    same = {place: f"it would be rejected again: {why}" for place, why in found.again.items() if place not in changed}
    of_again = np.array(sorted(changed), np.int64)
    again = chosen.rows.take(pa.array(of_again, pa.int64()))
    return Taken(
        chosen,
        found.accepted,
        found.values,
        found.place,
        with_reasons(again, [changed[place] for place in of_again.tolist()]),
        of_again,
        {**found.unread, **same},
    )


def take_from_file(chosen: Chosen, file: Origin, reading: Reading, record: type) -> Taken:
    """The rows of a file in the place of the chosen ones; Refused unless there is one for each, and each is accepted. A file with more rows
    is read no further than the first stretch that has one too many.
    """
    parts = list(file.parts(reading))
    batches = [Records(record).schema.empty_table()]
    values: list[pa.Array] = [pa.array([], pa.binary())]
    count, had = chosen.rows.num_rows, 0
    for part in parts:
        for rows in file.read(part, reading):
            had += rows.batch.num_rows + len(rows.broken)
            if had > count:
                raise Refused(f"the mended file has more than {count:,} rows, and {_choose_as_many(count)}")
            found = typed(rows, record, file.textual, values=True)
            if len(found.rejected):
                where = f"{part.name}, {found.unit} {int(found.rejected.numbers[0])}"
                raise Refused(f"{where}: {found.rejected.reasons[0]}: a mended file is taken whole, or not at all")
            assert found.values is not None, "they were asked for"
            batches.append(pa.Table.from_batches([found.accepted]).cast(batches[0].schema))
            values.append(found.values)
    whole = pa.concat_tables(batches)
    if whole.num_rows != count:
        raise Refused(f"the mended file has {whole.num_rows:,} rows, and {_choose_as_many(count)}")
    batch = whole.combine_chunks().to_batches()
    accepted = batch[0] if batch else pa.RecordBatch.from_pylist([], schema=whole.schema)
    mended = {part.name: part.version for part in parts}
    every = np.arange(count, dtype=np.int64)
    nothing = SCHEMA.empty_table()
    return Taken(chosen, accepted, pa.concat_arrays(values), every, nothing, np.empty(0, np.int64), {}, mended)


def _choose_as_many(count: int) -> str:
    return f"{count:,} rejected rows are chosen, whose place they take: choose those that it mends by --reason, --since or --part and --row"


def with_reasons(rows: pa.Table, reasons: Sequence[str]) -> pa.Table:
    """The rows of SCHEMA, each with its new reason."""
    column: Any = pa.array(list(reasons), pa.string())
    return rows.set_column(SCHEMA.get_field_index("reason"), SCHEMA.field("reason"), column)


__all__ = ["MOST", "Chosen", "Taken", "choose", "take_by_rule", "take_from_file", "with_reasons"]
