"""Versions of tables in force at an offset: a function of the ledger, written down before anybody folds.

    version(table, partition p, offset o) = the table's version in the newest cut c of the ledger with c[p] <= o

The stretches between two cuts tile a partition, and within one no version changes; a segment never straddles a cut, so it has one version.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.base.errors import Refused
from pipeline.handover.generation import Cut

Versions = Mapping[str, int]  # table -> version


@dataclass(frozen=True)
class Stretch:
    """Offsets [start, end) of one partition in which `versions` are in force."""

    start: int
    end: int
    versions: Versions


def in_force(ledger: Iterable[Cut], partition: int, offset: int, tables: Iterable[str]) -> Versions:
    """The version of each table at an offset; Refused for one that has none there."""
    newest = max((c for c in ledger if c.offsets[partition] <= offset), key=lambda c: c.number, default=None)
    return wanted(dict(newest.versions) if newest is not None else {}, tables)


def wanted(versions: Versions, tables: Iterable[str]) -> Versions:
    """The versions of these tables, of all that are in force; Refused for one that has none."""
    names = sorted(tables)
    for table in names:
        if table not in versions:
            raise Refused(
                f"table {table} has no version in force: load it, `watershed load {table}`",
                repair=f"watershed load {table}",
            )
    return {table: versions[table] for table in names}


def newer_than(cut: Cut, versions: Versions) -> dict[str, int]:
    """The versions among these that are above what is in force at the cut: a table never goes back to an earlier one."""
    have = dict(cut.versions)
    return {table: version for table, version in versions.items() if version > have.get(table, 0)}


def stretches(ledger: Sequence[Cut], partition: int, start: int, end: int, tables: Iterable[str]) -> list[Stretch]:
    """The stretches that tile [start, end), each as long as no version of `tables` changes; none for an empty range."""
    names = sorted(tables)
    inside = {c.offsets[partition] for c in ledger if start < c.offsets[partition] < end}
    found: list[Stretch] = []
    borders = sorted({start, *inside, end}) if start < end else []
    for low, high in pairwise(borders):
        versions = in_force(ledger, partition, low, names)
        if found and found[-1].versions == versions:
            found[-1] = Stretch(found[-1].start, high, versions)
        else:
            found.append(Stretch(low, high, versions))
    return found


__all__ = ["Stretch", "Versions", "in_force", "newer_than", "stretches", "wanted"]
